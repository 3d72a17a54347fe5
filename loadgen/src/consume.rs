//! Consuming: fetch loops, one thread per leader or more, counting events by batch headers.
//! Records are not decoded; the stamp in a batch's first record tells when it was due, from which
//! the end-to-end latency follows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use kafka_protocol::error::ResponseError;
use ringlog_types::batch::{HEADER_BYTES, records};
use serde::Serialize;

use crate::batch::stamp::Stamp;
use crate::clock::now_ns;
use crate::kafka::cluster::{BrokerId, Cluster, Edge, TopicLayout};
use crate::kafka::fetch::{FetchLimits, Fetcher, batches};
use crate::latency::{Latencies, Percentiles};
use crate::pinning;
use crate::produce::progress::Progress;
use crate::produce::schedule::Window;

/// What a consuming run is asked to do.
#[derive(Clone, Debug)]
pub struct ConsumeOptions {
    /// Any broker.
    pub bootstrap: String,
    /// What to read.
    pub topic: String,
    /// Where to begin.
    pub from: Edge,
    /// Connections over all leaders; each leader gets one at least.
    pub connections: usize,
    /// Size and patience of fetches.
    pub limits: FetchLimits,
    /// Not measured.
    pub warmup: Duration,
    /// Measured.
    pub duration: Duration,
    /// End when every partition is read to where it ended at the start.
    pub until_end: bool,
    /// Take latencies from the stamps.
    pub latency: bool,
    /// CPUs of the threads; `None`: not bound.
    pub cpus: Option<Vec<usize>>,
}

/// What came out of a consuming run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConsumeReport {
    /// Length of the measured window.
    pub seconds: f64,
    /// Events received in it.
    pub events: u64,
    /// Events per second.
    pub events_per_second: f64,
    /// Batches, in MB/s.
    pub batch_mb_per_second: f64,
    /// Events received in the whole run.
    pub all_events: u64,
    /// From the time a batch was due at its producer to its receipt.
    pub latency: Percentiles,
}

impl ConsumeReport {
    /// A paragraph for people.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{:.0} events/s, {:.1} MB/s batches ({} events in {:.2} s)\n{}",
            self.events_per_second,
            self.batch_mb_per_second,
            self.events,
            self.seconds,
            self.latency_text()
        )
    }

    /// The same where the producer decides how fast it goes.
    #[must_use]
    pub fn received(&self) -> String {
        format!("{} events\n{}", self.all_events, self.latency_text())
    }

    fn latency_text(&self) -> String {
        let mut text = String::new();
        let latency = &self.latency;
        if latency.count > 0 {
            text.push_str(&format!(
                "end to end p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs\n",
                latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us
            ));
        }
        text
    }
}

#[derive(Default)]
struct ReaderOutcome {
    window_events: u64,
    window_bytes: u64,
    all_events: u64,
    latencies: Latencies,
    ended_ns: u64,
}

/// Reads until the window closes, the end is reached or `stop` is set. `ready` is set when every
/// reader's position is fixed: what is produced afterwards will be seen.
pub fn run(
    options: &ConsumeOptions,
    progress: &Progress,
    stop: &AtomicBool,
    ready: &AtomicBool,
) -> anyhow::Result<ConsumeReport> {
    let mut cluster = Cluster::connect(&options.bootstrap)?;
    let layout = cluster.layout(&options.topic)?;
    let starts = cluster.offsets(&options.topic, &layout, options.from)?;
    let ends = cluster.offsets(&options.topic, &layout, Edge::Latest)?;
    drop(cluster);
    ready.store(true, Ordering::Release);
    let window = Window::new(now_ns(), options.warmup, options.duration);
    let readers = lay_out(options, &layout, &starts, &ends)?;
    let cpus = match &options.cpus {
        Some(list) => Some(pinning::assign(Some(list), readers.len())?),
        None => None,
    };
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(index, reader)| {
                let cpu = cpus.as_ref().map(|cpus| cpus[index]);
                scope.spawn(move || {
                    if let Some(cpu) = cpu {
                        pinning::pin(cpu)?;
                    }
                    let outcome = reader.read(options, window, progress, stop);
                    if outcome.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    outcome
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| bail!("a consuming thread panicked"))
            })
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let mut latencies = Latencies::default();
    let mut report = ConsumeReport::default();
    let mut bytes = 0;
    let mut ended_ns = window.from_ns;
    for outcome in outcomes {
        latencies.merge(&outcome.latencies);
        report.events += outcome.window_events;
        report.all_events += outcome.all_events;
        bytes += outcome.window_bytes;
        ended_ns = ended_ns.max(outcome.ended_ns);
    }
    report.seconds = ended_ns.min(window.until_ns).saturating_sub(window.from_ns) as f64 / 1e9;
    if report.seconds > 0.0 {
        report.events_per_second = report.events as f64 / report.seconds;
        report.batch_mb_per_second = bytes as f64 / 1e6 / report.seconds;
    }
    report.latency = latencies.percentiles();
    Ok(report)
}

/// One connection's share.
struct Reader {
    broker: BrokerId,
    address: String,
    /// Partition, next offset, and where it ended at the start.
    positions: Vec<(u32, i64, i64)>,
}

fn lay_out(
    options: &ConsumeOptions,
    layout: &TopicLayout,
    starts: &[i64],
    ends: &[i64],
) -> anyhow::Result<Vec<Reader>> {
    let brokers = layout.leading_brokers();
    let mut readers: Vec<Reader> = Vec::new();
    for index in 0..options.connections.max(brokers.len()) {
        let broker = brokers[index % brokers.len()];
        let address = layout.address(broker)?.to_owned();
        readers.push(Reader {
            broker,
            address,
            positions: Vec::new(),
        });
    }
    for (partition, leader) in (0_u32..).zip(&layout.leaders) {
        let at = partition as usize;
        let least = readers
            .iter_mut()
            .filter(|reader| reader.broker == *leader)
            .min_by_key(|reader| reader.positions.len());
        let reader = least.context("every leader has a reader")?;
        reader.positions.push((partition, starts[at], ends[at]));
    }
    readers.retain(|reader| !reader.positions.is_empty());
    Ok(readers)
}

impl Reader {
    fn read(
        mut self,
        options: &ConsumeOptions,
        window: Window,
        progress: &Progress,
        stop: &AtomicBool,
    ) -> anyhow::Result<ReaderOutcome> {
        let mut fetcher = Fetcher::connect(&self.address, &options.topic, options.limits)?;
        let mut outcome = ReaderOutcome::default();
        let mut turn = 0;
        loop {
            let mut wanted: Vec<(u32, i64)> = self
                .positions
                .iter()
                .filter(|(_, next, end)| !options.until_end || next < end)
                .map(|(partition, next, _)| (*partition, *next))
                .collect();
            let now = now_ns();
            if wanted.is_empty() || now >= window.until_ns || stop.load(Ordering::Relaxed) {
                outcome.ended_ns = now;
                return Ok(outcome);
            }
            turn += 1;
            let count = wanted.len();
            wanted.rotate_left(turn % count);
            let fetched = fetcher.fetch(&wanted)?;
            let now = now_ns();
            for part in fetched {
                // Laid out in the order of partitions.
                let position = self
                    .positions
                    .binary_search_by_key(&part.partition, |(index, ..)| *index)
                    .ok()
                    .context("a partition that was not asked for")?;
                let (_, next, _) = &mut self.positions[position];
                match ResponseError::try_from_code(part.error_code) {
                    None => {}
                    Some(ResponseError::OffsetOutOfRange) if part.log_start_offset > *next => {
                        *next = part.log_start_offset;
                    }
                    Some(error) => {
                        return Err(error)
                            .with_context(|| format!("fetching partition {}", part.partition));
                    }
                }
                for batch in batches(&fetcher.bytes()[part.records]) {
                    let (header, bytes) = batch?;
                    *next = header.base_offset + i64::from(header.offsets());
                    let events = u64::from(header.record_count.max(0).cast_unsigned());
                    outcome.all_events += events;
                    progress.add(events, bytes.len() as u64);
                    if window.contains(now) {
                        outcome.window_events += events;
                        outcome.window_bytes += bytes.len() as u64;
                    }
                    if options.latency
                        && let Some(stamp) = stamp_of(bytes)
                        && window.contains(stamp.scheduled_ns)
                    {
                        outcome
                            .latencies
                            .record(now.saturating_sub(stamp.scheduled_ns));
                    }
                }
            }
        }
    }
}

/// The stamp of an uncompressed batch: its first record is read, no other.
fn stamp_of(batch: &[u8]) -> Option<Stamp> {
    let uncompressed = batch.get(22)? & 7 == 0;
    let first = records(batch.get(HEADER_BYTES..)?).next()?.ok()?;
    if uncompressed {
        Stamp::parse(first.value?)
    } else {
        None
    }
}
