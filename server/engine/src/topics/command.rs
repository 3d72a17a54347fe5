//! What can be asked of the topics.

use ringlog_types::TopicNumber;

/// A change to the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicCommand {
    /// A new topic.
    Create {
        /// Its name.
        name: String,
        /// How many partitions, at least one.
        partitions: u32,
        /// Configuration that differs from the defaults. A missing value is refused; of entries
        /// with the same name the last one counts.
        configs: Vec<(String, Option<String>)>,
    },
    /// The end of a topic and of all its records.
    Delete {
        /// Which.
        number: TopicNumber,
    },
    /// More partitions.
    AddPartitions {
        /// Which topic.
        number: TopicNumber,
        /// How many it shall have in all: more than it has.
        total: u32,
    },
    /// Other configuration. Entries that are not named stay as they are.
    SetConfigs {
        /// Which topic.
        number: TopicNumber,
        /// New values; none: back to the default.
        configs: Vec<(String, Option<String>)>,
    },
}
