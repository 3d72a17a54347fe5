//! How far a pass of log compaction is.

use ringlog_types::{Offset, PartitionId};

use super::group::Group;
use super::task::{Rewriter, Rewriting};

/// What there is to compact of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compactable {
    /// Where what was not compacted yet begins.
    pub from: Offset,
    /// Behind the last offset that can be compacted.
    pub end: Offset,
    /// Bytes of batches from `from` to `end`.
    pub dirty_bytes: u64,
    /// Bytes of batches to `end`.
    pub total_bytes: u64,
    /// A time at or after that of the oldest record from `from` on.
    pub oldest_ms: Option<i64>,
}

/// A pass over a partition.
#[derive(Debug)]
pub(super) struct Pass {
    pub partition: PartitionId,
    /// Behind what is compacted in this pass.
    pub end: Offset,
    /// Here the rewriter had no room for more, or `end`.
    pub noted_to: Offset,
    pub phase: Phase,
    /// What is read next, and where reading ends in this part of the pass.
    pub at: Offset,
    pub until: Offset,
    /// A read from disk has to come back first.
    pub waits_for: Option<u64>,
    /// Segments that are to be rewritten together.
    pub group: Group,
    /// Up to here groups were made.
    pub grouped_to: Offset,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    Note(Box<dyn Rewriter>),
    Rewrite(Box<Rewriting>),
    /// The helper has it.
    Away,
    /// A group was left as it is, or was switched.
    Between(Box<dyn Rewriter>),
}
