//! The generator against its own sink: the pair whose speed is the ceiling.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ringlog_loadgen::batch::template::BatchTemplate;
use ringlog_loadgen::kafka::frame::{Acks, ProduceFrame};
use ringlog_loadgen::produce::options::ProduceOptions;
use ringlog_loadgen::produce::progress::Progress;
use ringlog_loadgen::produce::run::run;
use ringlog_loadgen::reference::loopback::Loopback;
use ringlog_loadgen::sink::serve;

#[test]
fn batches_of_every_size_go_through_the_sink_and_offsets_are_dense() {
    let address = serve::start().unwrap().to_string();
    for batch_bytes in [200, 2_000, 16 << 10, 255 << 10, 257 << 10, 1 << 20, 5 << 20] {
        let mut options = ProduceOptions::new(&address, &format!("sink-{batch_bytes}"));
        options.shape.batch_bytes = batch_bytes;
        options.max_batches = Some(50);
        options.duration = Duration::from_secs(30);
        options.pin = false;
        let report = run(&options, &Progress::default(), &AtomicBool::new(false)).unwrap();
        let records = u64::from(report.records_per_batch);
        assert_eq!(report.acknowledged_events, 50 * records);
        for partition in &report.expectation.partitions {
            // Acknowledged from 0 without a gap: the end is the number of records.
            let batches = partition.ledger.batches();
            assert_eq!(
                partition.ledger.end_offset().unwrap_or(0),
                batches * records
            );
        }
    }
}

#[test]
fn the_sink_sums_what_it_receives() {
    let address = serve::start().unwrap();
    let shape = ProduceOptions::new("", "").shape;
    let template = BatchTemplate::new(&shape).unwrap();
    // The template itself has no stamp and no CRC: a sink that computes it must hang up.
    let frame = ProduceFrame::new(9, "sums", Acks::All, template.bytes()).unwrap();
    let mut bytes = vec![0; frame.prefix_bytes()];
    frame.write_prefix(1, 0, &mut bytes);
    bytes.extend_from_slice(template.bytes());
    bytes.extend_from_slice(frame.suffix());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    // Reset or closed, but never an answer.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
}

#[test]
fn the_echo_gives_back_what_it_gets() {
    let address = serve::start_echo().unwrap().to_string();
    let latencies = Loopback::connect(&address)
        .unwrap()
        .round_trips(50)
        .unwrap();
    assert_eq!(latencies.len(), 50);
    assert!(latencies.iter().all(|latency| *latency > 0));
}
