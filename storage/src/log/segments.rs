//! Segment files: the active one, the next with its header already durable, sealed ones, and
//! the pool of free files (recycled first, then written ahead, then merely reserved).
//!
//! ```text
//! making: create → reserve → sync directory → write ahead ─► free ─► next (header durable)
//!    ▲                                                        ▲        │
//!    │ nothing free                                 recycled  │        ▼
//!    └──────────────── removed ◄─ too many free ◄─────────────┴─ sealed ◄─ full ◄─ active
//! ```
//! Invariant: creating, reserving, removing and syncing the directory happen off the commit
//! path; a block is placed only in a segment whose header is durable.

use std::collections::{BTreeMap, VecDeque};

use ringlog_types::{LogId, Sequence};

use super::config::LogConfig;
use super::first_block::FirstBlock;
use super::index::SegmentIndex;
use super::seeded_bug::SeededBug;
use super::stats::Stats;
use super::work::{Submitter, Work};
use crate::buffer::Buf;
use crate::format::checksum::Key;
use crate::format::footer;
use crate::format::origin::Origin;
use crate::format::segment_header::{CheckpointPointer, SegmentHeader};
use crate::format::segment_name::{file_name, slot_of};
use crate::io::{Completion, FileId, Io, Op};

/// How far a segment is on its way to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Takes blocks, or is full and waits until its last block is applied.
    Open,
    /// Footer or trailer are being written.
    Sealing,
    /// Sealed.
    Sealed,
}

/// Where a footer lies, as the trailer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FooterPlace {
    pub position: u64,
    pub bytes: u32,
    pub checksum: u64,
}

/// A segment with live entries, or the active one.
#[derive(Debug)]
pub(super) struct Segment {
    pub name: String,
    /// Who wrote it; `None`: this log. Of another log's segment the file is only read, its
    /// sequences are that log's, and its number is smaller than that of any of this log's own.
    pub origin: Option<Origin>,
    pub file: FileId,
    pub file_bytes: u64,
    pub key: Key,
    pub stage: Stage,
    /// Where the next block goes; once full, where the last one ends.
    pub position: u64,
    /// Upper bound of the footer's rows, placed blocks included.
    pub rows_bound: usize,
    pub first_sequence: Sequence,
    /// What its first block says of its group, as far as it can be read.
    pub first_block: Option<FirstBlock>,
    pub last_sequence: Sequence,
    pub last_checksum: u64,
    pub index: SegmentIndex,
    pub footer: Option<FooterPlace>,
    /// Reads in flight: the file is not let go before they are back.
    pub reads: u32,
    /// Space up to here was written before (ahead, or in an earlier life).
    pub prewritten_to: u64,
    pub recycled: bool,
    /// Written by the cleaner: no part of the chain of blocks, and the sequences are those of the
    /// blocks that it was made of.
    pub is_cold: bool,
    /// What was in it lies in a cold segment now.
    pub was_source: bool,
    /// The last block applied when nothing lived in it any more.
    pub emptied: Option<Sequence>,
    /// Bytes that a reader of one of its partitions reads for each byte it wants, if known.
    pub amplification: Option<f64>,
}

/// A file that can become a segment.
#[derive(Debug)]
pub(super) struct FreeFile {
    pub name: String,
    pub file: FileId,
    pub prewritten_to: u64,
    pub recycled: bool,
}

#[derive(Debug)]
struct Opening {
    segment: u64,
    header: SegmentHeader,
    from: FreeFile,
    durable: bool,
    /// Attempts to read it back that failed.
    unread: u32,
}

#[derive(Debug)]
enum Making {
    Creating {
        name: String,
    },
    Reserving {
        name: String,
        file: FileId,
    },
    Syncing {
        name: String,
        file: FileId,
    },
    Writing {
        name: String,
        file: FileId,
        to: u64,
        busy: bool,
    },
    Flushing {
        name: String,
        file: FileId,
        to: u64,
    },
    /// The last attempt failed for want of space: again when something changed.
    Stuck {
        file: Option<(String, FileId)>,
    },
}

/// All segment files of a log.
#[derive(Debug)]
pub(super) struct Segments {
    pub live: BTreeMap<u64, Segment>,
    pub active: Option<u64>,
    /// No segment before this one waits to be sealed.
    pub unsealed_from: u64,
    next: Option<Opening>,
    pub free: VecDeque<FreeFile>,
    /// Files shorter than a segment: cut at their seal, or left half-made by a crash.
    pub short: VecDeque<(String, FileId)>,
    /// Files of other logs' segments that hold nothing live any more: their name goes.
    pub departing: Vec<(String, FileId)>,
    making: Option<Making>,
    /// What writing ahead writes: filled once.
    zeros: Option<Buf>,
    /// The newest checkpoint that a durable header names. A file that a newer one let go may be
    /// needed by a restart, which finds only what is named: it keeps its content until then.
    pub named_checkpoint: Option<Sequence>,
    pub next_segment: u64,
    pub next_slot: u64,
    log: LogId,
    unit: u64,
    segment_bytes: u64,
    pool_segments: usize,
    recycle_bytes: u64,
    seeded_bug: Option<SeededBug>,
}

const PREWRITE_BYTES: usize = 1 << 20;
const READ_BACK_ATTEMPTS: u32 = 5;

impl Segments {
    pub fn new(log: LogId, unit: usize, config: &LogConfig) -> Segments {
        Segments {
            live: BTreeMap::new(),
            active: None,
            unsealed_from: 0,
            next: None,
            free: VecDeque::new(),
            short: VecDeque::new(),
            departing: Vec::new(),
            making: None,
            zeros: None,
            named_checkpoint: None,
            next_segment: 1,
            next_slot: 1,
            log,
            unit: unit as u64,
            segment_bytes: config.segment_bytes,
            pool_segments: config.pool_segments,
            recycle_bytes: config.recycle_bytes,
            seeded_bug: config.seeded_bug,
        }
    }

    /// The active segment.
    pub fn active(&self) -> Option<&Segment> {
        self.active.and_then(|segment| self.live.get(&segment))
    }

    /// Whether a block with `entries` entries fits behind the last one of the active segment,
    /// with room left for the footer and the trailer.
    pub fn fits(&self, block_bytes: usize, entries: usize) -> bool {
        self.active().is_some_and(|active| {
            let rows = active.rows_bound + entries;
            let footer = ((rows * footer::ROW_BYTES) as u64).next_multiple_of(self.unit);
            active.stage == Stage::Open
                && active.position + block_bytes as u64 + footer + self.unit <= active.file_bytes
        })
    }

    /// Largest block with `entries` entries that fits an empty segment.
    pub fn largest_block(&self, entries: usize) -> usize {
        let footer = ((entries * footer::ROW_BYTES) as u64).next_multiple_of(self.unit);
        (self.segment_bytes - 2 * self.unit).saturating_sub(footer) as usize
    }

    /// Makes the next segment the active one, if its header is durable.
    pub fn advance(&mut self) -> bool {
        if !self.next.as_ref().is_some_and(|next| next.durable) {
            return false;
        }
        let next = self
            .next
            .take()
            .expect("a durable next segment was just seen");
        let segment = Segment {
            name: next.from.name,
            origin: None,
            file: next.from.file,
            file_bytes: self.segment_bytes,
            key: next.header.key(),
            stage: Stage::Open,
            position: self.unit,
            rows_bound: 0,
            first_sequence: Sequence::NONE,
            first_block: None,
            last_sequence: Sequence::NONE,
            last_checksum: 0,
            index: SegmentIndex::new(),
            footer: None,
            reads: 0,
            prewritten_to: next.from.prewritten_to,
            recycled: next.from.recycled,
            is_cold: false,
            was_source: false,
            emptied: None,
            amplification: None,
        };
        self.live.insert(next.segment, segment);
        self.active = Some(next.segment);
        true
    }

    /// Bytes that could still be written without a new file.
    pub fn writable_bytes(&self) -> u64 {
        let active = self
            .active()
            .map_or(0, |active| active.file_bytes - active.position);
        let others = self.free.len() + usize::from(self.next.is_some());
        active + others as u64 * self.segment_bytes
    }

    /// Whether a segment is ready behind the active one.
    pub fn has_next(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.durable)
    }

    /// Whether no file can be made, for want of space.
    pub fn is_stuck(&self) -> bool {
        matches!(self.making, Some(Making::Stuck { .. }))
    }

    /// Keeps the next segment opened and the pool filled. `busy`: the commit path uses the
    /// device, so writing ahead waits, unless the pool is empty: space that was only reserved
    /// costs the commit path more than the writing ahead does.
    pub fn upkeep<I: Io>(
        &mut self,
        submitter: &mut Submitter<I>,
        epoch: u32,
        checkpoint: Option<CheckpointPointer>,
        busy: bool,
        stats: &mut Stats,
    ) {
        for (name, file) in self.departing.drain(..) {
            let what = "removing another log's segment";
            submitter.submit(Op::Remove { name }, Work::Housekeeping(what));
            let what = "closing another log's segment";
            submitter.submit(Op::Close { file }, Work::Housekeeping(what));
        }
        let calm = !busy || self.free.is_empty();
        if self.next.is_none() {
            let urgent = self.active().is_some_and(|active| {
                active.file_bytes - active.position.min(active.file_bytes) < self.segment_bytes / 8
            });
            let free = self.free.pop_front();
            if let Some(free) = free.or_else(|| urgent.then(|| self.steal()).flatten()) {
                self.open(submitter, free, epoch, checkpoint);
            }
        }
        let named = self.named_checkpoint == checkpoint.map(|newest| newest.sequence)
            || self.seeded_bug == Some(SeededBug::DropPredecessorEarly);
        while named
            && self.free.len() > self.pool_segments.max(1)
            && self.free.len() as u64 * self.segment_bytes > self.recycle_bytes
        {
            let surplus = self
                .free
                .pop_back()
                .expect("the pool was just seen to be too large");
            let remove = Op::Remove { name: surplus.name };
            submitter.submit(
                remove,
                Work::Housekeeping("removing a surplus segment file"),
            );
            let close = Op::Close { file: surplus.file };
            submitter.submit(close, Work::Housekeeping("closing a surplus segment file"));
        }
        if self.making.is_none() && self.free.len() < self.pool_segments {
            if named && let Some((name, file)) = self.short.pop_front() {
                self.reserve(submitter, name, file);
                return;
            }
            let name = file_name(self.next_slot);
            self.next_slot += 1;
            submitter.submit(
                Op::Open {
                    name: name.clone(),
                    create: true,
                },
                Work::Making,
            );
            self.making = Some(Making::Creating { name });
        }
        if let Some(Making::Writing {
            file,
            to,
            busy: busy @ false,
            ..
        }) = &mut self.making
            && calm
        {
            let bytes = PREWRITE_BYTES.min((self.segment_bytes - *to) as usize);
            if self.zeros.is_none() {
                let zeros = submitter.io.pool().alloc(PREWRITE_BYTES);
                self.zeros = zeros.map(|mut zeros| {
                    zeros.fill(0);
                    zeros.freeze()
                });
            }
            if let Some(zeros) = &self.zeros {
                let bufs = vec![zeros.slice(0..bytes)];
                let write = Op::Write {
                    file: *file,
                    offset: *to,
                    bufs,
                    durable: false,
                };
                submitter.submit(write, Work::Making);
                stats.prewriting_bytes += bytes as u64;
                *busy = true;
            }
        }
    }

    /// Tries again to make files, after space may have come back.
    pub fn retry_making<I: Io>(&mut self, submitter: &mut Submitter<I>) {
        match self.making.take() {
            Some(Making::Stuck {
                file: Some((name, file)),
            }) => {
                self.reserve(submitter, name, file);
            }
            Some(Making::Stuck { file: None }) => {}
            other => self.making = other,
        }
    }

    fn reserve<I: Io>(&mut self, submitter: &mut Submitter<I>, name: String, file: FileId) {
        let allocate = Op::Allocate {
            file,
            bytes: self.segment_bytes,
        };
        submitter.submit(allocate, Work::Making);
        self.making = Some(Making::Reserving { name, file });
    }

    /// A file whose writing ahead is not finished, because nothing better is free.
    fn steal(&mut self) -> Option<FreeFile> {
        match self.making.take() {
            Some(Making::Writing {
                name,
                file,
                to,
                busy: false,
            }) => Some(FreeFile {
                name,
                file,
                prewritten_to: to,
                recycled: false,
            }),
            other => {
                self.making = other;
                None
            }
        }
    }

    fn open<I: Io>(
        &mut self,
        submitter: &mut Submitter<I>,
        from: FreeFile,
        epoch: u32,
        checkpoint: Option<CheckpointPointer>,
    ) {
        let segment = self.next_segment;
        let Some(mut unit) = submitter.io.pool().alloc(self.unit as usize) else {
            self.free.push_front(from);
            return;
        };
        self.next_segment += 1;
        let header = SegmentHeader {
            log: self.log,
            segment,
            nonce: match self.seeded_bug {
                Some(SeededBug::ReuseNonce) => 7,
                Some(SeededBug::AcceptStaleBlocks) => slot_of(&from.name).unwrap_or(0).into(),
                _ => submitter.io.entropy(),
            },
            segment_bytes: self.segment_bytes,
            unit_bytes: u32::try_from(self.unit).expect("a unit is a few KiB"),
            epoch,
            created_ms: submitter.io.wall_ms(),
            checkpoint,
            is_cold: false,
        };
        unit.fill(0);
        header.encode(&mut unit);
        let bufs = vec![unit.freeze().slice(0..self.unit as usize)];
        let write = Op::Write {
            file: from.file,
            offset: 0,
            bufs,
            durable: true,
        };
        submitter.submit(write, Work::SegmentHeader(segment));
        self.next = Some(Opening {
            segment,
            header,
            from,
            durable: false,
            unread: 0,
        });
    }

    /// The next segment's header was written. Without it nothing in the segment can be read, so
    /// it is read back before the segment takes a block: one small read for a segment, off the
    /// commit path.
    pub fn check_header<I: Io>(&mut self, submitter: &mut Submitter<I>, segment: u64) {
        let Some(next) = &self.next else { return };
        debug_assert_eq!(next.segment, segment, "one segment is opened at a time");
        if self.seeded_bug == Some(SeededBug::TrustHeaders) {
            self.header_done();
            return;
        }
        match submitter.io.pool().alloc(self.unit as usize) {
            Some(buf) => {
                let (file, offset) = (next.from.file, 0);
                let read = Op::Read { file, offset, buf };
                submitter.submit(read, Work::SegmentHeaderCheck(segment));
            }
            None => self.header_done(),
        }
    }

    /// The next segment's header was read back.
    ///
    /// # Errors
    /// It is not what was written, or cannot be read.
    pub fn header_read<I: Io>(
        &mut self,
        submitter: &mut Submitter<I>,
        segment: u64,
        completion: Completion,
    ) -> Result<(), String> {
        let Some(next) = &mut self.next else {
            return Ok(());
        };
        if let Err(error) = completion.result {
            next.unread += 1;
            if next.unread == READ_BACK_ATTEMPTS {
                return Err(error.to_string());
            }
            self.check_header(submitter, segment);
            return Ok(());
        }
        let read = SegmentHeader::decode(completion.buf.as_deref().unwrap_or_default());
        if read.as_ref() != Ok(&next.header) {
            return Err(format!(
                "it was written to {} and is not there ({read:?})",
                next.from.name
            ));
        }
        self.header_done();
        Ok(())
    }

    fn header_done(&mut self) {
        if let Some(next) = &mut self.next {
            next.durable = true;
            self.named_checkpoint = next.header.checkpoint.map(|newest| newest.sequence);
        }
    }

    /// A step in making a file ended. A failure is said and tried again later: what it costs
    /// is space, and appends say so when there is none left.
    pub fn made<I: Io>(&mut self, submitter: &mut Submitter<I>, completion: Completion) {
        let making = self
            .making
            .take()
            .expect("a step in making a file belongs to one being made");
        if let Err(error) = &completion.result {
            tracing::warn!(%error, step = ?making, "making a segment file failed; trying again");
            let file = match making {
                Making::Creating { .. } => None,
                Making::Reserving { name, file }
                | Making::Syncing { name, file }
                | Making::Writing { name, file, .. }
                | Making::Flushing { name, file, .. } => Some((name, file)),
                Making::Stuck { file } => file,
            };
            self.making = Some(Making::Stuck { file });
            return;
        }
        self.making = match making {
            Making::Creating { name } => {
                let file = completion.file.expect("a successful open names its file");
                self.reserve(submitter, name, file);
                return;
            }
            Making::Reserving { name, file }
                if self.seeded_bug == Some(SeededBug::ForgetDirectory) =>
            {
                Some(Making::Writing {
                    name,
                    file,
                    to: 0,
                    busy: false,
                })
            }
            Making::Reserving { name, file } => {
                submitter.submit(Op::SyncDir, Work::Making);
                Some(Making::Syncing { name, file })
            }
            Making::Syncing { name, file } => Some(Making::Writing {
                name,
                file,
                to: 0,
                busy: false,
            }),
            Making::Writing { name, file, to, .. } => {
                let written = completion.result.map_or(0, |bytes| bytes as u64);
                let to = to + written / self.unit * self.unit;
                if to >= self.segment_bytes {
                    submitter.submit(Op::Flush { file }, Work::Making);
                    Some(Making::Flushing { name, file, to })
                } else {
                    Some(Making::Writing {
                        name,
                        file,
                        to,
                        busy: false,
                    })
                }
            }
            Making::Flushing { name, file, to } => {
                self.zeros = None;
                self.free.push_back(FreeFile {
                    name,
                    file,
                    prewritten_to: to,
                    recycled: false,
                });
                None
            }
            stuck @ Making::Stuck { .. } => Some(stuck),
        };
    }

    /// Lets go of sealed segments without live records that lie before `anchor_segment`
    /// (state in them is covered by the durable checkpoint), and of those that the cleaner wrote
    /// or replaced, if that checkpoint, whose anchor is `anchor`, knows that nothing lives in them:
    /// it names what replaced them. `applied` is the last block applied. Returns their numbers.
    pub fn release_dead(
        &mut self,
        anchor_segment: u64,
        anchor: Sequence,
        applied: Sequence,
    ) -> Vec<u64> {
        for segment in self.live.values_mut() {
            if (segment.is_cold || segment.was_source) && segment.index.is_dead() {
                segment.emptied.get_or_insert(applied);
            }
        }
        let dead = self.live.iter().filter(|(id, segment)| {
            let is_known_dead = if segment.is_cold || segment.was_source {
                segment.emptied.is_some_and(|emptied| emptied <= anchor)
                    || self.seeded_bug == Some(SeededBug::CleanFreesEarly)
            } else {
                true
            };
            segment.stage == Stage::Sealed
                && (segment.is_cold || **id < anchor_segment)
                && is_known_dead
                && (segment.index.is_dead()
                    || self.seeded_bug == Some(SeededBug::RecycleLiveSegments))
                && segment.reads == 0
        });
        let dead: Vec<u64> = dead.map(|(id, _)| *id).collect();
        for id in &dead {
            let segment = self.live.remove(id).expect("it was just found");
            let recycled = segment.file_bytes == self.segment_bytes;
            let (name, file) = (segment.name, segment.file);
            if segment.origin.is_some() {
                self.departing.push((name, file));
            } else if recycled {
                let prewritten_to = segment.prewritten_to.max(segment.position);
                self.free.push_front(FreeFile {
                    name,
                    file,
                    prewritten_to,
                    recycled,
                });
            } else {
                self.short.push_back((name, file));
            }
        }
        dead
    }

    /// Splits a write at `position` into what kinds of space it uses.
    pub fn count_space(segment: &Segment, position: u64, bytes: usize, stats: &mut Stats) {
        let bytes = bytes as u64;
        let before = segment.prewritten_to.saturating_sub(position).min(bytes);
        if segment.recycled {
            stats.written_recycled_bytes += before;
        } else {
            stats.written_prewritten_bytes += before;
        }
        stats.written_unwritten_bytes += bytes - before;
    }
}
