//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::batch::codec::Compression;
use crate::batch::template::BatchShape;
use crate::compare::side::Side;
use crate::kafka::frame::Acks;
use crate::pinning::parse_cpu_choice;
use crate::produce::options::ProduceOptions;
use crate::produce::schedule::Pace;

/// Drives Ringlog, or any broker that speaks Kafka's protocol, and verifies what it was promised.
#[derive(Parser, Debug)]
#[command(name = "loadgen", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Send events, flat out or at a rate.
    Produce(ProduceArguments),
    /// Receive events.
    Consume(ConsumeArguments),
    /// Send at a rate and receive at the tail: latency from due time to receipt.
    E2e(EndToEndArguments),
    /// Read back what a journal says was acknowledged.
    Verify(VerifyArguments),
    /// The physical limit of this machine: the device alone, and a sink that stores nothing.
    Limit(LimitArguments),
    /// Start a node on a real disk, load it, verify everything, compare with the physical limit.
    Demo(DemoArguments),
    /// Set brokers beside each other: the same load in alternating slices, the first side against
    /// the others.
    Compare(CompareArguments),
    /// The sink's process.
    #[command(name = "__sink", hide = true)]
    Sink {
        /// Where to write the addresses.
        #[arg(long)]
        port_file: PathBuf,
    },
    /// A node's process: everything behind is `ringlog`'s command line.
    #[command(name = "__ringlog", hide = true, disable_help_flag = true)]
    Ringlog {
        /// Handed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Where to.
#[derive(Args, Debug, Clone)]
pub struct Target {
    /// Any broker of the cluster.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// The topic.
    #[arg(long, default_value = "loadgen")]
    pub topic: String,
    /// Connections over all brokers.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// How long to measure: 10, 10s, 2m or 500ms.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// How long to run before measuring.
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    pub warmup: Duration,
    /// CPUs for the generator's threads, like 0,2-3; `none`: do not bind them.
    #[arg(long, value_name = "LIST")]
    pub cpu: Option<String>,
    /// Print progress each second even if stderr is not a terminal.
    #[arg(long)]
    pub progress: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `e2e`.
#[derive(Args, Debug)]
pub struct EndToEndArguments {
    /// What is sent, and where.
    #[command(flatten)]
    pub produce: ProduceArguments,
    /// Also measure durable writes of 4 KiB, one at a time, in a directory on this disk: half of
    /// them before, half behind.
    #[arg(long, value_name = "DIR")]
    pub device: Option<PathBuf>,
}

/// `produce`.
#[derive(Args, Debug, Clone)]
pub struct ProduceArguments {
    /// Where to.
    #[command(flatten)]
    pub target: Target,
    /// Partitions of the topic, which is created if it is not there.
    #[arg(long, default_value_t = 8)]
    pub partitions: u32,
    /// A setting for the topic, where it is created: NAME=VALUE. May be given again.
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub topic_configs: Vec<(String, String)>,
    /// Bytes of each value.
    #[arg(long, default_value = "100", value_parser = parse_bytes)]
    pub record_size: usize,
    /// Bytes of each batch, before compression: 16384, 16KiB or 1MiB.
    #[arg(long, default_value = "16KiB", value_parser = parse_bytes)]
    pub batch_bytes: usize,
    /// At most this many events in a batch: 1 sends one event at a time.
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true)]
    pub batch_records: u32,
    /// Number of distinct keys; 0: no keys.
    #[arg(long, default_value_t = 0)]
    pub keys: u32,
    /// Codec.
    #[arg(long, value_enum, default_value_t)]
    pub compression: Compression,
    /// Requests on their way per connection.
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// Acknowledgement to wait for.
    #[arg(long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// Events per second, open loop: latency counts from the time an event was due.
    #[arg(long, conflicts_with = "max")]
    pub rate: Option<f64>,
    /// As fast as the window allows (the default).
    #[arg(long)]
    pub max: bool,
    /// End after so many batches.
    #[arg(long)]
    pub batches: Option<u64>,
    /// Let the broker recognise repeats, and send again what failed.
    #[arg(long)]
    pub idempotent: bool,
    /// Generator threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Read everything back afterwards.
    #[arg(long)]
    pub verify: bool,
    /// Write every acknowledgement here as it arrives, for `loadgen verify`.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Write a page with plots to this file (`produce` only).
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Behind the run, measure the physical limit of the same shape: the disk of this directory,
    /// and a sink that stores nothing (`produce` only).
    #[arg(long, value_name = "DIR")]
    pub limit: Option<PathBuf>,
    /// End with the first lost connection, in good order.
    #[arg(long)]
    pub until_disconnect: bool,
}

impl ProduceArguments {
    /// As options of a run.
    pub fn options(&self) -> anyhow::Result<ProduceOptions> {
        let (cpus, pin) = parse_cpu_choice(self.target.cpu.as_deref())?;
        Ok(ProduceOptions {
            bootstrap: self.target.bootstrap.clone(),
            topic: self.target.topic.clone(),
            partitions: self.partitions,
            topic_configs: self.topic_configs.clone(),
            shape: BatchShape {
                record_bytes: self.record_size,
                batch_bytes: self.batch_bytes,
                max_records: self.batch_records,
                keys: self.keys,
                compression: self.compression,
            },
            connections: self.target.connections,
            in_flight: self.in_flight,
            acks: self.acks,
            pace: self.rate.map_or(Pace::Max, Pace::EventsPerSecond),
            warmup: self.target.warmup,
            duration: self.target.duration,
            max_batches: self.batches,
            idempotent: self.idempotent,
            threads: self.threads,
            cpus,
            pin,
            journal: self.journal.clone(),
            until_disconnect: self.until_disconnect,
            keep_latencies: self.html.is_some(),
        })
    }
}

/// `consume`.
#[derive(Args, Debug, Clone)]
pub struct ConsumeArguments {
    /// Where from.
    #[command(flatten)]
    pub target: Target,
    /// Begin at the end instead of the beginning.
    #[arg(long)]
    pub latest: bool,
    /// End when everything that was there at the start is read.
    #[arg(long)]
    pub until_end: bool,
    /// Take end-to-end latencies from the stamps of a producer on this machine.
    #[arg(long)]
    pub latency: bool,
    /// Answer of the broker at this many bytes.
    #[arg(long, default_value = "1", value_parser = parse_bytes)]
    pub fetch_min_bytes: usize,
    /// How long the broker may wait for them.
    #[arg(long, value_parser = parse_duration, default_value = "500ms")]
    pub fetch_max_wait: Duration,
    /// Largest answer.
    #[arg(long, default_value = "8MiB", value_parser = parse_bytes)]
    pub fetch_max_bytes: usize,
    /// Largest share of a partition in an answer.
    #[arg(long, default_value = "2MiB", value_parser = parse_bytes)]
    pub partition_max_bytes: usize,
}

/// `verify`.
#[derive(Args, Debug, Clone)]
pub struct VerifyArguments {
    /// Any broker of the cluster.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// The journal of a producing run.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `limit`.
#[derive(Args, Debug, Clone)]
pub struct LimitArguments {
    /// A directory on the disk to measure.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Bytes of each value.
    #[arg(long, default_value = "100", value_parser = parse_bytes)]
    pub record_size: usize,
    /// Bytes of each batch.
    #[arg(long, default_value = "1MiB", value_parser = parse_bytes)]
    pub batch_bytes: usize,
    /// Connections to the sink.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests on their way per connection.
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 8)]
    pub partitions: u32,
    /// Length of a slice.
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub slice: Duration,
    /// Pairs of slices: device and ceiling.
    #[arg(long, default_value_t = 8)]
    pub pairs: usize,
    /// CPUs for the generator's threads, like 0,2-3; `none`: do not bind them.
    #[arg(long, value_name = "LIST")]
    pub cpu: Option<String>,
    /// Measure a filesystem without direct I/O all the same.
    #[arg(long)]
    pub allow_buffered_io: bool,
    /// Leave the device out.
    #[arg(long)]
    pub ceiling_only: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What measurements of several shapes have in common.
#[derive(Args, Debug, Clone)]
pub struct CommonArguments {
    /// CPUs for the generator's threads, like 0,2-3; `none`: do not bind them.
    #[arg(long, value_name = "LIST")]
    pub cpu: Option<String>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `demo`.
#[derive(Args, Debug, Clone)]
pub struct DemoArguments {
    /// Directory for the node's data, made new and removed afterwards; beside the current one
    /// unless given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Cores of the node.
    #[arg(long)]
    pub cores: Option<usize>,
    /// Fewer and shorter slices: a look, not a measurement.
    #[arg(long)]
    pub quick: bool,
    /// A reference command to run in alternating slices; its output says "NNN MB/s". May be given
    /// again.
    #[arg(long, value_name = "COMMAND")]
    pub against: Vec<String>,
    /// Threads and reports.
    #[command(flatten)]
    pub common: CommonArguments,
}

/// `compare`.
#[derive(Args, Debug, Clone)]
pub struct CompareArguments {
    /// Who is compared, the one in question first. The label says what an acknowledgement means
    /// there; the settings are given to the topics, which are made new and removed.
    #[arg(value_name = "LABEL@HOST:PORT?SETTING=VALUE", required = true, num_args = 2.., value_parser = parse_side)]
    pub sides: Vec<Side>,
    /// Rounds that count: a slice of every side in each.
    #[arg(long, default_value_t = 8)]
    pub rounds: usize,
    /// Rounds of each shape that come first and do not count.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub uncounted_rounds: usize,
    /// Length of a slice, 2 s at most; a quarter of it goes before, unmeasured.
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub slice: Duration,
    /// Measure the physical limit in each round too: the disk of this directory, and a sink.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Partitions of a topic.
    #[arg(long, default_value_t = 8)]
    pub partitions: u32,
    /// Connections over all brokers of a side.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests on their way per connection.
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// Do not read back what was acknowledged.
    #[arg(long)]
    pub no_verify: bool,
    /// Threads and reports.
    #[command(flatten)]
    pub common: CommonArguments,
}

/// Reads `500ms`, `10s`, `2m` or plain seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_seconds) = if let Some(number) = text.strip_suffix("ms") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60.0)
    } else {
        (text, 1.0)
    };
    let value: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("{text:?}: like 500ms, 10s, 2m"))?;
    Duration::try_from_secs_f64(value * unit_seconds).map_err(|error| format!("{text:?}: {error}"))
}

/// Reads `16384`, `16KiB`, `1MiB` or `1k`, `1m` (of 1024).
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: usize = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(format!("{text:?}: like 16384, 16KiB, 1MiB")),
    };
    let number: usize = digits
        .trim()
        .parse()
        .map_err(|_| format!("{text:?}: like 16KiB, 1MiB"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("{text:?} is more than this machine addresses"))
}

fn parse_side(text: &str) -> Result<Side, String> {
    text.parse().map_err(|error| format!("{error:#}"))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("{text:?}: NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_and_durations_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_bytes("16KiB"), Ok(16_384));
        assert_eq!(parse_bytes("1m"), Ok(1 << 20));
        assert_eq!(parse_bytes("100"), Ok(100));
        assert!(parse_bytes("1.5MiB").is_err());
        assert!(parse_bytes("99999999999g").is_err());
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn a_nodes_own_flags_are_handed_on() {
        let arguments = Arguments::try_parse_from([
            "loadgen",
            "__ringlog",
            "serve",
            "--data-dir",
            "x",
            "--help",
        ]);
        let Command::Ringlog { arguments } = arguments.unwrap().command else {
            panic!("another command");
        };
        assert_eq!(arguments, ["serve", "--data-dir", "x", "--help"]);
    }
}
