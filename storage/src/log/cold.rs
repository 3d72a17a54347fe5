//! Reads from disk for readers: which are under way, and which are started for a list of
//! wanted blocks.
//!
//! Readers say what they want ([`Log::look`]); [`Log::bring`] takes all that one request wants
//! at once, in the order of the log, so that a reader of many partitions, whose records lie
//! interleaved in the same blocks, reads each block once and goes through the log forward.
//! Others that want what is being read wait for the same read. Invariant: no byte is read twice
//! at a time, and what is being read stays within a budget that the cache can hold.

use std::collections::{BTreeMap, HashSet};

use ringlog_types::PartitionId;

use super::Log;
use super::piece::is_worth_a_piece;
use super::wanted::Wanted;
use super::work::Work;
use crate::io::Io;

/// A gap this small between two wanted blocks is read with them.
const READ_THROUGH_BYTES: u64 = 64 << 10;

/// Blocks that are started for one list: more would be sorted for nothing.
const MOST_BLOCKS: usize = 1024;

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct ColdReads {
    /// End by segment and start.
    ranges: BTreeMap<(u64, u64), u64>,
    pieces: HashSet<(u64, u64, PartitionId)>,
    /// Blocks of which a piece could not be had: segments and positions.
    whole: HashSet<(u64, u64)>,
    bytes: u64,
}

/// Blocks that are remembered as not to be read in pieces. A forgotten one costs another try.
const MOST_WHOLE: usize = 1024;

impl ColdReads {
    /// The block is read whole from now on.
    pub fn read_whole(&mut self, wanted: &Wanted) {
        if self.whole.len() >= MOST_WHOLE {
            self.whole.clear();
        }
        self.whole.insert((wanted.segment, wanted.position));
    }

    fn is_piecewise(&self, first: &Wanted, payload_bytes: u64) -> bool {
        is_worth_a_piece(payload_bytes, first.block_bytes)
            && !self.whole.contains(&(first.segment, first.position))
    }

    fn has(&self, wanted: &Wanted) -> bool {
        let Wanted {
            segment, position, ..
        } = *wanted;
        let covered = self.ranges.range(..=(segment, position)).next_back();
        covered.is_some_and(|((of, _), end)| *of == segment && *end > position)
            || self.pieces.contains(&(segment, position, wanted.partition))
    }

    pub fn begin(&mut self, segment: u64, position: u64, bytes: u64) {
        self.ranges.insert((segment, position), position + bytes);
        self.bytes += bytes;
    }

    pub fn end(&mut self, segment: u64, position: u64) {
        if let Some(end) = self.ranges.remove(&(segment, position)) {
            self.bytes -= end - position;
        }
    }

    pub fn begin_piece(&mut self, wanted: &Wanted) {
        let Wanted {
            segment,
            position,
            partition,
            ..
        } = *wanted;
        self.pieces.insert((segment, position, partition));
        self.bytes += wanted.payload_bytes;
    }

    pub fn end_piece(&mut self, wanted: &Wanted) {
        let Wanted {
            segment,
            position,
            partition,
            ..
        } = *wanted;
        self.pieces.remove(&(segment, position, partition));
        self.bytes -= wanted.payload_bytes;
    }

    fn count(&self) -> u64 {
        (self.ranges.len() + self.pieces.len()) as u64
    }
}

impl<I: Io> Log<I> {
    /// Starts to read what is wanted, what lies first in the log first, as far as the budget for
    /// reads under way goes. The rest is wanted again when the reader looks again. Returns when
    /// that is: when [`Log::reads_done`] passes the first number one read has come back, when it
    /// passes the second all that are under way now have.
    pub fn bring(&mut self, wanted: &mut Vec<Wanted>) -> (u64, u64) {
        if wanted.len() > MOST_BLOCKS {
            wanted.select_nth_unstable(MOST_BLOCKS);
            wanted.truncate(MOST_BLOCKS);
        }
        wanted.sort_unstable();
        let refused = self.start_reads(wanted).err();
        wanted.clear();
        let under_way = self.cold_reads.count();
        if under_way > 0 {
            return (self.reads_done, self.reads_done + under_way - 1);
        }
        if let Some(Wanted {
            segment, position, ..
        }) = refused
        {
            // Nothing comes back that would make the reader look again.
            let cause = "no memory to read the block into".to_owned();
            self.read_failures.insert((segment, position), cause);
        }
        (self.reads_done - 1, self.reads_done - 1)
    }

    /// `Err`: there is no memory now to read this.
    fn start_reads(&mut self, wanted: &[Wanted]) -> Result<(), Wanted> {
        // What is read together must not push out what it begins with.
        let most_bytes = self
            .config
            .read_ahead_bytes
            .min(self.config.cold_cache_bytes / 2) as u64;
        let mut window: Option<Window> = None;
        for block in wanted.chunk_by(|a, b| (a.segment, a.position) == (b.segment, b.position)) {
            let first = block[0];
            let payload_bytes: u64 = block.iter().map(|one| one.payload_bytes).sum();
            if self.cold_reads.is_piecewise(&first, payload_bytes) {
                for one in block {
                    if self.is_on_its_way(one) {
                        continue;
                    }
                    if !self.has_cold_budget(one.payload_bytes) {
                        return Ok(());
                    }
                    if !self.read_piece(*one) {
                        return Err(*one);
                    }
                }
            } else if !self.is_on_its_way(&first) {
                match &mut window {
                    Some(open) if open.takes(&first, most_bytes) => {
                        // A block that went astray may stand within another.
                        open.end = open.end.max(first.position + first.block_bytes);
                    }
                    _ => {
                        let end = first.position + first.block_bytes;
                        if let Some(closed) = window.replace(Window { first, end })
                            && !self.read_window(&closed)?
                        {
                            return Ok(());
                        }
                    }
                }
            }
        }
        if let Some(window) = window {
            self.read_window(&window)?;
        }
        Ok(())
    }

    fn is_on_its_way(&self, wanted: &Wanted) -> bool {
        let cached = self
            .cache
            .find(wanted.segment, wanted.position, wanted.partition);
        cached.is_some() || self.cold_reads.has(wanted)
    }

    /// Whether so many bytes more may be under way; one read always may.
    fn has_cold_budget(&self, bytes: u64) -> bool {
        let most = (self.config.cold_cache_bytes / 2) as u64;
        self.cold_reads.bytes == 0 || self.cold_reads.bytes + bytes <= most
    }

    /// `Ok(false)`: too much is under way.
    fn read_window(&mut self, window: &Window) -> Result<bool, Wanted> {
        let bytes = window.end - window.first.position;
        if !self.has_cold_budget(bytes) {
            return Ok(false);
        }
        let started = self.read_blocks(&window.first, bytes);
        started.then_some(true).ok_or(window.first)
    }

    /// Reads a block that is wanted, and `bytes` from its start on. `false`: there is no memory
    /// for it now.
    pub(super) fn read_blocks(&mut self, first: &Wanted, bytes: u64) -> bool {
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
    fn takes(&self, next: &Wanted, most_bytes: u64) -> bool {
        let end = next.position + next.block_bytes;
        next.segment == self.first.segment
            && next.position <= self.end + READ_THROUGH_BYTES
            && end - self.first.position <= most_bytes
    }
}
