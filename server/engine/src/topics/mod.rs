//! Topics: which there are, how many partitions each has and in which log each lies, and how
//! each is configured. One machine for the node: core 0 decides and logs, every core applies.
//!
//! ```text
//! TopicCommand ─prepare─► MetadataRecord ─(metadata log)─► apply ─► Topic, TopicConfig
//! ```

mod command;
mod config;
mod config_definitions;
mod error;
mod names;
mod owners;
mod pending;
mod record;
mod spread;
mod state;
mod topic;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use command::{ConfigChange, TopicCommand};
pub use config::{CleanupPolicy, ConfigEntry, Durability, TopicConfig};
pub use config_definitions::ConfigType;
pub use error::TopicError;
pub use owners::Owners;
pub use record::MetadataRecord;
pub use ringlog_types::batch::TimestampType;
pub use spread::spread;
pub use state::{TopicLimits, Topics};
pub use topic::{Topic, TopicId};
