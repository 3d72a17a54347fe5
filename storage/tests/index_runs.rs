//! Index runs in a log that works: what they say is what was appended, they bound the memory, and
//! a damaged or missing one is made anew.

#![expect(
    clippy::unwrap_used,
    reason = "tests: what cannot fail here is a failed test"
)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::{Log, LogConfig, Read};

use rig::{Bystander, Rig, partition, small};

fn runs() -> LogConfig {
    LogConfig {
        index_rows: 0,
        index_cache_bytes: 0,
        index_fan_in: 3,
        ..small()
    }
}

/// A log with much in sealed segments, at rest, and its rig.
fn filled(seed: u64) -> Rig {
    let mut rig = Rig::new(seed, runs());
    let (mut log, _) = rig.try_open().unwrap();
    for _ in 0..12 {
        rig.work(&mut log, 200);
        rig.settle(&mut log);
    }
    for _ in 0..200 {
        rig.turn(&mut log);
    }
    assert!(log.stats().index_runs_made > 3, "{:?}", log.stats());
    assert!(log.stats().index_runs < 12, "{:?}", log.stats());
    log.close(&mut Bystander).unwrap();
    rig
}

fn run_files(rig: &Rig) -> Vec<String> {
    let files = rig.disk.files().into_iter();
    let runs = files.filter(|(name, _)| name.ends_with(".index"));
    runs.map(|(name, _)| name).collect()
}

/// Opens, reads everything, lets the log mend what it finds, and leaves it at rest.
fn read_all(rig: &mut Rig) -> Log<SimIo> {
    let (mut log, report) = rig.try_open().unwrap();
    assert!(report.damage.is_empty(), "{report}");
    rig.forget_unacknowledged(&log);
    let damaged = rig.read_all(&mut log).unwrap();
    assert_eq!(damaged, [], "everything is served");
    log
}

#[test]
fn what_the_runs_say_is_read_and_a_checker_agrees() {
    for seed in 0..4 {
        let mut rig = filled(seed);
        let check = rig.check();
        let damage: Vec<_> = check.damage().collect();
        assert!(damage.is_empty(), "seed {seed}: {damage:?}");
        let left = check.findings.iter();
        assert!(
            left.clone().all(|one| one.fault.name() == "index-run"),
            "seed {seed}: only runs that are left over: {:?}",
            check.findings
        );
        let log = read_all(&mut rig);
        assert!(log.stats().index_pages_read > 0, "seed {seed}");
    }
}

#[test]
fn a_damaged_run_is_found_and_made_anew_from_its_segments() {
    for seed in 0..4 {
        let mut rig = filled(seed);
        for name in run_files(&rig) {
            let bytes = rig.disk.files().iter().find(|(n, _)| *n == name).unwrap().1;
            for page in (0..usize::try_from(bytes).unwrap()).step_by(4096) {
                rig.disk
                    .corrupt(&name, page..page + 512, |sector| sector[100] ^= 1);
            }
        }
        let found = rig.check().findings;
        assert!(!found.is_empty(), "a checker names the runs");
        let is_run = |fault: &str| fault == "index-run";
        assert!(
            found.iter().all(|one| is_run(one.fault.name())),
            "{found:?}"
        );
        let mut log = read_all(&mut rig);
        assert!(log.stats().index_runs_broken > 0, "seed {seed}");
        rig.work(&mut log, 400);
        rig.settle(&mut log);
        for _ in 0..200 {
            rig.turn(&mut log);
        }
        log.close(&mut Bystander).unwrap();
        let check = rig.check();
        assert!(
            !check.is_damaged(),
            "seed {seed}: it is mended: {:?}",
            check.findings
        );
        read_all(&mut rig);
    }
}

#[test]
fn runs_that_are_gone_are_made_anew() {
    let rig = filled(9);
    let mut image = rig.disk.current_image();
    image.retain(|name, _| !name.ends_with(".index"));
    let mut rig = rig.on_image(image);
    let log = read_all(&mut rig);
    assert!(log.stats().index_runs_broken > 0);
}

/// Nothing makes a run anew in a log that closed: who asks is told, and does not wait.
#[test]
fn a_reader_of_a_damaged_run_in_a_closed_log_is_answered() {
    let rig = filled(9);
    let mut image = rig.disk.current_image();
    image.retain(|name, _| !name.ends_with(".index"));
    let mut rig = rig.on_image(image);
    let (mut log, _) = rig.try_open().unwrap();
    rig.disk.power_cut_after(1);
    for _ in 0..1_000 {
        rig.append(&mut log, partition(0), 10);
        rig.turn(&mut log);
    }
    assert!(log.failure().is_some(), "no write comes back any more");
    let partitions: Vec<_> = rig.models.keys().copied().collect();
    let mut failed = 0;
    for partition in partitions.repeat(3) {
        let start = log.bounds(partition).0;
        let mut turns = 0;
        while let Read::Pending(ticket) = log.read(partition, start, 1 << 20) {
            while log.reads_done() <= ticket {
                rig.turn(&mut log);
                turns += 1;
                assert!(turns < 1_000, "a read of {partition} never ends");
            }
        }
        failed += usize::from(matches!(
            log.seek_timestamp(partition, 0),
            Err(Read::Failed(_))
        ));
    }
    assert!(failed > 0, "a run is damaged");
}

#[test]
fn files_of_runs_do_not_pile_up_and_dead_segments_are_let_go() {
    let mut rig = filled(11);
    let (mut log, _) = rig.try_open().unwrap();
    let partitions: Vec<_> = (0..5).map(partition).collect();
    for round in 0..6 {
        rig.work(&mut log, 300);
        rig.settle(&mut log);
        for partition in &partitions {
            rig.trim_to_end(&mut log, *partition);
        }
        rig.settle(&mut log);
        for _ in 0..300 {
            rig.turn(&mut log);
        }
        let live = log.stats().segments_live;
        assert!(live <= 16, "round {round}: {live} segments live on");
    }
    let files = run_files(&rig).len();
    assert!(files <= 12, "{files} files of runs");
    assert!(log.index_bytes() < 1 << 20);
}
