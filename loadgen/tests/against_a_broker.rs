//! The generator against a broker in this process: good days, lost connections, moved leaders,
//! and brokers that lose, repeat, reorder, alter or invent batches.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

#[expect(dead_code, reason = "shared with other tests, which use the rest")]
mod broker;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use broker::{Cluster, Mischief};
use kafka_protocol::error::ResponseError;
use ringlog_loadgen::batch::codec::Compression;
use ringlog_loadgen::consume::{self, ConsumeOptions};
use ringlog_loadgen::kafka::cluster::Edge;
use ringlog_loadgen::kafka::fetch::FetchLimits;
use ringlog_loadgen::kafka::frame::Acks;
use ringlog_loadgen::produce::options::ProduceOptions;
use ringlog_loadgen::produce::progress::Progress;
use ringlog_loadgen::produce::report::ProduceReport;
use ringlog_loadgen::produce::run::run;
use ringlog_loadgen::produce::schedule::Pace;
use ringlog_loadgen::verify::readback::{VerifyReport, verify};
use ringlog_loadgen::{end_to_end, journal};

const BATCHES: u64 = 200;

fn options(cluster: &Cluster) -> ProduceOptions {
    let mut options = ProduceOptions::new(&cluster.bootstrap(), "orders");
    options.shape.batch_bytes = 2_000;
    options.shape.keys = 10;
    options.partitions = 6;
    options.max_batches = Some(BATCHES);
    options.duration = Duration::from_secs(60);
    options.pin = false;
    options
}

fn produce(options: &ProduceOptions) -> ProduceReport {
    run(options, &Progress::default(), &AtomicBool::new(false)).unwrap()
}

fn verified(options: &ProduceOptions, report: &ProduceReport) -> VerifyReport {
    verify(&options.bootstrap, &report.expectation).unwrap()
}

#[test]
fn everything_acknowledged_is_read_back_with_every_codec_and_acknowledgement() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for (acks, idempotent) in [(Acks::All, true), (Acks::All, false), (Acks::Leader, false)] {
            let cluster = Cluster::start(2);
            let mut options = options(&cluster);
            options.shape.compression = compression;
            options.acks = acks;
            options.idempotent = idempotent;
            options.threads = 2;
            let report = produce(&options);
            let records = u64::from(report.records_per_batch);
            assert_eq!(report.acknowledged_events, BATCHES * records);
            assert_eq!(report.unknown_batches, 0);
            assert_eq!(report.latency.count, BATCHES);
            let found = verified(&options, &report);
            assert!(found.is_clean(), "{found:?}");
            assert_eq!(found.confirmed_events, BATCHES * records);
        }
    }
}

#[test]
fn without_acknowledgements_everything_is_sent_and_kept_in_order() {
    let cluster = Cluster::start(1);
    let mut options = options(&cluster);
    options.acks = Acks::None;
    // Nothing answers, so nothing may be waited for: at one turn per idle poll this takes 10 s.
    let batches = 2_000;
    options.max_batches = Some(batches);
    let report = produce(&options);
    assert!(report.seconds < 5.0, "{} s", report.seconds);
    assert_eq!(report.acknowledged_events, 0);
    assert_eq!(report.unknown_batches, batches);
    cluster.wait_for_batches(batches as usize);
    let found = verified(&options, &report);
    assert!(found.is_clean(), "{found:?}");
    assert_eq!(
        found.unacknowledged_events,
        batches * u64::from(report.records_per_batch)
    );
}

#[test]
fn an_idempotent_run_survives_refusals_and_lost_connections_without_gap_or_repeat() {
    let cluster = Cluster::start(2);
    let mut options = options(&cluster);
    options.idempotent = true;
    cluster.store().mischief.extend([
        (5, Mischief::Refuse(ResponseError::NotLeaderOrFollower)),
        (20, Mischief::StoreAndHangUp),
        (60, Mischief::HangUp),
        (61, Mischief::Refuse(ResponseError::KafkaStorageError)),
        (90, Mischief::StoreAndHangUp),
        (91, Mischief::HangUp),
        (150, Mischief::Refuse(ResponseError::RequestTimedOut)),
    ]);
    let report = produce(&options);
    assert!(report.retried_batches > 0);
    assert!(report.disconnects >= 3);
    assert_eq!(report.unknown_batches, 0);
    assert_eq!(
        report.acknowledged_events,
        BATCHES * u64::from(report.records_per_batch)
    );
    let found = verified(&options, &report);
    assert!(found.is_clean(), "{found:?}");
    assert_eq!(found.unacknowledged_events, 0);
}

#[test]
fn without_idempotence_a_lost_answer_is_unknown_and_its_batch_accepted() {
    let cluster = Cluster::start(1);
    let options = options(&cluster);
    cluster.store().mischief.extend([
        (30, Mischief::StoreAndHangUp),
        (80, Mischief::Refuse(ResponseError::NotLeaderOrFollower)),
    ]);
    let report = produce(&options);
    assert!(report.unknown_batches >= 2);
    let found = verified(&options, &report);
    assert!(found.is_clean(), "{found:?}");
    assert!(found.unacknowledged_events >= u64::from(report.records_per_batch));
}

#[test]
fn a_partition_follows_its_leader_and_keeps_its_order() {
    for idempotent in [true, false] {
        let cluster = Cluster::start(3);
        let mut options = options(&cluster);
        options.idempotent = idempotent;
        options.max_batches = None;
        options.pace = Pace::EventsPerSecond(20_000.0);
        options.duration = Duration::from_millis(900);
        let mover = {
            let cluster = cluster.clone();
            std::thread::spawn(move || {
                cluster.wait_for_batches(100);
                for partition in 0..6 {
                    cluster.move_leader("orders", partition, (partition as usize + 1) % 3);
                }
            })
        };
        let report = produce(&options);
        mover.join().unwrap();
        assert!(
            report.errors.contains_key("NotLeaderOrFollower"),
            "{:?}",
            report.errors
        );
        let found = verified(&options, &report);
        assert!(found.is_clean(), "idempotent {idempotent}: {found:?}");
        assert!(found.confirmed_events > 5_000);
    }
}

#[test]
fn a_refusal_for_good_ends_the_run_with_the_brokers_reason() {
    let cluster = Cluster::start(1);
    let options = options(&cluster);
    let refusal = Mischief::Refuse(ResponseError::MessageTooLarge);
    cluster.store().mischief.insert(7, refusal);
    let error = run(&options, &Progress::default(), &AtomicBool::new(false)).unwrap_err();
    assert!(
        format!("{error:#}").contains("MessageTooLarge"),
        "{error:#}"
    );
}

#[test]
fn a_journal_is_complete_when_the_node_dies_and_its_verifier_finds_all() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(2);
    let mut options = options(&cluster);
    options.max_batches = None;
    options.idempotent = true;
    options.until_disconnect = true;
    options.journal = Some(dir.path().join("acks"));
    let killer = {
        let cluster = cluster.clone();
        std::thread::spawn(move || {
            cluster.wait_for_batches(300);
            cluster.die();
        })
    };
    let report = produce(&options);
    killer.join().unwrap();
    assert!(report.disconnects > 0);
    let again = cluster.restart();
    let expectation = journal::read(&dir.path().join("acks")).unwrap();
    assert_eq!(
        expectation.acknowledged_events(),
        report.acknowledged_events
    );
    let found = verify(&again.bootstrap(), &expectation).unwrap();
    assert!(found.is_clean(), "{found:?}");
    // A node that forgot its last acknowledged batch is found out.
    let last = |log: &&mut Vec<Vec<u8>>| !log.is_empty();
    again.store().logs.values_mut().find(last).unwrap().clear();
    let found = verify(&again.bootstrap(), &expectation).unwrap();
    assert!(!found.is_clean());
    assert!(
        found.faults.iter().any(|fault| fault.contains("LOST")),
        "{found:?}"
    );
}

/// Produces, lets `harm` change what is stored of partition 2, and verifies.
fn after(harm: impl Fn(&mut Vec<Vec<u8>>)) -> VerifyReport {
    let cluster = Cluster::start(1);
    let mut options = options(&cluster);
    // Several connections share the batches by their speed, and a slow one may hold partition 2.
    options.connections = 1;
    let report = produce(&options);
    harm(
        cluster
            .store()
            .logs
            .get_mut(&("orders".to_owned(), 2))
            .unwrap(),
    );
    verified(&options, &report)
}

fn assert_found(found: &VerifyReport, fault: &str) {
    assert!(!found.is_clean());
    let there = found
        .faults
        .iter()
        .any(|text| text.starts_with("partition 2") && text.contains(fault));
    assert!(there, "no {fault} in {found:?}");
}

#[test]
fn each_planted_fault_is_found() {
    assert!(after(|_| {}).is_clean());
    assert_found(&after(|log| drop(log.pop())), "LOST");
    assert_found(&after(|log| drop(log.remove(3))), "LOST");
    assert_found(
        &after(|log| {
            let mut copy = log[4].clone();
            let records = ringlog_types::batch::BatchHeader::parse(&copy)
                .unwrap()
                .offsets();
            let end = ringlog_types::batch::BatchHeader::parse(log.last().unwrap()).unwrap();
            let end = end.base_offset.cast_unsigned() + u64::from(records);
            ringlog_types::batch::set_base_offset(&mut copy, ringlog_types::Offset(end));
            log.push(copy);
        }),
        "DUPLICATE",
    );
    assert_found(
        &after(|log| {
            // Swapped, with the offsets a broker would have given them.
            let (one, other) = (log[5].clone(), log[6].clone());
            log[5][8..].copy_from_slice(&other[8..]);
            log[6][8..].copy_from_slice(&one[8..]);
        }),
        "REORDERED",
    );
    assert_found(
        &after(|log| {
            let middle = log[2].len() / 2;
            log[2][middle] ^= 1;
        }),
        "ALTERED",
    );
    assert_found(
        &after(|log| {
            // A flipped bit under a checksum that fits: only the content can tell.
            let batch = &mut log[2];
            let middle = batch.len() / 2;
            batch[middle] ^= 1;
            let crc = ringlog_types::batch::crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }),
        "ALTERED",
    );
}

#[test]
fn a_batch_of_another_partition_is_a_phantom() {
    let cluster = Cluster::start(1);
    let mut options = options(&cluster);
    options.connections = 1;
    let report = produce(&options);
    {
        let mut store = cluster.store();
        let mut stray = store.logs[&("orders".to_owned(), 1)][0].clone();
        let log = store.logs.get_mut(&("orders".to_owned(), 2)).unwrap();
        let end = ringlog_types::batch::BatchHeader::parse(log.last().unwrap()).unwrap();
        let end = end.base_offset.cast_unsigned() + u64::from(end.offsets());
        ringlog_types::batch::set_base_offset(&mut stray, ringlog_types::Offset(end));
        log.push(stray);
    }
    assert_found(&verified(&options, &report), "PHANTOM");
}

#[test]
fn a_stall_is_charged_to_every_batch_that_was_due_meanwhile() {
    let cluster = Cluster::start(1);
    let mut options = options(&cluster);
    options.partitions = 1;
    options.connections = 1;
    options.in_flight = 1;
    options.shape.max_records = 1;
    options.max_batches = None;
    options.pace = Pace::EventsPerSecond(500.0);
    options.duration = Duration::from_millis(1_000);
    options.keep_latencies = true;
    cluster
        .store()
        .mischief
        .insert(100, Mischief::Stall(Duration::from_millis(300)));
    let report = produce(&options);
    // A closed loop would charge the stall to one batch; 150 were due within it.
    let late = report
        .latencies_ns
        .iter()
        .filter(|latency| **latency > 50_000_000)
        .count();
    assert!(
        late > 100,
        "{late} of {} batches are late",
        report.latencies_ns.len()
    );
    assert!(report.latency.max_us > 290_000.0);
    assert!(report.latencies_ns.len() > 400);
    assert!(verified(&options, &report).is_clean());
}

#[test]
fn a_consumer_counts_what_was_produced_and_the_tail_is_seen_end_to_end() {
    let cluster = Cluster::start(2);
    let mut options = options(&cluster);
    let report = produce(&options);
    let consume_options = ConsumeOptions {
        bootstrap: options.bootstrap.clone(),
        topic: options.topic.clone(),
        from: Edge::Earliest,
        connections: 3,
        limits: FetchLimits::BULK,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(30),
        until_end: true,
        latency: false,
        cpus: None,
    };
    let no = AtomicBool::new(false);
    let consumed = consume::run(
        &consume_options,
        &Progress::default(),
        &no,
        &AtomicBool::new(false),
    )
    .unwrap();
    assert_eq!(consumed.all_events, report.acknowledged_events);

    options.topic = "tail".to_owned();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let both =
        end_to_end::run_beside(&options, Some(dir.path()), &Progress::default(), &no).unwrap();
    assert_eq!(both.consume.all_events, both.produce.acknowledged_events);
    assert_eq!(both.consume.latency.count, BATCHES);
    let device = both.device.unwrap().latency;
    assert_eq!(device.count, 2000);
    assert!(
        0.0 < device.p50_us && device.p50_us <= device.p99_us,
        "{device:?}"
    );
}

#[test]
fn a_topic_with_another_number_of_partitions_is_refused() {
    let cluster = Cluster::start(1);
    let mut options = options(&cluster);
    produce(&options);
    options.partitions = 7;
    let error = run(&options, &Progress::default(), &AtomicBool::new(false)).unwrap_err();
    assert!(
        format!("{error:#}").contains("has 6 partitions"),
        "{error:#}"
    );
}
