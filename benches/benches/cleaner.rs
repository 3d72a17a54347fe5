//! What log compaction costs the helper: learning a batch's keys and rewriting a batch of which half
//! the records stay, for each codec, beside a memcpy of the same bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringlog_types::Offset;
use ringlog_types::batch::compact::{Compaction, CompactionRules};
use ringlog_types::batch::{Builder, Compression, compress, set_base_offset};

const RECORDS: u32 = 1000;

fn batch(codec: Compression, base: u64, keys: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut builder = Builder::new();
    for key in keys {
        let value: Vec<u8> = (0..100).map(|n: u32| ((n * key) >> 3) as u8).collect();
        builder = builder.push(1_000, Some(&key.to_be_bytes()), Some(&value), &[]);
    }
    let packed = |plain: &[u8]| compress(codec, plain).expect("records can be compressed");
    let mut bytes = builder.build_compressed(codec, packed);
    set_base_offset(&mut bytes, Offset(base));
    bytes
}

fn compaction() -> Compaction {
    Compaction::new(CompactionRules {
        now_ms: 0,
        delete_retention_ms: 0,
        most_keys: 1 << 20,
        opened_bytes: 64 << 20,
        seed: 1,
    })
}

fn rewriting(criterion: &mut Criterion) {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for codec in codecs {
        let mut group = criterion.benchmark_group(format!("compaction of a batch, {codec:?}"));
        let first = batch(codec, 0, 0..RECORDS);
        let second = batch(codec, u64::from(RECORDS), (0..RECORDS).step_by(2));
        let mut known = compaction();
        assert!(known.note(&first) && known.note(&second), "there is room");
        let mut copy = vec![0; first.len()];
        group.throughput(Throughput::Bytes(first.len() as u64));
        group.bench_function("note", |bencher| {
            let mut compaction = compaction();
            bencher.iter(|| compaction.note(black_box(&first)));
        });
        group.bench_function("rewrite, half stays", |bencher| {
            bencher.iter(|| known.rewrite(black_box(&first)));
        });
        group.bench_function("memcpy (limit)", |bencher| {
            bencher.iter(|| copy.copy_from_slice(black_box(&first)));
        });
    }
}

criterion_group!(benches, rewriting);
criterion_main!(benches);
