//! The table of topic configurations: every name that Kafka documents, and Ringlog's own. For
//! each what it means here, which values it takes, and whether it has an effect, is accepted
//! because it does no harm, or is refused but for one value, and why.

use crate::limits::{CONFIG_VALUE_CHARS, MESSAGE_BYTES};

/// The type of a configuration's value, as `DescribeConfigs` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// An integer of 32 bits.
    Int,
    /// An integer of 64 bits.
    Long,
    /// A number.
    Double,
    /// Texts, separated by commas.
    List,
}

/// Which values a configuration takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Values {
    Boolean,
    Int {
        min: i64,
        max: i64,
    },
    Long {
        min: i64,
    },
    Double {
        min: f64,
        max: f64,
    },
    OneOf(&'static [&'static str]),
    ListOf(&'static [&'static str]),
    /// A list of anything.
    List,
    Text,
}

/// What comes of setting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    /// It does what it says.
    Honoured,
    /// Taken and reported, without effect: nothing here needs it.
    Advisory,
    /// Only the default can be set; anything else would be a promise that is not kept.
    DefaultOnly(&'static str),
}

/// A configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) values: Values,
    pub(super) support: Support,
    /// What Kafka calls the broker's configuration that a topic's is by default
    /// (`ServerTopicConfigSynonyms`); none, where the broker has none or another one.
    pub(super) broker: Option<&'static str>,
    pub(super) documentation: &'static str,
}

impl Definition {
    pub(super) fn config_type(&self) -> ConfigType {
        match self.values {
            Values::Boolean => ConfigType::Boolean,
            Values::Int { .. } => ConfigType::Int,
            Values::Long { .. } => ConfigType::Long,
            Values::Double { .. } => ConfigType::Double,
            Values::OneOf(_) | Values::Text => ConfigType::String,
            Values::ListOf(_) | Values::List => ConfigType::List,
        }
    }

    /// Whether nothing but the default can be set.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.support, Support::DefaultOnly(_))
    }

    /// Why a value that [`Definition::parse`] gave is not taken here, if it is not.
    pub(super) fn refusal(&self, value: &str) -> Option<String> {
        match self.support {
            Support::DefaultOnly(reason) if value != self.default => Some(format!(
                "'{value}' is not supported, only '{}': {reason}",
                self.default
            )),
            _ => None,
        }
    }

    /// Brings a value into the form in which it is kept. The error says what is allowed.
    pub(super) fn parse(&self, value: &str) -> Result<String, String> {
        let value = value.trim();
        if value.len() > CONFIG_VALUE_CHARS {
            return Err(format!(
                "the value has {} characters; {CONFIG_VALUE_CHARS} are allowed",
                value.len()
            ));
        }
        let refused = |allowed: String| Err(format!("'{value}' is not {allowed}"));
        match self.values {
            Values::Boolean => {
                let value = value.to_ascii_lowercase();
                match value.as_str() {
                    "true" | "false" => Ok(value),
                    _ => refused("'true' or 'false'".to_owned()),
                }
            }
            Values::Int { min, max } => integer(value, min, max),
            Values::Long { min } => integer(value, min, i64::MAX),
            Values::Double { min, max } => match value.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(value.to_owned()),
                _ => refused(format!("a number from {min} to {max}")),
            },
            Values::OneOf(allowed) => match allowed.iter().find(|name| **name == value) {
                Some(name) => Ok((*name).to_owned()),
                None => refused(format!("one of {}", allowed.join(", "))),
            },
            Values::ListOf(allowed) => {
                let items: Vec<&str> = value.split(',').map(str::trim).collect();
                if items.iter().all(|item| allowed.contains(item)) {
                    Ok(items.join(","))
                } else {
                    refused(format!("a list of {}", allowed.join(", ")))
                }
            }
            Values::List => Ok(items(value).collect::<Vec<_>>().join(",")),
            Values::Text => Ok(value.to_owned()),
        }
    }
}

/// The items of a list.
pub(super) fn items(list: &str) -> impl Iterator<Item = &str> {
    let items = list.split(',').map(str::trim);
    items.filter(|item| !item.is_empty())
}

fn integer(value: &str, min: i64, max: i64) -> Result<String, String> {
    match value.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
        _ => Err(format!("'{value}' is not an integer from {min} to {max}")),
    }
}

/// The definition with a name.
pub(super) fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .map(|index| &DEFINITIONS[index])
}

const INT: i64 = i32::MAX as i64;

/// Kafka's `Long.MAX_VALUE`: no limit.
pub(super) const UNLIMITED: &str = "9223372036854775807";

const NOT_REMOTE: &str = "records are kept on this node's disks, there is no remote storage";

/// All, sorted by name.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "cleanup.policy",
        default: "delete",
        values: Values::ListOf(&["delete", "compact"]),
        support: Support::Honoured,
        broker: Some("log.cleanup.policy"),
        documentation: "What is done with old records: 'delete' removes them when a limit of \
                        time or bytes is passed, 'compact' removes those whose key comes again \
                        later; both may be set.",
    },
    Definition {
        name: "compression.gzip.level",
        default: "-1",
        values: Values::Int { min: -1, max: 9 },
        support: Support::Advisory,
        broker: Some("compression.gzip.level"),
        documentation: "Without effect: batches are stored as producers compress them.",
    },
    Definition {
        name: "compression.lz4.level",
        default: "9",
        values: Values::Int { min: 1, max: 17 },
        support: Support::Advisory,
        broker: Some("compression.lz4.level"),
        documentation: "Without effect: batches are stored as producers compress them.",
    },
    Definition {
        name: "compression.type",
        default: "producer",
        values: Values::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        support: Support::DefaultOnly(
            "batches are stored byte for byte as producers send them; set compression.type of \
             the producer",
        ),
        broker: Some("compression.type"),
        documentation: "'producer': batches are stored as producers compress them.",
    },
    Definition {
        name: "compression.zstd.level",
        default: "3",
        values: Values::Int {
            min: -131_072,
            max: 22,
        },
        support: Support::Advisory,
        broker: Some("compression.zstd.level"),
        documentation: "Without effect: batches are stored as producers compress them.",
    },
    Definition {
        name: "delete.retention.ms",
        default: "86400000",
        values: Values::Long { min: 0 },
        support: Support::Honoured,
        broker: Some("log.cleaner.delete.retention.ms"),
        documentation: "How long a compacted topic keeps a tombstone (a record without a \
                        value) after compaction first met it.",
    },
    Definition {
        name: "file.delete.delay.ms",
        default: "60000",
        values: Values::Long { min: 0 },
        support: Support::Advisory,
        broker: Some("log.segment.delete.delay.ms"),
        documentation: "Without effect: space of deleted records is used again as soon as \
                        nobody reads it.",
    },
    Definition {
        name: "flush.messages",
        default: UNLIMITED,
        values: Values::Long { min: 1 },
        support: Support::Advisory,
        broker: Some("log.flush.interval.messages"),
        documentation: "Without effect: ringlog.durability says what an acknowledgement means.",
    },
    Definition {
        name: "flush.ms",
        default: UNLIMITED,
        values: Values::Long { min: 0 },
        support: Support::Advisory,
        broker: Some("log.flush.interval.ms"),
        documentation: "Without effect: ringlog.durability says what an acknowledgement means.",
    },
    Definition {
        name: "follower.replication.throttled.replicas",
        default: "",
        values: Values::List,
        support: Support::Advisory,
        broker: None,
        documentation: "Without effect: there is one replica.",
    },
    Definition {
        name: "index.interval.bytes",
        default: "4096",
        values: Values::Int { min: 0, max: INT },
        support: Support::Advisory,
        broker: Some("log.index.interval.bytes"),
        documentation: "Without effect: the index has an entry per partition and commit block.",
    },
    Definition {
        name: "leader.replication.throttled.replicas",
        default: "",
        values: Values::List,
        support: Support::Advisory,
        broker: None,
        documentation: "Without effect: there is one replica.",
    },
    Definition {
        name: "local.retention.bytes",
        default: "-2",
        values: Values::Long { min: -2 },
        support: Support::DefaultOnly(NOT_REMOTE),
        broker: Some("log.local.retention.bytes"),
        documentation: "Bytes kept on local disks: '-2', as retention.bytes says.",
    },
    Definition {
        name: "local.retention.ms",
        default: "-2",
        values: Values::Long { min: -2 },
        support: Support::DefaultOnly(NOT_REMOTE),
        broker: Some("log.local.retention.ms"),
        documentation: "Time for which records are kept on local disks: '-2', as retention.ms \
                        says.",
    },
    Definition {
        name: "max.compaction.lag.ms",
        default: UNLIMITED,
        values: Values::Long { min: 1 },
        support: Support::Honoured,
        broker: Some("log.cleaner.max.compaction.lag.ms"),
        documentation: "A compacted topic with older records that were not compacted yet is \
                        compacted, whatever min.cleanable.dirty.ratio says.",
    },
    Definition {
        name: "max.message.bytes",
        default: "1048588",
        values: Values::Int {
            min: 0,
            max: MESSAGE_BYTES,
        },
        support: Support::Honoured,
        broker: Some("message.max.bytes"),
        documentation: "Largest record batch, as it is stored.",
    },
    Definition {
        name: "message.downconversion.enable",
        default: "true",
        values: Values::Boolean,
        support: Support::Advisory,
        broker: Some("log.message.downconversion.enable"),
        documentation: "Without effect: records are served in format 2, which every supported \
                        client reads.",
    },
    Definition {
        name: "message.format.version",
        default: "3.0-IV1",
        values: Values::Text,
        support: Support::Advisory,
        broker: Some("log.message.format.version"),
        documentation: "Without effect, as in Kafka since 3.0: records are stored in format 2.",
    },
    Definition {
        name: "message.timestamp.after.max.ms",
        default: UNLIMITED,
        values: Values::Long { min: 0 },
        support: Support::Honoured,
        broker: Some("log.message.timestamp.after.max.ms"),
        documentation: "How far a record's timestamp may lie ahead of the node's clock. Not for \
                        message.timestamp.type=LogAppendTime.",
    },
    Definition {
        name: "message.timestamp.before.max.ms",
        default: UNLIMITED,
        values: Values::Long { min: 0 },
        support: Support::Honoured,
        broker: Some("log.message.timestamp.before.max.ms"),
        documentation: "How far a record's timestamp may lie behind the node's clock. Not for \
                        message.timestamp.type=LogAppendTime.",
    },
    Definition {
        name: "message.timestamp.difference.max.ms",
        default: UNLIMITED,
        values: Values::Long { min: 0 },
        support: Support::DefaultOnly(
            "Kafka 4 has it no more; set message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms",
        ),
        broker: Some("log.message.timestamp.difference.max.ms"),
        documentation: "Replaced by message.timestamp.before.max.ms and \
                        message.timestamp.after.max.ms.",
    },
    Definition {
        name: "message.timestamp.type",
        default: "CreateTime",
        values: Values::OneOf(&["CreateTime", "LogAppendTime"]),
        support: Support::Honoured,
        broker: Some("log.message.timestamp.type"),
        documentation: "Whose clock gives records their timestamps: 'CreateTime' the \
                        producer's, 'LogAppendTime' the node's.",
    },
    Definition {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        values: Values::Double { min: 0.0, max: 1.0 },
        support: Support::Honoured,
        broker: Some("log.cleaner.min.cleanable.ratio"),
        documentation: "A compacted topic is compacted when this share of its bytes was not \
                        yet.",
    },
    Definition {
        name: "min.compaction.lag.ms",
        default: "0",
        values: Values::Long { min: 0 },
        support: Support::Honoured,
        broker: Some("log.cleaner.min.compaction.lag.ms"),
        documentation: "A compacted topic keeps younger records whatever comes behind them.",
    },
    Definition {
        name: "min.insync.replicas",
        default: "1",
        values: Values::Int { min: 1, max: INT },
        support: Support::Advisory,
        broker: Some("min.insync.replicas"),
        documentation: "Without effect: there is one replica. ringlog.durability says what an \
                        acknowledgement means.",
    },
    Definition {
        name: "preallocate",
        default: "false",
        values: Values::Boolean,
        support: Support::Advisory,
        broker: Some("log.preallocate"),
        documentation: "Without effect: segments are always preallocated.",
    },
    Definition {
        name: "remote.log.copy.disable",
        default: "false",
        values: Values::Boolean,
        support: Support::DefaultOnly(NOT_REMOTE),
        broker: None,
        documentation: "Nothing is copied to remote storage.",
    },
    Definition {
        name: "remote.log.delete.on.disable",
        default: "false",
        values: Values::Boolean,
        support: Support::DefaultOnly(NOT_REMOTE),
        broker: None,
        documentation: "Nothing is copied to remote storage.",
    },
    Definition {
        name: "remote.storage.enable",
        default: "false",
        values: Values::Boolean,
        support: Support::DefaultOnly(NOT_REMOTE),
        broker: None,
        documentation: "Nothing is copied to remote storage.",
    },
    Definition {
        name: "retention.bytes",
        default: "-1",
        values: Values::Long { min: -1 },
        support: Support::Honoured,
        broker: Some("log.retention.bytes"),
        documentation: "Bytes of a partition above which its oldest records are deleted, in steps \
                        of the node's segments, which partitions share; '-1': no limit.",
    },
    Definition {
        name: "retention.ms",
        default: "604800000",
        values: Values::Long { min: -1 },
        support: Support::Honoured,
        broker: Some("log.retention.ms"),
        documentation: "Time after which records are deleted, by their timestamps and at the \
                        next check (log.retention.check.interval.ms of the broker); '-1': never.",
    },
    Definition {
        name: "ringlog.durability",
        default: "flushed",
        values: Values::OneOf(&["flushed", "written", "buffered"]),
        support: Support::Honoured,
        broker: None,
        documentation: "What an acknowledgement means. 'flushed': on stable storage, neither a \
                        crash nor a power cut loses it. 'written': written, and flushed some \
                        milliseconds later; a crash of the node loses nothing, a power cut or a \
                        crash of the machine may lose the last acknowledged records. 'buffered': \
                        in the node's memory; a crash of the node may lose the last acknowledged \
                        records as well. What is lost is always the end of a partition: order \
                        and density hold. Consumers see only what is on stable storage.",
    },
    Definition {
        name: "segment.bytes",
        default: "1073741824",
        values: Values::Int { min: 14, max: INT },
        support: Support::Advisory,
        broker: None,
        documentation: "Without effect: all partitions of a core share one log with segments of \
                        its own size.",
    },
    Definition {
        name: "segment.index.bytes",
        default: "10485760",
        values: Values::Int { min: 4, max: INT },
        support: Support::Advisory,
        broker: Some("log.index.size.max.bytes"),
        documentation: "Without effect: indexes are not preallocated.",
    },
    Definition {
        name: "segment.jitter.ms",
        default: "0",
        values: Values::Long { min: 0 },
        support: Support::Advisory,
        broker: Some("log.roll.jitter.ms"),
        documentation: "Without effect: all partitions of a core share one log.",
    },
    Definition {
        name: "segment.ms",
        default: "604800000",
        values: Values::Long { min: 1 },
        support: Support::Advisory,
        broker: Some("log.roll.ms"),
        documentation: "Without effect: all partitions of a core share one log with segments of \
                        its own size.",
    },
    Definition {
        name: "unclean.leader.election.enable",
        default: "false",
        values: Values::Boolean,
        support: Support::DefaultOnly("there is one replica, and it is never given up for another"),
        broker: Some("unclean.leader.election.enable"),
        documentation: "There is one replica.",
    },
];

#[cfg(test)]
mod tests;
