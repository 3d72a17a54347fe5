//! Brokers beside each other, one of which may not keep its word.

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
use ringlog_loadgen::compare::bench::Bench;
use ringlog_loadgen::compare::flat_out::Rounds;
use ringlog_loadgen::compare::side::Side;
use ringlog_loadgen::compare::{flat_out, one_at_a_time};
use ringlog_loadgen::produce::options::ProduceOptions;

const COUNTED: usize = 2;
const ROUNDS: Rounds = Rounds {
    uncounted: 1,
    counted: COUNTED,
};

fn options() -> ProduceOptions {
    let mut options = ProduceOptions::new("", "");
    options.shape.batch_bytes = 2_000;
    options.max_batches = Some(50);
    options.duration = Duration::from_secs(60);
    options.pin = false;
    options
}

fn side(label: &str, cluster: &Cluster) -> Side {
    format!("{label}@{}", cluster.bootstrap()).parse().unwrap()
}

#[test]
fn every_side_gets_its_slices_and_nothing_is_left_behind() {
    let (one, other) = (Cluster::start(2), Cluster::start(1));
    let sides = [side("one", &one), side("other", &other)];
    let stop = AtomicBool::new(false);
    let mut bench = Bench::new(2, true, &stop);
    let phase = flat_out::run(&mut bench, &sides, &options(), ROUNDS, None, &stop).unwrap();
    let latency = one_at_a_time::run(&mut bench, &sides, &options(), COUNTED).unwrap();
    assert!(bench.faults.is_empty(), "{:?}", bench.faults);
    let records = u64::from(phase.records_per_batch);
    for place in 0..2 {
        assert_eq!(phase.sides[place].events_per_second.len(), COUNTED);
        assert!(
            phase.sides[place]
                .events_per_second
                .iter()
                .all(|rate| *rate > 0.0)
        );
        assert_eq!(latency.sides[place].p50_us.len(), COUNTED);
        assert!(latency.sides[place].p99_us > 0.0);
        // Every slice of 50 batches, those of the uncounted rounds too, and 150 single events.
        let slices = (COUNTED + 1) as u64;
        assert_eq!(bench.verified_events[place], slices * (50 * records + 150));
    }
    assert_eq!(
        (one.store().topic_count(), other.store().topic_count()),
        (0, 0)
    );
}

#[test]
fn a_side_that_acknowledges_what_it_does_not_store_is_named() {
    let (honest, liar) = (Cluster::start(1), Cluster::start(1));
    liar.store().mischief.insert(70, Mischief::Lose);
    let sides = [side("honest", &honest), side("liar", &liar)];
    let stop = AtomicBool::new(false);
    let mut bench = Bench::new(2, true, &stop);
    flat_out::run(&mut bench, &sides, &options(), ROUNDS, None, &stop).unwrap();
    assert!(bench.faults[0].starts_with("liar: VERIFICATION FAILED"));
    assert!(!bench.faults.iter().any(|fault| fault.contains("honest")));
}

#[test]
fn a_refusal_ends_the_comparison_instead_of_becoming_a_low_figure() {
    let (one, other) = (Cluster::start(1), Cluster::start(1));
    let refusal = Mischief::Refuse(ResponseError::KafkaStorageError);
    other.store().mischief.insert(20, refusal);
    let sides = [side("one", &one), side("other", &other)];
    let stop = AtomicBool::new(false);
    let mut bench = Bench::new(2, true, &stop);
    let outcome = flat_out::run(&mut bench, &sides, &options(), ROUNDS, None, &stop);
    assert!(format!("{:#}", outcome.unwrap_err()).contains("other"));
}
