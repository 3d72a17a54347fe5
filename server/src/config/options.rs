//! The table of everything that can be set on a node. From a row come the flag
//! (`--max-request-bytes`), the environment variable (`RINGLOG_MAX_REQUEST_BYTES`), the key in
//! `ringlog.toml` (`max_request_bytes`), its help and its default.

use clap::{Arg, ArgAction, Command};

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Paths: the flag once for each, in the environment separated by colons, in a file as a list.
    Paths,
    /// Named files, `NAME=FILE`, given as paths are.
    Files,
    /// A whole number.
    Number,
    /// A number of bytes, also written with `KiB`, `MiB` or `GiB`.
    Bytes,
    /// `true` or `false`; the bare flag means `true`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// Its name, with underscores.
    pub name: &'static str,
    /// Its flag, without the leading dashes.
    pub flag: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Its value when nobody sets it; `None` where that depends on the machine or on other
    /// settings, as `help` says.
    pub default: Option<&'static str>,
    /// What it does, for people.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    flag: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    help: &'static str,
) -> OptionRow {
    OptionRow {
        name,
        flag,
        kind,
        default,
        help,
    }
}

/// Every setting, in the order in which people are shown them.
pub const OPTIONS: &[OptionRow] = &[
    row(
        "data_dir",
        "data-dir",
        Kind::Paths,
        Some("./ringlog-data"),
        "Directory for everything durable; made if it is not there. Given more than once, the \
         cores' logs are spread over the directories, one disk each; all of them must be given at \
         every start, in any order, and one more moves the logs before the node serves",
    ),
    row(
        "cores",
        "cores",
        Kind::Number,
        None,
        "Data-plane cores: one thread, one log, one port each. Default: what the data directory \
         has, or every CPU this process may use. Another number than before moves every partition to \
         its new core before the node serves",
    ),
    row(
        "kafka_addr",
        "kafka-addr",
        Kind::Text,
        Some("127.0.0.1:9092"),
        "host:port of core 0; core n listens on port + n. Port 0: any free port for each core",
    ),
    row(
        "single_port",
        "single-port",
        Kind::Switch,
        Some("false"),
        "All cores behind the port of kafka_addr: clients see one broker, and what belongs to another \
         core than the one they reached goes there inside the node. For containers and NAT; costs a \
         copy and two hops for what has to go over",
    ),
    row(
        "advertised_port",
        "advertised-port",
        Kind::Number,
        None,
        "Port that clients are told to connect to; core n has port + n, unless single_port. Default: \
         the one listened on",
    ),
    row(
        "advertised_tls_port",
        "advertised-tls-port",
        Kind::Number,
        None,
        "The same for clients that come over TLS",
    ),
    row(
        "http_addr",
        "http-addr",
        Kind::Text,
        Some("127.0.0.1:9080"),
        "host:port of the HTTP API (/openapi.json), /healthz, /readyz and /metrics. Port 0: any free \
         port",
    ),
    row(
        "http_max_body_bytes",
        "http-max-body-bytes",
        Kind::Bytes,
        Some("16MiB"),
        "Largest body of an HTTP request; a larger one is refused with 413",
    ),
    row(
        "http_memory",
        "http-memory",
        Kind::Bytes,
        Some("256MiB"),
        "Most memory for bodies and answers of all HTTP requests together; one that finds none is \
         refused with 503 and told to come again",
    ),
    row(
        "http_max_connections",
        "http-max-connections",
        Kind::Number,
        Some("1024"),
        "HTTP connections at a time; more wait until one ends",
    ),
    row(
        "advertised_host",
        "advertised-host",
        Kind::Text,
        None,
        "Host name that clients are told to connect to. Default: the listening address, or this \
         machine's name when that is 0.0.0.0",
    ),
    row(
        "kafka_auth",
        "kafka-auth",
        Kind::Word(&["none", "sasl"]),
        Some("none"),
        "What clients of --kafka-addr have to prove",
    ),
    row(
        "kafka_tls_addr",
        "kafka-tls-addr",
        Kind::Text,
        None,
        "host:port of core 0 for Kafka over TLS; core n listens on port + n. Default: no such \
         listener. Needs --tls-cert and --tls-key",
    ),
    row(
        "kafka_tls_auth",
        "kafka-tls-auth",
        Kind::Word(&["none", "sasl"]),
        Some("sasl"),
        "What clients of --kafka-tls-addr have to prove, beside the certificate that \
         --tls-client-ca asks for",
    ),
    row(
        "tls_cert",
        "tls-cert",
        Kind::Text,
        None,
        "PEM file with the node's certificate, and those between it and its authority; read again, \
         with its key, at SIGHUP",
    ),
    row(
        "tls_key",
        "tls-key",
        Kind::Text,
        None,
        "PEM file with the certificate's private key",
    ),
    row(
        "tls_client_ca",
        "tls-client-ca",
        Kind::Text,
        None,
        "PEM file with the authorities of clients' certificates; Kafka clients over TLS must have \
         one then",
    ),
    row(
        "sasl_mechanisms",
        "sasl-mechanisms",
        Kind::Text,
        Some("SCRAM-SHA-512,SCRAM-SHA-256,PLAIN"),
        "SASL mechanisms offered, separated by commas",
    ),
    row(
        "user",
        "user",
        Kind::Files,
        None,
        "A user to begin with, and the file with the password: made at a start that finds no user \
         of this name; a password that was changed since stays. May be given more than once",
    ),
    row(
        "login_timeout_ms",
        "login-timeout-ms",
        Kind::Number,
        Some("10000"),
        "A TLS handshake must be complete within this time, and then a login, milliseconds",
    ),
    row(
        "http_tls",
        "http-tls",
        Kind::Switch,
        Some("false"),
        "Speak TLS on --http-addr, with --tls-cert and --tls-key",
    ),
    row(
        "http_auth",
        "http-auth",
        Kind::Word(&["none", "basic"]),
        None,
        "What clients of --http-addr have to prove, but for /healthz and /readyz. Default: basic \
         when a Kafka listener wants SASL, else none",
    ),
    row(
        "insecure",
        "insecure",
        Kind::Switch,
        Some("false"),
        "Listen beyond loopback without authentication, or where passwords cross the network in the \
         clear: whoever reaches the port can read and write everything",
    ),
    row(
        "allow_buffered_io",
        "allow-buffered-io",
        Kind::Switch,
        Some("false"),
        "Take a filesystem without O_DIRECT (tmpfs, overlay), through the page cache. Slower, and \
         memory of the page cache is not counted",
    ),
    row(
        "auto_create_topics",
        "auto-create-topics",
        Kind::Switch,
        Some("true"),
        "Create a topic when a client asks for one that is not there",
    ),
    row(
        "num_partitions",
        "num-partitions",
        Kind::Number,
        Some("1"),
        "Partitions of a topic whose creator does not say how many",
    ),
    row(
        "max_topics",
        "max-topics",
        Kind::Number,
        Some("100000"),
        "Topics of the node; those that are there stay",
    ),
    row(
        "max_partitions",
        "max-partitions",
        Kind::Number,
        Some("200000"),
        "Partitions of all topics together; a topic has 10000 at most",
    ),
    row(
        "replication_policy",
        "replication-policy",
        Kind::Word(&["accept", "refuse"]),
        Some("accept"),
        "A topic asked for with more than one replica: accept it (and report one), or refuse it",
    ),
    row(
        "max_request_bytes",
        "max-request-bytes",
        Kind::Bytes,
        Some("100MiB"),
        "Largest request; a longer one closes its connection before it is read",
    ),
    row(
        "max_connections",
        "max-connections",
        Kind::Number,
        Some("10000"),
        "Connections a core keeps",
    ),
    row(
        "max_connections_per_address",
        "max-connections-per-address",
        Kind::Number,
        Some("1000000"),
        "Connections a core keeps of one address",
    ),
    row(
        "connection_idle_ms",
        "connection-idle-ms",
        Kind::Number,
        Some("600000"),
        "A connection without a request for this long is closed, milliseconds",
    ),
    row(
        "frame_timeout_ms",
        "frame-timeout-ms",
        Kind::Number,
        Some("30000"),
        "A request that has begun must arrive whole within this time, milliseconds",
    ),
    row(
        "memory_per_core",
        "memory-per-core",
        Kind::Bytes,
        Some("384MiB"),
        "Most memory a core takes for requests, blocks on their way to the disk, and cached \
         blocks; producers wait when it is used up",
    ),
    row(
        "request_memory",
        "request-memory",
        Kind::Bytes,
        Some("64MiB"),
        "Most memory a core takes for requests without records that wait to be answered, beside a few \
         KiB of each connection; beyond it nothing more is read",
    ),
    row(
        "answer_memory",
        "answer-memory",
        Kind::Bytes,
        Some("128MiB"),
        "Most memory a core takes for answers that wait for their clients to take them; beyond it \
         consumers wait, and those who take their answers slowly are disconnected",
    ),
    row(
        "registered_memory",
        "registered-memory",
        Kind::Bytes,
        Some("56MiB"),
        "Part of memory_per_core that is registered with the kernel and stays resident",
    ),
    row(
        "cache_bytes",
        "cache-bytes",
        Kind::Bytes,
        Some("24MiB"),
        "Part of memory_per_core that keeps the newest blocks for consumers",
    ),
    row(
        "segment_bytes",
        "segment-bytes",
        Kind::Bytes,
        Some("64MiB"),
        "Length of a segment file",
    ),
    row(
        "pool_segments",
        "pool-segments",
        Kind::Number,
        Some("2"),
        "Free segments kept ready beside the active one, per core",
    ),
    row(
        "scrub_bytes_per_second",
        "scrub-bytes-per-second",
        Kind::Bytes,
        Some("10MiB"),
        "How fast each core reads its sealed segments in the background, once a week at most, to find \
         damage before consumers do. 0: not at all",
    ),
    row(
        "retention_check_ms",
        "retention-check-ms",
        Kind::Number,
        Some("30000"),
        "How often retention is looked at, milliseconds",
    ),
    row(
        "clean_bytes_per_second",
        "clean-bytes-per-second",
        Kind::Number,
        Some("33554432"),
        "Bytes that a core's cleaner reads and writes in a second, four times as many while \
         nothing else is written; 0: nothing is cleaned",
    ),
    row(
        "producer_expiry_ms",
        "producer-expiry-ms",
        Kind::Number,
        Some("86400000"),
        "An idempotent producer that is silent for this long is forgotten, milliseconds",
    ),
    row(
        "max_producers",
        "max-producers",
        Kind::Number,
        Some("200000"),
        "Idempotent producers that a core remembers, counted once for each partition (about 200 bytes \
         each); one more, and the one that is idle for longest is forgotten",
    ),
    row(
        "max_producers_per_partition",
        "max-producers-per-partition",
        Kind::Number,
        Some("10000"),
        "The same of one partition",
    ),
    row(
        "max_fetch_session_partitions",
        "max-fetch-session-partitions",
        Kind::Number,
        Some("400000"),
        "Partitions in all fetch sessions of a core, about 100 bytes each; beyond it consumers name all \
         they want with each request",
    ),
    row(
        "group_min_session_timeout_ms",
        "group-min-session-timeout-ms",
        Kind::Number,
        Some("6000"),
        "Shortest session timeout of a consumer group's member, milliseconds",
    ),
    row(
        "group_max_session_timeout_ms",
        "group-max-session-timeout-ms",
        Kind::Number,
        Some("1800000"),
        "Longest session timeout of a consumer group's member, milliseconds",
    ),
    row(
        "group_initial_rebalance_delay_ms",
        "group-initial-rebalance-delay-ms",
        Kind::Number,
        Some("3000"),
        "How long the first rebalance of an empty consumer group waits for more members, \
         milliseconds",
    ),
    row(
        "group_max_size",
        "group-max-size",
        Kind::Number,
        Some("1000"),
        "Members of a consumer group",
    ),
    row(
        "max_groups",
        "max-groups",
        Kind::Number,
        Some("50000"),
        "Consumer groups that a core coordinates",
    ),
    row(
        "max_committed_offsets",
        "max-committed-offsets",
        Kind::Number,
        Some("2000000"),
        "Offsets that consumer groups of a core may have committed, about 100 bytes each and their \
         metadata",
    ),
    row(
        "offsets_retention_minutes",
        "offsets-retention-minutes",
        Kind::Number,
        Some("10080"),
        "How long committed offsets are kept while their consumer group has no members, or none that \
         reads the topic, minutes",
    ),
    row(
        "offsets_retention_check_ms",
        "offsets-retention-check-ms",
        Kind::Number,
        Some("600000"),
        "How often committed offsets and consumer groups that nobody needs are looked for, \
         milliseconds",
    ),
    row(
        "offset_metadata_max_bytes",
        "offset-metadata-max-bytes",
        Kind::Bytes,
        Some("4096"),
        "Longest text that a client may commit with an offset",
    ),
    row(
        "drain_timeout_ms",
        "drain-timeout-ms",
        Kind::Number,
        Some("10000"),
        "How long a stop waits for requests in progress, milliseconds",
    ),
    row(
        "spin_us",
        "spin-us",
        Kind::Number,
        Some("500"),
        "How long a core polls before it sleeps while few clients wait for a write, microseconds; \
         0: not at all. Never with more cores than CPUs",
    ),
    row(
        "ready_file",
        "ready-file",
        Kind::Text,
        None,
        "File that gets the actual addresses as JSON once the node is ready",
    ),
    row(
        "log_format",
        "log-format",
        Kind::Word(&["text", "json"]),
        Some("text"),
        "How log lines look",
    ),
];

impl OptionRow {
    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("RINGLOG_{}", self.name.to_uppercase())
    }

    fn value_name(&self) -> &'static str {
        match self.kind {
            Kind::Text => "TEXT",
            Kind::Paths => "DIR",
            Kind::Files => "NAME=FILE",
            Kind::Number => "N",
            Kind::Bytes => "BYTES",
            Kind::Switch => "true|false",
            Kind::Word(_) => "WORD",
        }
    }

    fn argument(&self) -> Arg {
        let default = self
            .default
            .map_or(String::new(), |value| format!(" [default: {value}]"));
        let words = match self.kind {
            Kind::Word(words) => format!(" [one of: {}]", words.join(", ")),
            _ => String::new(),
        };
        let help = format!("{}{words}{default} [env: {}]", self.help, self.variable());
        let argument = Arg::new(self.name)
            .long(self.flag)
            .value_name(self.value_name())
            .action(ArgAction::Set)
            .help(help);
        match self.kind {
            Kind::Switch => argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Kind::Paths | Kind::Files => argument.action(ArgAction::Append),
            _ => argument,
        }
    }
}

/// Gives a command a flag for each setting.
#[must_use]
pub fn add_flags(command: Command) -> Command {
    OPTIONS
        .iter()
        .fold(command, |command, option| command.arg(option.argument()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_command_is_sound() {
        let mut names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPTIONS.len());
        assert!(
            OPTIONS
                .iter()
                .all(|option| option.flag == option.name.replace('_', "-"))
        );
        add_flags(Command::new("serve")).debug_assert();
    }
}
