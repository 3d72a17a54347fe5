//! Opening a log with very many sealed segments, and looking into their index: what a start costs in
//! time and memory must not grow with what is stored.
//!
//! The files are made up: real headers, trailers, index runs and a real checkpoint, and where records
//! would be, holes. `cargo test -p ringlog-storage --test many_segments -- --ignored --nocapture` opens
//! 100 GiB in 1,600 segments of 10,000 partitions each, in `RINGLOG_MANY_DIR` or the temporary
//! directory (it needs 1 GB there), and says what it took.

#![expect(
    clippy::unwrap_used,
    reason = "tests: what cannot fail here is a failed test"
)]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ringlog_storage::format::block_header::{BlockHeader, Group};
use ringlog_storage::format::checksum::{Key, payload_checksum};
use ringlog_storage::format::entry_header::{EntryHeader, EntryKind, EntryMeta};
use ringlog_storage::format::footer::BlockRef;
use ringlog_storage::format::manifest::{
    Anchor, Counts, Manifest, PartitionRow, RunInfo, SegmentRow,
};
use ringlog_storage::format::run_header::{RunHeader, run_file_name};
use ringlog_storage::format::run_page::{self, Fence, RunRow};
use ringlog_storage::format::segment_header::{CheckpointPointer, SegmentHeader};
use ringlog_storage::format::segment_name::file_name;
use ringlog_storage::format::trailer::Trailer;
use ringlog_storage::io::Io;
use ringlog_storage::io::uring::{UringIo, UringOptions};
use ringlog_storage::log::{Log, LogConfig};
use ringlog_types::{Offset, PartitionId, Sequence};

use rig::{Bystander, LOG, partition};

const UNIT: usize = 4096;
/// Offsets of a partition in a segment.
const OFFSETS: u64 = 10;
const PAYLOAD_BYTES: u32 = 6_000;

struct Shape {
    segments: u64,
    partitions: u64,
    segment_bytes: u64,
    /// The segments (from 0) of each run.
    runs: Vec<Range<u64>>,
}

fn key_of(number: u64) -> (u128, Key) {
    let nonce = u128::from(number) + 7_000;
    (nonce, Key::derive(nonce))
}

fn row(partition_number: u64, segment: u64) -> RunRow {
    RunRow {
        partition: partition(partition_number),
        segment: segment + 1,
        block: BlockRef {
            first: Offset(segment * OFFSETS),
            end: Offset((segment + 1) * OFFSETS),
            max_timestamp: i64::try_from(segment * 1_000).unwrap(),
            position_units: 1 + u32::try_from(partition_number % 1_000).unwrap(),
            block_units: 2,
            payload_bytes: PAYLOAD_BYTES,
        },
    }
}

/// Writes a run as a builder of its own: pages of rows, a level of fences when one is full.
fn write_run(dir: &Path, number: u64, shape: &Shape, segments: &Range<u64>) -> RunInfo {
    let header = RunHeader {
        log: LOG,
        number,
        nonce: u128::from(number),
        unit_bytes: u32::try_from(UNIT).unwrap(),
    };
    let key = header.key();
    let file = File::create(dir.join(run_file_name(number))).unwrap();
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut unit = vec![0; UNIT];
    header.encode(&mut unit);
    out.write_all(&unit).unwrap();
    let mut page = 1;
    let mut fences = Vec::new();
    let mut count = 0;
    let mut rows = Vec::new();
    let mut bytes = Vec::new();
    let all =
        (0..shape.partitions).flat_map(|of| segments.clone().map(move |segment| row(of, segment)));
    let mut all = all.peekable();
    while let Some(next) = all.next() {
        rows.push(next);
        count += 1;
        if rows.len() == run_page::rows_in(UNIT) || all.peek().is_none() {
            bytes.clear();
            run_page::encode_rows(&key, page, &rows, UNIT, &mut bytes);
            out.write_all(&bytes).unwrap();
            let ms = rows.iter().map(|row| row.block.max_timestamp).max();
            fences.push(Fence {
                partition: rows[0].partition,
                first: rows[0].block.first,
                max_timestamp: ms.unwrap(),
                page,
            });
            rows.clear();
            page += 1;
        }
    }
    let mut level = 1;
    while fences.len() > 1 {
        let mut above = Vec::new();
        for below in fences.chunks(run_page::fences_in(UNIT)) {
            bytes.clear();
            run_page::encode_fences(&key, (page, level), below, UNIT, &mut bytes);
            out.write_all(&bytes).unwrap();
            let ms = below.iter().map(|fence| fence.max_timestamp).max();
            above.push(Fence {
                max_timestamp: ms.unwrap(),
                page,
                ..below[0]
            });
            page += 1;
        }
        (fences, level) = (above, level + 1);
    }
    out.flush().unwrap();
    RunInfo {
        number,
        rows: count,
        pages: page,
        root: fences[0].page,
    }
}

fn header(shape: &Shape, segment: u64, checkpoint: Option<CheckpointPointer>) -> SegmentHeader {
    SegmentHeader {
        log: LOG,
        segment,
        nonce: key_of(segment).0,
        segment_bytes: shape.segment_bytes,
        unit_bytes: u32::try_from(UNIT).unwrap(),
        epoch: 1,
        created_ms: 0,
        checkpoint,
        is_cold: false,
    }
}

/// A file that is all holes but for its header and its last unit.
fn write_segment(
    dir: &Path,
    shape: &Shape,
    segment: u64,
    checkpoint: Option<CheckpointPointer>,
    seal: bool,
) -> File {
    let file = File::create(dir.join(file_name(segment))).unwrap();
    file.set_len(shape.segment_bytes).unwrap();
    let mut unit = vec![0; UNIT];
    header(shape, segment, checkpoint).encode(&mut unit);
    file.write_all_at(&unit, 0).unwrap();
    if seal {
        let footer_bytes = u32::try_from(shape.partitions * 48).unwrap();
        let data_end = data_end(shape);
        let trailer = Trailer {
            segment,
            footer_position: data_end,
            footer_bytes,
            footer_checksum: 0,
            data_end,
            first_sequence: Sequence(segment),
            last_sequence: Sequence(segment),
            last_checksum: 0,
            checkpoint: None,
        };
        unit.fill(0);
        trailer.encode(&key_of(segment).1, &mut unit);
        file.write_all_at(&unit, shape.segment_bytes - UNIT as u64)
            .unwrap();
    }
    file
}

fn data_end(shape: &Shape) -> u64 {
    let footer = (shape.partitions * 48).next_multiple_of(UNIT as u64);
    shape.segment_bytes - UNIT as u64 - footer
}

fn manifest(shape: &Shape, runs: Vec<RunInfo>) -> Manifest {
    let anchor = Anchor {
        sequence: Sequence(shape.segments),
        segment: shape.segments + 1,
        end_position: UNIT as u64,
        checksum: 0xabc,
    };
    let covered = Counts {
        rows: shape.segments,
        bytes: shape.segments * u64::from(PAYLOAD_BYTES),
    };
    let partitions = (0..shape.partitions).map(|number| PartitionRow {
        partition: partition(number),
        start: Offset::ZERO,
        end: Offset(shape.segments * OFFSETS),
        counted: Offset::ZERO,
        covered,
        damage: Vec::new(),
    });
    let segments = (0..shape.segments).map(|segment| {
        let run = shape.runs.iter().position(|run| run.contains(&segment));
        SegmentRow {
            segment: segment + 1,
            origin: None,
            data_end: data_end(shape),
            first_sequence: Sequence(segment + 1),
            last_sequence: Sequence(segment + 1),
            run: runs[run.unwrap()].number,
            live: Counts {
                rows: shape.partitions,
                bytes: shape.partitions * u64::from(PAYLOAD_BYTES),
            },
            ranges: Vec::new(),
            moved: Vec::new(),
        }
    });
    Manifest {
        anchor,
        partitions: partitions.collect(),
        segments: segments.collect(),
        dropped: Vec::new(),
        runs,
    }
}

/// The block of a checkpoint, whole.
fn checkpoint_block(shape: &Shape, manifest: &Manifest) -> Vec<u8> {
    let segment = shape.segments + 1;
    let key = key_of(segment).1;
    let mut state = Vec::new();
    manifest.encode(b"state", &mut state);
    let parts: Vec<&[u8]> = state.chunks(512 << 10).collect();
    let mut block = vec![0; BlockHeader::BYTES];
    let mut entries = Vec::new();
    for (number, part) in (0..).zip(&parts) {
        let meta = EntryMeta {
            partition: PartitionId::NONE,
            kind: EntryKind::Checkpoint,
            machine: 0,
            base_offset: Offset(number),
            count: u32::try_from(parts.len()).unwrap(),
            max_timestamp: -1,
        };
        entries.push(EntryHeader {
            meta,
            payload_offset: u32::try_from(block.len()).unwrap(),
            length: u32::try_from(part.len()).unwrap(),
            checksum: payload_checksum(part),
        });
        block.extend_from_slice(part);
    }
    let table = block.len();
    block.resize(table + entries.len() * EntryHeader::BYTES, 0);
    for (row, entry) in block[table..].chunks_mut(EntryHeader::BYTES).zip(&entries) {
        entry.encode(row);
    }
    let table_checksum = key.checksum(&block[table..]);
    let bytes = block.len().next_multiple_of(UNIT);
    block.resize(bytes, 0);
    let sequence = manifest.anchor.sequence.next();
    let header = BlockHeader {
        sequence,
        durable: manifest.anchor.sequence,
        previous: manifest.anchor.checksum,
        metadata_version: 0,
        segment,
        group_first: sequence,
        group: Group::Whole,
        block_bytes: u32::try_from(bytes).unwrap(),
        entry_count: u32::try_from(entries.len()).unwrap(),
        table_offset: u32::try_from(table).unwrap(),
        epoch: 1,
        table_checksum,
        wall_ms: 0,
    };
    header.encode(&key, &mut block);
    block
}

fn make_log(dir: &Path, shape: &Shape) {
    std::fs::create_dir_all(dir).unwrap();
    let runs = (1..).zip(&shape.runs);
    let runs: Vec<RunInfo> = runs
        .map(|(number, segments)| write_run(dir, number, shape, segments))
        .collect();
    for segment in 1..=shape.segments {
        write_segment(dir, shape, segment, None, true);
    }
    let manifest = manifest(shape, runs);
    let anchor = manifest.anchor;
    let file = write_segment(dir, shape, anchor.segment, None, false);
    let block = checkpoint_block(shape, &manifest);
    file.write_all_at(&block, UNIT as u64).unwrap();
    let pointer = CheckpointPointer {
        sequence: anchor.sequence.next(),
        segment: anchor.segment,
        position: UNIT as u64,
    };
    write_segment(dir, shape, anchor.segment + 1, Some(pointer), false);
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split_whitespace().nth(1).unwrap();
    pages.parse::<usize>().unwrap() * 4096
}

fn open(dir: &Path, shape: &Shape) -> Log<UringIo> {
    let options = UringOptions {
        arena_bytes: 16 << 20,
        allow_buffered: true,
        ..UringOptions::default()
    };
    let io = UringIo::open(dir, &options).unwrap();
    let config = LogConfig {
        segment_bytes: shape.segment_bytes,
        pool_segments: 1,
        recycle_bytes: shape.segment_bytes,
        ..LogConfig::default()
    };
    let before = resident_bytes();
    let started = Instant::now();
    let (log, report) = Log::open(io, LOG, config, &mut Bystander).unwrap();
    let took = started.elapsed();
    assert!(
        report.damage.is_empty() && report.from_checkpoint,
        "{report}"
    );
    println!(
        "{} segments, {} partitions, {} GiB: opened in {took:?}; {} MiB more are resident, \
         of them {} KiB the index",
        shape.segments,
        shape.partitions,
        (shape.segments * shape.segment_bytes) >> 30,
        resident_bytes().saturating_sub(before) >> 20,
        log.index_bytes() >> 10,
    );
    log
}

/// Asks until it need not be asked again.
fn ask<T, E>(log: &mut Log<UringIo>, ask: impl Fn(&mut Log<UringIo>) -> Result<T, E>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ask(log) {
            Ok(answer) => return answer,
            Err(_) if Instant::now() < deadline => {
                log.submit();
                log.io_mut().wait(Duration::from_millis(1));
                log.poll(&mut Bystander);
            }
            Err(_) => panic!("no answer"),
        }
    }
}

/// What the index says, for partitions and segments here and there.
fn check(log: &mut Log<UringIo>, shape: &Shape) {
    let ends = shape.segments * OFFSETS;
    let (mut asked, mut longest) = (0_u32, Duration::ZERO);
    let started = Instant::now();
    for number in (0..shape.partitions).step_by(1 + usize::try_from(shape.partitions / 40).unwrap())
    {
        let of = partition(number);
        assert_eq!(log.bounds(of), (Offset::ZERO, Offset(ends)));
        let bytes = shape.segments * u64::from(PAYLOAD_BYTES);
        assert_eq!(log.partition_bytes(of), bytes);
        for segment in (0..shape.segments).step_by(1 + usize::try_from(shape.segments / 5).unwrap())
        {
            let ms = i64::try_from(segment * 1_000).unwrap();
            let begun = Instant::now();
            let found = ask(log, |log| log.seek_timestamp(of, ms));
            longest = longest.max(begun.elapsed());
            assert_eq!(found, Some(Offset(segment * OFFSETS)), "{of} at {ms}");
            asked += 1;
        }
        let largest = i64::try_from((shape.segments - 1) * 1_000).unwrap();
        let found = ask(log, |log| log.seek_max_timestamp(of));
        assert_eq!(found, Some((largest, Offset(ends - OFFSETS))));
        let kept = 3 * u64::from(PAYLOAD_BYTES);
        if shape.segments < 100 {
            let start = ask(log, |log| log.retention_start(of, Some(kept), None));
            assert_eq!(start, Offset(ends - 3 * OFFSETS));
        }
        let start = ask(log, |log| log.retention_start(of, None, Some(2_500)));
        assert_eq!(start, Offset(3 * OFFSETS));
    }
    println!(
        "{asked} looks for a time: {:?} each with others between, the longest {longest:?}; {} pages read",
        started.elapsed() / asked,
        log.stats().index_pages_read,
    );
}

#[test]
fn a_log_opens_by_its_runs_and_finds_times_and_limits_in_them() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let shape = Shape {
        segments: 40,
        partitions: 300,
        segment_bytes: 1 << 20,
        runs: vec![0..32, 32..39, 39..40],
    };
    make_log(&dir, &shape);
    let mut log = open(&dir, &shape);
    check(&mut log, &shape);
    // A partition's rows are taken off, and what remains is found.
    let meta = EntryMeta {
        partition: partition(5),
        kind: EntryKind::StartOffset,
        machine: 0,
        base_offset: Offset(4 * OFFSETS),
        count: 0,
        max_timestamp: -1,
    };
    log.append(&[(meta, &[])]).unwrap();
    let expected = (shape.segments - 4) * u64::from(PAYLOAD_BYTES);
    ask(&mut log, |log| {
        let bytes = log.partition_bytes(partition(5));
        (bytes == expected).then_some(()).ok_or(0)
    });
    assert!(log.index_bytes() < 1 << 20, "{} bytes", log.index_bytes());
    log.close(&mut Bystander).unwrap();
    let mut log = open(&dir, &shape);
    assert_eq!(log.partition_bytes(partition(5)), expected);
    let found = ask(&mut log, |log| log.seek_timestamp(partition(5), 0));
    assert_eq!(found, Some(Offset(4 * OFFSETS)));
}

#[test]
#[ignore = "writes 1 GB"]
fn a_hundred_gigabytes_of_ten_thousand_partitions_open_in_two_seconds() {
    let given = std::env::var_os("RINGLOG_MANY_DIR");
    let root = match given {
        Some(given) => tempfile::tempdir_in(given).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let dir = root.path().join("log");
    let shape = Shape {
        segments: 1_600,
        partitions: 10_000,
        segment_bytes: 64 << 20,
        // Two runs of the largest tier, and some of each below.
        runs: vec![
            0..1_024,
            1_024..1_536,
            1_536..1_584,
            1_584..1_592,
            1_592..1_600,
        ],
    };
    make_log(&dir, &shape);
    let mut log = open(&dir, &shape);
    check(&mut log, &shape);
    println!(
        "after the looks the index has {} KiB",
        log.index_bytes() >> 10
    );
}
