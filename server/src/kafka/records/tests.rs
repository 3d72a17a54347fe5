use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use ringlog_types::batch::{Builder, Compression, set_max_timestamp, validate};

use super::*;

/// Runs a future that only yields. Returns its result and how often it yielded.
fn finish<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for yielded in 0.. {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return (result, yielded);
        }
    }
    unreachable!()
}

fn memory() -> Arc<Budget> {
    Budget::new(1 << 30)
}

fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
    ringlog_types::batch::compress(compression, plain).unwrap()
}

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn batch(compression: Compression, timestamps: &[i64], value: &[u8]) -> Vec<u8> {
    let builder = timestamps.iter().fold(Builder::new(), |builder, at| {
        builder.push(*at, Some(b"key"), Some(value), &[("h", b"1")])
    });
    match compression {
        Compression::None => builder.build(),
        _ => builder.build_compressed(compression, |plain| compress(compression, plain)),
    }
}

#[test]
fn the_latest_record_is_found_whatever_the_codec() {
    for compression in ALL {
        let mut bytes = batch(compression, &[50, 90, 20, 90, 10], &[7; 300]);
        set_max_timestamp(&mut bytes, -1);
        validate(&bytes).unwrap();
        let latest = finish(latest(&memory(), &bytes)).0.unwrap();
        let expected = RecordPlace {
            offset_delta: 1,
            timestamp_ms: 90,
            has_key: true,
        };
        assert_eq!(latest, expected, "{compression:?}");
    }
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_whatever_the_codec() {
    for compression in ALL {
        let bytes = batch(compression, &[50, 90, 20, 95, 10], &[7; 30]);
        let find = |at| {
            finish(first_at_or_after(&memory(), &bytes, at, 0))
                .0
                .unwrap()
                .map(|p| p.offset_delta)
        };
        let found = [find(-5), find(51), find(91), find(96)];
        assert_eq!(found, [Some(0), Some(1), Some(3), None], "{compression:?}");
    }
}

#[test]
fn raw_snappy_of_some_clients_is_read_too() {
    let bytes = Builder::new()
        .push(5, None, Some(b"v"), &[])
        .build_compressed(Compression::Snappy, |plain| {
            snap::raw::Encoder::new().compress_vec(plain).unwrap()
        });
    assert_eq!(finish(latest(&memory(), &bytes)).0.unwrap().timestamp_ms, 5);
}

#[test]
fn a_bomb_ends_at_the_limit_and_lets_others_run_meanwhile() {
    let plain = vec![0x80; 300 << 20];
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        // One record, without a key, that says it has 200 MiB.
        let bomb = Builder::new()
            .push(5, None, None, &[])
            .build_compressed(compression, |_| {
                let mut record = vec![0x80, 0x80, 0x80, 0xc8, 0x01, 0, 0, 0, 1];
                record.extend_from_slice(&plain);
                compress(compression, &record)
            });
        assert!(bomb.len() < 4 << 20);
        let (result, yielded) = finish(latest(&memory(), &bomb));
        assert!(
            matches!(result, Err(OpenError::TooLarge { .. })),
            "{compression:?}: {result:?}"
        );
        assert!(yielded >= 500, "yielded {yielded} times in 128 MiB");
    }
    let bytes = batch(Compression::Zstd, &[1; 4000], &[9; 1000]);
    let (result, yielded) = finish(latest(&memory(), &bytes));
    assert!(
        result.is_ok() && yielded >= 10,
        "yielded {yielded} times in 4 MB"
    );
}

#[test]
fn batches_with_large_windows_are_opened_one_after_the_other() {
    let bomb = Builder::new()
        .push(5, None, None, &[])
        .build_compressed(Compression::Zstd, |_| {
            let mut record = vec![0x80, 0x80, 0x80, 0xc8, 0x01, 0, 0, 0, 1];
            record.resize(8 << 20, 0x80);
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(27).unwrap();
            std::io::Write::write_all(&mut encoder, &record).unwrap();
            encoder.finish().unwrap()
        });
    let memory = Budget::new(128 << 20);
    let mut context = Context::from_waker(Waker::noop());
    let mut first = Box::pin(latest(&memory, &bomb));
    assert!(
        first.as_mut().poll(&mut context).is_pending(),
        "it is being opened"
    );
    let mut second = pin!(latest(&memory, &bomb));
    for _ in 0..100 {
        assert!(
            second.as_mut().poll(&mut context).is_pending(),
            "no memory is left"
        );
    }
    let used = memory.figures().used_bytes;
    assert!((128 << 20..129 << 20).contains(&used), "{used} bytes");
    drop(first);
    let (result, yielded) = finish(second);
    assert!(matches!(result, Err(OpenError::Codec(_))), "{result:?}");
    assert!(yielded >= 20, "yielded {yielded} times in 8 MiB");
    assert_eq!(memory.figures().used_bytes, 0);
}

#[test]
fn a_sound_batch_that_takes_too_much_memory_is_told_apart_from_a_damaged_one() {
    use kafka_protocol::error::ResponseError;

    let record = vec![0; 17 << 20];
    let builder = || Builder::new().push(5, None, None, &[]);
    let snappy = builder().build_compressed(Compression::Snappy, |_| {
        snap::raw::Encoder::new().compress_vec(&record).unwrap()
    });
    let zstd = builder().build_compressed(Compression::Zstd, |_| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        std::io::Write::write_all(&mut encoder, &record[..10]).unwrap();
        encoder.finish().unwrap()
    });
    let damaged = builder().build_compressed(Compression::Zstd, |_| vec![9; 50]);
    for (bytes, code) in [
        (snappy, ResponseError::InvalidRecord),
        (zstd, ResponseError::InvalidRecord),
        (damaged, ResponseError::CorruptMessage),
    ] {
        let error = finish(latest(&memory(), &bytes)).0.unwrap_err();
        let found = crate::kafka::errors::of_opening(&error);
        assert_eq!(found, code, "{error}");
    }
}

#[test]
fn a_snappy_block_that_announces_too_much_makes_no_room() {
    let bomb = Builder::new()
        .push(5, None, None, &[])
        .build_compressed(Compression::Snappy, |_| vec![0xff, 0xff, 0xff, 0x7f, 0]);
    assert!(matches!(
        finish(latest(&memory(), &bomb)).0,
        Err(OpenError::Codec(_))
    ));
}

proptest! {
    #[test]
    fn damaged_batches_are_refused_or_read(
        codec in 0usize..5, at: proptest::sample::Index, by: u8, cut: proptest::sample::Index,
    ) {
        let mut bytes = batch(ALL[codec], &[3, 1, 2], b"value");
        let place = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
        bytes[place] ^= by;
        bytes.truncate(HEADER_BYTES + cut.index(bytes.len() - HEADER_BYTES + 1));
        let _ = finish(latest(&memory(), &bytes));
        let _ = finish(first_at_or_after(&memory(), &bytes, 2, 0));
    }

    #[test]
    fn any_bytes_are_refused_or_read(codec in 0i16..5, payload: Vec<u8>) {
        let mut bytes = batch(Compression::None, &[1], b"");
        bytes.truncate(HEADER_BYTES);
        bytes[22] = codec as u8;
        bytes.extend_from_slice(&payload);
        let _ = finish(latest(&memory(), &bytes));
    }
}
