//! A topic as every core knows it.

use std::fmt;

use ringlog_types::{LogId, TopicNumber};

use super::config::TopicConfig;

/// A topic's id on the wire: a UUID, never the same for two topics, also of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// Kafka keeps the ids 0 and 1 for itself: "no topic" and the metadata topic.
    pub(super) fn is_reserved(self) -> bool {
        u128::from_be_bytes(self.0) <= 1
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", u128::from_be_bytes(self.0));
        let (a, b, c, d, e) = (
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        );
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its number in this node, never reused.
    pub number: TopicNumber,
    /// Its id on the wire.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// For each partition, the log that owns it.
    pub partitions: Vec<LogId>,
    /// How it is configured.
    pub config: TopicConfig,
}

impl Topic {
    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("limits keep partition counts within u32")
    }
}
