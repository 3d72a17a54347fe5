//! All that the cleaner of a log remembers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ringlog_types::{Offset, PartitionId, Sequence};

use super::budget::Budget;
use super::look_state::{Known, Look};
use super::pass::Pass;
use super::state::Run;
use crate::log::found::Found;

/// The cleaner of a log.
#[derive(Debug)]
pub(crate) struct Cleaner {
    pub(super) run: Option<Run>,
    pub(super) pass: Option<Pass>,
    pub(super) look: Option<Look>,
    /// What looks have found of covered segments.
    pub(super) known: HashMap<u64, Known>,
    /// Up to where partitions are compacted, as far as is known in this life.
    pub(super) compacted: HashMap<PartitionId, Offset>,
    pub(super) budget: Budget,
    /// Where the next look at the segments begins.
    pub(super) looked_to: (Sequence, u64),
    /// Sources that were found damaged: left alone until a restart.
    pub(super) unclean: BTreeSet<u64>,
    /// After a failure of the device nothing is cleaned until then.
    pub(super) rests_until: Duration,
    /// Cold segments found at a start, until it is known which of them are the log's.
    pub(super) found: BTreeMap<u64, Found>,
    /// Segments that a checkpoint names and that are gone: what lived in each.
    pub(super) missing_sources: HashMap<u64, Vec<(PartitionId, Offset, Offset)>>,
    /// Segments that a checkpoint names, that are gone, and that a later entry replaced.
    pub(super) replaced_missing: BTreeSet<u64>,
    /// Cold segments that an entry names and no file holds.
    pub(super) missing: usize,
}

impl Cleaner {
    pub fn new(bytes_per_second: u64, now: Duration) -> Cleaner {
        Cleaner {
            run: None,
            pass: None,
            look: None,
            known: HashMap::new(),
            compacted: HashMap::new(),
            budget: Budget::new(bytes_per_second, now),
            looked_to: Default::default(),
            unclean: BTreeSet::new(),
            rests_until: Duration::ZERO,
            found: BTreeMap::new(),
            missing_sources: HashMap::new(),
            replaced_missing: BTreeSet::new(),
            missing: 0,
        }
    }
}
