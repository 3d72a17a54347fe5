//! The cleaner: rewrites sealed segments of which little lives, or in which partitions lie
//! scattered, into cold segments, where each partition lies together.
//!
//! ```text
//! policy ─► read sources ─► helper: check, choose, lay out ─► write targets ─► one entry ─► switch
//!           (budget)        (task, off the core's thread)     (budget)          (durable)
//! ```
//! | file | what |
//! |---|---|
//! | `policy` | which segments |
//! | `plan` | what the log knows of them |
//! | `budget` | how fast |
//! | `task`, `lay` | the helper's part: bytes in, bytes out |
//! | `state`, `targets` | how far a run is |
//! | `run`, `write` | one run from its first read to its entry |
//! | `switch` | what that entry changes, live and in replay |
//!
//! Invariant: until the entry is durable the sources are the log's, and a target that no durable
//! entry or checkpoint names is a free file; from then on the targets are, and the sources are let
//! go once a durable checkpoint knows it. So a crash at any step leaves one of the two whole.

mod budget;
mod lay;
mod plan;
pub mod policy;
mod run;
mod state;
mod switch;
mod targets;
mod task;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::survey::Found;

pub use plan::Lasting;
pub use task::{CleanFault, CleanOutcome, CleanTask};

/// The cleaner of a log.
#[derive(Debug)]
pub(super) struct Cleaner {
    run: Option<state::Run>,
    budget: budget::Budget,
    /// Where the next look at the segments begins.
    looked_to: (ringlog_types::Sequence, u64),
    /// Sources that were found damaged: left alone until a restart.
    unclean: BTreeSet<u64>,
    /// After a failure of the device nothing is cleaned until then.
    rests_until: Duration,
    /// Cold segments found at a start, until it is known which of them are the log's.
    found: BTreeMap<u64, Found>,
    /// Segments that a checkpoint names, that are gone, and that a later entry replaced.
    replaced_missing: BTreeSet<u64>,
    /// Cold segments that an entry names and no file holds.
    missing: usize,
}

impl Cleaner {
    pub fn new(bytes_per_second: u64, now: Duration) -> Cleaner {
        Cleaner {
            run: None,
            budget: budget::Budget::new(bytes_per_second, now),
            looked_to: Default::default(),
            unclean: BTreeSet::new(),
            rests_until: Duration::ZERO,
            found: BTreeMap::new(),
            replaced_missing: BTreeSet::new(),
            missing: 0,
        }
    }
}
