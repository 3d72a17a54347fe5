//! Metadata records: what core 0 decided, as it lies in the metadata log and travels to the
//! other cores. Versioned; an unknown version or kind is refused by name.
//!
//! ```text
//! record = version u16 = 1, kind u8, then by kind:
//!   1 cluster created   cluster id text
//!   2 topic created     number u32, id [16], name text, partitions, configs
//!   3 topic deleted     number u32
//!   4 partitions added  number u32, partitions (the new ones)
//!   5 configs set       number u32, configs (all that are set from now on)
//!   6 credentials set, 7 credential removed         see `users/record.rs`
//! partitions = count u32, { log u32 }*     configs = count u32, { name text, value text }*
//! text = length u32, UTF-8
//! ```

use ringlog_types::{LogId, TopicNumber};

use crate::little_endian::{DecodeError, Reader, Writer};
use crate::users::UserRecord;
use crate::users::record::{put_removed, put_set, take_removed, take_set};

use super::config::TopicConfig;
use super::topic::TopicId;

const WHAT: &str = "a metadata record";
const VERSION: u16 = 1;

/// A decided change to the topics, or to what else goes through the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The node got its identity.
    ClusterCreated {
        /// What clients are told.
        cluster_id: String,
    },
    /// A new topic.
    TopicCreated {
        /// Its number.
        number: TopicNumber,
        /// Its id on the wire.
        id: TopicId,
        /// Its name.
        name: String,
        /// For each partition, the log that owns it.
        partitions: Vec<LogId>,
        /// Its configuration.
        config: TopicConfig,
    },
    /// A topic is gone.
    TopicDeleted {
        /// Its number.
        number: TopicNumber,
    },
    /// A topic has more partitions.
    PartitionsAdded {
        /// Its number.
        number: TopicNumber,
        /// For each new partition, the log that owns it.
        partitions: Vec<LogId>,
    },
    /// A topic is configured otherwise.
    ConfigsSet {
        /// Its number.
        number: TopicNumber,
        /// Its whole configuration.
        config: TopicConfig,
    },
    /// A change to the users: of the topics only the version changes.
    User(UserRecord),
}

impl MetadataRecord {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        match self {
            MetadataRecord::ClusterCreated { cluster_id } => {
                out.u8(1);
                out.text(cluster_id);
            }
            MetadataRecord::TopicCreated {
                number,
                id,
                name,
                partitions,
                config,
            } => {
                out.u8(2);
                out.u32(number.0);
                out.array(&id.0);
                out.text(name);
                put_partitions(&mut out, partitions);
                put_config(&mut out, config);
            }
            MetadataRecord::TopicDeleted { number } => {
                out.u8(3);
                out.u32(number.0);
            }
            MetadataRecord::PartitionsAdded { number, partitions } => {
                out.u8(4);
                out.u32(number.0);
                put_partitions(&mut out, partitions);
            }
            MetadataRecord::ConfigsSet { number, config } => {
                out.u8(5);
                out.u32(number.0);
                put_config(&mut out, config);
            }
            MetadataRecord::User(UserRecord::Set { user, credentials }) => {
                out.u8(6);
                put_set(&mut out, user, credentials);
            }
            MetadataRecord::User(UserRecord::Removed { user, mechanism }) => {
                out.u8(7);
                put_removed(&mut out, user, *mechanism);
            }
        }
        out.into_bytes()
    }

    /// Reads what [`MetadataRecord::encode`] wrote.
    ///
    /// # Errors
    /// Another version, an unknown kind, or bytes that are none.
    pub fn decode(bytes: &[u8]) -> Result<MetadataRecord, DecodeError> {
        let mut reader = Reader::new(WHAT, bytes, VERSION)?;
        let record = match reader.u8("its kind")? {
            1 => MetadataRecord::ClusterCreated {
                cluster_id: reader.text("the cluster id")?.to_owned(),
            },
            2 => MetadataRecord::TopicCreated {
                number: TopicNumber(reader.u32("the topic number")?),
                id: TopicId(reader.array("the topic id")?),
                name: reader.text("the topic name")?.to_owned(),
                partitions: take_partitions(&mut reader)?,
                config: take_config(&mut reader)?,
            },
            3 => MetadataRecord::TopicDeleted {
                number: TopicNumber(reader.u32("the topic number")?),
            },
            4 => MetadataRecord::PartitionsAdded {
                number: TopicNumber(reader.u32("the topic number")?),
                partitions: take_partitions(&mut reader)?,
            },
            5 => MetadataRecord::ConfigsSet {
                number: TopicNumber(reader.u32("the topic number")?),
                config: take_config(&mut reader)?,
            },
            6 => MetadataRecord::User(take_set(&mut reader)?),
            7 => MetadataRecord::User(take_removed(&mut reader)?),
            kind => return Err(reader.invalid(format!("no record has the kind {kind}"))),
        };
        reader.finish()?;
        Ok(record)
    }
}

pub(super) fn put_partitions(out: &mut Writer, partitions: &[LogId]) {
    out.count(partitions.len());
    for log in partitions {
        out.u32(log.0);
    }
}

pub(super) fn take_partitions(reader: &mut Reader<'_>) -> Result<Vec<LogId>, DecodeError> {
    let count = reader.count("the partitions", 4)?;
    (0..count)
        .map(|_| reader.u32("a partition's log").map(LogId))
        .collect()
}

pub(super) fn put_config(out: &mut Writer, config: &TopicConfig) {
    let overrides = config.overrides();
    out.count(overrides.len());
    for (name, value) in overrides {
        out.text(name);
        out.text(value);
    }
}

pub(super) fn take_config(reader: &mut Reader<'_>) -> Result<TopicConfig, DecodeError> {
    let count = reader.count("the configuration", 8)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.text("a configuration's name")?.to_owned();
        let value = reader.text("a configuration's value")?.to_owned();
        entries.push((name, Some(value)));
    }
    TopicConfig::default()
        .with(&entries)
        .map_err(|error| reader.invalid(error.to_string()))
}
