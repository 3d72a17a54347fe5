//! What a producing run left behind for its verifier: from memory right after the run, or from
//! the run's journal.

use crate::batch::stamp::RunId;
use crate::batch::template::BatchShape;
use crate::verify::ledger::Ledger;

/// One run's claim on a topic.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The run's stamp.
    pub run: RunId,
    /// Where it wrote.
    pub topic: String,
    /// What it wrote.
    pub shape: BatchShape,
    /// By partition index.
    pub partitions: Vec<PartitionExpectation>,
}

/// One run's claim on a partition.
#[derive(Clone, Debug)]
pub struct PartitionExpectation {
    /// End of the partition before the run.
    pub start_offset: i64,
    /// What was acknowledged.
    pub ledger: Ledger,
    /// Batches handed to the network, where the generator lived to tell.
    pub sent: Option<u64>,
}

impl Expectation {
    /// Acknowledged events over all partitions.
    #[must_use]
    pub fn acknowledged_events(&self) -> u64 {
        self.partitions
            .iter()
            .map(|partition| partition.ledger.batches() * partition.ledger.records_per_batch())
            .sum()
    }
}
