//! Coming back: opening a log that was killed, with so many blocks behind its last checkpoint.
//! The disk is simulated, so that only our own work is measured: reading every block, checking
//! it, and putting it into the index. Beside it stand the memcpy of the same blocks and the
//! checksum that each of them needs.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringlog_benches::{Nothing, batch, records_meta};
use ringlog_storage::format::checksum::payload_checksum;
use ringlog_storage::io::Io;
use ringlog_storage::io::sim::{Faults, SimDisk};
use ringlog_storage::log::{Log, LogConfig};
use ringlog_types::LogId;

const SEGMENT_BYTES: u64 = 16 << 20;

/// No checkpoint and no recycling comes between: every block is walked.
fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        pool_segments: 2,
        checkpoint_bytes: 1 << 40,
        ..LogConfig::default()
    }
}

/// A disk as a kill leaves it behind `blocks` blocks of one batch each, in 100 partitions.
fn killed_log(blocks: u64, payload: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1, Faults::none());
    let (mut log, _) =
        Log::open(disk.io(), LogId(0), config(), &mut Nothing).expect("a new disk opens");
    for at in 0..blocks {
        log.append(&[(records_meta(at % 100, at / 100 * 150, 150), payload)])
            .expect("room");
        while log.durable() < log.appended() {
            log.submit();
            log.io_mut().wait(Duration::from_millis(1));
            log.poll(&mut Nothing);
        }
    }
    disk.kill();
    disk
}

fn opening(criterion: &mut Criterion) {
    let payload = batch(16 << 10);
    for blocks in [100_u64, 2_000] {
        let mut group = criterion.benchmark_group(format!("open behind {blocks} blocks of 16 KiB"));
        let image = killed_log(blocks, &payload).current_image();
        let open = |disk: SimDisk| {
            let (log, report) =
                Log::open(disk.io(), LogId(0), config(), &mut Nothing).expect("a killed log opens");
            assert!(report.damage.is_empty());
            (log, report.blocks_replayed)
        };
        let fresh = || SimDisk::from_image(2, Faults::none(), image.clone());
        assert!(
            open(fresh()).1 >= blocks,
            "recovery walked fewer blocks than were acknowledged"
        );
        group.sample_size(10);
        group.throughput(Throughput::Bytes(blocks * payload.len() as u64));
        group.bench_function("open", |bencher| {
            bencher.iter_batched(fresh, open, BatchSize::PerIteration);
        });
        let mut copy = vec![0; payload.len()];
        group.bench_function("memcpy of the batches (limit)", |bencher| {
            bencher.iter(|| {
                for _ in 0..blocks {
                    copy.copy_from_slice(black_box(&payload));
                }
            });
        });
        group.bench_function("XXH3 of the batches (limit)", |bencher| {
            bencher
                .iter(|| (0..blocks).fold(0, |sum, _| sum ^ payload_checksum(black_box(&payload))));
        });
        group.finish();
    }
}

criterion_group!(benches, opening);
criterion_main!(benches);
