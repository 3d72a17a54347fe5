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
    /// Other configuration, entry by entry. Entries that are not named stay as they are.
    AlterConfigs {
        /// Which topic.
        number: TopicNumber,
        /// What becomes of which entry, in this order.
        changes: Vec<(String, ConfigChange)>,
    },
    /// Other configuration, as a whole: entries that are not named go back to their defaults.
    ReplaceConfigs {
        /// Which topic.
        number: TopicNumber,
        /// Values that differ from the defaults. A missing value is refused; of entries with the
        /// same name the last one counts.
        configs: Vec<(String, Option<String>)>,
    },
}

/// What becomes of a configuration entry (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// It gets this value.
    Set(String),
    /// It goes back to the default; also one that nobody knows, which has no other value.
    Reset,
    /// A list gets these items too, those that it has not yet.
    Append(String),
    /// A list loses these items.
    Subtract(String),
}
