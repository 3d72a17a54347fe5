//! Checking a batch on arrival, beside the CRC-32C and the memcpy of the same bytes: the least
//! a broker that vouches for its bytes can do.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringlog_benches::batch;
use ringlog_types::Offset;
use ringlog_types::batch::{crc32c, set_base_offset, validate};

fn validation(criterion: &mut Criterion) {
    for bytes in [16 << 10, 1 << 20] {
        let mut group = criterion.benchmark_group(format!("batch of {} KiB", bytes >> 10));
        let mut batch = batch(bytes);
        let mut copy = vec![0; batch.len()];
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function("validate", |bencher| {
            bencher.iter(|| validate(black_box(&batch)))
        });
        group.bench_function("crc32c alone (limit)", |bencher| {
            bencher.iter(|| crc32c(black_box(&batch[21..])));
        });
        group.bench_function("memcpy (limit)", |bencher| {
            bencher.iter(|| copy.copy_from_slice(black_box(&batch)));
        });
        group.bench_function("set base offset", |bencher| {
            bencher.iter(|| set_base_offset(black_box(&mut batch), Offset(1 << 40)));
        });
    }
}

criterion_group!(benches, validation);
criterion_main!(benches);
