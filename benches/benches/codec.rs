//! The hand-written codec of the hot pair, Produce and Fetch: what it costs to find the records
//! of a request and to build an answer around them. Beside it stand the memcpy of the same
//! bytes, which is what a codec pays that copies records, and the CRC-32C of the records, which
//! the broker has to compute anyway.

use std::hint::black_box;
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    self, ApiKey, FetchRequest as FetchMessage, ProduceRequest as ProduceMessage, TopicName,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use ringlog_benches::batch;
use ringlog_server::kafka::answer::{Answer, Outgoing};
use ringlog_server::kafka::fetch::request::FetchRequest;
use ringlog_server::kafka::fetch::response as fetched;
use ringlog_server::kafka::produce::request::ProduceRequest;
use ringlog_server::kafka::produce::response as produced;
use ringlog_server::kafka::request::RequestHeader;
use ringlog_server::kafka::topic_ref::TopicRef;
use ringlog_storage::buffer::Buf;
use ringlog_types::batch::{crc32c, validate};

/// Newest versions that name topics: what librdkafka and the load generator send.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;

/// Where a batch's checksum begins to count.
const CRC_FROM: usize = 21;

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

/// A request without its length, as the connection hands it on.
fn frame<R: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &R) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    messages::RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("bench")))
        .encode(&mut bytes, R::header_version(version))
        .expect("a header is encoded in every version");
    request
        .encode(&mut bytes, version)
        .expect("the request has only what its version knows");
    bytes.to_vec()
}

fn produce_frame(records: &[u8]) -> Vec<u8> {
    let partition = PartitionProduceData::default()
        .with_index(3)
        .with_records(Some(Bytes::copy_from_slice(records)));
    let request = ProduceMessage::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic())
                .with_partition_data(vec![partition]),
        ]);
    frame(ApiKey::Produce, PRODUCE_VERSION, &request)
}

fn fetch_frame(partitions: i32) -> Vec<u8> {
    let partitions = (0..partitions).map(|index| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(1 << 40)
            .with_partition_max_bytes(1 << 20)
    });
    let request = FetchMessage::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(64 << 20)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic())
                .with_partitions(partitions.collect()),
        ]);
    frame(ApiKey::Fetch, FETCH_VERSION, &request)
}

fn header_of(frame: &[u8]) -> RequestHeader {
    RequestHeader::parse(frame).expect("the reference encoder wrote it")
}

/// From a frame in memory to the place of its records, and on to records that are vouched for.
fn produce_request(criterion: &mut Criterion) {
    for bytes in [16 << 10, 1 << 20] {
        let mut group = criterion.benchmark_group(format!("Produce of {} KiB", bytes >> 10));
        let frame = produce_frame(&batch(bytes));
        let records = {
            let header = header_of(&frame);
            let request = ProduceRequest::parse(&frame, header.body_at, header.version);
            request.expect("readable").partitions[0].records.clone()
        };
        let parse = |frame: &[u8]| {
            let header = header_of(frame);
            ProduceRequest::parse(frame, header.body_at, header.version).expect("readable")
        };
        let mut copy = vec![0; frame.len()];
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| parse(black_box(&frame)))
        });
        group.bench_function("decode and check the batch", |bencher| {
            bencher.iter(|| {
                let request = parse(black_box(&frame));
                validate(&frame[request.partitions[0].records.clone()]).expect("a sound batch")
            });
        });
        group.bench_function("crc32c of the records (limit)", |bencher| {
            bencher.iter(|| crc32c(black_box(&frame[records.clone()][CRC_FROM..])));
        });
        group.bench_function("memcpy of the frame", |bencher| {
            bencher.iter(|| copy.copy_from_slice(black_box(&frame)));
        });
        group.finish();
    }
}

fn produce_response(criterion: &mut Criterion) {
    for partitions in [1_usize, 1_000] {
        let mut group =
            criterion.benchmark_group(format!("Produce answer, {partitions} partitions"));
        let header = header_of(&produce_frame(&batch(100)));
        let stored = produced::Stored {
            base_offset: 1 << 40,
            log_append_time_ms: -1,
            log_start_offset: 0,
        };
        let answer = produced::ProduceAnswer {
            topics: vec![(TopicRef::Name("orders".into()), partitions)],
            partitions: (0_i32..)
                .take(partitions)
                .map(|index| produced::PartitionAnswer {
                    index,
                    outcome: Ok(stored),
                })
                .collect(),
            endpoints: Vec::new(),
        };
        let encode = || {
            let mut out = Answer::default();
            let begun = out.begin(&header);
            answer.encode(out.body(), header.version);
            out.finish(begun);
            out
        };
        let bytes = vec![1; encode().len()];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("encode", |bencher| bencher.iter(encode));
        group.bench_function("allocate and memcpy (limit)", |bencher| {
            bencher.iter(|| black_box(&bytes).clone());
        });
        group.finish();
    }
}

fn fetch_request(criterion: &mut Criterion) {
    for partitions in [1, 1_000] {
        let mut group = criterion.benchmark_group(format!("Fetch of {partitions} partitions"));
        let frame = fetch_frame(partitions);
        let mut copy = vec![0; frame.len()];
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| {
                let header = header_of(black_box(&frame));
                FetchRequest::parse(&frame, header.body_at, header.version).expect("readable")
            });
        });
        group.bench_function("memcpy of the frame (limit)", |bencher| {
            bencher.iter(|| copy.copy_from_slice(black_box(&frame)));
        });
        group.finish();
    }
}

/// An answer of 16 KiB from each of many partitions, up to the pieces of its vectored write.
/// Records are not touched: the memcpy beside it is what an answer in one piece costs.
fn fetch_response(criterion: &mut Criterion) {
    const PARTITIONS: usize = 1_000;
    let mut group = criterion.benchmark_group("Fetch answer, 16 KiB from each of 1000 partitions");
    let header = header_of(&fetch_frame(1));
    let records = Buf::from_vec(batch(16 << 10));
    let answer = || fetched::FetchAnswer {
        error: None,
        session_id: 0,
        topics: vec![(TopicRef::Name("orders".into()), PARTITIONS)],
        partitions: (0_i32..)
            .take(PARTITIONS)
            .map(|index| fetched::PartitionAnswer {
                index,
                outcome: Ok(fetched::Found {
                    high_watermark: 1 << 40,
                    log_start_offset: 0,
                    batches: vec![records.clone()],
                }),
            })
            .collect(),
        endpoints: Vec::new(),
    };
    let all = answer().encode(&header).len();
    let inserted = PARTITIONS * records.len();
    let (whole, mut whole_copy) = (vec![1; all], vec![0; all]);
    let head = vec![1; all - inserted];
    group.throughput(Throughput::Elements(PARTITIONS as u64));
    group.bench_function("encode by reference", |bencher| {
        bencher.iter_batched(
            answer,
            |answer| answer.encode(&header),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("encode and gather for the socket", |bencher| {
        let gather = |answer: fetched::FetchAnswer| {
            let outgoing = Outgoing::new(answer.encode(&header));
            let mut slices = [IoSlice::new(&[]); 2 * PARTITIONS + 1];
            outgoing.gather(&mut slices, usize::MAX)
        };
        bencher.iter_batched(answer, gather, BatchSize::SmallInput);
    });
    group.bench_function("memcpy of what is written (limit)", |bencher| {
        bencher.iter(|| black_box(&head).clone());
    });
    group.bench_function("memcpy of the answer with its records", |bencher| {
        bencher.iter(|| whole_copy.copy_from_slice(black_box(&whole)));
    });
    group.finish();
}

criterion_group!(
    benches,
    produce_request,
    produce_response,
    fetch_request,
    fetch_response
);
criterion_main!(benches);
