//! Why a topic command is refused.

use ringlog_types::TopicNumber;

/// Why a topic command is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is taken.
    #[error("topic '{name}' exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// No topic has the number (any more).
    #[error("there is no topic with the number {}: it was deleted, or never created", number.0)]
    UnknownTopic {
        /// The number asked for.
        number: TopicNumber,
    },
    /// A name that no topic may have.
    #[error("topic name '{name}' is not valid: {reason}")]
    InvalidName {
        /// The name, cut to a length that can be shown.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name differs from that of another topic only in '.' against '_', which metric names
    /// cannot tell apart; Kafka refuses it likewise.
    #[error(
        "topic name '{name}' collides with topic '{with}': '.' and '_' count as the same; choose another name"
    )]
    Collides {
        /// The name.
        name: String,
        /// The topic there is.
        with: String,
    },
    /// A number of partitions that cannot be.
    #[error("{found} partitions are not possible: {reason}")]
    InvalidPartitions {
        /// Partitions asked for.
        found: u32,
        /// Why not.
        reason: String,
    },
    /// A configuration entry that is unknown, malformed or out of range.
    #[error("topic configuration {name} is not valid: {reason}")]
    InvalidConfig {
        /// The entry's name, cut to a length that can be shown.
        name: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A configuration entry that Kafka takes and this node cannot keep.
    #[error("topic configuration {name} cannot be had: {reason}")]
    UnsupportedConfig {
        /// The entry's name.
        name: String,
        /// Why not, and what would be taken.
        reason: String,
    },
    /// The node has as many topics as it holds.
    #[error("the node holds {limit} topics at most: delete some first")]
    TooManyTopics {
        /// The limit.
        limit: usize,
    },
    /// The node has as many partitions as it holds.
    #[error(
        "the node holds {limit} partitions at most and has {existing}: {wanted} more do not fit"
    )]
    TooManyPartitions {
        /// The limit.
        limit: u64,
        /// Partitions of all topics.
        existing: u64,
        /// Partitions wanted in addition.
        wanted: u64,
    },
    /// Too many commands wait to become durable.
    #[error("{limit} topic changes wait to become durable: try again")]
    TooManyPending {
        /// The limit.
        limit: usize,
    },
}
