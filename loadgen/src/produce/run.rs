//! A producing run: topic, connections and partitions laid out over threads, and the report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail};
use kafka_protocol::messages::ProduceRequest;

use crate::batch::stamp::RunId;
use crate::batch::template::BatchTemplate;
use crate::clock::now_ns;
use crate::journal::Journal;
use crate::kafka::client::Client;
use crate::kafka::cluster::{Cluster, Edge, TopicLayout};
use crate::kafka::frame::{NEWEST_PRODUCE, ProduceFrame};
use crate::latency::Latencies;
use crate::pinning;
use crate::produce::connection::Connection;
use crate::produce::options::ProduceOptions;
use crate::produce::partition::Partition;
use crate::produce::progress::Progress;
use crate::produce::report::ProduceReport;
use crate::produce::schedule::{Schedule, Window};
use crate::produce::worker::{RunShared, Worker, WorkerOutcome};
use crate::verify::expectation::{Expectation, PartitionExpectation};

/// Creates the topic if it is not there, sends, and reports. `stop` ends sending early and in
/// good order.
pub fn run(
    options: &ProduceOptions,
    progress: &Progress,
    stop: &AtomicBool,
) -> anyhow::Result<ProduceReport> {
    options.check()?;
    let template = BatchTemplate::new(&options.shape)?;
    let mut cluster = Cluster::connect(&options.bootstrap)?;
    let layout =
        cluster.ensure_topic(&options.topic, options.partitions, &options.topic_configs)?;
    let start_offsets = cluster.offsets(&options.topic, &layout, Edge::Latest)?;
    let first_leader = layout.address(layout.leaders[0])?;
    let version = Client::connect(first_leader)?.version_of::<ProduceRequest>(NEWEST_PRODUCE)?;
    let frame = ProduceFrame::new(version, &options.topic, options.acks, template.bytes())?;
    let run = RunId::random();
    let producer = match options.idempotent {
        true => Some(cluster.producer_id()?),
        false => None,
    };
    let journal = match &options.journal {
        Some(path) => Some(Journal::create(
            path,
            run,
            &options.topic,
            &options.shape,
            &start_offsets,
            template.records(),
        )?),
        None => None,
    };
    drop(cluster);
    let start_ns = now_ns();
    let shared = RunShared {
        options,
        template: &template,
        frame: &frame,
        version,
        run,
        producer,
        window: Window::new(start_ns, options.warmup, options.duration),
        stop,
        progress,
        journal: journal.as_ref(),
        batches_begun: &AtomicU64::new(0),
    };
    let workers = lay_out(&shared, &layout, start_ns)?;
    let connections = workers
        .iter()
        .map(|(connections, _)| connections.len())
        .sum();
    let outcomes = run_workers(&shared, &layout, workers)?;
    let report = sum_up(&shared, outcomes, &start_offsets, connections);
    if let Some(journal) = &journal {
        let sent = report.expectation.partitions.iter();
        let sent: Vec<u64> = sent.map(|partition| partition.sent.unwrap_or(0)).collect();
        journal.end(&sent)?;
    }
    Ok(report)
}

type Part = (Vec<Connection>, Vec<Partition>);

/// Connections go to the leaders in turn and to the threads in turn; each partition goes to one
/// connection of its leader.
fn lay_out(
    shared: &RunShared<'_>,
    layout: &TopicLayout,
    start_ns: u64,
) -> anyhow::Result<Vec<Part>> {
    let options = shared.options;
    let brokers = layout.leading_brokers();
    let partitions_of = |broker| {
        layout
            .leaders
            .iter()
            .filter(|leader| **leader == broker)
            .count()
    };
    // More connections than partitions of a leader would stay idle.
    let mut wanted = Vec::new();
    for index in 0..options.connections.max(brokers.len()) {
        let broker = brokers[index % brokers.len()];
        let there = wanted.iter().filter(|other| **other == broker).count();
        if there < partitions_of(broker) {
            wanted.push(broker);
        }
    }
    let threads = options.threads.min(wanted.len());
    let mut parts: Vec<Part> = (0..threads).map(|_| Part::default()).collect();
    for (index, broker) in wanted.iter().enumerate() {
        let records = shared.template.records();
        let schedule = Schedule::new(options.pace, records, index, wanted.len(), start_ns);
        let id = u32::try_from(index)?;
        let mut connection = Connection::open(*broker, layout.address(*broker)?, id, schedule)?;
        let of_broker = wanted.iter().filter(|other| *other == broker).count();
        let rank = wanted[..index]
            .iter()
            .filter(|other| *other == broker)
            .count();
        let (connections, partitions) = &mut parts[index % threads];
        let own = layout
            .leaders
            .iter()
            .enumerate()
            .filter(|(_, leader)| *leader == broker);
        for (nth, (partition, _)) in own.enumerate() {
            if nth % of_broker == rank {
                connection.partitions.push(partitions.len());
                partitions.push(Partition::new(u32::try_from(partition)?, records));
            }
        }
        connections.push(connection);
    }
    Ok(parts)
}

fn run_workers(
    shared: &RunShared<'_>,
    layout: &TopicLayout,
    parts: Vec<Part>,
) -> anyhow::Result<Vec<WorkerOutcome>> {
    let options = shared.options;
    let cpus = pinning::assign(options.cpus.as_deref(), parts.len())?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .zip(cpus)
            .map(|((connections, partitions), cpu)| {
                let worker = Worker::new(shared, layout.clone(), connections, partitions);
                std::thread::Builder::new()
                    .name(format!("produce-{cpu}"))
                    .spawn_scoped(scope, move || {
                        if options.pin {
                            pinning::pin(cpu)?;
                        }
                        pinning::exact_timers();
                        let outcome = worker.run();
                        if outcome.is_err() {
                            // The others would go on to the end for a result nobody gets.
                            shared.stop.store(true, Ordering::Relaxed);
                        }
                        outcome
                    })
                    .context("starting a generator thread")
            })
            .collect::<anyhow::Result<_>>()?;
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| bail!("a generator thread panicked"))
            })
            .collect()
    })
}

fn sum_up(
    shared: &RunShared<'_>,
    outcomes: Vec<WorkerOutcome>,
    start_offsets: &[i64],
    connections: usize,
) -> ProduceReport {
    let options = shared.options;
    let template = shared.template;
    let mut latencies = Latencies::default();
    let mut expectation = Expectation {
        run: shared.run,
        topic: options.topic.clone(),
        shape: options.shape.clone(),
        partitions: start_offsets
            .iter()
            .map(|start_offset| PartitionExpectation {
                start_offset: *start_offset,
                ledger: crate::verify::ledger::Ledger::new(template.records()),
                sent: Some(0),
            })
            .collect(),
    };
    let ended_ns = outcomes
        .iter()
        .map(|outcome| outcome.sending_ended_ns)
        .max()
        .unwrap_or(0);
    let measured_ns = ended_ns
        .min(shared.window.until_ns)
        .saturating_sub(shared.window.from_ns);
    let seconds = measured_ns as f64 / 1e9;
    let window_batches: u64 = outcomes.iter().map(|outcome| outcome.window_batches).sum();
    let per_second = |batches: f64| {
        if seconds > 0.0 {
            batches / seconds
        } else {
            0.0
        }
    };
    let batches_per_second = per_second(window_batches as f64);
    let mut report = ProduceReport {
        run: shared.run.to_string(),
        seconds,
        events: window_batches * u64::from(template.records()),
        events_per_second: batches_per_second * f64::from(template.records()),
        payload_mb_per_second: batches_per_second * template.payload_bytes() as f64 / 1e6,
        batch_mb_per_second: batches_per_second * template.total_bytes() as f64 / 1e6,
        latency: latencies.percentiles(),
        acknowledged_events: 0,
        unknown_batches: 0,
        retried_batches: 0,
        disconnects: 0,
        behind_batches: 0,
        errors: std::collections::BTreeMap::new(),
        batch_bytes: template.total_bytes() as u64,
        records_per_batch: template.records(),
        connections,
        verification: None,
        latencies_ns: Vec::new(),
        acknowledged_ns: Vec::new(),
        expectation: expectation.clone(),
    };
    for outcome in outcomes {
        latencies.merge(&outcome.latencies);
        report.latencies_ns.extend(outcome.latencies_ns);
        report.acknowledged_ns.extend(outcome.acknowledged_ns);
        report.unknown_batches += outcome.unknown_batches;
        report.retried_batches += outcome.retried_batches;
        report.disconnects += outcome.disconnects;
        report.behind_batches += outcome.behind_batches;
        for (error, count) in outcome.errors {
            *report.errors.entry(error).or_default() += count;
        }
        for partition in outcome.partitions {
            let slot = &mut expectation.partitions[partition.index as usize];
            slot.sent = Some(partition.sent());
            slot.ledger = partition.ledger;
        }
    }
    report.latency = latencies.percentiles();
    report.acknowledged_events = expectation.acknowledged_events();
    report.expectation = expectation;
    report
}
