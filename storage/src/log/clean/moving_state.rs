//! How far the switch of a run is.

use std::collections::BTreeSet;

use ringlog_types::PartitionId;

use crate::format::replaced::Target;

/// How far a switch is.
#[derive(Debug)]
pub(super) struct Moving {
    pub targets: Vec<Target>,
    /// The next range: of which target, and which of its own.
    pub target: usize,
    pub range: usize,
    /// Behind the last one: the source that is looked through, and the next row of its footer.
    pub source: usize,
    pub row: usize,
    /// What had been moved out of each source before.
    pub moved_before: Vec<BTreeSet<PartitionId>>,
}

impl Moving {
    pub fn has_target(&self, id: u64) -> bool {
        self.targets.iter().any(|target| target.segment == id)
    }
}
