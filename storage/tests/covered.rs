//! The cleaner and log compaction where index runs cover what they work on: memory stays bounded, what
//! moved is found in its new place only, and a run that is made anew does not bring it back.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::clean::{Fate, Lasting, Rewriter};
use ringlog_storage::log::{Log, LogConfig};
use ringlog_types::batch::BatchHeader;

use rig::{Bystander, Rig, partition, small};

/// Everything sealed goes into a run at once, and all that may is cleaned.
fn config() -> LogConfig {
    LogConfig {
        index_rows: 0,
        index_cache_bytes: 0,
        index_fan_in: 3,
        pool_segments: 2,
        clean_bytes_per_second: 1 << 30,
        clean_live_share: 0.9,
        clean_amplification: 1.5,
        // A gap and the block behind it, at once.
        cold_cache_bytes: 256 << 10,
        ..small()
    }
}

fn turn(rig: &mut Rig, log: &mut Log<SimIo>) {
    if let Some(task) = log.take_clean_task() {
        log.finish_clean_task(task.run());
    }
    rig.turn(log);
}

fn turns(rig: &mut Rig, log: &mut Log<SimIo>, count: usize) {
    (0..count).for_each(|_| turn(rig, log));
}

/// Cleans until nothing is worth it.
fn clean(rig: &mut Rig, log: &mut Log<SimIo>) {
    for _ in 0..40 {
        log.plan_cleaning(&|_| Lasting::Long);
        turn(rig, log);
        for _ in 0..2_000 {
            if !log.stats().cleaning {
                break;
            }
            turn(rig, log);
        }
    }
}

fn run_files(rig: &Rig) -> Vec<(String, u64)> {
    let files = rig.disk.files().into_iter();
    files.filter(|(name, _)| name.ends_with(".index")).collect()
}

fn rot(rig: &Rig) {
    for (name, bytes) in run_files(rig) {
        for page in (0..usize::try_from(bytes).unwrap()).step_by(4096) {
            let sector = page..page + 512;
            rig.disk.corrupt(&name, sector, |sector| {
                sector[100] = sector[100].wrapping_add(1)
            });
        }
    }
}

/// Opens what a power cut left, reads everything.
fn reopen(rig: &mut Rig, context: &str) -> Log<SimIo> {
    let (mut log, report) = rig.try_open().expect(context);
    assert!(report.damage.is_empty(), "{context}: {report}");
    rig.forget_unacknowledged(&log);
    assert_eq!(rig.read_all(&mut log).unwrap(), [], "{context}");
    log
}

#[test]
fn memory_is_bounded_while_the_cleaner_moves_segments_that_runs_cover() {
    let mut rig = Rig::new(7, config());
    let (mut log, _) = rig.try_open().unwrap();
    let (mut most, mut cleaned) = (0, 0);
    for round in 0..12 {
        for step in 0..240 {
            rig.append(&mut log, partition(step % 60), 500);
            turn(&mut rig, &mut log);
        }
        rig.settle(&mut log);
        // Of most partitions little lives on, so that there is always something to move.
        for number in 0..45 {
            let (start, end) = log.bounds(partition(number));
            let keep = (end.0 - start.0) / 4;
            rig.trim_to(&mut log, partition(number), end.0 - keep);
        }
        rig.settle(&mut log);
        turns(&mut rig, &mut log, 300);
        clean(&mut rig, &mut log);
        rig.work(&mut log, 40);
        rig.settle(&mut log);
        turns(&mut rig, &mut log, 300);
        // Nothing is uncovered but what was sealed since the last run: a row is 40 bytes, a range 80.
        let bytes = log.index_bytes() - log.cached_index_bytes();
        if round < 3 {
            most = most.max(bytes);
        } else {
            assert!(
                bytes < most * 2,
                "round {round}: {bytes} bytes, {most} before"
            );
        }
        cleaned = log.stats().cleaned_segments;
        assert_eq!(rig.read_all(&mut log).unwrap(), [], "round {round}");
    }
    assert!(cleaned > 30, "{cleaned} segments were moved");
    assert!(run_files(&rig).len() < 16, "runs do not pile up");
    rig.disk.power_cut();
    drop(log);
    reopen(&mut rig, "after a power cut");
}

#[test]
fn a_run_that_is_made_anew_brings_nothing_back_that_was_replaced() {
    for seed in 0..4 {
        let context = format!("seed {seed}");
        let mut rig = Rig::new(seed, config());
        let (mut log, _) = rig.try_open().unwrap();
        for _ in 0..6 {
            rig.work(&mut log, 150);
            rig.settle(&mut log);
        }
        turns(&mut rig, &mut log, 300);
        clean(&mut rig, &mut log);
        assert!(log.stats().clean_runs > 0, "{context}: nothing was cleaned");
        let partitions: Vec<_> = rig.models.keys().copied().collect();
        let bytes = |log: &Log<SimIo>| -> Vec<u64> {
            let each = partitions.iter();
            each.map(|partition| log.partition_bytes(*partition))
                .collect()
        };
        turns(&mut rig, &mut log, 600);
        let before = bytes(&log);
        rot(&rig);
        log.shrink_cache();
        assert_eq!(rig.read_all(&mut log).unwrap(), [], "{context}");
        turns(&mut rig, &mut log, 2_500);
        assert_eq!(
            bytes(&log),
            before,
            "{context}: what is counted is the same"
        );
        rot(&rig);
        rig.disk.power_cut();
        drop(log);
        let mut log = reopen(&mut rig, &context);
        turns(&mut rig, &mut log, 2_500);
        assert_eq!(bytes(&log), before, "{context}: in the next life as well");
        log.close(&mut Bystander).unwrap();
        let check = rig.check();
        let damage: Vec<String> = check.damage().map(ToString::to_string).collect();
        assert_eq!(damage, Vec::<String>::new(), "{context}");
    }
}

/// Leaves every other batch.
#[derive(Debug)]
struct Odd;

impl Rewriter for Odd {
    fn note(&mut self, _: &[u8]) -> bool {
        true
    }

    fn rewrite(&self, batch: &[u8]) -> Fate {
        let base = BatchHeader::parse(batch).unwrap().base_offset;
        if base % 2 == 0 {
            Fate::Nothing
        } else {
            Fate::Same
        }
    }
}

#[test]
fn compaction_reaches_a_partition_in_segments_that_runs_cover_and_a_repair_leaves_it_compacted() {
    let mut rig = Rig::new(5, config());
    let (mut log, _) = rig.try_open().unwrap();
    let compacted = partition(1);
    for step in 0..400 {
        rig.append(&mut log, partition(step % 4), 700);
        rig.turn(&mut log);
    }
    rig.settle(&mut log);
    rig.work(&mut log, 200);
    rig.settle(&mut log);
    turns(&mut rig, &mut log, 400);
    assert!(log.stats().index_runs > 0 && log.stats().index_runs_made > 2);
    let before = log.partition_bytes(compacted);
    let others = |log: &Log<SimIo>| [0, 2, 3].map(|other| log.partition_bytes(partition(other)));
    let kept = others(&log);
    let found = (0..200).find_map(|_| {
        rig.turn(&mut log);
        log.compactable(compacted, i64::MAX).ok()
    });
    let found = found.expect("index pages come");
    assert!(
        found.dirty_bytes * 2 > before,
        "{found:?} of {before} bytes"
    );
    assert!(log.compact(compacted, &found, Box::new(Odd)));
    turns(&mut rig, &mut log, 3_000);
    assert_eq!(log.stats().compaction_passes, 1, "{:?}", log.stats());
    let after = log.partition_bytes(compacted);
    assert!(
        after < before * 3 / 4,
        "{before} bytes before, {after} after"
    );
    assert_eq!(others(&log), kept, "other partitions stay where they are");
    for life in 0..3 {
        // Whatever is read of the partition, nothing that was removed is.
        let (start, end) = log.bounds(compacted);
        let (mut at, mut gone) = (start.0, 0);
        while at < found.end.0.min(end.0) {
            let read = rig.read(&mut log, compacted, at);
            let ringlog_storage::log::Read::Batches(batches) = read else {
                panic!("life {life}, offset {at}: {read:?}");
            };
            for batch in batches {
                let header = BatchHeader::parse(&batch).unwrap();
                let base = header.base_offset.cast_unsigned();
                gone += u64::from(base > at);
                at = base + u64::from(header.offsets());
            }
        }
        assert!(gone > 10, "life {life}: {gone} gaps");
        let broken = log.stats().index_runs_broken;
        assert_eq!(
            broken > 0,
            life > 0,
            "life {life}: the runs rotted after the first"
        );
        assert_eq!(log.partition_bytes(compacted), after, "life {life}");
        assert_eq!(others(&log), kept, "life {life}");
        rot(&rig);
        rig.disk.power_cut();
        drop(log);
        log = rig.try_open().unwrap().0;
        turns(&mut rig, &mut log, 2_500);
    }
}
