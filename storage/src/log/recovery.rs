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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ringlog_types::{LogId, Sequence};

use super::adopt::Cursor;
use super::block::Block;
use super::commit::whole;
use super::config::LogConfig;
use super::report::{Damage, OpenError, RecoveryReport};
use super::segments::{FreeFile, Stage};
use super::survey::{Found, Survey, place};
use super::walk::{Walk, run};
use super::{EntryKind, Log, Machine};
use crate::buffer::Buf;
use crate::format::block_header::BlockHeader;
use crate::format::manifest::Anchor;
use crate::io::{FileId, Io, Op};

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
        let Survey {
            found,
            newest,
            headless,
        } = log.find_segments()?;
        let mut report = RecoveryReport {
            segments: found.len(),
            ..RecoveryReport::default()
        };
        let mut cursor = Cursor {
            segment: 0,
            position: 0,
            expected: Sequence(1),
            previous: 0,
        };
        if let Some(pointer) = newest {
            let (manifest, state) = log.load_checkpoint(&found, pointer)?;
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
                .adopt_manifest(&found, &manifest, &mut report)
                .map_err(unreadable)?;
            log.checkpoint = Some(pointer);
            log.segments.named_checkpoint = Some(pointer.sequence);
            log.checkpoint_anchor_segment = manifest.anchor.segment;
        }
        let mut tail = VecDeque::new();
        log.replay(&found, cursor, machine, &mut report, &mut tail)
            .map_err(unreadable)?;
        if let Some(file) = headless.get(report.segments_missing) {
            // Nothing shows a segment to be missing, so it may be the end of the log, with
            // offsets that would be given out again.
            let (file, what) = (file.clone(), "has a damaged header");
            return Err(OpenError::Unreadable {
                log: id,
                file,
                what,
            });
        }
        let last = log.segments.live.last_key_value();
        if let Some(last) = last.and_then(|(id, _)| found.get(id))
            && last.is_cut_off
        {
            let (file, what) = (last.name.clone(), "is shorter than its header says");
            return Err(OpenError::Unreadable {
                log: id,
                file,
                what,
            });
        }
        log.forget_dead_damage(&mut report);
        log.sort_out_files(found);
        log.make_servable(machine, tail)?;
        report.end = log.durable;
        report.epoch = log.epoch;
        report.duration = log.submitter.io.monotonic().saturating_sub(started);
        Ok((log, report))
    }

    /// Walks from the cursor to the end of the log, applying every block.
    fn replay(
        &mut self,
        found: &BTreeMap<u64, Found>,
        mut cursor: Cursor,
        machine: &mut dyn Machine,
        report: &mut RecoveryReport,
        tail: &mut VecDeque<TailBlock>,
    ) -> std::io::Result<()> {
        let mut walk: Option<Walk<'_>> = None;
        loop {
            // The successor's word counts more than what lies behind the last block.
            let successor = found.range(cursor.segment + 1..).rev().find(|(_, next)| {
                next.first_block.is_some_and(|first| {
                    first.sequence == cursor.expected && first.previous == cursor.previous
                })
            });
            if let Some((segment, _)) = successor {
                (cursor.segment, cursor.position) = (*segment, self.unit as u64);
            }
            let Some(file) = found.get(&cursor.segment) else {
                // Before the first segment, or the anchor's is gone: only what comes later.
                match self.resume_point(found, cursor, machine, report)? {
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
            let read = walk.block_at(&mut self.submitter.io, cursor.position)?;
            let expected = |header: &BlockHeader| {
                header.sequence == cursor.expected && header.previous == cursor.previous
            };
            match read {
                Ok((block, header, damaged))
                    if expected(&header)
                        && (damaged.is_empty() || self.is_evident(found, cursor)?) =>
                {
                    cursor.position += block.bytes as u64;
                    cursor.expected = cursor.expected.next();
                    cursor.previous = block.checksum;
                    while tail
                        .front()
                        .is_some_and(|block| block.sequence <= header.durable)
                    {
                        tail.pop_front();
                    }
                    let bytes = block.extents.iter().map(|(_, buf)| buf.clone()).collect();
                    tail.push_back(TailBlock {
                        sequence: block.sequence,
                        file: file.file,
                        position: block.position,
                        bytes,
                    });
                    self.accept(file, block, &damaged, machine, report);
                }
                _ => match self.resume_point(found, cursor, machine, report)? {
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
        if !damaged.is_empty() {
            let lost = damaged.iter().map(|number| &block.entries[*number].meta);
            let lost = lost.filter(|meta| meta.kind == EntryKind::Records);
            report.damage.push(Damage {
                segment: block.segment,
                position: block.position,
                first: block.sequence,
                end: block.sequence.next(),
                offsets: lost
                    .map(|meta| (meta.partition, meta.base_offset.0, meta.end_offset().0))
                    .collect(),
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

    /// Whether a later block states that the block at the cursor was durable.
    fn is_evident(
        &mut self,
        found: &BTreeMap<u64, Found>,
        cursor: Cursor,
    ) -> std::io::Result<bool> {
        let behind = self.headers_behind(found, cursor)?;
        Ok(behind
            .iter()
            .any(|(_, _, header)| header.durable >= cursor.expected))
    }

    /// Where the walk goes on behind damage; `None` at the end of the log.
    fn resume_point(
        &mut self,
        found: &BTreeMap<u64, Found>,
        cursor: Cursor,
        machine: &mut dyn Machine,
        report: &mut RecoveryReport,
    ) -> std::io::Result<Option<Cursor>> {
        let behind = self.headers_behind(found, cursor)?;
        let durable = behind.iter().map(|(_, _, header)| header.durable).max();
        if durable.is_none_or(|durable| durable < cursor.expected) {
            let tail = behind
                .iter()
                .map(|(_, _, header)| u64::from(header.block_bytes));
            report.discarded_tail_bytes = tail.sum();
            if report.discarded_tail_bytes > 0 {
                let discarded = report.discarded_tail_bytes;
                tracing::info!(
                    log = %self.id, end = %self.durable,
                    "discarded {discarded} bytes after mark {}: written, never known durable",
                    self.durable
                );
            }
            return Ok(None);
        }
        if let Some(moved) = self.moved_block(found, cursor, &behind)? {
            return Ok(Some(moved));
        }
        let next = behind
            .iter()
            .filter(|(_, _, header)| header.sequence > cursor.expected);
        let Some((segment, position, header)) = next.min_by_key(|(id, _, h)| (h.sequence, *id))
        else {
            return Ok(None);
        };
        tracing::error!(
            log = %self.id, segment = cursor.segment, position = cursor.position,
            first = %cursor.expected, end = %header.sequence,
            "durable blocks are damaged: their offsets are reported and not served"
        );
        report.segments_missing += usize::from(*segment != cursor.segment);
        let to = if *segment == cursor.segment {
            *position
        } else {
            u64::MAX
        };
        let stretch = (cursor.position, to);
        let offsets = match found.get(&cursor.segment) {
            Some(file) => self.take_lost(cursor.segment, file, stretch, machine)?,
            None => Vec::new(),
        };
        report.damage.push(Damage {
            segment: cursor.segment,
            position: cursor.position,
            first: cursor.expected,
            end: header.sequence,
            offsets,
        });
        self.open_group.clear();
        self.durable = Sequence(header.sequence.0 - 1);
        Ok(Some(Cursor {
            segment: *segment,
            position: *position,
            expected: header.sequence,
            previous: header.previous,
        }))
    }

    /// The block that belongs at the cursor, whole, at another place.
    fn moved_block(
        &mut self,
        found: &BTreeMap<u64, Found>,
        cursor: Cursor,
        behind: &[(u64, u64, BlockHeader)],
    ) -> std::io::Result<Option<Cursor>> {
        for (segment, position, header) in behind {
            let follows = (header.sequence, header.previous) == (cursor.expected, cursor.previous);
            if !follows || (*segment, *position) == (cursor.segment, cursor.position) {
                continue;
            }
            let file = &found[segment];
            let mut walk = Walk::new(*segment, file.file, file.file_bytes, &file.key, self.unit);
            let read = walk.block_at(&mut self.submitter.io, *position)?;
            if read.is_ok_and(|(_, _, damaged)| damaged.is_empty()) {
                tracing::error!(
                    log = %self.id, segment, position, block = %header.sequence,
                    "a block stands where it was not written to; it is whole and is read there"
                );
                return Ok(Some(Cursor {
                    segment: *segment,
                    position: *position,
                    ..cursor
                }));
            }
        }
        Ok(None)
    }

    /// Damage to offsets that are dead by the end of the replay is none.
    fn forget_dead_damage(&mut self, report: &mut RecoveryReport) {
        for damage in &mut report.damage {
            let named = !damage.offsets.is_empty();
            damage.offsets.retain_mut(|(partition, first, end)| {
                let state = self.partitions.get(partition);
                *first = state.map_or(*end, |state| state.start.0.max(*first));
                first < end
            });
            if named && damage.offsets.is_empty() {
                damage.end = damage.first;
            }
        }
        report.damage.retain(|damage| damage.first < damage.end);
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
    fn make_servable(
        &mut self,
        machine: &mut dyn Machine,
        tail: VecDeque<TailBlock>,
    ) -> Result<(), OpenError> {
        let log = self.id;
        let failed = |cause: String| OpenError::NotWritable { log, cause };
        for block in tail {
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
        let files: Vec<FileId> = open.map(|segment| segment.file).collect();
        for op in files
            .into_iter()
            .map(|file| Op::Flush { file })
            .chain([Op::SyncDir])
        {
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
}
