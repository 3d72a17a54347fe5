//! The segments that the newest checkpoint knows, up to its anchor: their blocks against what
//! its manifest says of them.
//!
//! Which offsets are lost follows from what the manifest promises and no block shows. State in
//! these blocks is covered by the checkpoint: a block without live records may be gone.

use ringlog_types::Sequence;

use super::error::CheckError;
use super::finding::{Fault, OffsetRange, Place, Severity};
use super::offsets::{merged, missing};
use super::progress::Check;
use super::scan::{Body, Scan};
use super::sealed;
use super::survey::Found;
use crate::format::manifest::{Manifest, RangeRow, SegmentRow};

/// Blocks that should be there and are not.
struct Loss {
    fault: Fault,
    position: u64,
    end: u64,
    blocks: (Sequence, Sequence),
    offsets: Vec<OffsetRange>,
    detail: String,
}

pub(super) fn check_segments(check: &mut Check<'_>, manifest: &Manifest) -> Result<(), CheckError> {
    let mut before: Option<(Sequence, u64)> = None;
    let mut writer = None;
    for row in &manifest.segments {
        if check.survey.found(row.segment).is_some_and(Found::is_cold) {
            continue; // No part of the chain.
        }
        let Some(found) = check.survey.segments.get(&row.segment) else {
            let ranges = row.ranges.iter().map(offsets_of).collect();
            let place = Place {
                segment: Some(row.segment),
                blocks: Some((row.first_sequence, row.last_sequence.next())),
                ..Place::default()
            };
            let detail = "the checkpoint names this segment and no file holds it";
            check.missing_where_live(Fault::MissingSegment, place, ranges, detail.to_owned());
            before = None;
            continue;
        };
        let (unit, origin) = (found.unit as u64, found.origin);
        let scan = check.scan(row.segment)?;
        if origin.map(|origin| origin.log) != writer {
            // Sequences and chain are each log's own.
            (writer, before) = (origin.map(|origin| origin.log), None);
        }
        if let (Some((last, checksum)), Some(first)) = (before, scan.block_at(unit))
            && first.header.sequence == last.next()
            && first.header.previous != checksum
        {
            let place = check.place_of(row.segment, first);
            let detail = format!("it does not name block {last} as its predecessor");
            check.damage(Fault::Chain, place, Vec::new(), detail);
        }
        before = check_segment(check, row, &scan, unit)?;
        if row.segment != manifest.anchor.segment {
            check.check_seal(row.segment, false)?;
        }
    }
    check_bounds(check, manifest);
    Ok(())
}

pub(super) fn offsets_of(range: &RangeRow) -> OffsetRange {
    OffsetRange {
        partition: range.partition,
        first: range.first,
        end: range.end,
    }
}

/// Returns the last block's sequence and checksum, if the last one is there.
pub(super) fn check_segment(
    check: &mut Check<'_>,
    row: &SegmentRow,
    scan: &Scan,
    unit: u64,
) -> Result<Option<(Sequence, u64)>, CheckError> {
    let mut losses: Vec<Loss> = Vec::new();
    let mut shown = Vec::new();
    let (mut at, mut expected) = (unit, row.first_sequence);
    let mut last: Option<(Sequence, u64)> = None;
    while at < row.data_end {
        let block = scan.block_at(at);
        if let Some(block) = block
            && block.header.sequence == expected
            && let Body::Whole(entries) = &block.body
        {
            if last.is_some_and(|(_, checksum)| checksum != block.header.previous) {
                let place = check.place_of(row.segment, block);
                let detail = "it does not name the block before it as its predecessor".to_owned();
                check.damage(Fault::Chain, place, Vec::new(), detail);
            }
            check.keep(row.segment, block, true);
            let records = entries.iter().filter(|e| e.meta.kind.spans_offsets());
            shown.extend(records.map(|entry| OffsetRange {
                partition: entry.meta.partition,
                first: entry.meta.base_offset,
                end: entry.meta.end_offset(),
            }));
            last = Some((expected, block.checksum));
            (at, expected) = (block.end(), expected.next());
            continue;
        }
        let (fault, detail, salvaged) = what_stands(scan, at, expected);
        let next = scan.blocks.iter().find(|next| {
            next.position > at && next.position < row.data_end && next.header.sequence > expected
        });
        let (to, next) = next.map_or((row.data_end, row.last_sequence.next()), |next| {
            (next.position, next.header.sequence)
        });
        losses.push(Loss {
            fault,
            position: at,
            end: to,
            blocks: (expected, next),
            offsets: salvaged,
            detail,
        });
        last = None;
        (at, expected) = (to, next);
    }
    if losses.is_empty() && expected != row.last_sequence.next() {
        let place = check.place(row.segment, at, expected, row.last_sequence.next());
        let detail = format!(
            "the checkpoint says that block {} is the segment's last, block {} is",
            row.last_sequence,
            expected.0.saturating_sub(1)
        );
        check.damage(Fault::Chain, place, Vec::new(), detail);
    }
    name_losses(check, row, losses, &shown)?;
    Ok(last)
}

/// Why the block that belongs at a position is not there; with it what of its records can be
/// told.
pub(super) fn what_stands(
    scan: &Scan,
    position: u64,
    expected: Sequence,
) -> (Fault, String, Vec<OffsetRange>) {
    match scan.block_at(position) {
        Some(block) if block.header.sequence == expected => match &block.body {
            Body::Broken(fault) => (Fault::EntryTable, fault.to_string(), Vec::new()),
            Body::Whole(_) => {
                let detail = "it does not name the block before it as its predecessor";
                (Fault::Chain, detail.to_owned(), Vec::new())
            }
        },
        Some(block) => {
            let detail = format!("block {} stands in its place", block.header.sequence);
            (Fault::Chain, detail, Vec::new())
        }
        None => match scan.gap_at(position) {
            Some(gap) => {
                let here = gap.position == position;
                let records = gap.salvaged.iter().filter(|_| here);
                let records = records.filter(|meta| meta.kind.spans_offsets());
                let salvaged = records.map(|meta| OffsetRange {
                    partition: meta.partition,
                    first: meta.base_offset,
                    end: meta.end_offset(),
                });
                (
                    Fault::BlockHeader,
                    gap.fault.to_string(),
                    salvaged.collect(),
                )
            }
            None => {
                let detail = "the file ends before it".to_owned();
                (Fault::BlockHeader, detail, Vec::new())
            }
        },
    }
}

/// Shares out what the manifest promises and no block shows: by the footer where there is one,
/// else to the last loss.
fn name_losses(
    check: &mut Check<'_>,
    row: &SegmentRow,
    mut losses: Vec<Loss>,
    shown: &[OffsetRange],
) -> Result<(), CheckError> {
    let found = check.survey.found(row.segment);
    let found = found.expect("a segment whose blocks were looked at was found");
    let wanted = row.ranges.iter().map(offsets_of);
    let gone: Vec<OffsetRange> = wanted.flat_map(|range| missing(range, shown)).collect();
    if losses.is_empty() {
        if !gone.is_empty() {
            let place = check.place(row.segment, 0, Sequence::NONE, Sequence::NONE);
            let detail = "the checkpoint says that they are in this segment, no block has them";
            check.damage(Fault::Offsets, place, gone, detail.to_owned());
        }
        return Ok(());
    }
    let rows = sealed::footer_rows(check.source, found);
    let rows = rows.map_err(|cause| check.unreadable(&found.name, cause))?;
    for (partition, block) in rows.unwrap_or_default() {
        let position = u64::from(block.position_units) * found.unit as u64;
        let mut losses = losses.iter_mut();
        let loss = losses.find(|loss| loss.position <= position && position < loss.end);
        if let Some(loss) = loss {
            loss.offsets.push(OffsetRange {
                partition,
                first: block.first,
                end: block.end,
            });
        }
    }
    for loss in &mut losses {
        // Only what the manifest calls live, and no other block shows.
        let named = merged(std::mem::take(&mut loss.offsets));
        let named = named.iter().flat_map(|range| {
            let gone = gone.iter().filter(|gone| gone.partition == range.partition);
            gone.filter_map(|gone| {
                let (first, end) = (range.first.max(gone.first), range.end.min(gone.end));
                (first < end).then_some(OffsetRange {
                    first,
                    end,
                    ..*range
                })
            })
        });
        loss.offsets = named.collect();
    }
    let named: Vec<OffsetRange> = losses
        .iter()
        .flat_map(|loss| loss.offsets.clone())
        .collect();
    let left = gone.iter().flat_map(|range| missing(*range, &named));
    let left: Vec<OffsetRange> = left.collect();
    if let Some(last) = losses.last_mut() {
        last.offsets.extend(left);
    }
    for loss in losses {
        let (first, end) = loss.blocks;
        let place = check.place(row.segment, loss.position, first, end);
        if loss.offsets.is_empty() {
            let detail = format!("{}; no live record was in it", loss.detail);
            check.find(Severity::Notice, loss.fault, place, Vec::new(), detail);
        } else {
            check.damage(loss.fault, place, loss.offsets, loss.detail);
        }
    }
    Ok(())
}

/// Every live offset is in a segment of the manifest, or known to be lost.
fn check_bounds(check: &mut Check<'_>, manifest: &Manifest) {
    let segments = manifest.segments.iter();
    let held: Vec<OffsetRange> = segments
        .flat_map(|row| row.ranges.iter().map(offsets_of))
        .collect();
    let held = merged(held);
    for row in &manifest.partitions {
        let partition = row.partition;
        let damage = row.damage.iter();
        let known: Vec<OffsetRange> = damage
            .map(|(first, end)| OffsetRange {
                partition,
                first: *first,
                end: *end,
            })
            .collect();
        let from = held.partition_point(|range| range.partition < partition);
        let own = held[from..].iter();
        let own = own.take_while(|range| range.partition == partition);
        let shown: Vec<OffsetRange> = own.chain(&known).copied().collect();
        let wanted = OffsetRange {
            partition,
            first: row.start,
            end: row.end,
        };
        let gone = missing(wanted, &shown);
        if !gone.is_empty() {
            let detail = "the checkpoint calls them live and names no segment for them".to_owned();
            check.damage(Fault::Offsets, Place::default(), gone, detail);
        }
        if !known.is_empty() {
            let detail = "found damaged by an earlier start, and written down".to_owned();
            check.damage(Fault::KnownDamage, Place::default(), known, detail);
        }
    }
}
