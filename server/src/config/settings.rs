//! The effective settings of a node: plain values, checked. Made of the layers beside this file,
//! read by the node and its faces, never changed while the node runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringlog_engine::groups::GroupSettings;
use ringlog_engine::limits::{MEMBERS_PER_GROUP, PARTITIONS_PER_TOPIC};
use ringlog_engine::partitions::ProducerLimits;

use ringlog_engine::topics::TopicLimits;

use super::access::Access;
use super::address::listening_address;
use super::layers::{ConfigError, Layers};

/// What to do with a topic that asks for more than one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicationPolicy {
    /// Accept it and report one replica: many applications have the factor written into them.
    #[default]
    Accept,
    /// Refuse it with `INVALID_REPLICATION_FACTOR`.
    Refuse,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything a node runs by.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where everything durable lies; the first is where a new node has its identity.
    pub data_dirs: Vec<PathBuf>,
    /// Data-plane cores, when somebody asked for a number.
    pub cores: Option<u16>,
    /// Where core 0 listens; core n on port + n, or on any free port when it is 0.
    pub kafka_addr: SocketAddr,
    /// Where health, readiness and metrics are.
    pub http_addr: SocketAddr,
    /// All cores behind the port of `kafka_addr`: clients see one broker.
    pub single_port: bool,
    /// Port that clients are told to connect to, when not the one listened on; core n has port + n,
    /// unless all are behind one.
    pub advertised_port: Option<u16>,
    /// The same for clients that come over TLS.
    pub advertised_tls_port: Option<u16>,
    /// Largest body of an HTTP request.
    pub http_max_body_bytes: usize,
    /// Memory for bodies and answers of all HTTP requests together.
    pub http_memory_bytes: usize,
    /// HTTP connections at a time.
    pub http_max_connections: usize,
    /// Who gets in, and how.
    pub access: Access,
    /// Host name that clients are told to connect to, when not the listening address.
    pub advertised_host: Option<String>,
    /// Take a filesystem without O_DIRECT.
    pub allow_buffered_io: bool,
    /// Create a topic when a client asks for one that is not there.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say.
    pub num_partitions: u32,
    /// What to do with a replication factor above one.
    pub replication_policy: ReplicationPolicy,
    /// Largest request frame.
    pub max_request_bytes: usize,
    /// Connections a core keeps.
    pub max_connections: usize,
    /// Connections a core keeps of one address.
    pub max_connections_per_address: usize,
    /// A connection without a request for this long is closed.
    pub connection_idle: Duration,
    /// A request frame that has begun must be complete within this time.
    pub frame_timeout: Duration,
    /// Memory of a core for frames, blocks and reads.
    pub memory_per_core_bytes: usize,
    /// Memory of a core for requests without records that wait to be answered.
    pub request_memory_bytes: usize,
    /// Memory of a core for answers that wait to be taken.
    pub answer_memory_bytes: usize,
    /// The part of `memory_per_core_bytes` that is registered with the kernel.
    pub registered_bytes: usize,
    /// The part of it that keeps blocks for consumers.
    pub cache_bytes: usize,
    /// Length of a segment file.
    pub segment_bytes: u64,
    /// Free segments kept ready.
    pub pool_segments: usize,
    /// How fast a core looks for damage in sealed segments; 0: not at all.
    pub scrub_bytes_per_second: u64,
    /// How often retention is looked at.
    pub retention_check: Duration,
    /// Bytes that a core's cleaner may move in a second; 0: nothing is cleaned.
    pub clean_bytes_per_second: u64,
    /// A producer that is silent for this long is forgotten.
    pub producer_expiry: Duration,
    /// Topics and partitions of the node.
    pub topics: TopicLimits,
    /// Idempotent producers that are remembered.
    pub producers: ProducerLimits,
    /// Partitions in all fetch sessions of a core.
    pub fetch_session_partitions: usize,
    /// What members of consumer groups may ask for.
    pub groups: GroupSettings,
    /// Offsets of a group without members are kept for this long.
    pub offsets_retention: Duration,
    /// How often offsets and groups that nobody needs are looked for.
    pub offsets_retention_check: Duration,
    /// Longest text that a client may commit with an offset.
    pub offset_metadata_bytes: usize,
    /// How long a stop waits for requests in progress.
    pub drain_timeout: Duration,
    /// How long a core polls before it sleeps, while writes are in flight.
    pub spin: Duration,
    /// Where to write the actual addresses once ready.
    pub ready_file: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Names of the settings that somebody gave a value.
    pub given: Vec<&'static str>,
}

/// Memory a core needs beside its largest request: blocks that are filled and written.
const WORKING_BYTES: u64 = 32 << 20;

impl Settings {
    /// The settings that these layers make.
    ///
    /// # Errors
    /// The first value, or combination of values, that cannot be.
    pub fn from_layers(layers: &Layers) -> Result<Settings, ConfigError> {
        let count = |name, least, most| Ok(usize_of(required(layers, name, least, most)?));
        let port = |name| {
            let port = layers.number(name, 1, u16::MAX.into())?;
            Ok(port.and_then(|port| u16::try_from(port).ok()))
        };
        let most = |name| {
            let most = required(layers, name, 1, 10_000_000)?;
            Ok(u32::try_from(most).unwrap_or(u32::MAX))
        };
        let ms = |name| required(layers, name, 1, MAX_MS).map(Duration::from_millis);
        let cores = layers.number("cores", 1, 1024)?;
        let kafka_addr = listening_address(layers, "kafka_addr")?;
        let http_addr = listening_address(layers, "http_addr")?;
        let settings = Settings {
            data_dirs: layers.texts("data_dir").map(PathBuf::from).collect(),
            cores: cores.map(|cores| u16::try_from(cores).unwrap_or(u16::MAX)),
            kafka_addr,
            http_addr,
            single_port: layers.switch("single_port"),
            advertised_port: port("advertised_port")?,
            advertised_tls_port: port("advertised_tls_port")?,
            http_max_body_bytes: count("http_max_body_bytes", 1 << 10, 1 << 30)?,
            http_memory_bytes: count("http_memory", 1 << 20, 1 << 40)?,
            http_max_connections: count("http_max_connections", 1, 1 << 20)?,
            access: Access::from_layers(layers, kafka_addr, http_addr)?,
            advertised_host: layers.text("advertised_host").map(str::to_owned),
            allow_buffered_io: layers.switch("allow_buffered_io"),
            auto_create_topics: layers.switch("auto_create_topics"),
            num_partitions: u32::try_from(required(
                layers,
                "num_partitions",
                1,
                PARTITIONS_PER_TOPIC.into(),
            )?)
            .unwrap_or(u32::MAX),
            replication_policy: match layers.text("replication_policy") {
                Some("refuse") => ReplicationPolicy::Refuse,
                _ => ReplicationPolicy::Accept,
            },
            max_request_bytes: count("max_request_bytes", 1 << 10, 1 << 30)?,
            max_connections: count("max_connections", 1, 1 << 20)?,
            max_connections_per_address: count("max_connections_per_address", 1, 1 << 20)?,
            connection_idle: ms("connection_idle_ms")?,
            frame_timeout: ms("frame_timeout_ms")?,
            memory_per_core_bytes: count("memory_per_core", WORKING_BYTES, 1 << 40)?,
            request_memory_bytes: count("request_memory", 8 << 20, 1 << 40)?,
            answer_memory_bytes: count("answer_memory", 16 << 20, 1 << 40)?,
            registered_bytes: count("registered_memory", 0, 1 << 40)?,
            cache_bytes: count("cache_bytes", 0, 1 << 40)?,
            segment_bytes: required(layers, "segment_bytes", 4 << 20, 1 << 32)?,
            pool_segments: count("pool_segments", 1, 1 << 10)?,
            scrub_bytes_per_second: required(layers, "scrub_bytes_per_second", 0, 1 << 40)?,
            retention_check: ms("retention_check_ms")?,
            clean_bytes_per_second: required(layers, "clean_bytes_per_second", 0, 1 << 40)?,
            producer_expiry: ms("producer_expiry_ms")?,
            topics: TopicLimits {
                topics: count("max_topics", 1, 1 << 32)?,
                partitions: required(layers, "max_partitions", 1, 1 << 32)?,
            },
            producers: ProducerLimits {
                per_partition: most("max_producers_per_partition")?,
                per_log: most("max_producers")?,
            },
            fetch_session_partitions: count("max_fetch_session_partitions", 0, 1 << 30)?,
            groups: groups(layers)?,
            offsets_retention: Duration::from_secs(
                60 * required(layers, "offsets_retention_minutes", 1, MAX_MS / 60_000)?,
            ),
            offsets_retention_check: ms("offsets_retention_check_ms")?,
            offset_metadata_bytes: count("offset_metadata_max_bytes", 0, 1 << 15)?,
            drain_timeout: ms("drain_timeout_ms")?,
            spin: Duration::from_micros(required(layers, "spin_us", 0, 1_000_000)?),
            ready_file: layers.text("ready_file").map(PathBuf::from),
            log_format: match layers.text("log_format") {
                Some("json") => LogFormat::Json,
                _ => LogFormat::Text,
            },
            given: layers.given().collect(),
        };
        settings.check_memory()?;
        Ok(settings)
    }

    fn check_memory(&self) -> Result<(), ConfigError> {
        let working = usize_of(WORKING_BYTES);
        let needed = self
            .max_request_bytes
            .saturating_add(self.cache_bytes)
            .saturating_add(working);
        if self.memory_per_core_bytes < needed {
            return Err(ConfigError::Conflict(format!(
                "memory_per_core is {} bytes, but the largest request (max_request_bytes = {}), the \
                 cache (cache_bytes = {}) and {working} bytes to work with must fit into it; raise \
                 memory_per_core or lower the others",
                self.memory_per_core_bytes, self.max_request_bytes, self.cache_bytes
            )));
        }
        if self.registered_bytes > self.memory_per_core_bytes {
            return Err(ConfigError::Conflict(format!(
                "registered_memory ({}) is a part of memory_per_core ({}) and cannot be more",
                self.registered_bytes, self.memory_per_core_bytes
            )));
        }
        Ok(())
    }
}

/// Ten years, so that a time can be added to the clock.
const MAX_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

fn required(
    layers: &Layers,
    name: &'static str,
    least: u64,
    most: u64,
) -> Result<u64, ConfigError> {
    layers
        .number(name, least, most)?
        .ok_or_else(|| layers.refuse(name, "a number is expected".to_owned()))
}

fn groups(layers: &Layers) -> Result<GroupSettings, ConfigError> {
    let ms = |name, least| {
        let ms = required(layers, name, least, i32::MAX as u64)?;
        Ok(u32::try_from(ms).unwrap_or(u32::MAX))
    };
    let most = |name| required(layers, name, 1, 1 << 32).map(usize_of);
    let settings = GroupSettings {
        max_groups: most("max_groups")?,
        max_offsets: most("max_committed_offsets")?,
        min_session_timeout_ms: ms("group_min_session_timeout_ms", 1)?,
        max_session_timeout_ms: ms("group_max_session_timeout_ms", 1)?,
        initial_delay_ms: ms("group_initial_rebalance_delay_ms", 0)?,
        max_members: usize_of(required(
            layers,
            "group_max_size",
            1,
            MEMBERS_PER_GROUP as u64,
        )?),
    };
    if settings.min_session_timeout_ms > settings.max_session_timeout_ms {
        return Err(ConfigError::Conflict(format!(
            "group_min_session_timeout_ms ({}) is above group_max_session_timeout_ms ({}); no \
             member could join",
            settings.min_session_timeout_ms, settings.max_session_timeout_ms
        )));
    }
    Ok(settings)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::options::add_flags;
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, ConfigError> {
        let command = add_flags(Command::new("serve"));
        let all = std::iter::once(&"serve").chain(arguments);
        let flags = command.try_get_matches_from(all).unwrap();
        Settings::from_layers(&Layers::read(&flags, |_| None, None).unwrap())
    }

    #[test]
    fn the_defaults_are_sound_and_as_documented() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.kafka_addr.to_string(), "127.0.0.1:9092");
        assert_eq!(settings.http_addr.to_string(), "127.0.0.1:9080");
        assert_eq!(settings.max_request_bytes, 100 << 20);
        assert_eq!(settings.cores, None);
        assert!(settings.auto_create_topics);
        assert_eq!(settings.replication_policy, ReplicationPolicy::Accept);
        assert_eq!(settings.retention_check, Duration::from_secs(30));
        assert_eq!(settings.groups, GroupSettings::default());
        assert_eq!(settings.producers, ProducerLimits::default());
        assert_eq!(settings.topics, TopicLimits::default());
        assert_eq!(settings.offsets_retention, Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn a_core_must_have_memory_for_its_largest_request() {
        let refused = settings(&["--max-request-bytes", "512MiB"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("memory_per_core") && refused.contains("max_request_bytes"));
        settings(&["--max-request-bytes", "512MiB", "--memory-per-core", "1GiB"]).unwrap();
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(settings(&["--cores", "0"]).is_err());
        assert!(settings(&["--num-partitions", "0"]).is_err());
        assert!(settings(&["--segment-bytes", "1KiB"]).is_err());
        assert!(settings(&["--drain-timeout-ms", "0"]).is_err());
        let above = settings(&["--group-min-session-timeout-ms", "9999999"]);
        assert!(above.unwrap_err().to_string().contains("no member"));
    }
}
