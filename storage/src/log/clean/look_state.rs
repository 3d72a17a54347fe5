//! What a look at segments has found so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringlog_types::{Offset, PartitionId};

use crate::log::runs::covered_rows::CoveredRows;

/// What is readable of a partition in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub partition: PartitionId,
    pub first: Offset,
    pub end: Offset,
    pub bytes: u64,
}

/// Segments that are looked at, in the order of their first blocks.
#[derive(Debug)]
pub(super) struct Look {
    pub sources: Vec<u64>,
    pub left: VecDeque<u64>,
    pub rows: CoveredRows,
    pub held: BTreeMap<u64, Vec<Held>>,
}

/// What was found of a covered segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Its live bytes then.
    pub live_bytes: u64,
    /// Those that last.
    pub lasting_bytes: u64,
    pub partitions: usize,
    /// It was not to be cleaned for what lies around it.
    pub stays: bool,
}

impl Known {
    /// Whether so much of it has died since that it is worth another look.
    pub fn is_old(&self, live_bytes: u64) -> bool {
        live_bytes < self.live_bytes / 4 * 3
    }
}

/// How far a look came in a call.
#[derive(Debug)]
pub(super) enum Looked {
    /// All is known.
    Whole(Look),
    /// The next call goes on.
    Goes(Look),
    /// One of them cannot be cleaned now.
    Over,
}

impl Look {
    pub fn new(sources: Vec<u64>) -> Look {
        Look {
            left: sources.iter().copied().collect(),
            sources,
            rows: CoveredRows::new(),
            held: BTreeMap::new(),
        }
    }

    /// The sources in an order in which the records of each partition follow each other without a
    /// gap, if there is one: then what replaces them stands where they stood. Their first blocks
    /// do not say it of two that cover the same stretch of the log.
    pub fn in_order(&self, sources: &[u64]) -> Option<Vec<u64>> {
        let held = sources.iter().flat_map(|id| {
            let held = self.held.get(id).map_or(&[][..], Vec::as_slice);
            held.iter().map(|held| (*held, *id))
        });
        let mut held: Vec<(Held, u64)> = held.collect();
        held.sort_unstable();
        let mut behind: BTreeSet<(u64, u64)> = BTreeSet::new();
        for pair in held.windows(2) {
            let [(before, source), (after, next)] = pair else {
                continue;
            };
            if before.partition == after.partition {
                if before.end != after.first {
                    return None;
                }
                behind.insert((*next, *source));
            }
        }
        let mut left = sources.to_vec();
        let mut ordered = Vec::with_capacity(sources.len());
        while !left.is_empty() {
            let waits = |id: u64| left.iter().any(|before| behind.contains(&(id, *before)));
            let next = left.iter().position(|id| !waits(*id))?;
            ordered.push(left.remove(next));
        }
        Some(ordered)
    }
}
