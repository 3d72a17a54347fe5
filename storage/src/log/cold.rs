//! Reads from disk for readers: which are started for a list of wanted blocks.
//!
//! Readers say what they want ([`Log::look`]); [`Log::bring`] takes all that one request wants
//! at once, in the order of the log, so that a reader of many partitions, whose records lie
//! interleaved in the same blocks, reads each block once and goes through the log forward.
//! Others that want what is being read wait for the same read. Invariant: no byte is read twice
//! at a time, and what is being read stays within a budget that the cache can hold.

use std::time::Duration;

use super::Log;
use super::under_way::most_piece_bytes;
use super::wanted::Wanted;
use super::work::Work;
use crate::io::Io;

/// A gap this small between two wanted blocks is read with them.
const READ_THROUGH_BYTES: u64 = 64 << 10;

/// Blocks that are started for one list: more would be sorted for nothing.
const MOST_BLOCKS: usize = 2048;

/// Bytes that came back and are checked in one step: about 100 µs.
const STEP_BYTES: usize = 1 << 20;

/// The most that is under way while blocks are being written: more would stand in the device's
/// queue before them, and whoever waits for a block would wait for it all.
const BESIDE_WRITES_BYTES: u64 = 1 << 20;

/// And the most of one such read: two keep the device busy.
const BESIDE_WRITES_READ_BYTES: u64 = BESIDE_WRITES_BYTES / 2;

/// The log counts as being written for so long after a block.
const WRITTEN_FOR: Duration = Duration::from_millis(100);

/// What came of a list of wanted blocks.
#[derive(Clone, Copy, Debug)]
pub struct Brought {
    /// When [`Log::reads_done`] passes this, one read has come back.
    pub one_done: u64,
    /// When it passes this, all have that are under way.
    pub all_done: u64,
    /// The first that is not under way, in the order of the log: to be wanted again, like all
    /// behind it.
    pub next: Option<Wanted>,
}

impl<I: Io> Log<I> {
    /// Looks at what came back for readers, as much as one step takes.
    pub(super) fn take_arrived(&mut self) {
        let mut bytes = 0;
        while bytes < STEP_BYTES
            && let Some((work, completion)) = self.cold_reads.arrived.pop_front()
        {
            bytes += completion.buf.as_ref().map_or(0, |buf| buf.len());
            self.complete(work, completion);
        }
    }

    /// Whether [`Log::poll`] has more to do at once.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        !self.cold_reads.arrived.is_empty()
    }

    /// Bytes that [`Log::bring`] would start to read now; `None`: too little to ask for it before
    /// one more read is done (see [`Log::reads_done`]).
    #[must_use]
    pub fn cold_room(&self) -> Option<u64> {
        let (_, budget_bytes) = self.cold_budget();
        let room = budget_bytes.saturating_sub(self.cold_reads.bytes);
        (room >= budget_bytes / 4).then_some(room)
    }

    /// Starts to read what is wanted, what lies first in the log first, as far as the budget for
    /// reads under way goes. `wanted` is in no order, and in another one afterwards.
    pub fn bring(&mut self, wanted: &mut [Wanted]) -> Brought {
        let mut first = wanted;
        let mut next = None;
        if first.len() > MOST_BLOCKS {
            let (before, at, _) = first.select_nth_unstable(MOST_BLOCKS);
            next = Some(*at);
            first = before;
        }
        first.sort_unstable();
        let (unstarted, refused) = self.start_reads(first);
        next = unstarted.or(next);
        let under_way = self.cold_reads.count() + self.runs.page_reads.len() as u64;
        if under_way > 0 {
            return Brought {
                one_done: self.reads_done,
                all_done: self.reads_done + under_way - 1,
                next,
            };
        }
        if let (Some(refused), true) = (unstarted, refused) {
            // Nothing comes back that would make the reader look again.
            let cause = "no memory to read the block into".to_owned();
            let place = (refused.segment, refused.position);
            self.read_failures.insert(place, cause);
        }
        Brought {
            one_done: self.reads_done - 1,
            all_done: self.reads_done - 1,
            next,
        }
    }

    /// The first that is not under way; and whether there is no memory to read it.
    fn start_reads(&mut self, wanted: &[Wanted]) -> (Option<Wanted>, bool) {
        let (most_bytes, budget_bytes) = self.cold_budget();
        self.cold_reads.budget_bytes = budget_bytes;
        let mut window: Option<Window> = None;
        for block in wanted.chunk_by(|a, b| (a.segment, a.position) == (b.segment, b.position)) {
            let first = block[0];
            if self.cold_reads.is_piecewise(block) {
                for one in block {
                    if self.is_on_its_way(one) {
                        continue;
                    }
                    // The window lies before it, and is read after it: its room is not to be taken.
                    let before = window.as_ref().map_or(0, Window::bytes);
                    let is_full = !self.has_room_behind(before, most_piece_bytes(one));
                    if is_full || !self.read_piece(*one) {
                        return self.stop(window.as_ref(), *one, !is_full);
                    }
                }
            } else if !self.is_on_its_way(&first) {
                let end = first.position + first.block_bytes;
                if let Some(open) = &mut window
                    && open.takes(&first, most_bytes)
                {
                    // A block that went astray may stand within another.
                    open.end = open.end.max(end);
                } else if let Some(closed) = window.replace(Window { first, end })
                    && let Err(is_refused) = self.read_window(&closed)
                {
                    return (Some(closed.first), is_refused);
                }
            }
        }
        match window {
            Some(window) => match self.read_window(&window) {
                Ok(()) => (None, false),
                Err(is_refused) => (Some(window.first), is_refused),
            },
            None => (None, false),
        }
    }

    /// The end of the reads that are started, at a piece that cannot be.
    fn stop(
        &mut self,
        window: Option<&Window>,
        piece: Wanted,
        is_refused: bool,
    ) -> (Option<Wanted>, bool) {
        match window {
            // It lies before the piece.
            Some(window) => match self.read_window(window) {
                Ok(()) => (Some(piece), is_refused),
                Err(is_refused) => (Some(window.first), is_refused),
            },
            None => (Some(piece), is_refused),
        }
    }

    /// Whether a reader that looks again finds it, waits for it, or is told that it cannot be read.
    /// Also where the segment was let go since the reader looked: then it is told where its records
    /// lie now, if anywhere.
    fn is_on_its_way(&self, wanted: &Wanted) -> bool {
        let (segment, position) = (wanted.segment, wanted.position);
        if !self.segments.live.contains_key(&segment) {
            return true;
        }
        self.cache
            .find(segment, position, wanted.partition)
            .is_some()
            || self.cold_reads.has(wanted)
            || self.read_failures.contains_key(&(segment, position))
    }

    /// The most that is read at once, and the most that is under way.
    fn cold_budget(&self) -> (u64, u64) {
        // What is read together must not push out what it begins with.
        let budget = (self.config.cold_cache_bytes / 2) as u64;
        let most = (self.config.read_ahead_bytes as u64).min(budget);
        if self.is_being_written() {
            let most = most.min(BESIDE_WRITES_READ_BYTES);
            return (most, budget.min(BESIDE_WRITES_BYTES));
        }
        (most, budget)
    }

    fn is_being_written(&self) -> bool {
        let quiet_at = self.last_progress + WRITTEN_FOR;
        !self.in_flight.is_empty() || self.submitter.io.monotonic() < quiet_at
    }

    /// Whether so many bytes more may be under way behind a read that is not started yet.
    fn has_room_behind(&self, before: u64, bytes: u64) -> bool {
        if before == 0 {
            return self.cold_reads.has_room(bytes);
        }
        self.cold_reads.bytes + before + bytes <= self.cold_reads.budget_bytes
    }

    /// `Err`: too much is under way, or (`true`) there is no memory.
    fn read_window(&mut self, window: &Window) -> Result<(), bool> {
        let bytes = window.bytes();
        if !self.cold_reads.has_room(bytes) {
            return Err(false);
        }
        let started = self.read_blocks(&window.first, bytes);
        if started { Ok(()) } else { Err(true) }
    }

    /// Reads a block that is wanted, and `bytes` from its start on. `false`: there is no memory
    /// for it now.
    fn read_blocks(&mut self, first: &Wanted, bytes: u64) -> bool {
        let Wanted {
            segment, position, ..
        } = *first;
        let length = usize::try_from(bytes).expect("a read-ahead fits memory");
        let started = self.submit_read(segment, position, length, Work::BlockRead(*first));
        if started {
            self.cold_reads.begin(segment, position, bytes);
        }
        started
    }
}

/// Blocks that are read together.
#[derive(Debug)]
struct Window {
    first: Wanted,
    end: u64,
}

impl Window {
    fn bytes(&self) -> u64 {
        self.end - self.first.position
    }

    fn takes(&self, next: &Wanted, most_bytes: u64) -> bool {
        let end = next.position + next.block_bytes;
        next.segment == self.first.segment
            && next.position <= self.end + READ_THROUGH_BYTES
            && end - self.first.position <= most_bytes
    }
}
