//! From append to durable.
//!
//! ```text
//! append ─► open block ─► ready ─► in flight (written) ─► durable ─► applied, readable
//! ```
//! What has gathered is written at once while fewer than `eager_depth` writes are in flight;
//! a block that reached the target size is written while fewer than `depth` are. So a lone
//! event does not wait, and many events share one flush.
//!
//! Invariant: durable moves forward one block at a time, in sequence order, and only over
//! blocks whose write completed in full and either carried DSYNC or was covered by a flush
//! submitted after that completion. `flush` has the latter.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use ringlog_types::Sequence;

use super::block::Block;
use super::builder::{OpenBlock, Statement};
use super::first_block::FirstBlock;
use super::part::{Part, Turn};
use super::pending::{InFlight, WriteState};
use super::seeded_bug::SeededBug;
use super::segments::Segments;
use super::urgency::Urgency;
use super::work::Work;
use super::{FlushMethod, Log, Machine};
use crate::buffer::Buf;
use crate::io::{Completion, Io, Op};

/// Block bytes handed to the kernel in one step of a core.
const STEP_BYTES: usize = 512 << 10;

const SPACE_RETRY: Duration = Duration::from_secs(1);

impl<I: Io> Log<I> {
    pub(super) fn close_open(&mut self) {
        self.ready.extend(self.open.take());
    }

    /// Starts what can be started: blocks within the depth, pool upkeep. Call once per turn,
    /// after the turn's appends.
    pub fn submit(&mut self) {
        while self.submit_step() {}
    }

    /// As much of [`Log::submit`] as one step of a core takes: handing a block to the kernel
    /// costs 100 to 300 µs for each MiB. Returns whether more can be started at once.
    pub fn submit_step(&mut self) -> bool {
        let mut more = false;
        self.did(Part::Completed);
        if self.failure.is_none() {
            more = self.write_blocks();
            self.submit_flush();
            self.did(Part::Blocks);
            self.clean_step();
            self.did(Part::Clean);
            let busy = !self.in_flight.is_empty();
            self.segments.upkeep(
                &mut self.submitter,
                self.epoch,
                self.checkpoint,
                busy,
                &mut self.stats,
            );
            if self.segments.is_stuck() {
                let now = self.submitter.io.monotonic();
                if now >= self.last_retry + SPACE_RETRY {
                    self.last_retry = now;
                    self.segments.retry_making(&mut self.submitter);
                }
            }
        }
        self.did(Part::Upkeep);
        self.submitter.io.kick();
        self.did(Part::Kicked);
        more
    }

    /// What took longest in the last turn: of [`Log::poll`] and the [`Log::submit_step`] behind it.
    #[must_use]
    pub fn longest_part(&self) -> Part {
        self.turn.longest()
    }

    fn did(&mut self, part: Part) {
        self.turn.did(part, self.submitter.io.monotonic());
    }

    /// Writes blocks within the depth, up to a step's bytes. Returns whether more can be written
    /// at once.
    fn write_blocks(&mut self) -> bool {
        let mut written_bytes = 0;
        while self.writes_under_way() < self.config.depth && self.has_room_in_flight() {
            if self.ready.is_empty() {
                if self.open.is_none() || self.writes_under_way() >= self.config.eager_depth {
                    return false;
                }
                self.close_open();
            }
            if written_bytes >= STEP_BYTES {
                return true;
            }
            match self.write_next() {
                Some(bytes) => written_bytes += bytes,
                None => return false,
            }
        }
        false
    }

    /// Places, lays out and submits the oldest ready block. Returns its length; `None`: it has to
    /// wait.
    fn write_next(&mut self) -> Option<usize> {
        let next = self.ready.front()?;
        let (bytes, entry_count) = (next.block_bytes(self.unit), next.entry_count());
        if !self.has_bytes_in_flight(bytes) {
            return None;
        }
        if !self.segments.fits(bytes, entry_count) && !self.segments.advance() {
            return None;
        }
        debug_assert!(
            self.segments.fits(bytes, entry_count),
            "an empty segment takes any block"
        );
        let segment_id = self
            .segments
            .active
            .expect("a segment that fits a block is active");
        let statement = Statement {
            segment: segment_id,
            durable: self.durable,
            previous: self.previous_checksum,
            metadata_version: self.metadata_version,
            epoch: self.epoch,
            wall_ms: self.submitter.io.wall_ms(),
        };
        let key = self.segments.live[&segment_id].key.clone();
        let mut open = self.ready.pop_front().expect("it was just seen");
        let unit = self.unit;
        let laid = open.lay(&statement, &key, &mut |bytes| self.alloc(bytes), unit);
        let Some(laid) = laid else {
            self.ready.push_front(open);
            return None;
        };
        self.spare_head = laid.spare_head.or(self.spare_head.take());
        debug_assert_eq!(
            laid.bytes, bytes,
            "a block's length is known before it is laid out"
        );
        let segment = self
            .segments
            .live
            .get_mut(&segment_id)
            .expect("the active segment lives");
        let position = segment.position;
        segment.position += bytes as u64;
        segment.rows_bound += entry_count;
        if segment.first_sequence == Sequence::NONE {
            segment.first_sequence = open.sequence;
            segment.first_block = Some(FirstBlock {
                sequence: open.sequence,
                group: open.group,
                group_first: open.group_first,
            });
        }
        segment.last_sequence = open.sequence;
        segment.last_checksum = laid.checksum;
        Segments::count_space(segment, position, bytes, &mut self.stats);
        self.previous_checksum = laid.checksum;
        self.mark_due = entry_count > 0;
        let file = segment.file;
        let bufs: Vec<Buf> = laid.extents.iter().map(|(_, buf)| buf.clone()).collect();
        let durable = self.config.flush == FlushMethod::DsyncEachWrite
            && open.urgency == Urgency::Durable
            && !self.has_bug(SeededBug::SkipFlush);
        let write = Op::Write {
            file,
            offset: position,
            bufs,
            durable,
        };
        self.submitter.submit(write, Work::Block(open.sequence));
        self.stats.flushes += u64::from(durable);
        let now = self.submitter.io.monotonic();
        self.last_progress = now;
        if entry_count > 0 {
            self.stats
                .queue_latency
                .record(nanoseconds(now.saturating_sub(open.opened_at)));
        }
        self.in_flight.push_back(InFlight {
            block: Rc::new(Block {
                sequence: open.sequence,
                segment: segment_id,
                position,
                bytes,
                checksum: laid.checksum,
                group: open.group,
                group_first: open.group_first,
                epoch: self.epoch,
                entries: laid.entries,
                extents: laid.extents,
                is_cold: false,
                by_partition: OnceCell::new(),
            }),
            file,
            payload_bytes: open.payload_bytes,
            submitted_at: now,
            urgency: open.urgency,
            dsync: durable,
            written_at: Duration::ZERO,
            state: if self.has_bug(SeededBug::AckEarly) {
                WriteState::Durable
            } else {
                WriteState::Writing
            },
        });
        Some(bytes)
    }

    /// Takes completions; applies newly durable blocks to `machine` in order, as much of them as one
    /// step of a core takes (see [`Log::is_applying`]). Returns whether anything was applied, or
    /// [`Log::durable`], [`Log::written`], [`Log::reads_done`] or [`Log::failure`] moved.
    pub fn poll(&mut self, machine: &mut dyn Machine) -> bool {
        let state = |log: &Log<I>| {
            let (failed, applied) = (log.failure.is_some(), log.applied_steps);
            (log.durable, log.written(), log.reads_done, failed, applied)
        };
        let before = state(self);
        self.turn = Turn::begin(self.submitter.io.monotonic());
        for (work, completion) in self.submitter.completions() {
            if work.is_for_a_reader() {
                self.cold_reads.arrived.push_back((work, completion));
            } else if matches!(work, Work::Clean) {
                self.did(Part::Completed);
                self.complete(work, completion);
                self.did(Part::Cleaned);
            } else {
                self.complete(work, completion);
            }
        }
        self.did(Part::Completed);
        self.advance_written();
        self.apply_durable(machine);
        if std::mem::take(&mut self.release_due) {
            self.release_dead_segments();
        }
        self.did(Part::Applied);
        if self.has_bug(SeededBug::AckOutOfOrder) {
            let durable = |block: &&InFlight| block.state == WriteState::Durable;
            let last = self.in_flight.iter().rfind(durable);
            self.durable = last.map_or(self.durable, |block| block.block.sequence);
        }
        if self.failure.is_none() {
            // Not between the entries of a block: the anchor is behind it.
            let is_due = self.bytes_since_checkpoint >= self.config.checkpoint_bytes;
            if is_due && !self.is_applying() {
                self.start_checkpoint(machine);
            }
            self.checkpoint_step(machine);
            self.did(Part::Checkpoint);
            self.seal_full_segments();
            self.mark_when_idle();
            self.did(Part::Sealed);
            self.runs_step();
            self.did(Part::Runs);
        }
        self.take_arrived();
        self.did(Part::Arrived);
        self.scrub();
        self.did(Part::Scrubbed);
        before != state(self)
    }

    pub(super) fn complete(&mut self, work: Work, completion: Completion) {
        match work {
            Work::Block(sequence) => self.block_written(sequence, completion.result),
            Work::Flush(file, upto) => self.flushed(file, upto, completion.result),
            Work::SegmentHeader(segment) => match whole(completion.result, self.unit) {
                Ok(()) => self.segments.check_header(&mut self.submitter, segment),
                Err(cause) => self.fail(format!("writing a segment's header: {cause}")),
            },
            Work::SegmentHeaderCheck(segment) => {
                let checked = self
                    .segments
                    .header_read(&mut self.submitter, segment, completion);
                if let Err(cause) = checked {
                    self.fail(format!("reading a new segment's header back: {cause}"));
                }
            }
            Work::Footer(segment) => self.footer_written(segment, completion.result),
            Work::Trailer(segment) => self.trailer_written(segment, completion.result),
            Work::Cut(segment) => self.segment_cut(segment, completion.result),
            Work::Making => self.segments.made(&mut self.submitter, completion),
            Work::BlockRead(wanted) => self.block_read(&wanted, completion),
            Work::PieceRead(piece) => self.piece_read(*piece, completion),
            Work::FooterRead(segment) => self.footer_read(segment, completion),
            Work::Rescan(segment) => self.rescanned(segment, completion),
            Work::Run(work) => self.run_done(work, completion),
            Work::Clean => self.cleaned(completion),
            Work::Scrub => self.scrubbed(completion),
            Work::Housekeeping(what) => {
                if let Err(error) = completion.result {
                    tracing::warn!(log = %self.id, %error, "{what} failed");
                }
            }
        }
    }

    fn block_written(&mut self, sequence: Sequence, result: std::io::Result<usize>) {
        let Some(at) = self
            .in_flight
            .iter()
            .position(|b| b.block.sequence == sequence)
        else {
            if self.has_bug(SeededBug::AckEarly) {
                return;
            }
            unreachable!("a block stays in flight until its write completed");
        };
        let now = self.submitter.io.monotonic();
        let block = &mut self.in_flight[at];
        match whole(result, block.block.bytes) {
            Ok(()) => {
                block.written_at = now;
                let took = nanoseconds(now.saturating_sub(block.submitted_at));
                self.stats.device_latency.record(took);
                let skips_flush = self.config.seeded_bug == Some(SeededBug::SkipFlush);
                block.state = if block.dsync || skips_flush {
                    WriteState::Durable
                } else {
                    WriteState::Written
                };
            }
            Err(cause) => {
                block.state = WriteState::Failed;
                self.fail(format!("writing block {sequence}: {cause}"));
            }
        }
    }

    /// The first failure is final: what waits is dropped unacknowledged, nothing new is taken.
    pub(super) fn fail(&mut self, cause: String) {
        if self.failure.is_none() {
            tracing::error!(
                log = %self.id, durable = %self.durable, %cause,
                "the log is closed: nothing after the durable prefix will be acknowledged; \
                 check the device and restart the node"
            );
            self.failure = Some(cause);
            self.open = None;
            self.ready.clear();
            // Who waits for an index run to be made anew waits in vain, and is told so.
            self.reads_done += 1;
        }
    }

    /// Applies durable blocks at the front, as much as one step of a core takes. A block stays in
    /// flight until all of it is applied.
    fn apply_durable(&mut self, machine: &mut dyn Machine) {
        let mut budget_bytes = self.config.apply_step_bytes.max(1);
        while budget_bytes > 0
            && let Some(front) = self.in_flight.front()
            && front.state == WriteState::Durable
        {
            if !std::mem::replace(&mut self.front_is_taken, true) {
                let block = Rc::clone(&front.block);
                if !block.entries.is_empty() {
                    self.cache.keep_tail(Rc::clone(&block));
                }
                self.take_block(block, machine, &[]);
            }
            self.apply_step(machine, &mut budget_bytes);
            if self.to_apply.is_empty() {
                self.front_is_taken = false;
                let done = self.in_flight.pop_front().expect("it was just seen");
                self.settle(&done);
            }
        }
    }

    /// Whether [`Log::poll`] has more of a durable block to apply at once.
    #[must_use]
    pub fn is_applying(&self) -> bool {
        self.front_is_taken
    }

    /// A block joined the durable prefix, and is applied.
    fn settle(&mut self, done: &InFlight) {
        let block = &done.block;
        debug_assert!(
            block.sequence == self.durable.next() || self.has_bug(SeededBug::AckOutOfOrder),
            "durable moves one block at a time"
        );
        self.durable = block.sequence;
        self.pending_bytes -= done.payload_bytes;
        let now = self.submitter.io.monotonic();
        self.last_progress = now;
        self.stats.blocks += 1;
        self.stats.block_bytes += block.bytes as u64;
        self.stats.payload_bytes += done.payload_bytes as u64;
        self.stats.entries += block.entries.len() as u64;
        self.stats.block_size.record(block.bytes as u64);
        self.stats
            .write_latency
            .record(nanoseconds(now.saturating_sub(done.submitted_at)));
        let settled = nanoseconds(now.saturating_sub(done.written_at));
        self.stats.settle_latency.record(settled);
    }

    /// States in a block of its own that everything is durable, when nothing else would.
    fn mark_when_idle(&mut self) {
        let quiet = self.in_flight.is_empty() && self.ready.is_empty() && self.open.is_none();
        if !self.mark_due || !quiet {
            return;
        }
        let now = self.submitter.io.monotonic();
        if now >= self.last_progress + self.config.idle_mark_after {
            self.add_mark();
        }
    }

    /// Puts a block without entries in line.
    pub(super) fn add_mark(&mut self) {
        self.close_open();
        let now = self.submitter.io.monotonic();
        self.ready
            .push_back(OpenBlock::new(self.next_sequence, now, Urgency::Durable));
        self.next_sequence = self.next_sequence.next();
        self.mark_due = false;
    }

    /// From now: when [`Log::poll`] and [`Log::submit`] want to be called again although
    /// nothing completes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.failure.is_some() {
            return None;
        }
        let now = self.submitter.io.monotonic();
        let quiet = self.in_flight.is_empty() && self.ready.is_empty() && self.open.is_none();
        let mark = (self.mark_due && quiet)
            .then(|| (self.last_progress + self.config.idle_mark_after).saturating_sub(now));
        let retry = self.segments.is_stuck().then_some(SPACE_RETRY);
        let flush = self.flush_due().filter(|_| !self.flush_in_flight);
        let runs = self.runs_deadline();
        let clean = self.clean_deadline();
        let scrub = self.scrub_deadline(now);
        let checkpoint = self.checkpoint_deadline();
        [mark, retry, flush, runs, clean, scrub, checkpoint]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Whether an operation moved all its bytes.
pub(super) fn whole(result: std::io::Result<usize>, bytes: usize) -> Result<(), String> {
    match result {
        Ok(written) if written == bytes => Ok(()),
        Ok(written) => Err(format!("{written} of {bytes} bytes were written")),
        Err(error) => Err(error.to_string()),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
