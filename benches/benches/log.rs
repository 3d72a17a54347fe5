//! The log's hot path on a simulated disk, so that only our own work is measured: block
//! building beside a memcpy of the same bytes, the commit pipeline, and lookups.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringlog_benches::{Nothing, batch, records_meta, simulated_log};
use ringlog_storage::io::Io;
use ringlog_storage::io::sim::SimIo;
use ringlog_storage::log::{FRAME_HEADROOM_BYTES, FrameEntry, Log, LogConfig, Read};
use ringlog_types::{Offset, PartitionId};

const SEGMENT_BYTES: u64 = 16 << 20;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        pool_segments: 2,
        recycle_bytes: 4 * SEGMENT_BYTES,
        ..LogConfig::default()
    }
}

fn settle(log: &mut Log<SimIo>) {
    while log.durable() < log.appended() {
        log.submit();
        log.io_mut().wait(Duration::from_millis(1));
        log.poll(&mut Nothing);
    }
}

/// Appending 1 MiB of small batches into the open block: one copy and one XXH3.
fn block_building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("block building, 64 batches of 16 KiB");
    let payload = batch(16 << 10);
    group.throughput(Throughput::Bytes(64 * payload.len() as u64));
    group.bench_function("append", |bencher| {
        bencher.iter_batched_ref(
            || simulated_log(config()),
            |log| {
                for at in 0..64 {
                    let meta = records_meta(at % 8, at / 8 * 150, 150);
                    log.append(&[(meta, &payload)]).expect("a new log has room");
                }
            },
            BatchSize::PerIteration,
        );
    });
    let mut target = vec![0; payload.len()];
    group.bench_function("memcpy (limit)", |bencher| {
        bencher.iter(|| {
            for _ in 0..64 {
                target.copy_from_slice(black_box(&payload));
            }
        });
    });
    group.finish();
}

/// Append to durable, the simulated device's own copying included.
fn commit_pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit pipeline on a simulated disk");
    let payload = batch(1 << 20);
    group.throughput(Throughput::Bytes(payload.len() as u64));
    let mut log = simulated_log(config());
    let mut offset = 0;
    group.bench_function("1 MiB frame by reference", |bencher| {
        bencher.iter(|| {
            let end = FRAME_HEADROOM_BYTES + payload.len();
            let mut frame = loop {
                match log.pool().alloc(end) {
                    Some(frame) => break frame,
                    None => assert!(log.shrink_cache(), "only the cache holds memory"),
                }
            };
            frame[FRAME_HEADROOM_BYTES..end].copy_from_slice(&payload);
            let meta = records_meta(1, offset, 9600);
            offset += 9600;
            let entry = FrameEntry {
                meta,
                range: FRAME_HEADROOM_BYTES..end,
            };
            log.append_frame(&[entry], frame, end)
                .expect("the pipeline is empty");
            settle(&mut log);
            let start = log.retention_start(PartitionId(1), Some(2 * SEGMENT_BYTES), None);
            let Ok(start) = start else { return };
            if start > log.bounds(PartitionId(1)).0 {
                let meta = ringlog_storage::log::EntryMeta {
                    kind: ringlog_storage::log::EntryKind::StartOffset,
                    base_offset: start,
                    count: 0,
                    ..meta
                };
                log.append(&[(meta, b"")]).expect("the pipeline is empty");
                settle(&mut log);
            }
        });
    });
    let mut target = vec![0; payload.len()];
    group.bench_function("1 MiB memcpy (limit)", |bencher| {
        bencher.iter(|| target.copy_from_slice(black_box(&payload)));
    });
    group.finish();
}

/// Finding one batch among thousands at the tail.
fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup among 4,000 blocks");
    let mut log = simulated_log(config());
    let payload = batch(1 << 10);
    for at in 0..4_000 {
        log.append(&[(records_meta(at % 100, at / 100 * 9, 9), &payload)])
            .expect("room");
        settle(&mut log);
    }
    let mut at = 0;
    group.bench_function("read by offset", |bencher| {
        bencher.iter(|| {
            at = (at + 7) % 360;
            match log.read(PartitionId(at % 100), Offset(at), 1) {
                Read::Batches(found) => found.len(),
                other => panic!("the tail is in memory: {other:?}"),
            }
        });
    });
    group.bench_function("seek by timestamp", |bencher| {
        bencher.iter(|| log.seek_timestamp(PartitionId(5), black_box(1_600_000_000_000)));
    });
    group.finish();
}

criterion_group!(benches, block_building, commit_pipeline, lookup);
criterion_main!(benches);
