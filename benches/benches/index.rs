//! Finding a place in the log by offset and by time: in memory, and through index runs; and what
//! making and merging runs costs for each row. The disk is simulated, so that only our own work is measured.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringlog_benches::{Nothing, batch, records_meta};
use ringlog_storage::io::Io;
use ringlog_storage::io::sim::{Faults, SimDisk, SimIo};
use ringlog_storage::log::{EntryMeta, Log, LogConfig};
use ringlog_types::{LogId, PartitionId};

const PARTITIONS: u64 = 200;
const BLOCKS: u64 = 400;

fn config(index_rows: usize) -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        index_rows,
        index_fan_in: 4,
        checkpoint_bytes: 1 << 40,
        ..LogConfig::default()
    }
}

fn turn(log: &mut Log<SimIo>) {
    log.submit();
    log.io_mut().wait(Duration::from_millis(1));
    log.poll(&mut Nothing);
}

/// A row for each partition in each block.
fn filled(index_rows: usize) -> Log<SimIo> {
    let disk = SimDisk::new(1, Faults::none());
    let opened = Log::open(disk.io(), LogId(0), config(index_rows), &mut Nothing);
    let (mut log, _) = opened.expect("a new disk opens");
    let payload = batch(100);
    for at in 0..BLOCKS {
        let metas = (0..PARTITIONS).map(|of| EntryMeta {
            max_timestamp: i64::try_from(at).unwrap_or(0),
            ..records_meta(of, at * 10, 10)
        });
        let entries: Vec<(EntryMeta, &[u8])> = metas.map(|meta| (meta, &payload[..])).collect();
        log.append(&entries).expect("room");
        while log.durable() < log.appended() {
            turn(&mut log);
        }
    }
    for _ in 0..5_000 {
        turn(&mut log);
    }
    log
}

fn seek(log: &mut Log<SimIo>, partition: PartitionId, ms: i64) {
    loop {
        match log.seek_timestamp(partition, ms) {
            Ok(found) => {
                black_box(found);
                return;
            }
            Err(_) => turn(log),
        }
    }
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for (name, rows) in [("in memory", 1 << 20), ("through runs, pages cached", 0)] {
        let mut log = filled(rows);
        let covered = log.stats().index_runs > 0;
        assert_eq!(covered, rows == 0, "runs are made when the budget is small");
        let mut at = 0;
        group.bench_function(format!("a time, {name}"), |bencher| {
            bencher.iter(|| {
                at = (at + 7_919) % (BLOCKS * PARTITIONS);
                let partition = records_meta(at % PARTITIONS, 0, 1).partition;
                seek(
                    &mut log,
                    partition,
                    i64::try_from(at / PARTITIONS).unwrap_or(0),
                );
            });
        });
    }
    group.sample_size(10);
    group.throughput(Throughput::Elements(BLOCKS * PARTITIONS));
    for (name, rows) in [("without runs", 1 << 20), ("with runs made and merged", 0)] {
        group.bench_function(format!("rows of a log written {name}"), |bencher| {
            bencher.iter_batched(|| (), |()| filled(rows), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);
