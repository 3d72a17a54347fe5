//! The blocks of a cold segment: entries in the order of partition and offset, in blocks of the
//! usual shape under the segment's key. Runs on the helper: bytes in, bytes out.
//!
//! ```text
//! [ header | entry table | payloads … ]
//!   one unit, as a rule
//! ```
//! Who reads one partition reads the first unit of a block, then what it wants of the rest: so the
//! table stands right behind the header and is short enough to be read with it, and a partition
//! that fits a block lies in one.

use std::collections::VecDeque;

use ringlog_types::{Offset, PartitionId, Sequence};

use crate::format::block_header::{BlockHeader, Group};
use crate::format::checksum::{Key, payload_checksum};
use crate::format::cold;
use crate::format::entry_header::{EntryHeader, EntryMeta};
use crate::format::footer::{self, BlockRef};
use crate::format::manifest::RangeRow;

/// A block is closed at this length. A reader of a small partition reads a piece of it.
const BLOCK_BYTES: usize = 256 << 10;

/// From this length on a block is closed sooner, where that spares readers a read.
const CLOSED_SOONER_BYTES: usize = BLOCK_BYTES / 4;

/// A segment that entries are laid out for.
#[derive(Clone, Debug)]
pub(super) struct Blank {
    pub segment: u64,
    pub nonce: u128,
}

/// What is the same for all segments of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub segment_bytes: u64,
    pub unit: usize,
    pub epoch: u32,
    pub wall_ms: i64,
}

/// A segment laid out: its blocks from the unit behind the header on, and what they hold.
///
/// Each block is memory of its own, and let go when it is written: one piece of 64 MiB would be
/// given back to the kernel by the core's thread, which takes it milliseconds.
#[derive(Debug)]
pub struct Laid {
    pub(super) blank: Blank,
    pub(super) blocks: VecDeque<Vec<u8>>,
    /// Where the blocks end.
    pub(super) data_end: usize,
    pub(super) footer: Vec<u8>,
    pub(super) footer_checksum: u64,
    /// What it holds, by partition.
    pub(super) ranges: Vec<RangeRow>,
    pub(super) last_checksum: u64,
}

/// What an entry takes of a block: its payload and its row of the table.
pub(super) fn bytes_of(payload: &[u8]) -> usize {
    payload.len() + EntryHeader::BYTES
}

fn footer_of(rows: &[(PartitionId, BlockRef)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * footer::ROW_BYTES);
    for (partition, row) in rows {
        footer::encode_row(*partition, row, &mut bytes);
    }
    bytes
}

fn ranges_of(rows: &[(PartitionId, BlockRef)]) -> Vec<RangeRow> {
    let runs = rows.chunk_by(|a, b| a.0 == b.0);
    let range = |run: &[(PartitionId, BlockRef)]| {
        let rows = run.iter().map(|(_, row)| row);
        RangeRow {
            partition: run[0].0,
            first: run[0].1.first,
            end: rows.clone().map(|row| row.end).max().unwrap_or_default(),
            bytes: rows.clone().map(|row| u64::from(row.payload_bytes)).sum(),
            max_timestamp: rows.map(|row| row.max_timestamp).max().unwrap_or(-1),
        }
    };
    runs.map(range).collect()
}

/// Lays entries out, in segments as they fill.
#[derive(Debug)]
pub(super) struct Layer {
    shape: Shape,
    blanks: std::vec::IntoIter<Blank>,
    open: Option<Open>,
    done: Vec<Laid>,
}

#[derive(Debug)]
struct Open {
    blank: Blank,
    blocks: VecDeque<Vec<u8>>,
    data_end: usize,
    rows: Vec<(PartitionId, BlockRef)>,
    last_checksum: u64,
    key: Key,
    number: u64,
    entries: Vec<(EntryMeta, Vec<u8>)>,
    bytes: usize,
}

/// More entries came than the segments given hold.
#[derive(Debug, thiserror::Error)]
#[error("the live entries need more than the segments counted on")]
pub(super) struct NoBlank;

impl Layer {
    pub fn new(shape: Shape, blanks: Vec<Blank>) -> Layer {
        Layer {
            shape,
            blanks: blanks.into_iter(),
            open: None,
            done: Vec::new(),
        }
    }

    /// Entries of another partition come, of so many bytes together: where they would end in the
    /// next block they begin there.
    pub fn begin_partition(&mut self, bytes: usize) {
        let shape = self.shape;
        if let Some(open) = &mut self.open
            && open.bytes >= CLOSED_SOONER_BYTES
            && open.bytes + bytes > BLOCK_BYTES
            && bytes < BLOCK_BYTES - CLOSED_SOONER_BYTES
        {
            open.close_block(&shape);
        }
    }

    /// Adds an entry. Entries come by partition, and by offset within it.
    pub fn push(&mut self, meta: EntryMeta, payload: Vec<u8>) -> Result<(), NoBlank> {
        let more = bytes_of(&payload);
        let unit = self.shape.unit;
        if let Some(open) = &mut self.open {
            let table = BlockHeader::BYTES + (open.entries.len() + 1) * EntryHeader::BYTES;
            let is_full = open.bytes + more > BLOCK_BYTES
                || (open.bytes >= CLOSED_SOONER_BYTES && table > unit);
            if !open.entries.is_empty() && is_full {
                open.close_block(&self.shape);
            }
            let block = (open.bytes + more).next_multiple_of(unit);
            let rows = open.rows.len() + open.entries.len() + 1;
            let footer = (rows * footer::ROW_BYTES).next_multiple_of(unit).max(unit);
            let used = unit + open.data_end + block + footer;
            let full =
                used as u64 > self.shape.segment_bytes || open.number + 1 >= cold::MOST_BLOCKS;
            if full && (open.number > 0 || !open.entries.is_empty()) {
                self.close_segment();
            }
        }
        if self.open.is_none() {
            let blank = self.blanks.next().ok_or(NoBlank)?;
            self.open = Some(Open::new(blank, unit));
        }
        let open = self.open.as_mut().expect("it was just made");
        open.bytes += more;
        open.entries.push((meta, payload));
        Ok(())
    }

    pub fn finish(mut self) -> Vec<Laid> {
        self.close_segment();
        self.done
    }

    fn close_segment(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.close_block(&self.shape);
            self.done.push(open.laid());
        }
    }
}

impl Open {
    fn new(blank: Blank, unit: usize) -> Open {
        Open {
            key: Key::derive(blank.nonce),
            blank,
            blocks: VecDeque::new(),
            data_end: unit,
            rows: Vec::new(),
            last_checksum: 0,
            number: 0,
            entries: Vec::new(),
            bytes: BlockHeader::BYTES,
        }
    }

    fn laid(self) -> Laid {
        let footer = footer_of(&self.rows);
        Laid {
            blank: self.blank,
            blocks: self.blocks,
            data_end: self.data_end,
            footer_checksum: self.key.checksum(&footer),
            footer,
            ranges: ranges_of(&self.rows),
            last_checksum: self.last_checksum,
        }
    }

    fn close_block(&mut self, shape: &Shape) {
        if self.entries.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        let length = self.bytes.next_multiple_of(shape.unit);
        self.bytes = BlockHeader::BYTES;
        let start = self.data_end;
        let units = |bytes: usize| {
            u32::try_from(bytes / shape.unit).expect("a segment is below 2^32 units")
        };
        let number = |value: usize| u32::try_from(value).expect("a block is far below 4 GiB");
        let mut block = vec![0; length];
        let table = BlockHeader::BYTES..BlockHeader::BYTES + entries.len() * EntryHeader::BYTES;
        let mut at = table.end;
        let mut headers = Vec::with_capacity(entries.len());
        for (meta, payload) in &entries {
            block[at..at + payload.len()].copy_from_slice(payload);
            headers.push(EntryHeader {
                meta: *meta,
                checksum: payload_checksum(payload),
                payload_offset: number(at),
                length: number(payload.len()),
            });
            at += payload.len();
        }
        let rows = block[table.clone()].chunks_exact_mut(EntryHeader::BYTES);
        for (row, header) in rows.zip(&headers) {
            header.encode(row);
        }
        let sequence = cold::sequence(self.blank.segment, self.number);
        let header = BlockHeader {
            sequence,
            durable: Sequence::NONE,
            previous: self.last_checksum,
            metadata_version: 0,
            segment: self.blank.segment,
            group_first: sequence,
            group: Group::Whole,
            block_bytes: number(length),
            entry_count: number(headers.len()),
            table_offset: number(table.start),
            epoch: shape.epoch,
            table_checksum: self.key.checksum(&block[table]),
            wall_ms: shape.wall_ms,
        };
        self.last_checksum = header.encode(&self.key, &mut block);
        self.blocks.push_back(block);
        self.data_end += length;
        self.number += 1;
        let mut last: Option<(PartitionId, Offset)> = None;
        for header in &headers {
            let meta = header.meta;
            debug_assert!(
                last.is_none_or(|last| last <= (meta.partition, meta.base_offset)),
                "entries come by partition and offset"
            );
            last = Some((meta.partition, meta.end_offset()));
            let row = BlockRef {
                first: meta.base_offset,
                end: meta.end_offset(),
                max_timestamp: meta.max_timestamp,
                position_units: units(start),
                block_units: units(length),
                payload_bytes: header.length,
            };
            match self.rows.last_mut() {
                Some((partition, before))
                    if *partition == meta.partition
                        && before.position_units == row.position_units =>
                {
                    before.end = row.end;
                    before.max_timestamp = before.max_timestamp.max(row.max_timestamp);
                    before.payload_bytes += row.payload_bytes;
                }
                _ => self.rows.push((meta.partition, row)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringlog_types::TopicNumber;

    use super::*;
    use crate::format::block;
    use crate::format::entry_header::EntryKind;

    const UNIT: usize = 4096;

    fn partition(number: u32) -> PartitionId {
        PartitionId::new(TopicNumber(1), number)
    }

    /// Partitions with so many entries of so many bytes each, laid out in one segment.
    fn laid(partitions: &[(u32, u64, usize)]) -> Laid {
        let shape = Shape {
            segment_bytes: 64 << 20,
            unit: UNIT,
            epoch: 1,
            wall_ms: 0,
        };
        let blank = Blank {
            segment: 7,
            nonce: 9,
        };
        let mut layer = Layer::new(shape, vec![blank]);
        for (number, entries, bytes) in partitions {
            let payload = vec![7; *bytes];
            let count = usize::try_from(*entries).expect("few");
            layer.begin_partition(bytes_of(&payload) * count);
            for at in 0..*entries {
                let meta = EntryMeta {
                    partition: partition(*number),
                    kind: EntryKind::Records,
                    machine: 0,
                    base_offset: Offset(at),
                    count: 1,
                    max_timestamp: -1,
                };
                layer.push(meta, payload.clone()).expect("it fits");
            }
        }
        layer.finish().remove(0)
    }

    /// The partitions of each block, each block having been decoded.
    fn partitions_of_blocks(laid: &Laid) -> Vec<Vec<u32>> {
        let key = Key::derive(laid.blank.nonce);
        let partitions = |bytes: &Vec<u8>| {
            let layout = block::decode(&key, bytes, UNIT).expect("a sound block");
            assert_eq!(block::damaged_payloads(&layout, bytes), Vec::<usize>::new());
            let table = layout.header.table_offset as usize
                + layout.header.entry_count as usize * EntryHeader::BYTES;
            assert!(
                table <= UNIT || bytes.len() <= CLOSED_SOONER_BYTES + UNIT,
                "a table to {table} of a block of {} bytes",
                bytes.len()
            );
            let mut numbers: Vec<u32> = layout
                .entries
                .iter()
                .map(|e| e.meta.partition.index())
                .collect();
            numbers.dedup();
            numbers
        };
        laid.blocks.iter().map(partitions).collect()
    }

    #[test]
    fn a_partition_that_fits_a_block_lies_in_one() {
        let laid = laid(&[
            (0, 6, 16 << 10),
            (1, 6, 16 << 10),
            (2, 6, 16 << 10),
            (3, 1, 100),
        ]);
        assert_eq!(partitions_of_blocks(&laid), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn a_larger_one_takes_what_there_is_of_a_block() {
        let laid = laid(&[(0, 6, 16 << 10), (1, 30, 16 << 10)]);
        assert_eq!(partitions_of_blocks(&laid), [vec![0, 1], vec![1], vec![1]]);
    }

    #[test]
    fn a_table_is_read_with_the_header_unless_entries_are_tiny() {
        let of_2_kib = laid(&[(0, 100, 2000), (1, 100, 2000)]);
        assert!(partitions_of_blocks(&of_2_kib).len() >= 3);
        let tiny = laid(&[(0, 3000, 20)]);
        let blocks = partitions_of_blocks(&tiny).len();
        assert!((3..=4).contains(&blocks), "{blocks} blocks");
    }
}
