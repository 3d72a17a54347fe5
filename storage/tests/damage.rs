//! Damage to the files of a log: `fsck` finds and names it, a start serves what is whole and
//! never wrong bytes, and nothing is lost in silence.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod rig;

use std::collections::BTreeSet;

use ringlog_storage::format::segment_header::SegmentHeader;
use ringlog_storage::format::trailer::Trailer;
use ringlog_storage::fsck::{Fault, LogCheck};
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{Faults, SimDisk};
use ringlog_storage::log::Damage;
use ringlog_types::PartitionId;

use rig::files::{BlockPlace, FilePlace, take_apart};
use rig::{Rig, check_image, small};

type Offsets = BTreeSet<(PartitionId, u64)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SegmentHeader,
    BlockHeader,
    Table,
    Payload,
    Footer,
    Trailer,
    Sector,
    Swap,
    Delete,
    Truncate,
}

const KINDS: [Kind; 10] = [
    Kind::SegmentHeader,
    Kind::BlockHeader,
    Kind::Table,
    Kind::Payload,
    Kind::Footer,
    Kind::Trailer,
    Kind::Sector,
    Kind::Swap,
    Kind::Delete,
    Kind::Truncate,
];

/// What was done to an image.
struct Blow {
    kind: Kind,
    file: FilePlace,
    /// Blocks that cannot be as they were.
    hit: Vec<BlockPlace>,
    said: String,
}

impl Blow {
    fn records(&self) -> Offsets {
        let records = self.hit.iter().flat_map(BlockPlace::records);
        spread(records)
    }
}

fn spread(ranges: impl IntoIterator<Item = (PartitionId, u64, u64)>) -> Offsets {
    let ranges = ranges.into_iter();
    let offsets =
        ranges.flat_map(|(partition, first, end)| (first..end).map(move |at| (partition, at)));
    offsets.collect()
}

fn flip(content: &mut [u8], rig: &mut Rig, from: usize, to: usize) -> String {
    let at = from + rig.below((to - from) as u64) as usize;
    let bit = rig.below(8);
    content[at] ^= 1 << bit;
    format!("bit {bit} of byte {at}")
}

/// Damages one thing; `None`: there is nothing of that kind.
fn strike(image: &mut Image, rig: &mut Rig, kind: Kind, whole: &LogCheck) -> Option<Blow> {
    let mut files = take_apart(image);
    // Only what the log is made of: free files may hold anything.
    let is_live = |file: &FilePlace| {
        let mut segments = whole.segments.iter();
        segments.any(|segment| segment.file == file.name && segment.blocks > 0)
    };
    files.retain(is_live);
    match files.last_mut() {
        // A newest segment that is gone leaves no trace.
        Some(_) if kind == Kind::Delete => drop(files.pop()),
        // The last block cannot be told from one that was never finished.
        Some(newest) if newest.seal.is_none() && kind != Kind::SegmentHeader => {
            newest.blocks.pop();
        }
        _ => {}
    }
    files.retain(|file| !file.blocks.is_empty());
    if matches!(kind, Kind::Footer | Kind::Trailer) {
        files.retain(|file| {
            file.seal
                .as_ref()
                .is_some_and(|(footer, _)| !footer.is_empty())
        });
    }
    if files.is_empty() {
        return None;
    }
    let file = files.swap_remove(rig.below(files.len() as u64) as usize);
    let number = rig.below(file.blocks.len() as u64) as usize;
    let block = file.blocks[number].clone();
    let content = image.get_mut(&file.name)?;
    let (mut hit, mut said) = (vec![block.clone()], String::new());
    match kind {
        Kind::SegmentHeader => {
            said = flip(content, rig, 0, SegmentHeader::BYTES);
            hit = file.blocks.clone();
        }
        Kind::BlockHeader => said = flip(content, rig, block.bytes.start, block.bytes.start + 128),
        Kind::Table if block.table.is_empty() => return None,
        Kind::Table => said = flip(content, rig, block.table.start, block.table.end),
        Kind::Payload => {
            let entry = *block.entries.iter().find(|entry| entry.length > 0)?;
            let range = entry.range();
            let start = block.bytes.start;
            said = flip(content, rig, start + range.start, start + range.end);
            hit[0].entries = vec![entry];
        }
        Kind::Footer => {
            let (footer, _) = file.seal.clone()?;
            said = flip(content, rig, footer.start, footer.end);
            hit.clear();
        }
        Kind::Trailer => {
            let (_, trailer) = file.seal.clone()?;
            said = flip(content, rig, trailer, trailer + Trailer::BYTES);
            hit.clear();
        }
        Kind::Sector => content[block.bytes.start..][..512].fill(0),
        Kind::Swap => {
            let length = block.bytes.len();
            let mut others = file.blocks.iter();
            let other =
                others.find(|other| other.bytes.len() == length && other.bytes != block.bytes)?;
            let held = content[block.bytes.clone()].to_vec();
            content.copy_within(other.bytes.clone(), block.bytes.start);
            content[other.bytes.clone()].copy_from_slice(&held);
            said = format!("with the one at {}", other.bytes.start);
            hit.push(other.clone());
        }
        Kind::Delete => {
            image.remove(&file.name);
            hit = file.blocks.clone();
        }
        Kind::Truncate => {
            content.truncate(block.bytes.start);
            hit = file.blocks[number..].to_vec();
        }
    }
    let at = block.bytes.start;
    let said = format!(
        "{kind:?} of segment {} ({}), block at {at}: {said}",
        file.segment, file.name
    );
    Some(Blow {
        kind,
        file,
        hit,
        said,
    })
}

fn lines(check: &LogCheck) -> String {
    let findings = check.findings.iter().map(ToString::to_string);
    findings.collect::<Vec<_>>().join("\n")
}

fn named(check: &LogCheck) -> Offsets {
    let offsets = check.damage().flat_map(|finding| &finding.offsets);
    spread(offsets.map(|range| (range.partition, range.first.0, range.end.0)))
}

/// What a blow may do to the records, at most and at least.
fn check_named(blow: &Blow, damaged: &Offsets, context: &str) {
    let records = blow.records();
    let beyond: Vec<_> = damaged.difference(&records).collect();
    assert!(
        beyond.is_empty(),
        "more than was hit: {beyond:?}\n{context}"
    );
    let may_be_read = match blow.kind {
        // Blocks may be read in spite of it.
        Kind::SegmentHeader | Kind::Swap => true,
        _ => false,
    };
    let silent: Vec<_> = records.difference(damaged).collect();
    assert!(
        may_be_read || silent.is_empty(),
        "not named: {silent:?}\n{context}"
    );
}

fn fill(rig: &mut Rig, cleanly: bool) -> Image {
    for life in 0..3 {
        let (mut log, _) = rig.try_open().unwrap();
        rig.forget_unacknowledged(&log);
        for _ in 0..60 {
            let partition = rig::partition(rig.below(4));
            let bytes = if rig.below(5) == 0 { 6_000 } else { 300 };
            rig.append(&mut log, partition, bytes);
            if rig.below(3) == 0 {
                rig.turn(&mut log);
            }
        }
        rig.settle(&mut log);
        if life < 2 || cleanly {
            log.close(&mut rig::Bystander).unwrap();
        } else {
            // Long enough for a mark that states everything to be durable, and for seals.
            for _ in 0..200 {
                rig.turn(&mut log);
                rig.disk.advance(std::time::Duration::from_millis(2));
            }
            rig.disk.kill();
        }
    }
    rig.disk.current_image()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There was nothing of that kind to damage.
    Nothing,
    /// A start says why it does not open the log.
    Refused,
    /// The blocks are named, their offsets cannot be.
    BlocksNamed,
    /// Everything is as it should be.
    Named,
}

fn round(seed: u64, kind: Kind, cleanly: bool) -> Outcome {
    let mut rig = Rig::new(seed, small());
    let mut image = fill(&mut rig, cleanly);
    let whole = check_image(&image);
    assert!(!whole.is_damaged(), "seed {seed}: {}", lines(&whole));
    let Some(blow) = strike(&mut image, &mut rig, kind, &whole) else {
        return Outcome::Nothing;
    };
    let check = check_image(&image);
    let context = format!("seed {seed}, {}\nfsck:\n{}", blow.said, lines(&check));
    let told = check.findings.iter().any(|finding| {
        let place = &finding.place;
        place.segment == Some(blow.file.segment) || place.file.as_ref() == Some(&blow.file.name)
    });
    // A file that nothing names any more is known by the blocks that are missing with it; that
    // their offsets are named is checked below.
    let missed = kind == Kind::Delete && check.is_damaged();
    assert!(told || missed, "fsck does not find it: {context}");
    let refused = |fault| check.damage().any(|finding| finding.fault == fault);
    rig.disk = SimDisk::from_image(seed, Faults::none(), image);
    let (mut log, report) = match rig.try_open() {
        Ok(opened) => opened,
        Err(error) => {
            let explained = [Fault::Checkpoint, Fault::SegmentHeader, Fault::Trailer];
            let explained = explained.into_iter().any(refused);
            assert!(explained, "a start refuses: {error}\n{context}");
            return Outcome::Refused;
        }
    };
    // Without a footer or a checkpoint that knows the block, its own table is all that names its
    // records; where that is gone, only the block can be named.
    let may_be_unnamed = !cleanly && matches!(kind, Kind::BlockHeader | Kind::Table | Kind::Sector);
    let unnamed = check.damage().any(|finding| {
        let ours = finding.place.segment == Some(blow.file.segment);
        ours && finding.place.blocks.is_some() && finding.offsets.is_empty()
    });
    if may_be_unnamed && unnamed {
        // A block that is the first of its segment is named where the one before it ends.
        let is_hit = |damage: &Damage| {
            let mut places = check.damage().filter_map(|finding| finding.place.blocks);
            damage.segment == blow.file.segment
                || places.any(|(first, end)| damage.first < end && first < damage.end)
        };
        let told = report.damage.iter().any(is_hit);
        assert!(
            told,
            "not even the block is named: {context}\nstart: {report}"
        );
        return Outcome::BlocksNamed;
    }
    check_named(&blow, &named(&check), &context);
    let context = format!("{context}\nstart: {report}");
    let damaged = rig.read_all(&mut log);
    let damaged = damaged.unwrap_or_else(|error| panic!("{error}\n{context}"));
    check_named(&blow, &spread(damaged), &context);
    Outcome::Named
}

/// Every kind of damage many times; returns how often each came to what.
fn rounds(cleanly: bool) {
    for kind in KINDS {
        let outcomes: Vec<Outcome> = (0..25).map(|seed| round(seed, kind, cleanly)).collect();
        let count = |wanted| {
            outcomes
                .iter()
                .filter(|outcome| **outcome == wanted)
                .count()
        };
        let (named, refused) = (count(Outcome::Named), count(Outcome::Refused));
        let (blocks, nothing) = (count(Outcome::BlocksNamed), count(Outcome::Nothing));
        println!(
            "{kind:?}: {named} named, {blocks} blocks named, {refused} refused, {nothing} none"
        );
        assert!(nothing <= 15, "{kind:?} found nothing to damage");
        assert!(named + blocks >= 5, "{kind:?}: only refused");
    }
}

#[test]
fn after_a_clean_stop_all_damage_is_found_named_and_never_served() {
    rounds(true);
}

#[test]
fn after_a_kill_all_damage_before_the_last_mark_is_found_named_and_never_served() {
    rounds(false);
}
