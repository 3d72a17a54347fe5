//! Producer at a rate and consumer at the tail, in one process: latency from the time a batch was
//! due to its receipt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::consume::{self, ConsumeOptions, ConsumeReport};
use crate::kafka::cluster::{Cluster, Edge};
use crate::kafka::fetch::FetchLimits;
use crate::produce::options::ProduceOptions;
use crate::produce::progress::Progress;
use crate::produce::report::ProduceReport;
use crate::produce::run;

/// Both sides.
#[derive(Clone, Debug, Serialize)]
pub struct EndToEndReport {
    /// The producer's.
    pub produce: ProduceReport,
    /// The consumer's.
    pub consume: ConsumeReport,
}

/// Runs both sides over the producer's options.
pub fn run(
    options: &ProduceOptions,
    progress: &Progress,
    stop: &AtomicBool,
) -> anyhow::Result<EndToEndReport> {
    options.check()?;
    let mut cluster = Cluster::connect(&options.bootstrap)?;
    cluster.ensure_topic(&options.topic, options.partitions, &options.topic_configs)?;
    drop(cluster);
    let consume_options = ConsumeOptions {
        bootstrap: options.bootstrap.clone(),
        topic: options.topic.clone(),
        from: Edge::Latest,
        connections: 1,
        limits: FetchLimits {
            max_wait: Duration::from_millis(500),
            ..FetchLimits::BULK
        },
        warmup: options.warmup,
        // The producer decides when it is over; the window must not close before.
        duration: options.duration + Duration::from_secs(60),
        until_end: false,
        latency: true,
        cpus: None,
    };
    let (ready, produced) = (AtomicBool::new(false), AtomicBool::new(false));
    let unwatched = Progress::default();
    std::thread::scope(|scope| {
        let consumer = {
            let (ready, produced, options) = (&ready, &produced, &consume_options);
            scope.spawn(move || consume::run(options, progress, produced, ready))
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready.load(Ordering::Acquire) && !consumer.is_finished() {
            ensure!(
                Instant::now() < deadline,
                "the consumer did not get ready within 30 s"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let produced_report = run::run(options, &unwatched, stop);
        // The last batches are acknowledged; the tail reader has them after one more fetch.
        std::thread::sleep(Duration::from_millis(300));
        produced.store(true, Ordering::Relaxed);
        let consume = consumer
            .join()
            .unwrap_or_else(|_| bail!("the consumer panicked"))?;
        Ok(EndToEndReport {
            produce: produced_report?,
            consume,
        })
    })
}
