//! Files of every format version, as they were written, read back: a change of the format that
//! does not raise the version breaks these tests, and so does one that stops reading an old one.
//!
//! `golden/v<N>/` was made by `make_golden_files`, which is only run to add a version's files:
//! `cargo test -p ringlog-storage --test golden -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringlog_storage::format::block_header::{BlockHeader, Group};
use ringlog_storage::format::entry_header::{EntryHeader, EntryKind};
use ringlog_storage::format::manifest::{Counts, Manifest};
use ringlog_storage::format::replaced::Replaced;
use ringlog_storage::format::run_header::RunHeader;
use ringlog_storage::format::run_page::{self, Page};
use ringlog_storage::format::segment_header::SegmentHeader;
use ringlog_storage::format::trailer::Trailer;
use ringlog_storage::format::{FORMAT_VERSION, block, footer};
use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{Faults, SimDisk, SimIo};
use ringlog_storage::log::clean::{Fate, Lasting, Rewriter};
use ringlog_storage::log::{EntryMeta, Log, LogConfig, Read};
use ringlog_types::batch::{BatchHeader, Builder, HEADER_BYTES, records, set_base_offset};
use ringlog_types::{Offset, PartitionId};

use rig::files::UNIT;
use rig::{Bystander, LOG, check_image, partition};

const SEGMENT_BYTES: usize = 32 << 10;
/// Partition 3, which is compacted.
const COMPACTED: PartitionId = PartitionId((1 << 32) + 3);

fn folder(version: u16) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    tests.join(format!("v{version}"))
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES as u64,
        pool_segments: 1,
        target_block_bytes: 8 << 10,
        checkpoint_bytes: 48 << 10,
        reserve_bytes: 0,
        // Sealed segments go into index runs at once, and two runs become one.
        index_rows: 0,
        index_fan_in: 2,
        ..LogConfig::default()
    }
}

/// The value of a record: partition and offset, as often as it takes.
fn value(partition: PartitionId, offset: u64, bytes: usize) -> Vec<u8> {
    let word = format!("{partition}@{offset} ");
    word.bytes().cycle().take(bytes).collect()
}

fn batch(partition: PartitionId, base: u64, count: u64, bytes: usize) -> (EntryMeta, Vec<u8>) {
    let mut builder = Builder::new();
    for offset in base..base + count {
        let value = value(partition, offset, bytes);
        builder = builder.push(1_700_000_000_000, Some(b"key"), Some(&value), &[]);
    }
    let mut batch = builder.build();
    set_base_offset(&mut batch, Offset(base));
    let meta = EntryMeta {
        partition,
        kind: EntryKind::Records,
        machine: 0,
        base_offset: Offset(base),
        count: u32::try_from(count).unwrap(),
        max_timestamp: 1_700_000_000_000,
    };
    (meta, batch)
}

fn settle(log: &mut Log<SimIo>) {
    while log.durable() < log.appended() {
        log.submit();
        log.io_mut().wait(Duration::from_millis(10));
        log.poll(&mut Bystander);
    }
}

/// Leaves nothing of a batch with an even offset.
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

/// A third life: a partition of which compaction leaves every other batch, and a run of the cleaner; the
/// switches stand behind the newest checkpoint and before it. Then a kill.
fn clean_and_compact(disk: &SimDisk) {
    let config = LogConfig {
        clean_bytes_per_second: 1 << 30,
        clean_live_share: 0.95,
        clean_amplification: 1.01,
        ..config()
    };
    let (mut log, _) = Log::open(disk.io(), LOG, config, &mut Bystander).unwrap();
    let turn = |log: &mut Log<SimIo>| {
        if let Some(task) = log.take_clean_task() {
            log.finish_clean_task(task.run());
        }
        log.submit();
        log.io_mut().wait(Duration::from_millis(1));
        log.poll(&mut Bystander);
    };
    let mut end = 0;
    let mut fill = |log: &mut Log<SimIo>, batches: u64| {
        for _ in 0..batches {
            let (meta, bytes) = batch(COMPACTED, end, 1, 2_000);
            end += 1;
            log.append(&[(meta, &bytes)]).unwrap();
            settle(log);
        }
        (0..50).for_each(|_| turn(log));
    };
    fill(&mut log, 20);
    let found = (0..50).find_map(|_| {
        turn(&mut log);
        log.compactable(COMPACTED, i64::MAX).ok()
    });
    assert!(log.compact(COMPACTED, &found.unwrap(), Box::new(Odd)));
    (0..500).for_each(|_| turn(&mut log));
    assert_eq!(log.stats().compaction_passes, 1);
    for _ in 0..100 {
        log.plan_cleaning(&|_| Lasting::Long);
        turn(&mut log);
    }
    assert!(log.stats().clean_runs > 1, "nothing was cleaned");
    fill(&mut log, 4);
    disk.kill();
}

/// Lives of a log: small blocks of several partitions, a group of two blocks, a moved start,
/// checkpoints, index runs, segments that were sealed, cleaned, compacted, and one that a kill left
/// open.
#[test]
#[ignore = "writes the golden files of the present version"]
fn make_golden_files() {
    let disk = SimDisk::new(1, Faults::none());
    let mut ends = [0_u64; 3];
    for _ in 0..2 {
        let opened = Log::open(disk.io(), LOG, config(), &mut Bystander);
        let (mut log, _) = opened.unwrap();
        for round in 0..6 {
            for (number, end) in ends.iter_mut().enumerate().take(2) {
                let (meta, bytes) = batch(partition(number as u64), *end, 1 + round % 3, 200);
                *end += 1 + round % 3;
                log.append(&[(meta, &bytes)]).unwrap();
            }
            settle(&mut log);
        }
        let entries: Vec<_> = (0..3)
            .map(|number| batch(partition(2), ends[2] + number, 1, 8_000))
            .collect();
        ends[2] += 3;
        let entries: Vec<(EntryMeta, &[u8])> = entries
            .iter()
            .map(|(meta, bytes)| (*meta, &bytes[..]))
            .collect();
        log.append(&entries).unwrap();
        settle(&mut log);
        let start = EntryMeta {
            kind: EntryKind::StartOffset,
            base_offset: Offset(3),
            count: 0,
            max_timestamp: -1,
            ..batch(partition(1), 3, 1, 0).0
        };
        log.append(&[(start, &[])]).unwrap();
        settle(&mut log);
        for _ in 0..100 {
            log.submit();
            log.io_mut().wait(Duration::from_millis(1));
            log.poll(&mut Bystander);
            disk.advance(Duration::from_millis(2));
        }
        log.close(&mut Bystander).unwrap();
    }
    clean_and_compact(&disk);
    let folder = folder(FORMAT_VERSION);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in disk.current_image() {
        if content.iter().any(|byte| *byte != 0) {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }
    std::fs::write(folder.join("contents.txt"), contents(&load(FORMAT_VERSION))).unwrap();
}

fn load(version: u16) -> Image {
    let mut image = Image::new();
    for entry in folder(version).read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".segment") || name.ends_with(".index") {
            image.insert(name, std::fs::read(&path).unwrap());
        }
    }
    image
}

/// Everything in the files, in words, each structure by its decoder; and each encoded again.
fn contents(image: &Image) -> String {
    let mut text = String::new();
    for (name, content) in image {
        if name.ends_with(".index") {
            text.push_str(&run_contents(name, content));
            continue;
        }
        let is_present = u16::from_le_bytes([content[16], content[17]]) == FORMAT_VERSION;
        let header = SegmentHeader::decode(content).unwrap();
        let key = header.key();
        writeln!(text, "{name}: {} bytes, {header:?}", content.len()).unwrap();
        let mut unit = vec![0; UNIT];
        header.encode(&mut unit);
        assert!(
            !is_present || unit == content[..UNIT],
            "{name}: the segment header"
        );
        let mut at = UNIT;
        while let Ok(layout) = block::decode(&key, &content[at..], UNIT) {
            writeln!(
                text,
                "  block at {at}: {:?} checksum {:x}",
                layout.header, layout.checksum
            )
            .unwrap();
            assert!(block::damaged_payloads(&layout, &content[at..]).is_empty());
            let mut again = [0; BlockHeader::BYTES];
            layout.header.encode(&key, &mut again);
            assert!(
                !is_present || again == content[at..at + BlockHeader::BYTES],
                "{name}: block at {at}"
            );
            let table = at + layout.header.table_offset as usize;
            for (number, entry) in layout.entries.iter().enumerate() {
                writeln!(text, "    {entry:?}").unwrap();
                let mut row = [0; EntryHeader::BYTES];
                entry.encode(&mut row);
                let from = table + number * EntryHeader::BYTES;
                assert_eq!(
                    row,
                    content[from..from + EntryHeader::BYTES],
                    "{name}: entry {number}"
                );
                if entry.meta.kind == EntryKind::Replaced {
                    let payload = &content[at..][entry.range()];
                    let replaced = Replaced::decode(payload).unwrap();
                    writeln!(text, "    {replaced:?}").unwrap();
                    assert!(
                        !is_present || replaced.encode() == payload,
                        "{name}: what replaces segments"
                    );
                }
                if entry.meta.kind == EntryKind::Checkpoint {
                    let payload = &content[at..][entry.range()];
                    let (manifest, state) = Manifest::decode(payload).unwrap();
                    let words = if is_present {
                        format!("{manifest:?}")
                    } else {
                        without_runs(&manifest)
                    };
                    writeln!(text, "    {words} state {state:?}").unwrap();
                    let mut bytes = Vec::new();
                    manifest.encode(state, &mut bytes);
                    assert!(!is_present || bytes == payload, "{name}: the manifest");
                }
            }
            at += layout.header.block_bytes as usize;
        }
        let last = content.len() - UNIT;
        let Ok(trailer) = Trailer::decode(&key, &content[last..]) else {
            writeln!(text, "  not sealed").unwrap();
            continue;
        };
        writeln!(text, "  {trailer:?}").unwrap();
        let mut unit = vec![0; UNIT];
        trailer.encode(&key, &mut unit);
        assert!(
            !is_present || unit == content[last..],
            "{name}: the trailer"
        );
        let from = usize::try_from(trailer.footer_position).unwrap();
        let rows = &content[from..from + trailer.footer_bytes as usize];
        assert_eq!(key.checksum(rows), trailer.footer_checksum);
        let mut again = Vec::new();
        for (partition, row) in footer::decode_rows(rows).unwrap() {
            writeln!(text, "    {partition}: {row:?}").unwrap();
            footer::encode_row(partition, &row, &mut again);
        }
        assert_eq!(again, rows, "{name}: the footer");
    }
    text
}

/// A manifest as version 1 has it: nothing in it says anything of runs.
fn without_runs(manifest: &Manifest) -> String {
    let mut words = format!("{manifest:?}");
    let none = Counts::default();
    for row in &manifest.partitions {
        let new = format!("counted: {:?}, covered: {none:?}, ", row.start);
        words = words.replace(&new, "");
    }
    let words = words.replace(&format!("run: 0, live: {none:?}, "), "");
    let words = words.replace("origin: None, ", "");
    let words = words.replace("], moved: []", "]");
    words.replace(", dropped: [], runs: []", "")
}

/// An index run: its header, its pages, and each encoded again.
fn run_contents(name: &str, content: &[u8]) -> String {
    let header = RunHeader::decode(content).unwrap();
    let key = header.key();
    let mut text = format!("{name}: {} bytes, {header:?}\n", content.len());
    let mut again = vec![0; UNIT];
    header.encode(&mut again);
    for (number, bytes) in (0..).zip(content.chunks(UNIT)).skip(1) {
        let page = Page::decode(&key, number, bytes).unwrap();
        writeln!(text, "  page {number} of level {}", page.level()).unwrap();
        let rows: Vec<_> = (0..page.count()).filter_map(|at| page.row(at)).collect();
        let fences: Vec<_> = (0..page.count()).filter_map(|at| page.fence(at)).collect();
        rows.iter()
            .for_each(|row| writeln!(text, "    {row:?}").unwrap());
        fences
            .iter()
            .for_each(|fence| writeln!(text, "    {fence:?}").unwrap());
        match page.level() {
            0 => run_page::encode_rows(&key, number, &rows, UNIT, &mut again),
            level => run_page::encode_fences(&key, (number, level), &fences, UNIT, &mut again),
        }
    }
    assert!(again == content, "{name}: the pages");
    text
}

#[test]
fn version_1_decodes_to_what_was_written_down() {
    // Version 1 knows no cold segments.
    decodes_to_what_was_written_down(1, &|found| found.replace(", is_cold: false", ""));
}

#[test]
fn version_2_decodes_to_what_was_written_down_and_encodes_to_the_same_bytes() {
    decodes_to_what_was_written_down(2, &|found| found);
}

fn decodes_to_what_was_written_down(version: u16, as_it_was: &dyn Fn(String) -> String) {
    let image = load(version);
    let expected = std::fs::read_to_string(folder(version).join("contents.txt")).unwrap();
    let found = as_it_was(contents(&image));
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", number + 1);
    }
    assert_eq!(found, expected);
}

#[test]
fn the_golden_files_of_each_version_hold_every_kind_of_structure() {
    for version in 1..=2 {
        every_kind_of_structure_is_in(version);
    }
}

fn every_kind_of_structure_is_in(version: u16) {
    let mut image = load(version);
    let all = image.len();
    image.retain(|name, _| name.ends_with(".segment"));
    assert_eq!(all > image.len(), version > 1, "index runs");
    let (mut groups, mut kinds, mut sealed, mut open) = (Vec::new(), Vec::new(), 0, 0);
    for content in image.values() {
        let key = SegmentHeader::decode(content).unwrap().key();
        let mut at = UNIT;
        while let Ok(layout) = block::decode(&key, &content[at..], UNIT) {
            groups.push(layout.header.group);
            kinds.extend(layout.entries.iter().map(|entry| entry.meta.kind));
            at += layout.header.block_bytes as usize;
        }
        let is_sealed = Trailer::decode(&key, &content[content.len() - UNIT..]).is_ok();
        *(if is_sealed { &mut sealed } else { &mut open }) += 1;
    }
    for group in [Group::Whole, Group::Begin, Group::Commit] {
        assert!(groups.contains(&group), "no {group:?}");
    }
    for kind in [
        EntryKind::Records,
        EntryKind::StartOffset,
        EntryKind::Checkpoint,
    ] {
        assert!(kinds.contains(&kind), "no {kind:?}");
    }
    assert!(sealed >= 2 && open >= 1, "{sealed} sealed, {open} open");
    if version > 1 {
        for kind in [EntryKind::Replaced, EntryKind::Removed] {
            assert!(kinds.contains(&kind), "no {kind:?}");
        }
        let mut headers = image.values().map(|content| SegmentHeader::decode(content));
        assert!(
            headers.any(|header| header.unwrap().is_cold),
            "nothing cold"
        );
    }
    let total: usize = image.values().map(Vec::len).sum();
    assert!(total < 600 << 10, "{total} bytes");
}

#[test]
fn a_log_of_each_version_is_checked_opened_and_read_to_the_last_record() {
    for version in 1..=2 {
        is_checked_opened_and_read(version);
    }
}

fn is_checked_opened_and_read(version: u16) {
    let image = load(version);
    let check = check_image(&image);
    let damage: Vec<_> = check.damage().collect();
    assert!(damage.is_empty(), "a checker finds nothing: {damage:?}");
    assert!(check.checkpoint.is_some(), "it starts from a checkpoint");
    let disk = SimDisk::from_image(2, Faults::none(), image);
    let (mut log, report) = Log::open(disk.io(), LOG, config(), &mut Bystander).unwrap();
    assert!(report.damage.is_empty(), "{report}");
    let mut seen = BTreeSet::new();
    let bounds = [(0, 24), (3, 24), (0, 6)];
    let compacted = (version > 1).then_some((0, 24));
    for (number, (start, end)) in (0..).zip(bounds.into_iter().chain(compacted)) {
        let partition = partition(number);
        assert_eq!(
            log.bounds(partition),
            (Offset(start), Offset(end)),
            "{partition}"
        );
        let mut at = start;
        while at < end {
            let batches = match log.read(partition, Offset(at), 1 << 20) {
                Read::Batches(batches) => batches,
                Read::Pending(_) => {
                    log.submit();
                    log.io_mut().wait(Duration::from_millis(10));
                    log.poll(&mut Bystander);
                    continue;
                }
                other => panic!("{partition} at {at}: {other:?}"),
            };
            for bytes in batches {
                let header = ringlog_types::batch::validate(&bytes).unwrap();
                let base = u64::try_from(header.base_offset).unwrap();
                for (offset, record) in (base..).zip(records(&bytes[HEADER_BYTES..])) {
                    let length = [200, 200, 8_000, 2_000][usize::try_from(number).unwrap()];
                    let found = record.unwrap().value.unwrap();
                    assert_eq!(
                        found,
                        value(partition, offset, length),
                        "{partition}@{offset}"
                    );
                    seen.insert((partition, offset));
                    at = offset + 1;
                }
            }
        }
    }
    assert!(seen.len() >= 24 + 21 + 6, "{} records", seen.len());
}
