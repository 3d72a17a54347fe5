//! The log: appends entries as atomic groups in commit blocks, says when they are durable,
//! applies them to the machines above in order, and reads them back.
//!
//! | file | what |
//! |---|---|
//! | `builder` | the block that gathers |
//! | `append` | taking entries |
//! | `commit` | from append to durable: the pipeline and its rule |
//! | `flush`, `urgency` | blocks that are written plain, and their flush |
//! | `segments` | segment files and their pool |
//! | `index`, `cache`, `read`, `wanted`, `cold`, `under_way`, `piece`, `rescan` | finding and reading |
//! | `runs` | the index of older segments, on disk |
//! | `arrived` | what came back from disk for readers |
//! | `seek` | offsets by time |
//! | `scrub` | looking for damage before readers do |
//! | `apply` | what a durable block changes |
//! | `seal` | footers, trailers, closing |
//! | `part` | where the time of a turn goes |
//! | `retention` | where a partition starts by its limits |
//! | `clean` | rewriting old segments |
//! | `checkpoint`, `taking`, `partitions`, `segment_rows` | writing the state of everything, a step at a time |
//! | `import` | a log's partitions given to other logs, and taken in |
//! | `first_block` | what became of a group that a segment ends with |
//! | `recovery`, `found`, `survey`, `adopt`, `replay`, `lost`, `reopen`, `walk`, `report` | coming back |
//!
//! Invariant: an entry is applied, and its sequence reported durable, only when its block and
//! every block before it are on stable storage. The first failed write or flush is final: the
//! log closes and says so.

mod adopt;
mod append;
mod apply;
mod arrived;
mod block;
mod builder;
mod cache;
mod checkpoint;
pub mod clean;
mod cold;
mod commit;
mod config;
mod first_block;
mod flush;
mod found;
mod frame;
mod import;
mod index;
mod lost;
mod part;
mod partitions;
mod pending;
mod piece;
mod read;
mod recovery;
mod removed;
mod reopen;
mod replay;
mod report;
mod rescan;
mod retention;
mod runs;
mod scrub;
mod scrub_state;
mod seal;
mod seeded_bug;
mod seek;
mod segment_rows;
mod segments;
mod stats;
mod survey;
mod taking;
mod taking_state;
mod under_way;
mod urgency;
mod walk;
mod wanted;
mod work;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ringlog_types::snapshot::Pieces;
use ringlog_types::{LogId, Offset, PartitionId, Sequence};

use crate::buffer::{Buf, Pool};
use crate::format::manifest::Anchor;
use crate::format::segment_header::CheckpointPointer;
use crate::io::Io;

pub use crate::format::entry_header::{EntryKind, EntryMeta};
pub use cold::Brought;
pub use config::{FlushMethod, LogConfig};
pub use frame::{FRAME_HEADROOM_BYTES, FrameEntry};
pub use import::{Import, Retired, SegmentFile};
pub use part::Part;
pub use report::{Damage, OpenError, RecoveryReport};
#[doc(hidden)]
pub use seeded_bug::SeededBug;
pub use stats::{Histogram, Stats};
pub use urgency::Urgency;
pub use wanted::Wanted;

/// A committed entry, as replay and the live path show it to the machines.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it says of itself.
    pub meta: EntryMeta,
    /// The block it was committed in.
    pub sequence: Sequence,
    /// Its bytes, by reference.
    pub payload: Buf,
}

/// What stands on the log: sees every committed entry once, in order; live, in replay, and
/// after a checkpoint the same.
pub trait Machine {
    /// Starts from a checkpoint written by [`Machine::checkpoint`]; at most once, before any
    /// [`Machine::apply`].
    ///
    /// # Errors
    /// What is wrong with it, for people: an unknown version, say. The log then stays closed.
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String>;

    /// Changes committed state. Also called for [`EntryKind::StartOffset`] and
    /// [`EntryKind::PartitionDropped`].
    fn apply(&mut self, entry: &Entry);

    /// In replay: an entry was committed and its bytes are damaged on disk. What its header
    /// says still holds: offsets it covers stay taken.
    fn apply_damaged(&mut self, meta: &EntryMeta);

    /// All committed state, so that [`Machine::restore`] continues where this is.
    fn checkpoint(&self) -> Vec<u8>;

    /// Begins a checkpoint of the state as it is now: what [`Machine::checkpoint`] would give.
    /// Either writes it whole, which is what a machine of little state does; or some of it, and
    /// [`Machine::checkpoint_step`] the rest, though entries are applied meanwhile. A step of a
    /// core may take no longer than 500 µs. Another begin forgets the one before.
    fn begin_checkpoint(&mut self, out: &mut Pieces) -> Taken {
        out.add(|out| out.extend(self.checkpoint()));
        Taken::Whole
    }

    /// Writes about `rows` further rows of the checkpoint that was begun. Not called once it was
    /// taken whole.
    fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> Taken {
        let _ = (rows, out);
        Taken::Whole
    }
}

/// How far a machine's checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// To its end.
    Whole,
    /// There is more.
    More,
}

/// Why an append was not taken.
#[derive(Debug, thiserror::Error, Clone)]
#[non_exhaustive]
pub enum AppendError {
    /// A write or flush failed: nothing is acknowledged from there on, until restart.
    #[error("the log is closed: {cause}; restart the node to recover what is durable")]
    Closed {
        /// The first failure.
        cause: String,
    },
    /// The entry cannot fit a group.
    #[error("an entry of {bytes} bytes exceeds the limit of {limit_bytes}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most that fits.
        limit_bytes: usize,
    },
    /// The disk is full: only what frees space is taken.
    #[error(
        "no space left for records ({free_bytes} bytes free); delete topics or lower retention"
    )]
    Full {
        /// Bytes that can still be written.
        free_bytes: u64,
    },
    /// More waits to be written than the log holds in memory: try again after progress.
    #[error("too many bytes wait to be written")]
    Busy,
}

/// What a read found.
#[derive(Debug)]
pub enum Read {
    /// Record batches in offset order, each whole, by reference; the first contains the offset
    /// asked for. Empty when the offset is the end.
    Batches(Vec<Buf>),
    /// The bytes come from disk: ask again (the same call) when [`Log::reads_done`] passed
    /// this number.
    Pending(u64),
    /// The offset lies outside `start..=end`.
    OutOfRange,
    /// The offsets are damaged on disk: they are named here and never served.
    Damaged {
        /// First damaged offset at or after the one asked for.
        first: Offset,
        /// First offset behind the damage.
        end: Offset,
    },
    /// Reading failed.
    Failed(String),
}

/// One core's log.
#[derive(Debug)]
pub struct Log<I: Io> {
    id: LogId,
    config: LogConfig,
    unit: usize,
    epoch: u32,
    metadata_version: u64,
    submitter: work::Submitter<I>,
    stats: Stats,
    failure: Option<String>,

    // Commit.
    open: Option<builder::OpenBlock>,
    ready: VecDeque<builder::OpenBlock>,
    in_flight: VecDeque<pending::InFlight>,
    /// The first of them is durable and being applied.
    front_is_taken: bool,
    spare_head: Option<crate::buffer::BufMut>,
    next_sequence: Sequence,
    last_entry_sequence: Sequence,
    written: Sequence,
    durable: Sequence,
    previous_checksum: u64,
    pending_bytes: usize,
    flush_in_flight: bool,
    is_closing: bool,
    mark_due: bool,
    last_progress: Duration,
    last_retry: Duration,
    segments: segments::Segments,
    turn: part::Turn,
    /// A segment may be dead since the last look.
    release_due: bool,

    // Committed.
    anchor: Anchor,
    open_group: pending::OpenGroup,
    to_apply: pending::ToApply,
    applied_steps: u64,
    gaps: Vec<report::Gap>,
    lost_entries: Vec<Damage>,
    lost_blocks: Vec<Damage>,
    partitions: partitions::Partitions,
    resident_rows: usize,
    cache: cache::Cache,
    checkpoint: Option<CheckpointPointer>,
    checkpoint_anchor_segment: u64,
    checkpoint_anchor: Sequence,
    taking: Option<Box<taking_state::Taking>>,
    pending_checkpoint: Option<pending::PendingCheckpoint>,
    bytes_since_checkpoint: u64,
    cleaner: clean::cleaner::Cleaner,

    // Reading.
    /// Begins at 1: a ticket before it is one that has passed.
    reads_done: u64,
    cold_reads: under_way::ColdReads,
    footer_reads: HashMap<u64, ()>,
    rescans: HashMap<u64, pending::Rescan>,
    footers: VecDeque<(u64, Rc<index::Footer>)>,
    runs: runs::state::Runs,
    read_failures: HashMap<(u64, u64), String>,
    removed: removed::Removed,
    scrub: scrub_state::Scrub,
}

impl<I: Io> Log<I> {
    fn new(io: I, id: LogId, config: LogConfig, epoch: u32) -> Log<I> {
        let unit = io.geometry().block_bytes;
        let now = io.monotonic();
        Log {
            id,
            unit,
            epoch,
            metadata_version: 0,
            submitter: work::Submitter::new(io),
            stats: Stats::default(),
            failure: None,
            open: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            front_is_taken: false,
            spare_head: None,
            next_sequence: Sequence(1),
            last_entry_sequence: Sequence::NONE,
            written: Sequence::NONE,
            durable: Sequence::NONE,
            previous_checksum: 0,
            pending_bytes: 0,
            flush_in_flight: false,
            is_closing: false,
            mark_due: false,
            last_progress: now,
            last_retry: now,
            segments: segments::Segments::new(id, unit, &config),
            turn: part::Turn::default(),
            release_due: false,
            anchor: Anchor {
                sequence: Sequence::NONE,
                segment: 0,
                end_position: 0,
                checksum: 0,
            },
            open_group: pending::OpenGroup::default(),
            to_apply: pending::ToApply::default(),
            applied_steps: 0,
            gaps: Vec::new(),
            lost_entries: Vec::new(),
            lost_blocks: Vec::new(),
            partitions: partitions::Partitions::default(),
            resident_rows: 0,
            cache: cache::Cache::new(config.cache_bytes, config.cold_cache_bytes),
            checkpoint: None,
            checkpoint_anchor_segment: 0,
            checkpoint_anchor: Sequence::NONE,
            cleaner: clean::cleaner::Cleaner::new(config.clean_bytes_per_second, now),
            taking: None,
            pending_checkpoint: None,
            bytes_since_checkpoint: 0,
            reads_done: 1,
            cold_reads: under_way::ColdReads::default(),
            footer_reads: HashMap::new(),
            rescans: HashMap::new(),
            footers: VecDeque::new(),
            runs: runs::state::Runs::new(&config, unit),
            read_failures: HashMap::new(),
            removed: removed::Removed::default(),
            scrub: scrub_state::Scrub::default(),
            config,
        }
    }

    fn has_bug(&self, bug: SeededBug) -> bool {
        self.config.seeded_bug == Some(bug)
    }

    /// Whose log it is.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The seam.
    #[must_use]
    pub fn io(&self) -> &I {
        &self.submitter.io
    }

    /// The seam, to wait on or to give it what only it needs.
    pub fn io_mut(&mut self) -> &mut I {
        &mut self.submitter.io
    }

    /// Last sequence of the durable prefix.
    #[must_use]
    pub fn durable(&self) -> Sequence {
        self.durable
    }

    /// Last sequence of the written prefix: it and all before it were handed to the device in
    /// whole. They survive the end of the process; a power cut, only as far as [`Log::durable`].
    #[must_use]
    pub fn written(&self) -> Sequence {
        self.written.max(self.durable)
    }

    /// Sequence of the newest block that holds an entry (open, in flight or durable).
    #[must_use]
    pub fn appended(&self) -> Sequence {
        self.last_entry_sequence
    }

    /// Block writes in flight.
    #[must_use]
    pub fn blocks_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes appended and not yet durable.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Why the log closed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// First and end offset (end = high watermark) of a partition, `(0, 0)` for one without
    /// entries.
    #[must_use]
    pub fn bounds(&self, partition: PartitionId) -> (Offset, Offset) {
        self.partitions
            .get(&partition)
            .map_or((Offset::ZERO, Offset::ZERO), |p| (p.start, p.end))
    }

    /// Bytes of live batches of a partition.
    #[must_use]
    pub fn partition_bytes(&self, partition: PartitionId) -> u64 {
        let Some(state) = self.partitions.get(&partition) else {
            return 0;
        };
        let segments = state
            .segments
            .iter()
            .filter_map(|(_, id)| self.segments.live.get(id));
        let ranges = segments.filter_map(|s| s.index.partitions.get(&partition));
        let recent: u64 = ranges.map(|range| range.bytes).sum();
        state.covered.bytes + recent
    }

    /// Partitions with entries or bounds in this log.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.keys().copied()
    }

    /// Memory for frames and blocks.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.submitter.io.pool()
    }

    /// How often this log was opened: the leader epoch of its partitions.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The metadata version that blocks built from here on carry.
    pub fn set_metadata_version(&mut self, version: u64) {
        self.metadata_version = version;
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes of blocks kept for readers.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Lets go of the oldest cached block, because memory is wanted for something else.
    /// `false`: nothing is cached.
    pub fn shrink_cache(&mut self) -> bool {
        self.cache.evict_one()
    }
}
