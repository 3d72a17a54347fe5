//! Opening a log: find the newest checkpoint, replay what follows it, find the end, flush it,
//! and open a new segment whose first block names that end.
//!
//! The end is the first missing or failing block, unless a valid later block states that the
//! log was durable at or beyond it: then that block is damage, its offsets are reported, and
//! the walk goes on behind it. A later segment whose first block names the last block as its
//! predecessor is the successor, whatever still lies behind that block in its own segment.
//!
//! Invariant: nothing is served before what was kept is written again and flushed and the new segment's first
//! block is durable.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ringlog_types::{LogId, PartitionId, Sequence};

use super::adopt::Cursor;
use super::block::Block;
use super::commit::whole;
use super::config::LogConfig;
use super::report::{Damage, OpenError, RecoveryReport};
use super::seeded_bug::SeededBug;
use super::segments::{FreeFile, Stage};
use super::survey::{Found, Survey, place};
use super::walk::{Walk, run};
use super::{EntryKind, Log, Machine};
use crate::buffer::Buf;
use crate::format::block_header::BlockHeader;
use crate::format::manifest::{Anchor, Manifest};
use crate::format::segment_header::CheckpointPointer;
use crate::io::{FileId, Io, Op};

/// What is done about the end of the log before it serves.
#[derive(Debug, Default)]
struct Tail {
    kept: VecDeque<TailBlock>,
    /// Headers of the blocks that are not part of the log.
    discarded: Vec<(FileId, u64)>,
    /// Blocks of the log that were durable and are lost whole.
    lost: Vec<Damage>,
}

/// A block that was kept although nothing states that it was durable. It is written again, as
/// it stands: after a flush that failed a later one that succeeds vouches for nothing the first
/// covered, also when the first was another process's.
#[derive(Debug)]
struct TailBlock {
    sequence: Sequence,
    file: FileId,
    position: u64,
    bytes: Vec<Buf>,
}

impl<I: Io> Log<I> {
    /// Opens the log in the seam's directory, replaying into `machine`. Blocks until the log
    /// can serve.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        io: I,
        id: LogId,
        config: LogConfig,
        machine: &mut dyn Machine,
    ) -> Result<(Log<I>, RecoveryReport), OpenError> {
        let started = io.monotonic();
        let unreadable = |cause| OpenError::Io {
            log: id,
            what: "reading segments (what cannot be read is not taken for lost)".to_owned(),
            cause,
        };
        let mut log = Log::new(io, id, config, 1);
        let mut survey = log.find_segments()?;
        log.set_cold_files(std::mem::take(&mut survey.cold));
        let mut report = RecoveryReport {
            segments: survey.segments.len(),
            damaged_headers: survey.damaged_headers.clone(),
            ..RecoveryReport::default()
        };
        let mut cursor = Cursor {
            segment: 0,
            position: 0,
            expected: Sequence(1),
            previous: 0,
        };
        let (checkpoint, unread) = log.newest_checkpoint(&survey)?;
        if let Some((pointer, manifest, state)) = checkpoint {
            let refused = |cause| OpenError::Checkpoint {
                log: id,
                sequence: pointer.sequence,
                segment: pointer.segment,
                position: pointer.position,
                cause,
            };
            machine.restore(&state).map_err(refused)?;
            report.from_checkpoint = true;
            cursor = log
                .adopt_manifest(&survey.segments, &manifest, &mut report)
                .map_err(unreadable)?;
            log.checkpoint = Some(pointer);
            log.segments.named_checkpoint = Some(pointer.sequence);
            log.checkpoint_anchor_segment = manifest.anchor.segment;
            log.checkpoint_anchor = manifest.anchor.sequence;
        }
        let start = cursor.expected;
        let mut tail = Tail::default();
        log.replay(&survey, cursor, machine, &mut report, &mut tail)
            .map_err(unreadable)?;
        let unnamed = log.settle_cold_files(&mut report);
        if let Some(file) = survey.damaged_headers.get(report.segments_missing) {
            // Nothing shows a segment to be missing, so it may be the end of the log, with
            // offsets that would be given out again.
            let (file, what) = (file.clone(), "has a damaged header");
            return Err(OpenError::Unreadable {
                log: id,
                file,
                what,
            });
        }
        let mut chain = log.segments.live.iter().rev();
        let last = chain.find(|(_, segment)| !segment.is_cold);
        if let Some(last) = last.and_then(|(id, _)| survey.segments.get(id))
            && last.is_cut_off
        {
            let (file, what) = (last.name.clone(), "is shorter than its header says");
            return Err(OpenError::Unreadable {
                log: id,
                file,
                what,
            });
        }
        if let Some((sequence, error)) = unread {
            // State that only the unreadable checkpoint covered may be in blocks that it let go.
            let lost = |damage: &Damage| damage.offsets.is_empty() && damage.first >= start;
            let mut lost = report.damage.iter().filter(|damage| lost(damage));
            if tail.lost.iter().any(|damage| damage.first < sequence)
                || lost.any(|damage| damage.first < sequence)
            {
                return Err(error);
            }
        }
        log.name_damage(&mut report, std::mem::take(&mut tail.lost));
        log.sort_out_files(survey.segments);
        log.sort_out_files(unnamed);
        log.make_servable(machine, tail)?;
        report.end = log.durable;
        report.epoch = log.epoch;
        report.duration = log.submitter.io.monotonic().saturating_sub(started);
        Ok((log, report))
    }

    /// The newest checkpoint that can be read; with it the sequence of the newest one and its
    /// fault, if that is another.
    #[expect(
        clippy::type_complexity,
        reason = "what is found and what is not, for the one caller"
    )]
    fn newest_checkpoint(
        &mut self,
        survey: &Survey,
    ) -> Result<
        (
            Option<(CheckpointPointer, Manifest, Vec<u8>)>,
            Option<(Sequence, OpenError)>,
        ),
        OpenError,
    > {
        let mut unread = None;
        for pointer in &survey.checkpoints {
            match self.load_checkpoint(&survey.segments, *pointer) {
                Ok((manifest, state)) => return Ok((Some((*pointer, manifest, state)), unread)),
                Err(error @ OpenError::Checkpoint { .. }) => {
                    tracing::error!(log = %self.id, %error, "trying an older checkpoint");
                    unread.get_or_insert((pointer.sequence, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((None, unread))
    }

    /// Walks from the cursor to the end of the log, applying every block.
    fn replay(
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
        let itself = behind.iter().find(|(segment, position, header)| {
            header.sequence == cursor.expected
                && header.previous == cursor.previous
                && (*segment, *position) != (cursor.segment, cursor.position)
        });
        if let Some((segment, position, _)) = itself {
            return Ok(Some(Cursor {
                segment: *segment,
                position: *position,
                ..cursor
            }));
        }
        let stated = behind.iter().map(|(_, _, header)| header.durable).max();
        let stated = stated.unwrap_or(Sequence::NONE).max(survey.stated);
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
        let offsets = match survey.segments.get(&cursor.segment) {
            Some(file) => {
                let here = behind.iter().filter(|(id, _, _)| *id == cursor.segment);
                let standing = here.map(|(_, position, _)| *position).collect();
                self.take_lost(cursor.segment, file, stretch, &standing, machine)?
            }
            None => Vec::new(),
        };
        tail.lost.push(Damage {
            segment: cursor.segment,
            position: cursor.position,
            first: cursor.expected,
            end,
            offsets,
        });
        self.open_group.broken = true;
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

    /// Puts together what is known to be lost. Offsets that are dead by the end of the replay
    /// are not; blocks that are lost whole are in any case, for what else was in them.
    fn name_damage(&mut self, report: &mut RecoveryReport, lost_blocks: Vec<Damage>) {
        report.damage.append(&mut self.lost_entries);
        let partitions = &self.partitions;
        let live = |partition: PartitionId, first: u64, end: u64| {
            let start = partitions.get(&partition)?.start.0;
            (start < end).then_some((partition, first.max(start), end))
        };
        for damage in &mut report.damage {
            let named = !damage.offsets.is_empty();
            let offsets = std::mem::take(&mut damage.offsets).into_iter();
            damage.offsets = offsets
                .filter_map(|(partition, first, end)| live(partition, first, end))
                .collect();
            if named && damage.offsets.is_empty() {
                damage.end = damage.first;
            }
        }
        report.damage.retain(|damage| damage.first < damage.end);
        for mut damage in lost_blocks {
            let offsets = std::mem::take(&mut damage.offsets).into_iter();
            damage.offsets = offsets
                .filter_map(|(partition, first, end)| live(partition, first, end))
                .collect();
            report.damage.push(damage);
        }
        for gap in std::mem::take(&mut self.gaps) {
            let Some(offsets) = live(gap.partition, gap.first.0, gap.end.0) else {
                continue;
            };
            let before = report.damage.iter_mut().filter(|d| d.end <= gap.before);
            if let Some(damage) = before.max_by_key(|damage| damage.end) {
                damage.offsets.push(offsets);
            }
        }
        for damage in &report.damage {
            tracing::error!(log = %self.id, ?damage, "durable data is damaged");
        }
        let ranges = self
            .partitions
            .values()
            .map(|state| state.damage.len() as u64);
        self.stats.damaged_ranges = ranges.sum();
    }

    /// Files that hold nothing live become free; walked segments with a matching trailer are
    /// sealed.
    fn sort_out_files(&mut self, found: BTreeMap<u64, Found>) {
        let released: BTreeSet<FileId> = {
            let free = self.segments.free.iter().map(|free| free.file);
            free.chain(self.segments.short.iter().map(|(_, file)| *file))
                .collect()
        };
        for (id, file) in found {
            let Some(segment) = self.segments.live.get_mut(&id) else {
                if released.contains(&file.file) {
                    continue;
                }
                if file.file_bytes == self.config.segment_bytes {
                    let (prewritten_to, recycled) = (file.file_bytes, true);
                    let (name, file) = (file.name, file.file);
                    self.segments.free.push_back(FreeFile {
                        name,
                        file,
                        prewritten_to,
                        recycled,
                    });
                } else {
                    self.segments.short.push_back((file.name, file.file));
                }
                continue;
            };
            if let Some(trailer) = file.trailer
                && trailer.data_end == segment.position
                && segment.stage == Stage::Open
            {
                segment.stage = Stage::Sealed;
                segment.footer = Some(place(&trailer));
            }
        }
    }

    /// Flushes what was kept, opens the new segment and writes its first block.
    fn make_servable(&mut self, machine: &mut dyn Machine, tail: Tail) -> Result<(), OpenError> {
        let log = self.id;
        let failed = |cause: String| OpenError::NotWritable { log, cause };
        self.erase(&tail.discarded).map_err(failed)?;
        let flushes = !self.has_bug(SeededBug::ServeTailUnflushed);
        for block in tail.kept.into_iter().filter(|_| flushes) {
            let bytes: usize = block.bytes.iter().map(|buf| buf.len()).sum();
            let write = Op::Write {
                file: block.file,
                offset: block.position,
                bufs: block.bytes,
                durable: true,
            };
            let written = run(&mut self.submitter.io, write).result;
            whole(written, bytes).map_err(|cause| {
                failed(format!("writing block {} again: {cause}", block.sequence))
            })?;
        }
        let open = self
            .segments
            .live
            .values()
            .filter(|s| s.stage == Stage::Open);
        let files = open.map(|segment| segment.file).filter(|_| flushes);
        let flush = files.map(|file| Op::Flush { file }).collect::<Vec<_>>();
        let sync = (!self.has_bug(SeededBug::ForgetDirectory)).then_some(Op::SyncDir);
        for op in flush.into_iter().chain(sync) {
            let what = format!("{op:?}");
            run(&mut self.submitter.io, op)
                .result
                .map_err(|e| failed(format!("{what}: {e}")))?;
        }
        self.next_sequence = self.durable.next();
        let first = self.next_sequence;
        if self.durable == Sequence::NONE {
            self.anchor = Anchor {
                sequence: first,
                segment: 0,
                end_position: 0,
                checksum: 0,
            };
        }
        self.add_mark();
        while self.durable < first {
            self.submit();
            self.poll(machine);
            if let Some(failure) = &self.failure {
                return Err(failed(failure.clone()));
            }
            if self.segments.is_stuck()
                && self.segments.free.is_empty()
                && self.in_flight.is_empty()
            {
                return Err(failed("no space for a new segment".to_owned()));
            }
            if self.durable < first {
                self.submitter.io.wait(Duration::from_millis(100));
            }
        }
        self.bytes_since_checkpoint = self.bytes_since_checkpoint.max(1);
        self.demote_old_segments();
        self.release_dead_segments();
        Ok(())
    }

    /// Overwrites the headers of blocks that are not part of the log, so that they are not taken
    /// for it when what comes to stand in their place is damaged one day.
    fn erase(&mut self, headers: &[(FileId, u64)]) -> Result<(), String> {
        for (file, offset) in headers.iter().rev() {
            let mut zeros = self.alloc(self.unit).ok_or("no memory")?;
            zeros.fill(0);
            let write = Op::Write {
                file: *file,
                offset: *offset,
                bufs: vec![zeros.freeze().slice(0..self.unit)],
                durable: true,
            };
            let written = run(&mut self.submitter.io, write).result;
            whole(written, self.unit)
                .map_err(|cause| format!("erasing a discarded block: {cause}"))?;
        }
        Ok(())
    }
}
