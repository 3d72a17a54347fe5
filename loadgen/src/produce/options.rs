//! What a producing run is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use crate::batch::template::BatchShape;
use crate::kafka::frame::Acks;
use crate::produce::schedule::Pace;

/// Options of a run. [`ProduceOptions::new`] gives the usual ones.
#[derive(Clone, Debug)]
pub struct ProduceOptions {
    /// Any broker of the cluster.
    pub bootstrap: String,
    /// Created if it is not there.
    pub topic: String,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Settings of the topic, where it is created.
    pub topic_configs: Vec<(String, String)>,
    /// What to send.
    pub shape: BatchShape,
    /// Connections over all brokers; each leader gets one at least.
    pub connections: usize,
    /// Requests on their way per connection.
    pub in_flight: usize,
    /// What to wait for.
    pub acks: Acks,
    /// How fast.
    pub pace: Pace,
    /// Not measured.
    pub warmup: Duration,
    /// Measured, unless `max_batches` ends the run before.
    pub duration: Duration,
    /// End after so many batches in all.
    pub max_batches: Option<u64>,
    /// Number batches so that the broker can recognise repeats; failures are retried.
    pub idempotent: bool,
    /// Generator threads.
    pub threads: usize,
    /// CPUs of the threads; `None`: from the last allowed one downwards.
    pub cpus: Option<Vec<usize>>,
    /// Whether threads are bound to CPUs at all.
    pub pin: bool,
    /// Write acknowledgements here as they arrive.
    pub journal: Option<PathBuf>,
    /// The first lost connection ends the run, in good order.
    pub until_disconnect: bool,
    /// Keep every latency and when it came, not only their histogram.
    pub keep_latencies: bool,
}

impl ProduceOptions {
    /// 4 connections, 5 in flight, 8 partitions, 100-byte values in 16 KiB batches, flat out.
    #[must_use]
    pub fn new(bootstrap: &str, topic: &str) -> ProduceOptions {
        ProduceOptions {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            partitions: 8,
            topic_configs: Vec::new(),
            shape: BatchShape {
                record_bytes: 100,
                batch_bytes: 16 << 10,
                max_records: u32::MAX,
                keys: 0,
                compression: crate::batch::codec::Compression::None,
            },
            connections: 4,
            in_flight: 5,
            acks: Acks::All,
            pace: Pace::Max,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(10),
            max_batches: None,
            idempotent: false,
            threads: 1,
            cpus: None,
            pin: true,
            journal: None,
            until_disconnect: false,
            keep_latencies: false,
        }
    }

    /// Refuses what cannot work, before anything is connected.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.partitions > 0, "--partitions: one at least");
        ensure!(self.connections > 0, "--connections: one at least");
        ensure!(self.threads > 0, "--threads: one at least");
        ensure!(
            (1..=10_000).contains(&self.in_flight),
            "--in-flight: 1 to 10000"
        );
        ensure!(
            !self.idempotent || self.acks == Acks::All,
            "--idempotent needs --acks all: a repeat is recognised among acknowledged batches"
        );
        ensure!(
            !self.idempotent || self.in_flight <= 5,
            "--idempotent allows --in-flight 5 at most: brokers remember five batches"
        );
        if let Pace::EventsPerSecond(rate) = self.pace {
            ensure!(rate.is_finite() && rate > 0.0, "--rate: above zero");
        }
        Ok(())
    }
}
