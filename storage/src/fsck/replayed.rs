//! The chain of blocks behind the checkpoint, followed as a start replays it, to where it ends.
//!
//! A block that is missing or failing is damage when a later block states, or a trailer vouches,
//! that the log was durable at or beyond it. Otherwise it is the end, and what valid blocks lie
//! behind it are a torn tail.

use ringlog_types::Sequence;

use super::adopted::what_stands;
use super::cold;
use super::error::CheckError;
use super::finding::{Fault, OffsetRange};
use super::offsets::{Partitions, Step};
use super::progress::Check;
use super::scan::{Body, EntryFault, Scanned};
use super::sealed;
use crate::format::block_header::{BlockHeader, Group};
use crate::format::entry_header::EntryKind;
use crate::format::manifest::Anchor;
use crate::format::replaced::Replaced;

/// Where the next block is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    segment: u64,
    position: u64,
    expected: Sequence,
    previous: u64,
}

impl Cursor {
    /// Before the first block of a log.
    pub fn beginning() -> Cursor {
        Cursor {
            segment: 0,
            position: 0,
            expected: Sequence(1),
            previous: 0,
        }
    }

    /// Behind the last block that a checkpoint covers.
    pub fn behind(anchor: &Anchor) -> Cursor {
        Cursor {
            segment: anchor.segment,
            position: anchor.end_position,
            expected: anchor.sequence.next(),
            previous: anchor.checksum,
        }
    }
}

/// A valid header somewhere behind the cursor.
#[derive(Clone, Copy)]
struct Behind {
    segment: u64,
    position: u64,
    header: BlockHeader,
    is_whole: bool,
}

/// Follows the chain; returns the last block's sequence.
pub(super) fn walk(
    check: &mut Check<'_>,
    mut cursor: Cursor,
    partitions: &mut Partitions,
) -> Result<Sequence, CheckError> {
    let mut replay = Replay {
        partitions,
        group: Vec::new(),
        loss: None,
        durable: Sequence::NONE,
        epoch: 0,
    };
    loop {
        let (expected, previous) = (cursor.expected, cursor.previous);
        let survey = check.survey;
        if let Some(segment) = survey.successor(cursor.segment, expected, previous) {
            cursor.segment = segment;
            cursor.position = survey.segments[&segment].unit as u64;
        }
        let mut kept = false;
        if survey.segments.contains_key(&cursor.segment) {
            let scan = check.scan(cursor.segment)?;
            let next = scan.block_at(cursor.position).filter(|block| {
                let header = &block.header;
                header.sequence == expected && header.previous == previous
            });
            if let Some(block) = next
                && matches!(block.body, Body::Whole(_))
            {
                // A last block with a damaged payload was never finished, unless a later one
                // states that it was.
                if is_whole(block) || is_evident(check, cursor)? {
                    replay.block(check, cursor.segment, block)?;
                    cursor.position = block.end();
                    cursor.expected = expected.next();
                    cursor.previous = block.checksum;
                    kept = true;
                }
            }
        }
        if !kept {
            match replay.broken(check, cursor)? {
                Some(next) => cursor = next,
                None => return Ok(Sequence(cursor.expected.0 - 1)),
            }
        }
    }
}

fn is_whole(block: &Scanned) -> bool {
    match &block.body {
        Body::Whole(entries) => !entries
            .iter()
            .any(|entry| entry.fault == Some(EntryFault::Payload)),
        Body::Broken(_) => false,
    }
}

/// Valid headers of blocks that the log has not reached, in the cursor's segment (also before
/// the cursor: a write may have gone astray) and in later ones.
fn behind(check: &mut Check<'_>, cursor: Cursor) -> Result<Vec<Behind>, CheckError> {
    let segments = check.survey.segments.range(cursor.segment..);
    let segments: Vec<u64> = segments.map(|(segment, _)| *segment).collect();
    let mut found = Vec::new();
    // The cursor's own segment last, so that its scan is the one that is kept.
    for segment in segments.into_iter().rev() {
        let scan = check.scan(segment)?;
        let blocks = scan.blocks.iter();
        let blocks = blocks.filter(|block| block.header.sequence >= cursor.expected);
        found.extend(blocks.map(|block| Behind {
            segment,
            position: block.position,
            header: block.header,
            is_whole: is_whole(block),
        }));
    }
    found.sort_by_key(|block| (block.segment, block.position));
    Ok(found)
}

/// The last sequence that something behind the cursor says was durable.
fn evidence(check: &Check<'_>, behind: &[Behind], cursor: Cursor) -> Sequence {
    let stated = behind.iter().map(|block| block.header.durable);
    let segments = check.survey.segments.range(cursor.segment..);
    let vouched = segments.filter_map(|(_, found)| {
        let trailer = found.trailer.as_ref().ok()?;
        Some(trailer.last_sequence)
    });
    stated.chain(vouched).max().unwrap_or(Sequence::NONE)
}

fn is_evident(check: &mut Check<'_>, cursor: Cursor) -> Result<bool, CheckError> {
    let behind = behind(check, cursor)?;
    Ok(evidence(check, &behind, cursor) >= cursor.expected)
}

struct Replay<'p> {
    partitions: &'p mut Partitions,
    /// Blocks of a group that is not committed yet.
    group: Vec<Scanned>,
    /// The last finding of lost blocks: offsets that turn out to be missing are its.
    loss: Option<usize>,
    durable: Sequence,
    epoch: u32,
}

impl Replay<'_> {
    fn block(
        &mut self,
        check: &mut Check<'_>,
        segment: u64,
        block: &Scanned,
    ) -> Result<(), CheckError> {
        check.keep(segment, block, false);
        let header = block.header;
        let place = check.place_of(segment, block);
        if header.durable < self.durable {
            let detail = format!(
                "it states that block {} is durable, an earlier one that {} is",
                header.durable, self.durable
            );
            check.damage(Fault::Statement, place.clone(), Vec::new(), detail);
        }
        if header.epoch < self.epoch {
            let (epoch, before) = (header.epoch, self.epoch);
            let detail = format!("it is of epoch {epoch}, behind a block of epoch {before}");
            check.damage(Fault::Statement, place.clone(), Vec::new(), detail);
        }
        let restarted = header.epoch > self.epoch;
        self.durable = self.durable.max(header.durable);
        self.epoch = self.epoch.max(header.epoch);
        let open = self.group.last().map(|last| last.header);
        let fits = match (header.group, open) {
            (Group::Whole | Group::Begin, open) => open.is_none() || restarted,
            (Group::Continue | Group::Commit, Some(open)) => open.group_first == header.group_first,
            // Its beginning was lost, which is told where it was.
            (Group::Continue | Group::Commit, None) => self.loss.is_some(),
        };
        if !fits {
            let detail = format!("a {:?} block does not follow what was begun", header.group);
            check.damage(Fault::Group, place, Vec::new(), detail);
        }
        match header.group {
            Group::Whole => {
                self.group.clear();
                self.apply(check, segment, block)?;
            }
            Group::Begin => self.group = vec![block.clone()],
            Group::Continue | Group::Commit => {
                if open.is_none_or(|open| open.group_first != header.group_first) {
                    self.group.clear();
                    return Ok(());
                }
                self.group.push(block.clone());
                if header.group == Group::Commit {
                    for block in std::mem::take(&mut self.group) {
                        self.apply(check, block.header.segment, &block)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        check: &mut Check<'_>,
        segment: u64,
        block: &Scanned,
    ) -> Result<(), CheckError> {
        let Body::Whole(entries) = &block.body else {
            return Ok(());
        };
        for entry in entries {
            let meta = &entry.meta;
            let lost = entry.fault == Some(EntryFault::Payload);
            match meta.kind {
                EntryKind::Records => {
                    let range = OffsetRange {
                        partition: meta.partition,
                        first: meta.base_offset,
                        end: meta.end_offset(),
                    };
                    self.records(check, segment, block, range);
                }
                EntryKind::StartOffset if !lost => {
                    self.partitions.move_start(meta.partition, meta.base_offset);
                }
                EntryKind::PartitionDropped if !lost => {
                    self.partitions.drop_partition(meta.partition);
                }
                EntryKind::Replaced if !lost => {
                    let payload = entry.payload.as_deref().unwrap_or_default();
                    match Replaced::decode(payload) {
                        Ok(replaced) => cold::replace(check, &replaced)?,
                        Err(fault) => {
                            let place = check.place_of(segment, block);
                            let detail = format!("an entry that replaces segments: {fault}");
                            check.damage(Fault::Statement, place, Vec::new(), detail);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn records(
        &mut self,
        check: &mut Check<'_>,
        segment: u64,
        block: &Scanned,
        range: OffsetRange,
    ) {
        match self.partitions.records(range) {
            Step::Dense => {}
            Step::Missing(range) => match self.loss {
                Some(finding) => check.add_offsets(finding, range),
                None => {
                    let place = check.place_of(segment, block);
                    let detail = "no block before this one has them".to_owned();
                    check.damage(Fault::Offsets, place, vec![range], detail);
                }
            },
            Step::Doubled(range) => {
                let place = check.place_of(segment, block);
                let detail = "an earlier block has them as well".to_owned();
                check.damage(Fault::Offsets, place, vec![range], detail);
            }
        }
    }

    /// The block at the cursor is not there: where the chain goes on behind damage, `None` at its
    /// end.
    fn broken(
        &mut self,
        check: &mut Check<'_>,
        cursor: Cursor,
    ) -> Result<Option<Cursor>, CheckError> {
        let behind = behind(check, cursor)?;
        let stated = evidence(check, &behind, cursor);
        if stated < cursor.expected {
            for block in &behind {
                let found = &check.survey.segments[&block.segment];
                let bytes = u64::from(block.header.block_bytes);
                check.tail.bytes += bytes;
                let place = (found.name.clone(), block.position, bytes);
                check.tail.blocks.push(place);
            }
            return Ok(None);
        }
        let at = (cursor.segment, cursor.position);
        let elsewhere = behind.iter().filter(|block| {
            let header = &block.header;
            let moved = header.sequence == cursor.expected
                && header.previous == cursor.previous
                && block.is_whole
                && (block.segment, block.position) != at;
            moved || header.sequence > cursor.expected
        });
        let next = elsewhere.min_by_key(|block| (block.header.sequence, block.segment));
        if let Some(moved) = next.filter(|next| next.header.sequence == cursor.expected) {
            self.moved(check, cursor, *moved)?;
            return Ok(Some(Cursor {
                segment: moved.segment,
                position: moved.position,
                ..cursor
            }));
        }
        let end = next.map_or(stated.next(), |next| next.header.sequence);
        self.lost(check, cursor, end, next.copied())?;
        let Some(next) = next else {
            return Ok(None);
        };
        Ok(Some(Cursor {
            segment: next.segment,
            position: next.position,
            expected: next.header.sequence,
            previous: next.header.previous,
        }))
    }

    /// Reports a block that stands whole in another place than it was written to.
    fn moved(
        &mut self,
        check: &mut Check<'_>,
        cursor: Cursor,
        moved: Behind,
    ) -> Result<(), CheckError> {
        let block = moved.header.sequence;
        let place = check.place(cursor.segment, cursor.position, block, block.next());
        let detail = if check.survey.segments.contains_key(&cursor.segment) {
            let scan = check.scan(cursor.segment)?;
            what_stands(&scan, cursor.position, block).1
        } else {
            "its segment is not there".to_owned()
        };
        let (segment, position) = (moved.segment, moved.position);
        let detail = format!("{detail}; it is whole at byte {position} of segment {segment}");
        check.damage(Fault::Chain, place, Vec::new(), detail);
        Ok(())
    }

    /// Reports the blocks from the cursor to `end`, and names what offsets can be told.
    fn lost(
        &mut self,
        check: &mut Check<'_>,
        cursor: Cursor,
        end: Sequence,
        next: Option<Behind>,
    ) -> Result<(), CheckError> {
        self.group.clear();
        let (segment, position) = (cursor.segment, cursor.position);
        let place = check.place(segment, position, cursor.expected, end);
        let Some(found) = check.survey.segments.get(&segment) else {
            let detail =
                "no segment has these blocks, and a later one states that they were durable";
            let missing = Fault::MissingSegment;
            self.loss = Some(check.damage(missing, place, Vec::new(), detail.to_owned()));
            return Ok(());
        };
        let scan = check.scan(segment)?;
        let (fault, detail, mut named) = what_stands(&scan, position, cursor.expected);
        let detail = format!("{detail}, and a later one states that it was durable");
        let rows = sealed::footer_rows(check.source, found);
        let rows = rows.map_err(|cause| check.unreadable(&found.name, cause))?;
        let to = next.filter(|next| next.segment == segment);
        let to = to.map_or(u64::MAX, |next| next.position);
        for (partition, row) in rows.unwrap_or_default() {
            let at = u64::from(row.position_units) * found.unit as u64;
            if position <= at && at < to {
                named.push(OffsetRange {
                    partition,
                    first: row.first,
                    end: row.end,
                });
            }
        }
        named.sort();
        let finding = check.damage(fault, place, named.clone(), detail);
        self.loss = Some(finding);
        for range in named {
            if let Step::Missing(range) = self.partitions.records(range) {
                check.add_offsets(finding, range);
            }
        }
        Ok(())
    }
}
