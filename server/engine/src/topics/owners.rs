//! Which log owns each partition, decided for all topics at once.

use std::collections::BTreeMap;

use ringlog_types::{LogId, PartitionId, TopicNumber};

/// For each topic, the log that owns each of its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(BTreeMap<TopicNumber, Vec<LogId>>);

impl Owners {
    pub(super) fn new(owners: BTreeMap<TopicNumber, Vec<LogId>>) -> Owners {
        Owners(owners)
    }

    /// The log of a partition; `None` if there is no such partition.
    #[must_use]
    pub fn of(&self, partition: PartitionId) -> Option<LogId> {
        let index = usize::try_from(partition.index()).ok()?;
        self.0.get(&partition.topic())?.get(index).copied()
    }

    /// The logs of a topic's partitions, by index.
    #[must_use]
    pub fn of_topic(&self, number: TopicNumber) -> &[LogId] {
        self.0.get(&number).map_or(&[], Vec::as_slice)
    }
}
