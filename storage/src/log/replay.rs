//! Walking from the checkpoint to the end of the log, and past what is damaged on the way.
//!
//! The end is the first missing or failing block, unless a valid later block states that the
//! log was durable at or beyond it: then that block is damage, its offsets are reported, and
//! the walk goes on behind it. A later segment whose first block names the last block as its
//! predecessor is the successor, whatever still lies behind that block in its own segment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use ringlog_types::Sequence;

use super::adopt::Cursor;
use super::block::Block;
use super::pending::LostBlocks;
use super::report::{Damage, RecoveryReport};
use super::seeded_bug::SeededBug;
use super::survey::{Found, Survey};
use super::walk::Walk;
use super::{EntryKind, Log, Machine};
use crate::buffer::Buf;
use crate::format::block_header::BlockHeader;
use crate::io::{FileId, Io};

/// What is done about the end of the log before it serves.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// What nothing states to have been durable.
    pub kept: VecDeque<TailBlock>,
    /// Headers of the blocks that are not part of the log.
    pub discarded: Vec<(FileId, u64)>,
}

/// A block that was kept although nothing states that it was durable. It is written again, as
/// it stands: after a flush that failed a later one that succeeds vouches for nothing the first
/// covered, also when the first was another process's.
#[derive(Debug)]
pub(super) struct TailBlock {
    pub sequence: Sequence,
    pub file: FileId,
    pub position: u64,
    pub bytes: Vec<Buf>,
}

impl<I: Io> Log<I> {
    /// Walks from the cursor to the end of the log, applying every block.
    pub(super) fn replay(
        &mut self,
        survey: &Survey,
        mut cursor: Cursor,
        machine: &mut dyn Machine,
        report: &mut RecoveryReport,
        tail: &mut Tail,
    ) -> std::io::Result<()> {
        let found = &survey.segments;
        let chain_counts = !self.has_bug(SeededBug::IgnoreChain);
        let stale_counts = self.has_bug(SeededBug::AcceptStaleBlocks);
        let mut walk: Option<Walk<'_>> = None;
        loop {
            // The successor's word counts more than what lies behind the last block.
            let successor = found.range(cursor.segment + 1..).rev().find(|(_, next)| {
                next.first_block.is_some_and(|first| {
                    first.sequence == cursor.expected
                        && (first.previous == cursor.previous || !chain_counts)
                })
            });
            if let Some((segment, _)) = successor {
                (cursor.segment, cursor.position) = (*segment, self.unit as u64);
            }
            let Some(file) = found.get(&cursor.segment) else {
                // Before the first segment, or the anchor's is gone: only what comes later.
                match self.resume_point(survey, cursor, machine, report, tail)? {
                    Some(next) => cursor = next,
                    None => return Ok(()),
                }
                continue;
            };
            if walk
                .as_ref()
                .is_none_or(|walk| walk.segment != cursor.segment)
            {
                let (bytes, key) = (file.file_bytes, &file.key);
                walk = Some(Walk::new(cursor.segment, file.file, bytes, key, self.unit));
            }
            let walk = walk.as_mut().expect("it was just made");
            let mut read = walk.block_at(&mut self.submitter.io, cursor.position)?;
            if self.has_bug(SeededBug::IgnoreChecksums)
                && let Ok((_, _, damaged)) = &mut read
            {
                damaged.clear();
            }
            let expected = |header: &BlockHeader| {
                let chained = header.previous == cursor.previous || !chain_counts;
                header.sequence == cursor.expected && chained
                    || header.sequence > cursor.expected && stale_counts
            };
            match read {
                Ok((block, header, damaged))
                    if expected(&header)
                        && (damaged.is_empty() || self.is_evident(survey, cursor)?) =>
                {
                    cursor.position += block.bytes as u64;
                    cursor.expected = header.sequence.next();
                    cursor.previous = block.checksum;
                    let kept = &mut tail.kept;
                    while kept
                        .front()
                        .is_some_and(|block| block.sequence <= header.durable)
                    {
                        kept.pop_front();
                    }
                    if damaged.is_empty() {
                        let bytes = block.extents.iter().map(|(_, buf)| buf.clone());
                        kept.push_back(TailBlock {
                            sequence: block.sequence,
                            file: file.file,
                            position: block.position,
                            bytes: bytes.collect(),
                        });
                    }
                    self.accept(file, block, &damaged, machine, report);
                }
                _ => match self.resume_point(survey, cursor, machine, report, tail)? {
                    Some(next) => cursor = next,
                    None => return Ok(()),
                },
            }
        }
    }

    fn accept(
        &mut self,
        file: &Found,
        block: Block,
        damaged: &[usize],
        machine: &mut dyn Machine,
        report: &mut RecoveryReport,
    ) {
        if !self.segments.live.contains_key(&block.segment) {
            let segment = self.segment_of(file);
            self.segments.live.insert(block.segment, segment);
        }
        let segment = self
            .segments
            .live
            .get_mut(&block.segment)
            .expect("it is there");
        if segment.first_sequence == Sequence::NONE {
            segment.first_sequence = block.sequence;
        }
        let end = block.position + block.bytes as u64;
        segment.position = segment.position.max(end);
        segment.rows_bound += block.entries.len();
        segment.last_sequence = block.sequence;
        segment.last_checksum = block.checksum;
        self.durable = block.sequence;
        self.previous_checksum = block.checksum;
        report.blocks_replayed += 1;
        report.bytes_replayed += block.bytes as u64;
        let kind = |number: &usize| block.entries[*number].meta.kind;
        if damaged.iter().any(|n| kind(n) != EntryKind::Records) {
            report.damage.push(Damage {
                segment: block.segment,
                position: block.position,
                first: block.sequence,
                end: block.sequence.next(),
                offsets: Vec::new(),
            });
        }
        self.commit_block(Rc::new(block), machine, damaged);
    }

    /// Valid headers of blocks that the walk has not reached, in its segment (also before the
    /// cursor: a write may have gone astray) and in later ones.
    fn headers_behind(
        &mut self,
        found: &BTreeMap<u64, Found>,
        cursor: Cursor,
    ) -> std::io::Result<Vec<(u64, u64, BlockHeader)>> {
        let mut headers = Vec::new();
        for (id, file) in found.range(cursor.segment..) {
            let from = self.unit as u64;
            let mut walk = Walk::new(*id, file.file, file.file_bytes, &file.key, self.unit);
            for (position, header) in walk.headers_from(&mut self.submitter.io, from)? {
                if header.sequence >= cursor.expected {
                    headers.push((*id, position, header));
                }
            }
        }
        Ok(headers)
    }

    /// Whether a later block, a trailer or the name of a checkpoint states that the block at the cursor was durable.
    fn is_evident(&mut self, survey: &Survey, cursor: Cursor) -> std::io::Result<bool> {
        let behind = self.headers_behind(&survey.segments, cursor)?;
        let mut stated = behind.iter().map(|(_, _, header)| header.durable);
        Ok(survey.stated >= cursor.expected || stated.any(|at| at >= cursor.expected))
    }

    /// Where the walk goes on behind damage; `None` at the end of the log.
    fn resume_point(
        &mut self,
        survey: &Survey,
        cursor: Cursor,
        machine: &mut dyn Machine,
        report: &mut RecoveryReport,
        tail: &mut Tail,
    ) -> std::io::Result<Option<Cursor>> {
        let behind = self.headers_behind(&survey.segments, cursor)?;
        let next = behind
            .iter()
            .filter(|(_, _, header)| header.sequence > cursor.expected)
            // Of two lives that gave the same sequence, the later one is the log's.
            .min_by_key(|(id, _, header)| (header.sequence, Reverse(*id)));
        // The block itself may stand elsewhere: it went astray, or stands behind one that did.
        // The chain says that it is the next.
        let stated = behind.iter().map(|(_, _, header)| header.durable).max();
        let stated = stated.unwrap_or(Sequence::NONE).max(survey.stated);
        let itself = behind.iter().filter(|(segment, position, header)| {
            header.sequence == cursor.expected
                && header.previous == cursor.previous
                && (*segment, *position) != (cursor.segment, cursor.position)
        });
        for (segment, position, _) in itself {
            let file = &survey.segments[segment];
            let mut walk = Walk::new(*segment, file.file, file.file_bytes, &file.key, self.unit);
            let read = walk.block_at(&mut self.submitter.io, *position)?;
            let stands = read.is_ok_and(|(_, _, damaged)| {
                // As the walk itself takes a block.
                damaged.is_empty() || stated >= cursor.expected
            });
            if stands {
                return Ok(Some(Cursor {
                    segment: *segment,
                    position: *position,
                    ..cursor
                }));
            }
        }
        if stated < cursor.expected || self.has_bug(SeededBug::EndAtDamage) {
            self.discard(survey, &behind, report, tail);
            return Ok(None);
        }
        // Behind a missing block that nothing states to have been durable is nothing.
        let next = next.filter(|(_, _, header)| header.sequence <= stated.next());
        if next.is_none() {
            let never = behind
                .iter()
                .filter(|(_, _, header)| header.sequence > stated);
            let never: Vec<_> = never.copied().collect();
            self.discard(survey, &never, report, tail);
        }
        let end = next.map_or(stated.next(), |(_, _, header)| header.sequence);
        tracing::error!(
            log = %self.id, segment = cursor.segment, position = cursor.position,
            first = %cursor.expected, %end,
            "durable blocks are damaged: their offsets are reported and not served"
        );
        let elsewhere = next.filter(|(segment, _, _)| *segment != cursor.segment);
        report.segments_missing += usize::from(elsewhere.is_some());
        let to = match next {
            Some((segment, position, _)) if *segment == cursor.segment => *position,
            _ => u64::MAX,
        };
        let stretch = (cursor.position, to);
        let entries = match survey.segments.get(&cursor.segment) {
            Some(file) => {
                let here = behind.iter().filter(|(id, _, _)| *id == cursor.segment);
                let standing = here.map(|(_, position, _)| *position).collect();
                self.find_lost(cursor.segment, file, stretch, &standing)?
            }
            None => Vec::new(),
        };
        let lost = LostBlocks {
            segment: cursor.segment,
            position: cursor.position,
            first: cursor.expected,
            end,
            entries,
        };
        self.lose_blocks(lost, machine);
        self.durable = Sequence(end.0 - 1);
        Ok(next.map(|(segment, position, header)| Cursor {
            segment: *segment,
            position: *position,
            expected: header.sequence,
            previous: header.previous,
        }))
    }

    /// Notes what lies behind the end of the log.
    fn discard(
        &mut self,
        survey: &Survey,
        behind: &[(u64, u64, BlockHeader)],
        report: &mut RecoveryReport,
        tail: &mut Tail,
    ) {
        for (segment, position, header) in behind {
            report.discarded_tail_bytes += u64::from(header.block_bytes);
            tail.discarded
                .push((survey.segments[segment].file, *position));
        }
        if !behind.is_empty() {
            tracing::info!(
                log = %self.id, end = %self.durable,
                "discarded {} bytes after mark {}: written, never known durable",
                report.discarded_tail_bytes, self.durable
            );
        }
    }
}
