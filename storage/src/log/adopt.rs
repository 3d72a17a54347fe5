//! Starting from a checkpoint: its bytes, and what it says of partitions and segments.
//!
//! Sealed segments are taken over by their trailers, their rows stay on disk. Segments without
//! a trailer are read again, up to where the checkpoint says they end.

use std::collections::BTreeMap;

use ringlog_types::Sequence;

use super::block::Block;
use super::index::{Covered, Ghost, SegmentIndex, SegmentRange, gaps};
use super::report::{Damage, OpenError, RecoveryReport};
use super::segments::{FooterPlace, Stage};
use super::survey::{Found, place};
use super::walk::Walk;
use super::{EntryKind, Log};
use crate::format::footer::BlockRef;
use crate::format::manifest::{Manifest, SegmentRow};
use crate::format::segment_header::CheckpointPointer;
use crate::io::Io;

/// Where the next block is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub segment: u64,
    pub position: u64,
    pub expected: Sequence,
    pub previous: u64,
}

/// Blocks that the checkpoint knows and that cannot be read: from the first to the last.
#[derive(Clone, Copy, Debug)]
struct Lost {
    position: u64,
    first: Sequence,
    end: Sequence,
}

fn covered_by(row: &SegmentRow) -> Option<Covered> {
    let (run, live) = (row.run, row.live);
    (run > 0).then_some(Covered { run, live })
}

/// The place of a footer that fails its check.
fn unknown(row: &SegmentRow, file: &Found) -> FooterPlace {
    FooterPlace {
        position: row.data_end,
        bytes: 0,
        checksum: !file.key.checksum(&[]),
    }
}

impl<I: Io> Log<I> {
    /// Reads a checkpoint whole: storage's part and the machines'.
    pub(super) fn load_checkpoint(
        &mut self,
        found: &BTreeMap<u64, Found>,
        pointer: CheckpointPointer,
    ) -> Result<(Manifest, Vec<u8>), OpenError> {
        let log = self.id;
        let failed = |cause: String| OpenError::Checkpoint {
            log,
            sequence: pointer.sequence,
            segment: pointer.segment,
            position: pointer.position,
            cause,
        };
        let (mut segment, mut position) = (pointer.segment, pointer.position);
        let mut expected = pointer.sequence;
        let mut bytes = Vec::new();
        let (mut parts, mut wanted) = (0, 1);
        while parts < wanted {
            let missing = || failed(format!("segment {segment} is missing"));
            let file = found.get(&segment).ok_or_else(missing)?;
            let mut walk = Walk::new(segment, file.file, file.file_bytes, &file.key, self.unit);
            let read = walk.block_at(&mut self.submitter.io, position);
            let read = read.map_err(|cause| OpenError::Io {
                log,
                what: format!("reading the checkpoint at block {}", pointer.sequence),
                cause,
            })?;
            let (block, _, damaged) = match read {
                Ok(read) if read.0.sequence == expected => read,
                _ if parts > 0 && position > self.unit as u64 => {
                    // The group goes on in the segment that was opened next.
                    let next = found.range(segment + 1..).find(|(_, next)| {
                        next.first_block
                            .is_some_and(|block| block.sequence == expected)
                    });
                    let (next, _) = next.ok_or_else(|| failed("its end is missing".to_owned()))?;
                    (segment, position) = (*next, self.unit as u64);
                    continue;
                }
                Ok(_) => return Err(failed("another block stands there".to_owned())),
                Err(fault) => return Err(failed(fault.to_string())),
            };
            for (number, entry) in block.entries.iter().enumerate() {
                if entry.meta.kind != EntryKind::Checkpoint {
                    continue;
                }
                if damaged.contains(&number) || entry.meta.base_offset.0 != parts {
                    return Err(failed(format!("part {parts} is damaged")));
                }
                bytes.extend_from_slice(&block.payload(entry));
                parts += 1;
                wanted = u64::from(entry.meta.count);
            }
            if parts == 0 {
                return Err(failed("no part of it stands there".to_owned()));
            }
            position += block.bytes as u64;
            expected = expected.next();
        }
        let (manifest, state) = Manifest::decode(&bytes).map_err(|e| failed(e.to_string()))?;
        Ok((manifest, state.to_vec()))
    }

    /// Takes over what the checkpoint says of partitions and segments up to its anchor.
    pub(super) fn adopt_manifest(
        &mut self,
        found: &BTreeMap<u64, Found>,
        manifest: &Manifest,
        report: &mut RecoveryReport,
    ) -> std::io::Result<Cursor> {
        for row in &manifest.partitions {
            let state = self.partitions.entry(row.partition).or_default();
            (state.start, state.end) = (row.start, row.end);
            (state.counted, state.covered) = (row.counted, row.covered);
            state.damage.clone_from(&row.damage);
            self.stats.damaged_ranges += row.damage.len() as u64;
        }
        let anchor = manifest.anchor;
        for row in &manifest.segments {
            self.segments.next_segment = self.segments.next_segment.max(row.segment + 1);
            for range in &row.ranges {
                let state = self.partitions.entry(range.partition).or_default();
                state.segments.push_back((range.first, row.segment));
            }
            let cold = self.take_cold_file(row.segment);
            let Some(file) = found.get(&row.segment).or(cold.as_ref()) else {
                if let Some(covered) = covered_by(row) {
                    report.segments_missing += usize::from(row.origin.is_none());
                    let ghost = Ghost {
                        covered,
                        moved: row.moved.iter().copied().collect(),
                        blocks: (row.first_sequence, row.last_sequence.next()),
                    };
                    self.runs.ghosts.insert(row.segment, ghost);
                    continue;
                }
                self.segment_is_missing(row, report);
                continue;
            };
            let sealed = file.trailer.filter(|trailer| {
                row.segment != anchor.segment && trailer.data_end == row.data_end
            });
            let mut segment = self.segment_of(file);
            segment.position = row.data_end;
            segment.first_sequence = row.first_sequence;
            segment.last_sequence = row.last_sequence;
            segment.recycled = true;
            let ranges = row.ranges.iter().map(|range| {
                let summary = SegmentRange {
                    first: range.first,
                    end: range.end,
                    bytes: range.bytes,
                    max_timestamp: range.max_timestamp,
                    blocks: Vec::new(),
                };
                (range.partition, summary)
            });
            segment.index.partitions = ranges.collect();
            segment.index.resident = false;
            segment.index.covered = covered_by(row);
            segment.index.moved = row.moved.iter().copied().collect();
            segment.is_cold = file.is_cold;
            if segment.index.covered.is_some() {
                // Its run knows its blocks: without a trailer nothing need be read.
                segment.stage = Stage::Sealed;
                segment.amplification = segment.is_cold.then_some(1.0);
                segment.last_checksum = sealed.map_or(0, |trailer| trailer.last_checksum);
                segment.footer = sealed.as_ref().map(place);
                self.segments.live.insert(row.segment, segment);
            } else if segment.is_cold || segment.origin.is_some() {
                // Whole before anything named it, and not to be sealed anew. Without its trailer
                // nobody knows its footer, and its rows are made again from its blocks when
                // somebody asks.
                segment.stage = Stage::Sealed;
                segment.amplification = segment.is_cold.then_some(1.0);
                segment.last_checksum = sealed.map_or(0, |trailer| trailer.last_checksum);
                segment.footer = Some(sealed.as_ref().map_or_else(|| unknown(row, file), place));
                self.segments.live.insert(row.segment, segment);
            } else if let Some(trailer) = sealed {
                segment.stage = Stage::Sealed;
                segment.last_checksum = trailer.last_checksum;
                segment.footer = Some(place(&trailer));
                self.segments.live.insert(row.segment, segment);
            } else {
                self.segments.live.insert(row.segment, segment);
                self.rebuild_index(file, row, report)?;
            }
        }
        for state in self.partitions.values_mut() {
            // A cold segment stands where its sources stood, whatever its number is.
            state.segments.make_contiguous().sort_unstable();
        }
        self.durable = anchor.sequence;
        self.anchor = anchor;
        self.previous_checksum = anchor.checksum;
        if let Some(segment) = self.segments.live.get_mut(&anchor.segment) {
            segment.last_checksum = anchor.checksum;
        }
        Ok(Cursor {
            segment: anchor.segment,
            position: anchor.end_position,
            expected: anchor.sequence.next(),
            previous: anchor.checksum,
        })
    }

    /// A segment that the checkpoint knows is not there: let go by a record behind the
    /// checkpoint, or lost. Which of the two shows when that record has been replayed.
    fn segment_is_missing(&mut self, row: &SegmentRow, report: &mut RecoveryReport) {
        // The end of this log is in none of another's.
        report.segments_missing += usize::from(row.origin.is_none());
        let (mut offsets, mut lost) = (Vec::new(), Vec::new());
        for range in &row.ranges {
            let state = self.partitions.entry(range.partition).or_default();
            state.segments.retain(|(_, id)| *id != row.segment);
            let first = range.first.max(state.start);
            if first < range.end {
                state.add_damage(first, range.end);
                offsets.push((range.partition, first.0, range.end.0));
                lost.push((range.partition, first, range.end));
            }
        }
        if offsets.is_empty() {
            return;
        }
        self.note_missing(row.segment, lost);
        report.damage.push(Damage {
            segment: row.segment,
            position: 0,
            first: row.first_sequence,
            end: row.last_sequence.next(),
            offsets,
        });
    }

    /// Reads a segment without a trailer again, up to where the checkpoint says it ends, to
    /// know its blocks.
    fn rebuild_index(
        &mut self,
        file: &Found,
        row: &SegmentRow,
        report: &mut RecoveryReport,
    ) -> std::io::Result<()> {
        let mut walk = Walk::new(
            row.segment,
            file.file,
            file.file_bytes,
            &file.key,
            self.unit,
        );
        let mut index = SegmentIndex::new();
        let (mut at, mut rows_bound, mut data_end) = (self.unit as u64, 0, row.data_end);
        let mut expected = row.first_sequence;
        let mut lost: Option<Lost> = None;
        let mut last_checksum = 0;
        let holds_blocks = row.first_sequence > Sequence::NONE;
        while holds_blocks && expected <= row.last_sequence {
            match walk.block_at(&mut self.submitter.io, at)? {
                Ok((block, header, damaged)) if header.sequence == expected => {
                    rows_bound += block.entries.len();
                    last_checksum = block.checksum;
                    self.index_block(&mut index, row, &block, &damaged, report);
                    at += block.bytes as u64;
                    data_end = data_end.max(at);
                    expected = expected.next();
                }
                _ => {
                    // It may have gone astray, or stand behind one that did; so may the next.
                    let found = walk.headers_from(&mut self.submitter.io, self.unit as u64)?;
                    let itself = found
                        .iter()
                        .filter(|(_, header)| header.sequence == expected);
                    let mut stands = None;
                    for (position, _) in itself {
                        if walk.block_at(&mut self.submitter.io, *position)?.is_ok() {
                            stands = Some(*position);
                        }
                    }
                    if let Some(position) = stands {
                        at = position;
                        continue;
                    }
                    let next = found.iter().filter(|(_, header)| {
                        header.sequence > expected && header.sequence <= row.last_sequence
                    });
                    let next = next.min_by_key(|(_, header)| header.sequence);
                    let (position, end) = next
                        .map_or((row.data_end, row.last_sequence.next()), |n| {
                            (n.0, n.1.sequence)
                        });
                    let first = lost.map_or((at, expected), |lost| (lost.position, lost.first));
                    lost = Some(Lost {
                        position: first.0,
                        first: first.1,
                        end,
                    });
                    (at, expected) = (position, end);
                }
            }
        }
        if let Some(lost) = lost {
            self.name_lost_blocks(&index, row, lost, report);
        }
        if let Some(segment) = self.segments.live.get_mut(&row.segment) {
            segment.rows_bound = rows_bound;
            segment.position = data_end;
            segment.last_checksum = last_checksum;
            for (partition, range) in &segment.index.partitions {
                // Nothing readable: the range stays, so that what is damaged is named.
                let gone = SegmentRange {
                    blocks: Vec::new(),
                    ..range.clone()
                };
                index.partitions.entry(*partition).or_insert(gone);
            }
        }
        self.set_index(row.segment, index);
        Ok(())
    }

    /// What the checkpoint says of a partition and no block shows is damaged. Blocks without
    /// live records may be gone: the checkpoint covers the state in them, and a file that it
    /// let go is written over while its old header may still stand.
    fn name_lost_blocks(
        &mut self,
        index: &SegmentIndex,
        row: &SegmentRow,
        lost: Lost,
        report: &mut RecoveryReport,
    ) {
        let mut offsets = Vec::new();
        let Some(segment) = self.segments.live.get(&row.segment) else {
            return;
        };
        for (partition, range) in &segment.index.partitions {
            let blocks = index.partitions.get(partition);
            let blocks = blocks.map_or(&[][..], |range| &range.blocks);
            let state = self.partitions.entry(*partition).or_default();
            for (first, end) in gaps(range, blocks, state.start) {
                state.add_damage(first, end);
                offsets.push((*partition, first.0, end.0));
            }
        }
        if offsets.is_empty() {
            return;
        }
        report.damage.push(Damage {
            segment: row.segment,
            position: lost.position,
            first: lost.first,
            end: lost.end,
            offsets,
        });
    }

    fn index_block(
        &mut self,
        index: &mut SegmentIndex,
        row: &SegmentRow,
        block: &Block,
        damaged: &[usize],
        report: &mut RecoveryReport,
    ) {
        let unit = self.unit as u64;
        let units = |bytes: u64| u32::try_from(bytes / unit).unwrap_or(u32::MAX);
        for (number, entry) in block.entries.iter().enumerate() {
            let meta = entry.meta;
            let wanted = row
                .ranges
                .iter()
                // Nor what a group held that was never committed.
                .find(|range| {
                    range.partition == meta.partition
                        && meta.end_offset() > range.first
                        && meta.base_offset < range.end
                });
            if !meta.kind.spans_offsets() || wanted.is_none() {
                continue;
            }
            if damaged.contains(&number) {
                let state = self.partitions.entry(meta.partition).or_default();
                state.add_damage(meta.base_offset, meta.end_offset());
                report.damage.push(Damage {
                    segment: row.segment,
                    position: block.position,
                    first: block.sequence,
                    end: block.sequence.next(),
                    offsets: vec![(meta.partition, meta.base_offset.0, meta.end_offset().0)],
                });
            }
            index.add(
                meta.partition,
                BlockRef {
                    first: meta.base_offset,
                    end: meta.end_offset(),
                    max_timestamp: meta.max_timestamp,
                    position_units: units(block.position),
                    block_units: units(block.bytes as u64),
                    payload_bytes: entry.length,
                },
            );
        }
    }
}
