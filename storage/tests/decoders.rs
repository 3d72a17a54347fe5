//! Every decoder of bytes from disk against bytes that were never written: mutations of valid
//! encodings, sealed again under their key so that they get past the checksums, and plain noise.
//! None may panic or give more than its input can hold; what is encoded decodes to itself.
//!
//! `RINGLOG_FUZZ_SECONDS` sets how long (3 without it), `RINGLOG_FUZZ_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::time::{Duration, Instant};

use ringlog_storage::format::block_header::{BlockHeader, Group};
use ringlog_storage::format::checksum::Key;
use ringlog_storage::format::entry_header::{EntryHeader, EntryKind, EntryMeta};
use ringlog_storage::format::footer::{self, BlockRef, ROW_BYTES};
use ringlog_storage::format::manifest::{
    Anchor, Counts, DroppedRow, Manifest, PartitionRow, RangeRow, RunInfo, SegmentRow,
};
use ringlog_storage::format::origin::Origin;
use ringlog_storage::format::replaced::{Moved, Replaced, Target};
use ringlog_storage::format::run_header::{self, RunHeader};
use ringlog_storage::format::run_page::{self, Fence, Page, RunRow};
use ringlog_storage::format::segment_header::{CheckpointPointer, SegmentHeader};
use ringlog_storage::format::trailer::Trailer;
use ringlog_storage::format::{block, segment_name};
use ringlog_storage::fsck::{CheckOptions, check};
use ringlog_storage::io::random::Random;
use ringlog_storage::io::sim::{Faults, SimDisk};
use ringlog_types::{LogId, Offset, PartitionId, Sequence};

use rig::{LOG, Rig, small};

fn seconds() -> Duration {
    let given = std::env::var("RINGLOG_FUZZ_SECONDS").ok();
    let given = given.map(|text| text.parse().expect("RINGLOG_FUZZ_SECONDS is a number"));
    Duration::from_secs(given.unwrap_or(3))
}

/// Runs rounds, each under a seed of its own, until the time is up.
fn rounds(mut round: impl FnMut(&mut Random)) {
    let given = std::env::var("RINGLOG_FUZZ_SEED").ok();
    if let Some(seed) = given {
        round(&mut Random::new(
            seed.parse().expect("RINGLOG_FUZZ_SEED is a number"),
        ));
        return;
    }
    let deadline = Instant::now() + seconds();
    let mut seed = 0;
    while Instant::now() < deadline {
        println!("RINGLOG_FUZZ_SEED={seed}");
        round(&mut Random::new(seed));
        seed += 1;
    }
    assert!(seed > 0, "no round was run");
}

fn below(random: &mut Random, below: usize) -> usize {
    usize::try_from(random.within(0..below as u64)).unwrap()
}

fn noise(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| random.next_u64() as u8).collect()
}

/// A number as fields have them: small, large, at an edge, anything.
fn number(random: &mut Random) -> u64 {
    match random.within(0..5) {
        0 => random.within(0..10),
        1 => u64::MAX - random.within(0..10),
        2 => 1 << random.within(0..64),
        3 => i64::MAX as u64 - random.within(0..3),
        _ => random.next_u64(),
    }
}

fn small_number(random: &mut Random) -> u32 {
    // Truncation is meant: any 32 bits.
    number(random) as u32
}

/// An offset as the decoders accept one.
fn offset(random: &mut Random) -> u64 {
    number(random) >> 2
}

/// Changes a few bytes: flips, edges in place of fields, pieces copied over others.
fn mutate(random: &mut Random, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..=random.within(0..4) {
        let at = below(random, bytes.len());
        match random.within(0..4) {
            0 => bytes[at] ^= 1 << random.within(0..8),
            1 => bytes[at] = random.next_u64() as u8,
            2 => {
                let field = number(random).to_le_bytes();
                let width = [2, 4, 8][below(random, 3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&field[..width]);
            }
            _ => {
                let to = below(random, bytes.len());
                let length = below(random, 64).min(bytes.len() - at.max(to));
                bytes.copy_within(at..at + length, to);
            }
        }
    }
}

fn pointer(random: &mut Random) -> Option<CheckpointPointer> {
    random.chance(0.5).then(|| CheckpointPointer {
        sequence: Sequence(number(random).max(1)),
        segment: number(random),
        position: number(random),
    })
}

fn segment_header(random: &mut Random) -> SegmentHeader {
    SegmentHeader {
        log: LogId(small_number(random)),
        segment: number(random),
        nonce: u128::from(number(random)) << 64 | u128::from(number(random)),
        segment_bytes: number(random),
        unit_bytes: small_number(random),
        epoch: small_number(random),
        created_ms: number(random).cast_signed(),
        checkpoint: pointer(random),
        is_cold: random.chance(0.5),
    }
}

fn block_header(random: &mut Random) -> BlockHeader {
    let groups = [Group::Whole, Group::Begin, Group::Continue, Group::Commit];
    BlockHeader {
        sequence: Sequence(number(random)),
        durable: Sequence(number(random)),
        previous: number(random),
        metadata_version: number(random),
        segment: number(random),
        group_first: Sequence(number(random)),
        group: groups[below(random, 4)],
        block_bytes: small_number(random),
        entry_count: small_number(random),
        table_offset: small_number(random),
        epoch: small_number(random),
        table_checksum: number(random),
        wall_ms: number(random).cast_signed(),
    }
}

fn trailer(random: &mut Random) -> Trailer {
    Trailer {
        segment: number(random),
        footer_position: number(random),
        footer_bytes: small_number(random),
        footer_checksum: number(random),
        data_end: number(random),
        first_sequence: Sequence(number(random)),
        last_sequence: Sequence(number(random)),
        last_checksum: number(random),
        checkpoint: pointer(random),
    }
}

fn entry(random: &mut Random) -> EntryHeader {
    let kinds = [
        EntryKind::Records,
        EntryKind::StartOffset,
        EntryKind::PartitionDropped,
        EntryKind::Checkpoint,
        EntryKind::Replaced,
        EntryKind::Removed,
        EntryKind::Machine,
    ];
    EntryHeader {
        meta: EntryMeta {
            partition: PartitionId(number(random)),
            kind: kinds[below(random, kinds.len())],
            machine: small_number(random) as u16,
            base_offset: Offset(offset(random)),
            count: small_number(random),
            max_timestamp: number(random).cast_signed(),
        },
        checksum: number(random),
        payload_offset: small_number(random) >> 1,
        length: small_number(random) >> 1,
    }
}

fn row(random: &mut Random) -> (PartitionId, BlockRef) {
    let first = offset(random);
    let block = BlockRef {
        first: Offset(first),
        end: Offset(first + 1 + random.within(0..1_000)),
        max_timestamp: number(random).cast_signed(),
        position_units: small_number(random),
        block_units: small_number(random),
        payload_bytes: small_number(random),
    };
    (PartitionId(number(random)), block)
}

fn some<T>(random: &mut Random, mut one: impl FnMut(&mut Random) -> T) -> Vec<T> {
    let count = below(random, 5);
    (0..count).map(|_| one(random)).collect()
}

fn manifest(random: &mut Random) -> Manifest {
    Manifest {
        anchor: Anchor {
            sequence: Sequence(number(random)),
            segment: number(random),
            end_position: number(random),
            checksum: number(random),
        },
        partitions: some(random, |random| PartitionRow {
            partition: PartitionId(number(random)),
            start: Offset(offset(random)),
            end: Offset(offset(random)),
            counted: Offset(offset(random)),
            covered: counts(random),
            damage: some(random, |random| {
                (Offset(offset(random)), Offset(offset(random)))
            }),
        }),
        segments: some(random, |random| SegmentRow {
            origin: (random.within(0..3) == 0).then(|| Origin {
                log: LogId(small_number(random)),
                segment: number(random),
            }),
            segment: number(random),
            data_end: number(random),
            first_sequence: Sequence(number(random)),
            last_sequence: Sequence(number(random)),
            run: number(random),
            live: counts(random),
            ranges: some(random, |random| RangeRow {
                partition: PartitionId(number(random)),
                first: Offset(offset(random)),
                end: Offset(offset(random)),
                bytes: number(random),
                max_timestamp: number(random).cast_signed(),
            }),
            moved: some(random, |random| PartitionId(number(random))),
        }),
        dropped: some(random, |random| DroppedRow {
            partition: PartitionId(number(random)),
            counted: Offset(offset(random)),
        }),
        runs: some(random, |random| RunInfo {
            number: number(random),
            rows: number(random),
            pages: small_number(random),
            root: small_number(random),
        }),
    }
}

fn counts(random: &mut Random) -> Counts {
    Counts {
        rows: number(random),
        bytes: number(random),
    }
}

fn run_header(random: &mut Random) -> RunHeader {
    RunHeader {
        log: LogId(7),
        number: number(random),
        nonce: u128::from(number(random)) << 64 | u128::from(number(random)),
        unit_bytes: small_number(random),
    }
}

/// Rows as a page has them: in order.
fn run_rows(random: &mut Random) -> Vec<RunRow> {
    let mut rows = some(random, |random| {
        let (partition, block) = row(random);
        let segment = number(random);
        RunRow {
            partition,
            segment,
            block,
        }
    });
    rows.sort_by_key(|row| (row.partition, row.block.first));
    rows.dedup_by_key(|row| (row.partition, row.block.first));
    rows
}

fn fences(random: &mut Random, page: u32) -> Vec<Fence> {
    let mut fences = some(random, |random| Fence {
        partition: PartitionId(number(random)),
        first: Offset(number(random)),
        max_timestamp: number(random).cast_signed(),
        page: small_number(random) % page,
    });
    fences.sort_by_key(|fence| (fence.partition, fence.first));
    fences.dedup_by_key(|fence| (fence.partition, fence.first));
    fences
}

fn replaced(random: &mut Random) -> Replaced {
    let moved = some(random, |random| {
        (PartitionId(number(random)), Offset(offset(random)))
    });
    Replaced {
        sources: some(random, number),
        moved: match random.chance(0.5) {
            true => Moved::All,
            false => Moved::Partitions(moved),
        },
        targets: some(random, |random| Target {
            segment: number(random),
            data_end: number(random),
            first_sequence: Sequence(number(random)),
            last_sequence: Sequence(number(random)),
            footer_bytes: small_number(random),
            footer_checksum: number(random),
            ranges: some(random, |random| {
                let first = offset(random) >> 1;
                RangeRow {
                    partition: PartitionId(number(random)),
                    first: Offset(first),
                    end: Offset(first + 1 + (offset(random) >> 2)),
                    bytes: number(random),
                    max_timestamp: number(random).cast_signed(),
                }
            }),
        }),
    }
}

#[test]
fn what_is_encoded_decodes_to_itself() {
    rounds(|random| {
        let mut unit = vec![0; 4096];
        let header = segment_header(random);
        header.encode(&mut unit);
        assert_eq!(SegmentHeader::decode(&unit), Ok(header));
        let key = header.key();
        let header = block_header(random);
        let checksum = header.encode(&key, &mut unit);
        assert_eq!(BlockHeader::decode(&key, &unit), Ok((header, checksum)));
        let last = trailer(random);
        last.encode(&key, &mut unit);
        assert_eq!(Trailer::decode(&key, &unit), Ok(last));
        let entries = some(random, entry);
        let mut table = vec![0; entries.len() * EntryHeader::BYTES];
        for (row, entry) in table.chunks_exact_mut(EntryHeader::BYTES).zip(&entries) {
            entry.encode(row);
        }
        assert_eq!(
            EntryHeader::decode_table(&table, u32::MAX as usize),
            Ok(entries)
        );
        let rows = some(random, row);
        let mut bytes = Vec::new();
        for (partition, row) in &rows {
            footer::encode_row(*partition, row, &mut bytes);
        }
        assert_eq!(footer::decode_rows(&bytes), Ok(rows));
        let checkpoint = manifest(random);
        let length = below(random, 40);
        let state = noise(random, length);
        let mut bytes = Vec::new();
        checkpoint.encode(&state, &mut bytes);
        assert_eq!(Manifest::decode(&bytes), Ok((checkpoint, &state[..])));
        let header = run_header(random);
        header.encode(&mut unit);
        assert_eq!(RunHeader::decode(&unit), Ok(header));
        let number_of_page = small_number(random).max(1);
        let rows = run_rows(random);
        let mut bytes = Vec::new();
        run_page::encode_rows(&key, number_of_page, &rows, 4096, &mut bytes);
        let page = Page::decode(&key, number_of_page, &bytes).unwrap();
        let found: Vec<_> = (0..page.count()).filter_map(|at| page.row(at)).collect();
        assert_eq!(found, rows);
        let above = fences(random, number_of_page);
        let mut bytes = Vec::new();
        run_page::encode_fences(&key, (number_of_page, 3), &above, 4096, &mut bytes);
        let page = Page::decode(&key, number_of_page, &bytes).unwrap();
        let found: Vec<_> = (0..page.count()).filter_map(|at| page.fence(at)).collect();
        assert_eq!(found, above);
        let number_of_run = number(random);
        let name = run_header::run_file_name(number_of_run);
        assert_eq!(run_header::run_number_of(&name), Some(number_of_run));
        let switch = replaced(random);
        assert_eq!(Replaced::decode(&switch.encode()), Ok(switch));
        let slot = number(random);
        assert_eq!(
            segment_name::slot_of(&segment_name::file_name(slot)),
            Some(slot)
        );
    });
}

/// A whole block: header, payloads, table.
fn whole_block(random: &mut Random, key: &Key) -> Vec<u8> {
    let entries = below(random, 6);
    let mut bytes = vec![0; 128];
    let mut rows = Vec::new();
    for _ in 0..entries {
        let length = below(random, 300);
        let mut entry = entry(random);
        entry.payload_offset = u32::try_from(bytes.len()).unwrap();
        entry.length = u32::try_from(length).unwrap();
        bytes.extend(noise(random, length));
        rows.push(entry);
    }
    let table_offset = bytes.len();
    for entry in &rows {
        let mut row = [0; EntryHeader::BYTES];
        entry.encode(&mut row);
        bytes.extend(row);
    }
    let table_checksum = key.checksum(&bytes[table_offset..]);
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    let header = BlockHeader {
        block_bytes: u32::try_from(bytes.len()).unwrap(),
        entry_count: u32::try_from(rows.len()).unwrap(),
        table_offset: u32::try_from(table_offset).unwrap(),
        table_checksum,
        ..block_header(random)
    };
    header.encode(key, &mut bytes);
    bytes
}

/// Makes the checksum of a block header or trailer, which stands before what it covers, true.
fn seal(key: &Key, bytes: &mut [u8], covered: usize) {
    if let Some((checksum, rest)) = bytes.split_first_chunk_mut::<8>()
        && let Some(rest) = rest.get(..covered - 8)
    {
        *checksum = key.checksum(rest).to_le_bytes();
    }
}

#[test]
fn a_mutated_block_is_refused_or_stays_within_its_bytes() {
    let mut decoded = 0_u64;
    rounds(|random| {
        let key = Key::derive(random.next_u64().into());
        let mut bytes = whole_block(random, &key);
        assert!(
            block::decode(&key, &bytes, 4096).is_ok(),
            "the block is valid before"
        );
        mutate(random, &mut bytes);
        if random.chance(0.5) {
            mutate(random, &mut bytes[..128]);
        }
        if random.chance(0.5) {
            let length = below(random, bytes.len() + 1);
            bytes.truncate(length);
        }
        if let Some(stated) = BlockHeader::unproven(&bytes) {
            // Also past the table's checksum, where the table lies in the block.
            let from = stated.table_offset as usize;
            let length = (stated.entry_count as usize).saturating_mul(EntryHeader::BYTES);
            if let Some(table) = bytes.get(from..from.saturating_add(length)) {
                let checksum = key.checksum(table).to_le_bytes();
                if bytes.len() >= 128 && random.chance(0.7) {
                    bytes[80..88].copy_from_slice(&checksum);
                }
            }
        }
        seal(&key, &mut bytes, 128);
        if let Ok(layout) = block::decode(&key, &bytes, 4096) {
            decoded += 1;
            assert!(layout.entries.len() * EntryHeader::BYTES <= bytes.len());
            for number in block::damaged_payloads(&layout, &bytes) {
                assert!(number < layout.entries.len());
            }
            for entry in &layout.entries {
                let _ = entry.meta.end_offset();
            }
        }
        if let Some(entries) = block::salvage_table(&key, &bytes) {
            assert!(entries.len() * EntryHeader::BYTES <= bytes.len());
        }
    });
    println!("{decoded} mutated blocks were decoded");
    let is_one_round = std::env::var_os("RINGLOG_FUZZ_SEED").is_some();
    assert!(
        decoded > 0 || is_one_round,
        "no mutation got past the checksums"
    );
}

#[test]
fn mutated_headers_trailers_footers_and_manifests_are_refused_or_bounded() {
    rounds(|random| {
        let mut unit = vec![0; 4096];
        let header = segment_header(random);
        header.encode(&mut unit);
        mutate(random, &mut unit[..SegmentHeader::BYTES]);
        if let Some((nonce, _)) = SegmentHeader::unproven(&unit) {
            let checksum = Key::derive(nonce).checksum(&unit[16..SegmentHeader::BYTES]);
            unit[8..16].copy_from_slice(&checksum.to_le_bytes());
        }
        let length = below(random, unit.len() + 1);
        let _ = SegmentHeader::decode(&unit);
        let _ = SegmentHeader::decode(&unit[..length]);

        let key = header.key();
        trailer(random).encode(&key, &mut unit);
        mutate(random, &mut unit[..Trailer::BYTES]);
        seal(&key, &mut unit, Trailer::BYTES);
        let _ = Trailer::decode(&key, &unit);
        let _ = Trailer::decode(&key, &unit[..length]);

        let mut bytes = Vec::new();
        for (partition, row) in some(random, row) {
            footer::encode_row(partition, &row, &mut bytes);
        }
        mutate(random, &mut bytes);
        let cut = below(random, bytes.len() + 1);
        for bytes in [&bytes[..], &bytes[..cut]] {
            if let Ok(rows) = footer::decode_rows(bytes) {
                assert_eq!(rows.len() * ROW_BYTES, bytes.len());
            }
        }

        run_header(random).encode(&mut unit);
        mutate(random, &mut unit[..RunHeader::BYTES]);
        let nonce = u128::from_le_bytes(unit[32..48].try_into().unwrap());
        let checksum = Key::derive(nonce).checksum(&unit[16..RunHeader::BYTES]);
        unit[8..16].copy_from_slice(&checksum.to_le_bytes());
        let _ = RunHeader::decode(&unit);
        let _ = RunHeader::decode(&unit[..length]);

        let mut bytes = Vec::new();
        match random.chance(0.5) {
            true => run_page::encode_rows(&key, 9, &run_rows(random), 4096, &mut bytes),
            false => {
                run_page::encode_fences(&key, (9, 1), &fences(random, 9), 4096, &mut bytes);
            }
        }
        mutate(random, &mut bytes[..200]);
        let sealed = key.checksum(&bytes[8..]);
        bytes[..8].copy_from_slice(&sealed.to_le_bytes());
        if let Ok(page) = Page::decode(&key, 9, &bytes) {
            let rows = (0..page.count()).filter_map(|at| page.row(at)).count();
            let fences = (0..page.count()).filter_map(|at| page.fence(at)).count();
            assert_eq!(rows + fences, page.count(), "each item is one of the two");
            let (partition, at) = (PartitionId(number(random)), Offset(number(random)));
            assert!(page.first_row_behind(partition, at) <= page.count());
            assert!(page.fence_before(partition, at) <= page.count());
        }
        let cut = below(random, bytes.len() + 1);
        let _ = Page::decode(&key, 9, &bytes[..cut]);

        let mut bytes = Vec::new();
        manifest(random).encode(b"state", &mut bytes);
        mutate(random, &mut bytes);
        let cut = below(random, bytes.len() + 1);
        for bytes in [&bytes[..], &bytes[..cut]] {
            if let Ok((manifest, state)) = Manifest::decode(bytes) {
                let rows = manifest.partitions.len() * 28 + manifest.segments.len() * 36;
                assert!(
                    rows + state.len() <= bytes.len(),
                    "more than the bytes can hold"
                );
            }
        }

        let mut bytes = replaced(random).encode();
        mutate(random, &mut bytes);
        let cut = below(random, bytes.len() + 1);
        for bytes in [&bytes[..], &bytes[..cut]] {
            if let Ok(switch) = Replaced::decode(bytes) {
                assert_eq!(switch.encode().len(), bytes.len());
            }
        }

        let length = below(random, 300);
        let bytes = noise(random, length);
        let _ = Replaced::decode(&bytes);
        let _ = EntryHeader::decode_table(&bytes, length);
        let _ = block::decode(&key, &bytes, 4096);
        let _ = Manifest::decode(&bytes);
        let _ = BlockHeader::unproven(&bytes);
    });
}

#[test]
fn a_mutated_log_is_checked_and_opened_or_refused() {
    let mut rig = Rig::new(7, small());
    let (mut log, _) = rig.try_open().unwrap();
    rig.work(&mut log, 150);
    rig.settle(&mut log);
    log.close(&mut rig::Bystander).unwrap();
    let whole = rig.disk.current_image();
    rounds(|random| {
        let mut image = whole.clone();
        let names: Vec<String> = image.keys().cloned().collect();
        let name = &names[below(random, names.len())];
        let content = image.get_mut(name).unwrap();
        if content.is_empty() {
            return;
        }
        if random.chance(0.2) {
            let length = below(random, content.len() + 1);
            content.truncate(length);
        }
        // Somewhere around a unit's start, where structures begin.
        let at = below(random, content.len().max(1)) / 4096 * 4096;
        let end = content.len().min(at + 200);
        mutate(random, &mut content[at.min(end)..end]);
        if let Ok(header) = SegmentHeader::decode(content) {
            let key = header.key();
            seal(
                &key,
                &mut content[at.min(end)..],
                if random.chance(0.5) { 128 } else { 120 },
            );
        }
        let checked = check(&image, LOG, CheckOptions::default());
        rig.disk = SimDisk::from_image(1, Faults::none(), image);
        let opened = rig.try_open();
        let (Ok(_), Ok((mut log, _))) = (checked, opened) else {
            return;
        };
        // What was changed under its own checksum reads as something else: only that it ends.
        let _ = rig.read_all(&mut log);
    });
}
