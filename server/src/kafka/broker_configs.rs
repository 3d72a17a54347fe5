//! What a broker runs by, under the names that Kafka's tools look for: from the node's settings,
//! from the defaults of topics, or fixed because a node is what it is. The same for every core,
//! but for its number.

use std::time::Duration;

use ringlog_engine::topics::{ConfigType, TopicConfig};

use super::limits::FETCH_ANSWER_BYTES;
use crate::config::Settings;

/// Where a broker's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// A setting of the node with this name.
    Setting(&'static str),
    /// Decided at the start.
    Start,
    /// It could not be otherwise.
    Fixed,
    /// The default of topics, for their configuration of this name.
    Topics(&'static str),
}

/// An entry of a broker's configuration.
#[derive(Clone, Debug)]
pub struct BrokerEntry {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Type of the value.
    pub config_type: ConfigType,
    /// What it does, for people.
    pub documentation: &'static str,
    /// Where the value comes from.
    pub basis: Basis,
}

impl BrokerEntry {
    /// Whether somebody, or the start, gave it its value: otherwise it is the default.
    #[must_use]
    pub fn is_set(&self, settings: &Settings) -> bool {
        match self.basis {
            Basis::Setting(setting) => settings.given.contains(&setting),
            Basis::Start => true,
            Basis::Fixed | Basis::Topics(_) => false,
        }
    }
}

struct Row {
    name: &'static str,
    config_type: ConfigType,
    basis: Basis,
    value: fn(&Settings) -> String,
    documentation: &'static str,
}

const fn row(
    name: &'static str,
    config_type: ConfigType,
    basis: Basis,
    value: fn(&Settings) -> String,
    documentation: &'static str,
) -> Row {
    Row {
        name,
        config_type,
        basis,
        value,
        documentation,
    }
}

/// The core's number: the one entry that is not the same for all.
const BROKER_ID: [&str; 2] = ["broker.id", "node.id"];

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Directories as Kafka lists them.
fn directories(settings: &Settings) -> String {
    let paths = settings.data_dirs.iter();
    let paths = paths.map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(",")
}

fn of_core(_: &Settings) -> String {
    String::new()
}

use Basis::{Fixed, Setting, Start};
use ConfigType::{Boolean, Int, List, Long};

const ROWS: &[Row] = &[
    row(
        "auto.create.topics.enable",
        Boolean,
        Setting("auto_create_topics"),
        |settings| settings.auto_create_topics.to_string(),
        "Whether a topic is created when a client asks for one that is not there \
         (auto_create_topics).",
    ),
    row(
        BROKER_ID[0],
        Int,
        Start,
        of_core,
        "The core that this broker is.",
    ),
    row(
        "connections.max.idle.ms",
        Long,
        Setting("connection_idle_ms"),
        |settings| ms(settings.connection_idle),
        "A connection without a request for this long is closed (connection_idle_ms).",
    ),
    row(
        "default.replication.factor",
        Int,
        Fixed,
        |_| "1".to_owned(),
        "Copies of a partition: a node keeps one.",
    ),
    row(
        "delete.topic.enable",
        Boolean,
        Fixed,
        |_| "true".to_owned(),
        "Whether topics can be deleted.",
    ),
    row(
        "fetch.max.bytes",
        Int,
        Fixed,
        |_| FETCH_ANSWER_BYTES.to_string(),
        "Most record bytes in one answer to a Fetch, whatever the client asks for.",
    ),
    row(
        "group.initial.rebalance.delay.ms",
        Int,
        Setting("group_initial_rebalance_delay_ms"),
        |settings| settings.groups.initial_delay_ms.to_string(),
        "How long the first rebalance of an empty group waits for more members \
         (group_initial_rebalance_delay_ms).",
    ),
    row(
        "group.max.session.timeout.ms",
        Int,
        Setting("group_max_session_timeout_ms"),
        |settings| settings.groups.max_session_timeout_ms.to_string(),
        "The longest session timeout a member may ask for (group_max_session_timeout_ms).",
    ),
    row(
        "group.max.size",
        Int,
        Setting("group_max_size"),
        |settings| settings.groups.max_members.to_string(),
        "Most members of a consumer group (group_max_size).",
    ),
    row(
        "group.min.session.timeout.ms",
        Int,
        Setting("group_min_session_timeout_ms"),
        |settings| settings.groups.min_session_timeout_ms.to_string(),
        "The shortest session timeout a member may ask for (group_min_session_timeout_ms).",
    ),
    row(
        "log.dirs",
        List,
        Setting("data_dir"),
        directories,
        "Where everything durable lies (data_dir).",
    ),
    row(
        "log.retention.check.interval.ms",
        Long,
        Setting("retention_check_ms"),
        |settings| ms(settings.retention_check),
        "How often retention is looked at (retention_check_ms).",
    ),
    row(
        "log.segment.bytes",
        Long,
        Setting("segment_bytes"),
        |settings| settings.segment_bytes.to_string(),
        "Length of a segment file, which all partitions of a core share (segment_bytes).",
    ),
    row(
        "max.connections",
        Int,
        Setting("max_connections"),
        |settings| settings.max_connections.to_string(),
        "Connections that a core keeps (max_connections).",
    ),
    row(
        "max.connections.per.ip",
        Int,
        Setting("max_connections_per_address"),
        |settings| settings.max_connections_per_address.to_string(),
        "Connections that a core keeps of one address (max_connections_per_address).",
    ),
    row(
        BROKER_ID[1],
        Int,
        Start,
        of_core,
        "The core that this broker is.",
    ),
    row(
        "num.partitions",
        Int,
        Setting("num_partitions"),
        |settings| settings.num_partitions.to_string(),
        "Partitions of a topic whose creator does not say how many (num_partitions).",
    ),
    row(
        "offset.metadata.max.bytes",
        Int,
        Setting("offset_metadata_max_bytes"),
        |settings| settings.offset_metadata_bytes.to_string(),
        "Longest text that a client may commit with an offset (offset_metadata_max_bytes).",
    ),
    row(
        "offsets.retention.check.interval.ms",
        Long,
        Setting("offsets_retention_check_ms"),
        |settings| ms(settings.offsets_retention_check),
        "How often offsets and groups that nobody needs are looked for \
         (offsets_retention_check_ms).",
    ),
    row(
        "offsets.retention.minutes",
        Int,
        Setting("offsets_retention_minutes"),
        |settings| (settings.offsets_retention.as_secs() / 60).to_string(),
        "Offsets of a group without members, and of topics that no member reads, are kept for this \
         long (offsets_retention_minutes).",
    ),
    row(
        "producer.id.expiration.ms",
        Long,
        Setting("producer_expiry_ms"),
        |settings| ms(settings.producer_expiry),
        "A producer that is silent for this long is forgotten (producer_expiry_ms).",
    ),
    row(
        "queued.max.request.bytes",
        Long,
        Setting("request_memory"),
        |settings| settings.request_memory_bytes.to_string(),
        "Memory of a core for requests that wait to be answered; beyond it no more are read \
         (request_memory).",
    ),
    row(
        "socket.request.max.bytes",
        Int,
        Setting("max_request_bytes"),
        |settings| settings.max_request_bytes.to_string(),
        "Largest request (max_request_bytes).",
    ),
];

/// All entries of a broker, those that are named first in the order of their names, then the
/// defaults of topics.
#[must_use]
pub fn entries(settings: &Settings, broker: &str) -> Vec<BrokerEntry> {
    let named = ROWS.iter().map(|row| BrokerEntry {
        name: row.name,
        value: if BROKER_ID.contains(&row.name) {
            broker.to_owned()
        } else {
            (row.value)(settings)
        },
        config_type: row.config_type,
        documentation: row.documentation,
        basis: row.basis,
    });
    let mut entries: Vec<BrokerEntry> = named.collect();
    let topics = TopicConfig::default();
    entries.extend(topics.entries().filter_map(|entry| {
        Some(BrokerEntry {
            name: entry.broker_name?,
            value: entry.default.to_owned(),
            config_type: entry.config_type,
            documentation: entry.documentation,
            basis: Basis::Topics(entry.name),
        })
    }));
    entries
}

/// Where the value of a broker's configuration comes from; none: there is no such configuration.
#[must_use]
pub fn basis(name: &str) -> Option<Basis> {
    let named = ROWS.iter().find(|row| row.name == name);
    named.map(|row| row.basis).or_else(|| {
        let topics = TopicConfig::default();
        let mut entries = topics.entries();
        let entry = entries.find(|entry| entry.broker_name == Some(name));
        entry.map(|entry| Basis::Topics(entry.name))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::options::OPTIONS;

    #[test]
    fn no_name_is_there_twice_and_settings_are_called_by_their_names() {
        let mut names = HashSet::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{}", row.name);
            if let Setting(setting) = row.basis {
                let known = OPTIONS.iter().any(|option| option.name == setting);
                assert!(known, "{setting}");
                assert!(row.documentation.contains(setting), "{setting}");
            }
        }
        for entry in TopicConfig::default().entries() {
            if let Some(name) = entry.broker_name {
                assert!(names.insert(name), "{name}");
                assert_eq!(basis(name), Some(Basis::Topics(entry.name)));
            }
        }
        assert_eq!(basis("log.retention.days"), None);
        assert_eq!(basis("num.partitions"), Some(Setting("num_partitions")));
    }
}
