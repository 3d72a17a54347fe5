//! The cleaner on a simulated disk: what it rewrites reads as before, in every life that follows,
//! and a power cut at any of its operations leaves the sources or the targets, whole.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::clean::Lasting;
use ringlog_storage::log::{Log, LogConfig};

use rig::{Rig, small};

fn eager() -> LogConfig {
    LogConfig {
        pool_segments: 2,
        clean_bytes_per_second: 1 << 30,
        clean_live_share: 0.9,
        clean_amplification: 1.5,
        ..small()
    }
}

/// A turn in which the helper works in place.
fn turn(rig: &mut Rig, log: &mut Log<SimIo>) {
    if let Some(task) = log.take_clean_task() {
        log.finish_clean_task(task.run());
    }
    rig.turn(log);
}

/// Whether something is worth cleaning: a look takes steps, and may have to read footers first.
fn plan(rig: &mut Rig, log: &mut Log<SimIo>) -> bool {
    let mut looks = 0;
    while looks < 40 {
        if log.failure().is_some() || log.plan_cleaning(&|_| Lasting::Long) {
            return log.failure().is_none();
        }
        looks += usize::from(!log.looks_at_segments());
        rig.turn(log);
    }
    false
}

/// Cleans until nothing is worth it, or the log failed.
fn clean(rig: &mut Rig, log: &mut Log<SimIo>) {
    while log.failure().is_none() && plan(rig, log) {
        for _ in 0..2_000 {
            turn(rig, log);
            if !log.stats().cleaning || log.failure().is_some() {
                break;
            }
        }
    }
}

/// A log with old segments in it, some of them with little that lives.
fn aged(seed: u64, config: LogConfig) -> (Rig, Log<SimIo>) {
    let mut rig = Rig::new(seed, config);
    let (mut log, _) = rig.try_open().unwrap();
    for _ in 0..8 {
        rig.work(&mut log, 120);
        rig.settle(&mut log);
    }
    (rig, log)
}

fn assert_sound(rig: &Rig, context: &str) {
    let check = rig.check();
    let findings: Vec<String> = check.findings.iter().map(ToString::to_string).collect();
    assert!(!check.is_damaged(), "{context}:\n{}", findings.join("\n"));
}

fn reopen(rig: &mut Rig, context: &str) -> Log<SimIo> {
    assert_sound(rig, context);
    let (mut log, report) = rig.try_open().expect(context);
    assert!(report.damage.is_empty(), "{context}: {report}");
    rig.forget_unacknowledged(&log);
    let damaged = rig.read_all(&mut log).expect(context);
    assert_eq!(damaged, [], "{context}");
    log
}

#[test]
fn what_was_cleaned_reads_as_before_in_this_life_and_the_next() {
    for seed in 0..10 {
        // Looks and lists of some take many steps, and other things happen between them.
        let config = LogConfig {
            clean_step_rows: [1024, 2][(seed % 2) as usize],
            ..eager()
        };
        let (mut rig, mut log) = aged(seed, config);
        clean(&mut rig, &mut log);
        assert!(
            log.stats().clean_runs > 0,
            "seed {seed}: nothing was cleaned"
        );
        assert_eq!(rig.read_all(&mut log).unwrap(), [], "seed {seed}");
        rig.disk.power_cut();
        drop(log);
        // The switch is replayed; then it is in the checkpoint; then the sources were used again.
        for life in 1..4 {
            let context = format!("seed {seed}, life {life}");
            let mut log = reopen(&mut rig, &context);
            rig.work(&mut log, 200);
            rig.settle(&mut log);
            clean(&mut rig, &mut log);
            assert_eq!(rig.read_all(&mut log).unwrap(), [], "{context}");
            rig.disk.power_cut();
        }
    }
}

#[test]
fn a_run_that_takes_many_steps_meets_whatever_is_written_and_removed_meanwhile() {
    for seed in 0..6 {
        let config = LogConfig {
            clean_step_rows: 1,
            ..eager()
        };
        let (mut rig, mut log) = aged(seed, config);
        let mut turns = 0;
        while log.stats().clean_runs < 2 {
            log.plan_cleaning(&|_| Lasting::Long);
            if turns % 4 == 0 {
                rig.work(&mut log, 1);
            }
            turn(&mut rig, &mut log);
            turns += 1;
            assert!(
                turns < 20_000,
                "seed {seed}: no second run comes to its end"
            );
        }
        rig.settle(&mut log);
        assert_eq!(rig.read_all(&mut log).unwrap(), [], "seed {seed}");
        rig.disk.power_cut();
        drop(log);
        for life in 1..3 {
            let context = format!("seed {seed}, life {life}");
            let mut log = reopen(&mut rig, &context);
            rig.work(&mut log, 200);
            rig.settle(&mut log);
            assert_eq!(rig.read_all(&mut log).unwrap(), [], "{context}");
            rig.disk.power_cut();
        }
    }
}

#[test]
fn sparse_segments_give_their_space_back() {
    let mut rig = Rig::new(3, eager());
    let (mut log, _) = rig.try_open().unwrap();
    for step in 0..500 {
        rig.append(&mut log, rig::partition(step % 5), 2_000);
        turn(&mut rig, &mut log);
    }
    rig.settle(&mut log);
    for partition in 0..4 {
        let partition = rig::partition(partition);
        let (_, end) = log.bounds(partition);
        rig.trim_to(&mut log, partition, end.0);
    }
    rig.settle(&mut log);
    // What was trimmed is counted, in steps.
    (0..400).for_each(|_| turn(&mut rig, &mut log));
    let before = log.stats().segments_live;
    clean(&mut rig, &mut log);
    // The sources are free once a checkpoint knows what replaced them.
    for _ in 0..4 {
        rig.work(&mut log, 40);
        rig.settle(&mut log);
    }
    let after = log.stats().segments_live;
    assert!(
        after * 2 < before,
        "{before} segments before, {after} after"
    );
    assert_eq!(rig.read_all(&mut log).unwrap(), []);
}

#[test]
fn a_power_cut_at_any_operation_of_a_run_loses_nothing() {
    for seed in 0..3 {
        let mut operations = 1;
        loop {
            let context = format!("seed {seed}, the power goes after {operations} operations");
            let (mut rig, mut log) = aged(seed, eager());
            assert!(plan(&mut rig, &mut log), "{context}: nothing to clean");
            rig.disk.power_cut_after(operations);
            for _ in 0..60 {
                turn(&mut rig, &mut log);
                log.plan_cleaning(&|_| Lasting::Long);
            }
            let is_over = log.stats().clean_runs > 1;
            rig.disk.power_cut();
            drop(log);
            let mut log = reopen(&mut rig, &context);
            // What is free is used: it must not be missed.
            rig.work(&mut log, 300);
            rig.settle(&mut log);
            assert_eq!(rig.read_all(&mut log).unwrap(), [], "{context}");
            rig.disk.power_cut();
            drop(log);
            reopen(&mut rig, &context);
            if is_over {
                break;
            }
            operations += 1;
            assert!(operations < 400, "{context}: a run never ends");
        }
    }
}
