//! Blocks that are written plain, and the flush that makes them durable.
//!
//! ```text
//! somebody waits for stable storage   write with DSYNC ───────────────────────────► durable
//! nobody does                         plain write ─► written ─► flush, when due ──► durable
//! ```
//! A flush is due at once when somebody waits for a block behind, or when many blocks or bytes
//! wait; else after `flush_after`. So a stream of plain blocks costs a flush now and then, and a
//! durable entry behind them waits for one flush more at most.
//!
//! Invariant: a flush vouches only for blocks whose write completed before it was submitted. The
//! durable prefix is the same for both kinds; `written` runs ahead of it and changes nothing.

use std::time::Duration;

use ringlog_types::Sequence;

use super::pending::{InFlight, WriteState};
use super::urgency::Urgency;
use super::work::Work;
use super::{FlushMethod, Log};
use crate::io::{FileId, Io, Op};

/// Blocks in flight, those included that only wait for a flush, for each write that the depth
/// allows: each holds its memory.
const UNFLUSHED_PER_DEPTH: usize = 8;

/// Blocks, and records, as short as this have room where longer ones have none.
const SHORT_BYTES: usize = 64 << 10;

/// A flush is due when this many blocks of the target size wait for one.
const DUE_BLOCKS: usize = 4;

impl InFlight {
    /// Whether it only waits for a flush that nobody waits for.
    fn is_resting(&self) -> bool {
        let written = matches!(self.state, WriteState::Written | WriteState::Flushing);
        written && self.urgency == Urgency::Written
    }
}

impl<I: Io> Log<I> {
    fn under_way(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().filter(|block| !block.is_resting())
    }

    /// Blocks in flight that count against the depth.
    pub(super) fn writes_under_way(&self) -> usize {
        self.under_way().count()
    }

    /// Whether another block may join those in flight.
    pub(super) fn has_room_in_flight(&self) -> bool {
        self.in_flight.len() < self.config.depth * UNFLUSHED_PER_DEPTH
    }

    /// Whether a block of so many bytes may join those in flight. A short one always may: it takes
    /// the device no time, and whoever waits for it need not wait for those before it to end.
    pub(super) fn has_bytes_in_flight(&self, bytes: usize) -> bool {
        let under_way = self.bytes_under_way();
        under_way == 0 || bytes <= SHORT_BYTES || under_way + bytes <= self.config.in_flight_bytes
    }

    fn bytes_under_way(&self) -> usize {
        self.under_way().map(|block| block.block.bytes).sum()
    }

    /// Whether so many bytes of records that are appended now are written soon: otherwise they
    /// only wait behind others in the log. A large record, or many, may be half of what waits; for
    /// short ones there is a quarter more.
    #[must_use]
    pub fn has_queue_room(&self, bytes: usize) -> bool {
        let queue = self.config.queue_bytes;
        let (bytes, most) = if bytes <= SHORT_BYTES {
            (bytes, queue + queue / 4)
        } else {
            (bytes.min(queue / 2), queue)
        };
        if self.pending_bytes + bytes <= most {
            return true;
        }
        let gathered = self.ready.iter().chain(&self.open);
        let waiting: usize = gathered.map(|block| block.payload_bytes).sum();
        waiting + self.bytes_under_way() + bytes <= most
    }

    /// The written prefix, after completions. It stands still once the log has failed.
    pub(super) fn advance_written(&mut self) {
        if self.failure.is_some() {
            return;
        }
        for block in &self.in_flight {
            match block.state {
                WriteState::Writing | WriteState::Failed => break,
                WriteState::Written | WriteState::Flushing | WriteState::Durable => {
                    self.written = self.written.max(block.block.sequence);
                }
            }
        }
    }

    /// From now, when the blocks that wait for a flush are to have it; `None`: none waits.
    pub(super) fn flush_due(&self) -> Option<Duration> {
        let is_written = |block: &InFlight| block.state == WriteState::Written;
        let oldest = self.in_flight.iter().position(is_written)?;
        let behind = || self.in_flight.range(oldest..);
        let awaited = |urgency: Urgency| urgency == Urgency::Durable;
        let is_awaited = behind().any(|block| awaited(block.urgency))
            || self.ready.iter().any(|block| awaited(block.urgency))
            || self.open.as_ref().is_some_and(|open| awaited(open.urgency));
        let (mut blocks, mut bytes) = (0, 0);
        for block in behind().filter(|block| is_written(block)) {
            blocks += 1;
            bytes += block.block.bytes;
        }
        let many = blocks >= (self.config.depth * UNFLUSHED_PER_DEPTH).div_ceil(2);
        let much = DUE_BLOCKS * self.config.target_block_bytes;
        let large = bytes >= much.min(self.config.pending_bytes / 2);
        let at_once = self.config.flush == FlushMethod::FlushAfterWrites;
        if at_once || self.is_closing || is_awaited || many || large {
            return Some(Duration::ZERO);
        }
        let now = self.submitter.io.monotonic();
        let due = self.in_flight[oldest].written_at + self.config.flush_after;
        Some(due.saturating_sub(now))
    }

    /// One flush at a time, for the file of the oldest written block: it covers every block of
    /// that file whose write has completed.
    pub(super) fn submit_flush(&mut self) {
        if self.flush_in_flight || self.flush_due() != Some(Duration::ZERO) {
            return;
        }
        let written = |block: &&InFlight| block.state == WriteState::Written;
        let Some(file) = self.in_flight.iter().find(written).map(|block| block.file) else {
            return;
        };
        let mut upto = Sequence::NONE;
        for block in &mut self.in_flight {
            if block.state == WriteState::Written && block.file == file {
                block.state = WriteState::Flushing;
                upto = block.block.sequence;
            }
        }
        self.flush_in_flight = true;
        self.stats.flushes += 1;
        self.submitter
            .submit(Op::Flush { file }, Work::Flush(file, upto));
    }

    pub(super) fn flushed(&mut self, file: FileId, upto: Sequence, result: std::io::Result<usize>) {
        self.flush_in_flight = false;
        let state = match &result {
            Ok(_) => WriteState::Durable,
            Err(_) => WriteState::Failed,
        };
        for block in &mut self.in_flight {
            let covered = block.file == file && block.block.sequence <= upto;
            if covered && block.state == WriteState::Flushing {
                block.state = state;
            }
        }
        if let Err(error) = result {
            self.fail(format!("flushing up to block {upto}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests;
