//! Recorded power cuts on the real engine: whatever subset of unflushed sectors survives,
//! nothing acknowledged is lost, nothing is duplicated or reordered, groups are whole.

use ringlog_storage::log::FlushMethod;
use ringlog_tests::sim::cut_power;

fn cuts() -> u64 {
    let count = std::env::var("RINGLOG_POWER_CUTS").ok();
    count.map_or(50, |count| {
        count.parse().expect("RINGLOG_POWER_CUTS is a number")
    })
}

fn run(seed: u64, flush: FlushMethod) {
    let base = env!("CARGO_TARGET_TMPDIR");
    let directory = tempfile::tempdir_in(base).expect("a directory for the log");
    let done = cut_power(directory.path(), seed, 400, cuts(), flush);
    let done = done.unwrap_or_else(|broken| panic!("{broken}"));
    println!("seed {seed}, {flush:?}: {done:?}");
    assert_eq!(done.cuts, cuts());
    assert!(
        done.acknowledged > 100,
        "the run acknowledged little: {done:?}"
    );
}

#[test]
fn recorded_power_cuts_lose_nothing_acknowledged_with_dsync_writes() {
    run(11, FlushMethod::DsyncEachWrite);
}

#[test]
fn recorded_power_cuts_lose_nothing_acknowledged_with_one_flush_for_several_writes() {
    run(12, FlushMethod::FlushAfterWrites);
}
