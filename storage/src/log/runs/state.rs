//! The runs of a log, and what waits to be done about them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ringlog_types::{Offset, PartitionId, Sequence};

use super::ahead::AheadCache;
use super::bad_blocks::BadBlocks;
use super::job::{Job, Source};
use super::page_cache::PageCache;
use crate::format::checksum::Key;
use crate::format::manifest::RunInfo;
use crate::format::run_page::Page;
use crate::io::FileId;
use crate::log::config::LogConfig;
use crate::log::index::Ghost;

/// A run on disk.
#[derive(Debug)]
pub(crate) struct Run {
    pub info: RunInfo,
    pub name: String,
    /// `None`: the file is not there, or is not this run's.
    pub file: Option<FileId>,
    pub key: Key,
    /// Kept for as long as the run is.
    pub root: Option<Rc<Page>>,
    /// A page failed its check: the run is being made anew from the segments' footers.
    pub broken: bool,
    /// Reads in flight: the file is not let go before they are back.
    pub reads: u32,
}

/// All runs of a log.
#[derive(Debug)]
pub(crate) struct Runs {
    pub live: BTreeMap<u64, Run>,
    /// No segment names them; a checkpoint may.
    pub retired: Vec<Run>,
    pub next_number: u64,
    pub cache: PageCache,
    /// Rows that readers come to next.
    pub ahead: AheadCache,
    /// Pages that are being read.
    pub page_reads: BTreeSet<(u64, u32)>,
    /// Pages that could not be read, until somebody was told.
    pub page_failures: HashMap<(u64, u32), String>,
    /// A damaged run could not be made anew, until somebody was told.
    pub repair_failure: Option<String>,
    pub job: Option<Job>,
    /// Something changed that may be a reason to begin a job or to let go of a run.
    pub look: bool,
    /// Not to be tried before this time, because the last attempt failed.
    pub retry_at: Duration,
    /// Partitions whose start has moved over rows that are still counted.
    pub moved: BTreeSet<PartitionId>,
    /// Where the next step of counting begins.
    pub account_from: PartitionId,
    /// Not to be counted before this time, because a page could not be read.
    pub account_after: Duration,
    /// Dropped partitions, and up to where they are no longer counted.
    pub dropped: BTreeMap<PartitionId, Offset>,
    /// The runs that each durable checkpoint names, from the one a restart would find on.
    pub named: VecDeque<(Sequence, Vec<u64>)>,
    /// Only at a start: segments that a checkpoint names and that are not there. Let go by a record
    /// behind the checkpoint, or lost: which of the two shows when their rows were counted.
    pub ghosts: BTreeMap<u64, Ghost>,
    /// Blocks of covered segments that are known to be damaged.
    pub bad_blocks: BadBlocks,
    /// Files that no checkpoint names, left over from an earlier life.
    pub strays: Vec<String>,
}

impl Runs {
    pub fn new(config: &LogConfig, unit: usize) -> Runs {
        Runs {
            live: BTreeMap::new(),
            retired: Vec::new(),
            next_number: 1,
            cache: PageCache::new(config.index_cache_bytes / unit),
            ahead: AheadCache::new(config.index_cache_bytes),
            page_reads: BTreeSet::new(),
            page_failures: HashMap::new(),
            repair_failure: None,
            job: None,
            look: true,
            retry_at: Duration::ZERO,
            moved: BTreeSet::new(),
            account_from: PartitionId::default(),
            account_after: Duration::ZERO,
            dropped: BTreeMap::new(),
            named: VecDeque::new(),
            ghosts: BTreeMap::new(),
            bad_blocks: BadBlocks::default(),
            strays: Vec::new(),
        }
    }

    /// Whether a segment's rows are on their way into a run.
    pub fn takes(&self, segment: u64) -> bool {
        let job = self.job.as_ref().map(|job| &job.source);
        matches!(job, Some(Source::Segments { ids, .. }) if ids.contains(&segment))
    }

    /// Whether what counts as live must not change: rows are on their way into a run.
    pub fn counts_are_frozen(&self) -> bool {
        self.job.as_ref().is_some_and(Job::freezes_counts)
    }
}

/// What an operation on a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunWork {
    /// A page for a search.
    Page { run: u64, page: u32 },
    /// Pages for a merge.
    Pages { run: u64, page: u32, job: u64 },
    /// A step of a job on its own file.
    Job(u64),
}
