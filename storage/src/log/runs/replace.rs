//! What a cleaner does to the index: a sealed segment goes because its live rows lie elsewhere
//! now, and another comes whose records are older than its number says.
//!
//! Both change memory only. The next durable checkpoint makes them so: until then a restart finds
//! the segments that were, and their files must not be let go.

use ringlog_types::PartitionId;

use crate::format::footer::BlockRef;
use crate::io::Io;
use crate::log::Log;
use crate::log::index::SegmentIndex;
use crate::log::segments::Segment;

impl<I: Io> Log<I> {
    /// Takes a sealed segment out of the index; `rows` are those of its footer. The segment is the
    /// caller's from here. `None`: it is not there, is being read, or its rows are on their way into a
    /// run, and the caller tries again.
    ///
    /// Costs a look at each row.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the cleaner"))]
    pub(in crate::log) fn remove_sealed_segment(
        &mut self,
        id: u64,
        rows: &[(PartitionId, BlockRef)],
    ) -> Option<Segment> {
        if self.segments.live.get(&id)?.reads > 0 || self.is_switching() {
            return None;
        }
        let segment = self.segments.live.remove(&id)?;
        self.resident_rows -= segment.index.rows;
        for partition in segment.index.partitions.keys() {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.segments.retain(|(_, at)| *at != id);
            }
        }
        if segment.index.covered.is_some() {
            for (partition, row) in rows {
                if let Some(state) = self.partitions.get_mut(partition)
                    && row.end > state.counted
                {
                    let bytes = u64::from(row.payload_bytes);
                    state.covered.rows = state.covered.rows.saturating_sub(1);
                    state.covered.bytes = state.covered.bytes.saturating_sub(bytes);
                }
            }
        }
        self.footers.retain(|(at, _)| *at != id);
        self.cache.forget_segment(id);
        self.runs.look = true;
        Some(segment)
    }

    /// Puts a sealed segment into the index, with its rows. What it has of a partition must lie
    /// between the segments that stay: no live record of another segment within its range.
    ///
    /// Costs a look at each partition in it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the cleaner"))]
    pub(in crate::log) fn add_sealed_segment(
        &mut self,
        id: u64,
        mut segment: Segment,
        index: SegmentIndex,
    ) {
        for (partition, range) in &index.partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                let at = state
                    .segments
                    .partition_point(|(first, _)| *first < range.first);
                state.segments.insert(at, (range.first, id));
            }
        }
        self.resident_rows += index.rows;
        segment.index = index;
        self.segments.live.insert(id, segment);
        self.runs.look = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringlog_types::{LogId, Offset};

    use super::*;
    use crate::io::sim::{Faults, SimDisk, SimIo};
    use crate::log::segments::Stage;
    use crate::log::{Entry, EntryKind, EntryMeta, LogConfig, Machine, Read};

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
    const BATCH_BYTES: u64 = 30 << 10;

    fn turn(log: &mut Log<SimIo>) {
        log.submit();
        log.io_mut().wait(Duration::from_millis(1));
        log.poll(&mut Nobody);
    }

    fn read_all(log: &mut Log<SimIo>, end: u64) {
        for at in 0..end {
            loop {
                match log.read(PARTITION, Offset(at), 1) {
                    Read::Batches(found) => {
                        assert_eq!(found[0][0], at as u8, "offset {at}");
                        break;
                    }
                    Read::Pending(_) => turn(log),
                    other => panic!("offset {at}: {other:?}"),
                }
            }
        }
    }

    /// As a cleaner does, a segment leaves the index and comes back with its rows under a larger
    /// number: whether a run covers it or not, all is read, and the bytes are the same.
    #[test]
    fn a_segment_that_is_replaced_is_read_in_its_place_in_the_order_of_offsets() {
        let disk = SimDisk::new(1, Faults::none());
        let config = LogConfig {
            segment_bytes: 256 << 10,
            cache_bytes: 0,
            cold_cache_bytes: 128 << 10,
            index_rows: 0,
            index_fan_in: 2,
            ..LogConfig::default()
        };
        let opened = Log::open(disk.io(), LogId(0), config, &mut Nobody);
        let (mut log, _) = opened.expect("a new disk opens");
        let end = 60;
        for offset in 0..end {
            let meta = EntryMeta {
                partition: PARTITION,
                kind: EntryKind::Records,
                machine: 0,
                base_offset: Offset(offset),
                count: 1,
                max_timestamp: offset as i64,
            };
            let payload = vec![offset as u8; BATCH_BYTES as usize];
            let sequence = log.append(&[(meta, &payload)]).expect("room");
            while log.durable() < sequence {
                turn(&mut log);
            }
        }
        for _ in 0..500 {
            turn(&mut log);
        }
        let bytes = end * BATCH_BYTES;
        assert_eq!(log.partition_bytes(PARTITION), bytes);
        let sealed = log.segments.live.iter();
        let sealed = sealed.filter(|(_, s)| s.stage == Stage::Sealed);
        let sealed: Vec<u64> = sealed.map(|(id, _)| *id).collect();
        assert!(sealed.len() > 4, "{sealed:?}");
        assert!(log.segments.live[&sealed[1]].index.covered.is_some());
        let footer = loop {
            match log.footer(sealed[1]) {
                Ok(footer) => break footer,
                Err(_) => turn(&mut log),
            }
        };
        let rows = footer.rows().to_vec();
        let segment = loop {
            match log.remove_sealed_segment(sealed[1], &rows) {
                Some(segment) => break segment,
                None => turn(&mut log),
            }
        };
        let gone = rows.len() as u64 * BATCH_BYTES;
        assert_eq!(log.partition_bytes(PARTITION), bytes - gone);
        let mut index = SegmentIndex::new();
        rows.iter().for_each(|(of, row)| index.add(*of, *row));
        let segment = Segment {
            stage: Stage::Sealed,
            ..segment
        };
        log.add_sealed_segment(sealed[1], segment, index);
        assert_eq!(log.partition_bytes(PARTITION), bytes);
        read_all(&mut log, end);
        for _ in 0..500 {
            turn(&mut log);
        }
        let covered = log.segments.live[&sealed[1]].index.covered;
        assert!(covered.is_some(), "it goes into a run of its own");
        assert_eq!(log.partition_bytes(PARTITION), bytes);
        read_all(&mut log, end);
        let found = log.seek_timestamp(PARTITION, 9);
        assert!(matches!(found, Ok(Some(Offset(9))) | Err(_)), "{found:?}");
    }
}
