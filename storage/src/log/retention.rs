//! Where a partition should start by its limits of time and bytes. Decides only: the start moves
//! by an entry in the log, like everything else.

use ringlog_types::{Offset, PartitionId};

use super::Log;
use super::index::SegmentRange;
use super::runs::lookup::ANY_TIME;
use super::segments::{Segment, Stage};
use crate::io::Io;

/// Rows of runs that one call goes over: some 100 µs.
const ROWS_PER_CALL: usize = 64;

impl<I: Io> Log<I> {
    /// Where the partition should start by its retention, at or above the present start. Pass it
    /// to [`Log::append`] as [`super::EntryKind::StartOffset`] to make it so.
    ///
    /// Bytes count by whole sealed segments, in those that a run covers by blocks. Time counts by
    /// blocks, in the active segment too: all partitions share segments, and one of a quiet log would
    /// keep a record for months. In segments whose blocks are neither in memory nor in a run it
    /// counts by segments. A call goes over a bounded number of blocks; the next one goes on.
    ///
    /// # Errors
    /// `Err(ticket)`: index pages must be read first, or rows be counted; ask again as with
    /// [`super::Read::Pending`], or the next time.
    pub fn retention_start(
        &mut self,
        partition: PartitionId,
        keep_bytes: Option<u64>,
        expire_before_ms: Option<i64>,
    ) -> Result<Offset, u64> {
        let Some(state) = self.partitions.get(&partition) else {
            return Ok(Offset::ZERO);
        };
        if state.counted < state.start {
            // Its bytes are those of records, some of which are gone.
            return Err(self.reads_done);
        }
        // Records without a timestamp expire with others of their segment, not alone.
        let is_old = |max_timestamp: i64| {
            max_timestamp >= 0 && expire_before_ms.is_some_and(|before| max_timestamp < before)
        };
        let mut total = self.partition_bytes(partition);
        let (mut start, is_covered) = (state.start, state.covered.rows > 0);
        let (mut at, mut passed) = (start, 0);
        loop {
            let covered = if is_covered {
                let row = self.covered_row(partition, at, ANY_TIME);
                row.map_err(|_| self.reads_done)?
            } else {
                None
            };
            let recent = self.recent_range(partition, at);
            // A cold segment that no run covers yet may stand before those that one does.
            let is_next = |first: Offset| covered.is_none_or(|row| first < row.block.first);
            if let Some((_, segment, range)) = recent.filter(|(_, _, r)| is_next(r.first)) {
                let too_many = segment.stage == Stage::Sealed
                    && keep_bytes.is_some_and(|keep| total.saturating_sub(range.bytes) >= keep);
                if !too_many && !is_old(range.max_timestamp) {
                    let blocks = range.blocks.iter();
                    let old = blocks.take_while(|block| is_old(block.max_timestamp));
                    let end = old.map(|block| block.end).last();
                    return Ok(end.map_or(start, |end| start.max(end)));
                }
                total = total.saturating_sub(range.bytes);
                at = range.end;
                start = start.max(at);
            } else if let Some(row) = covered {
                let (block, bytes) = (row.block, u64::from(row.block.payload_bytes));
                let too_many = keep_bytes.is_some_and(|keep| total.saturating_sub(bytes) >= keep);
                let timeless = block.max_timestamp < 0 && expire_before_ms.is_some();
                if !too_many && !is_old(block.max_timestamp) && !timeless {
                    return Ok(start);
                }
                total = total.saturating_sub(bytes);
                at = block.end;
                if too_many || !timeless {
                    start = start.max(at);
                }
                passed += 1;
                if passed == ROWS_PER_CALL {
                    return Ok(start);
                }
            } else {
                return Ok(start);
            }
        }
    }

    /// What the first segment that reaches behind `at` has of a partition, of those that no run
    /// covers.
    pub(super) fn recent_range(
        &self,
        partition: PartitionId,
        at: Offset,
    ) -> Option<(u64, &Segment, &SegmentRange)> {
        let segments = &self.partitions.get(&partition)?.segments;
        let from = segments.partition_point(|(first, _)| *first <= at);
        let recent = segments.range(from.saturating_sub(1)..);
        let mut recent = recent.filter_map(|(_, id)| {
            let segment = self.segments.live.get(id)?;
            Some((*id, segment, segment.index.partitions.get(&partition)?))
        });
        recent.find(|(_, _, range)| range.end > at)
    }
}

#[cfg(test)]
mod tests {
    use ringlog_types::LogId;

    use super::*;
    use crate::io::sim::{Faults, SimDisk, SimIo};
    use crate::log::{Entry, EntryKind, EntryMeta, LogConfig, Machine};

    struct Nobody;

    impl Machine for Nobody {
        fn restore(&mut self, _: &[u8]) -> Result<(), String> {
            Ok(())
        }
        fn apply(&mut self, _: &Entry) {}
        fn apply_damaged(&mut self, _: &EntryMeta) {}
        fn checkpoint(&self) -> Vec<u8> {
            Vec::new()
        }
    }

    const PARTITION: PartitionId = PartitionId(1 << 32);

    /// A block of its own with one record.
    fn append(log: &mut Log<SimIo>, offset: u64, timestamp_ms: i64, bytes: usize) {
        let meta = EntryMeta {
            partition: PARTITION,
            kind: EntryKind::Records,
            machine: 0,
            base_offset: Offset(offset),
            count: 1,
            max_timestamp: timestamp_ms,
        };
        let sequence = log.append(&[(meta, &vec![7; bytes])]).unwrap();
        while log.durable() < sequence {
            log.submit();
            log.io_mut().wait(std::time::Duration::from_millis(1));
            log.poll(&mut Nobody);
        }
    }

    fn open(disk: &SimDisk) -> Log<SimIo> {
        let config = LogConfig {
            segment_bytes: 256 << 10,
            ..LogConfig::default()
        };
        let opened = Log::open(disk.io(), LogId(0), config, &mut Nobody);
        opened.expect("a log on a sound disk").0
    }

    fn by_time(log: &mut Log<SimIo>, before_ms: i64) -> u64 {
        let start = log.retention_start(PARTITION, None, Some(before_ms));
        start.expect("nothing need be read").0
    }

    #[test]
    fn time_expires_blocks_of_a_segment_that_is_still_written() {
        let disk = SimDisk::new(1, Faults::none());
        let mut log = open(&disk);
        // Offset 2 keeps what comes behind it, however old; offset 5 has no time, and goes with
        // the others of its segment.
        for (offset, timestamp_ms) in [(0, 10), (1, 20), (2, 90), (3, 30), (4, 40), (5, -1)] {
            append(&mut log, offset, timestamp_ms, 100);
        }
        for (before_ms, start) in [
            (5, 0),
            (10, 0),
            (11, 1),
            (20, 1),
            (90, 2),
            (91, 6),
            (999, 6),
        ] {
            assert_eq!(by_time(&mut log, before_ms), start, "before {before_ms}");
        }
        assert_eq!(log.retention_start(PARTITION, None, None), Ok(Offset(0)));
        let by_bytes = log.retention_start(PARTITION, Some(0), None);
        assert_eq!(by_bytes, Ok(Offset(0)), "bytes count by sealed segments");
    }

    #[test]
    fn limits_of_bytes_and_time_reach_over_sealed_segments() {
        let disk = SimDisk::new(2, Faults::none());
        let mut log = open(&disk);
        for offset in 0..20 {
            append(&mut log, offset, 1000 + offset as i64, 60 << 10);
        }
        let total = log.partition_bytes(PARTITION);
        let kept = log.retention_start(PARTITION, Some(300 << 10), None);
        let kept = kept.expect("nothing need be read").0;
        assert!(kept > 0, "some sealed segments are too many");
        assert!(total - kept * (60 << 10) >= 300 << 10, "no more than that");
        assert_eq!(by_time(&mut log, 1007), 7);
        assert_eq!(by_time(&mut log, 5000), 20);
    }
}
