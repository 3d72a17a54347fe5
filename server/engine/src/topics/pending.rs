//! Decided changes that are not durable yet. A command is checked against what the topics will
//! be when they are: this overlay answers for what they change, committed state for the rest.
//!
//! It is walked once or twice per command: changes in flight are few, and commands rare.

use std::collections::{BTreeSet, VecDeque};

use ringlog_types::TopicNumber;

use super::config::TopicConfig;
use super::record::MetadataRecord;
use super::topic::TopicId;

/// The changes, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    records: VecDeque<MetadataRecord>,
    /// Topics that go, among them such as were still to come.
    deleted: BTreeSet<TopicNumber>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn push(&mut self, record: MetadataRecord) {
        if let MetadataRecord::TopicDeleted { number } = record {
            self.deleted.insert(number);
        }
        self.records.push_back(record);
    }

    /// The record is durable: it is no longer pending.
    pub(super) fn committed(&mut self, record: &MetadataRecord) {
        // Nearly always the oldest; a record that was not prepared here is not there at all.
        let index = self.records.iter().position(|pending| pending == record);
        self.remove(index);
    }

    /// The record will never be durable.
    pub(super) fn abandoned(&mut self, record: &MetadataRecord) {
        let index = self.records.iter().rposition(|pending| pending == record);
        self.remove(index);
    }

    fn remove(&mut self, index: Option<usize>) {
        let removed = index.and_then(|index| self.records.remove(index));
        if let Some(MetadataRecord::TopicDeleted { number }) = removed {
            self.deleted.remove(&number);
        }
    }

    /// Names of topics that come, with their numbers.
    pub(super) fn created(&self) -> impl Iterator<Item = (&str, TopicNumber)> {
        self.records.iter().filter_map(|record| match record {
            MetadataRecord::TopicCreated { number, name, .. } if !self.deletes(*number) => {
                Some((name.as_str(), *number))
            }
            _ => None,
        })
    }

    /// Whether a topic with this id comes.
    pub(super) fn has_id(&self, wanted: TopicId) -> bool {
        self.records.iter().any(
            |record| matches!(record, MetadataRecord::TopicCreated { id, .. } if *id == wanted),
        )
    }

    /// Whether the topic goes.
    pub(super) fn deletes(&self, number: TopicNumber) -> bool {
        self.deleted.contains(&number)
    }

    /// Topics that go, among them such as were still to come.
    pub(super) fn deleted(&self) -> impl Iterator<Item = TopicNumber> {
        self.deleted.iter().copied()
    }

    /// Partitions that come to the topic, those of its creation among them.
    pub(super) fn added_partitions(&self, wanted: TopicNumber) -> usize {
        let added = |record: &MetadataRecord| match record {
            MetadataRecord::TopicCreated {
                number, partitions, ..
            }
            | MetadataRecord::PartitionsAdded { number, partitions }
                if *number == wanted =>
            {
                partitions.len()
            }
            _ => 0,
        };
        self.records.iter().map(added).sum()
    }

    /// Partitions that come to any topic.
    pub(super) fn all_added_partitions(&self) -> usize {
        let added = |record: &MetadataRecord| match record {
            MetadataRecord::TopicCreated { partitions, .. }
            | MetadataRecord::PartitionsAdded { partitions, .. } => partitions.len(),
            _ => 0,
        };
        self.records.iter().map(added).sum()
    }

    /// The configuration that the topic will have, if it changes.
    pub(super) fn config(&self, wanted: TopicNumber) -> Option<&TopicConfig> {
        self.records.iter().rev().find_map(|record| match record {
            MetadataRecord::TopicCreated { number, config, .. }
            | MetadataRecord::ConfigsSet { number, config }
                if *number == wanted =>
            {
                Some(config)
            }
            _ => None,
        })
    }

    /// The largest number of a topic that comes.
    pub(super) fn last_number(&self) -> Option<TopicNumber> {
        self.records
            .iter()
            .filter_map(|record| match record {
                MetadataRecord::TopicCreated { number, .. } => Some(*number),
                _ => None,
            })
            .max()
    }
}
