//! `fsck` beside recovery on a simulated disk: what a crash leaves is never called damage, what
//! is torn is named as recovery discards it, and both see the same log. `RINGLOG_FSCK_SEEDS` sets
//! how many logs are tried.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use ringlog_storage::fsck::LogCheck;

use rig::{Rig, small};

fn lines(check: &LogCheck) -> String {
    let findings = check.findings.iter().map(ToString::to_string);
    findings.collect::<Vec<_>>().join("\n")
}

/// Lives of a log with a crash at the end of each; after each crash the check and the start that
/// follows must agree.
fn lives(seed: u64) {
    let mut rig = Rig::new(seed, small());
    for life in 0..6 {
        let before = rig.check();
        let context = format!("seed {seed}, life {life}:\n{}", lines(&before));
        assert!(!before.is_damaged(), "{context}");
        let (mut log, report) = rig.try_open().expect("a log without damage opens");
        // A start adds a block that names the end, and a checkpoint if it is time for one.
        let added = report.end.0 - before.end.0;
        assert!((1..=2).contains(&added), "{context}\n{report}");
        assert_eq!(before.tail.bytes, report.discarded_tail_bytes, "{context}");
        assert!(report.damage.is_empty(), "{context}\n{report}");
        for range in &before.partitions {
            let bounds = log.bounds(range.partition);
            assert_eq!((range.first, range.end), bounds, "{context}");
        }
        rig.forget_unacknowledged(&log);
        let damaged = rig.read_all(&mut log).expect(&context);
        assert_eq!(damaged, [], "{context}");
        let steps = 20 + rig.below(200);
        rig.work(&mut log, steps);
        match rig.below(5) {
            0 => {
                rig.settle(&mut log);
                log.close(&mut rig::Bystander).expect("a disk that works");
            }
            1 => {
                rig.disk.kill();
                drop(log);
            }
            2 => {
                // Within the next start, somewhere in its recovery.
                rig.disk.power_cut();
                drop(log);
                let operations = rig.below(60);
                rig.disk.power_cut_after(operations);
                let _ = rig.try_open();
                rig.disk.power_cut();
            }
            _ => {
                rig.disk.power_cut();
                drop(log);
            }
        }
    }
}

#[test]
fn a_crash_is_never_taken_for_damage_and_check_and_start_agree_on_the_end() {
    let seeds = std::env::var("RINGLOG_FSCK_SEEDS").ok();
    let seeds = seeds.map(|text| text.parse().expect("RINGLOG_FSCK_SEEDS is a number"));
    for seed in 0..seeds.unwrap_or(200) {
        lives(seed);
    }
}
