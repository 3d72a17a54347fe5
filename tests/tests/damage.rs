//! Damage to a node's files: `ringlog fsck` finds and names it, the node that starts on them
//! reports it, answers fetches of what is lost with an error and everything else as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ringlog_tests::fsck::{Checked, fsck};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::record_batch::{Batch, values};
use ringlog_tests::wire::{Connection, error};

const TOPIC: &str = "kept";
const PARTITIONS: i32 = 3;
const LIVES: usize = 3;
const BATCHES_IN_A_LIFE: usize = 8;
/// The unit of blocks on disk.
const UNIT: u64 = 4096;

/// Found again in the files by its first bytes.
fn value(partition: i32, number: usize) -> Vec<u8> {
    let mut value = format!("<{partition}:{number}>").into_bytes();
    value.resize(700, b'.');
    value
}

/// How a life of the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Kill,
}

/// A stopped node with acknowledged records in each of its segments: every start opens a new one.
fn filled(end: End) -> Result<Node> {
    let mut node = Node::with(NodeOptions::new(1).arguments(["--segment-bytes", "4MiB"]))?;
    Connection::open(node.kafka(0))?.create_topic(TOPIC, PARTITIONS, &[])?;
    for life in 0..LIVES {
        let mut client = Connection::open(node.kafka(0))?;
        for number in life * BATCHES_IN_A_LIFE..(life + 1) * BATCHES_IN_A_LIFE {
            for partition in 0..PARTITIONS {
                let batch = Batch::of_values([value(partition, number)]).encode();
                let answer = client.produce(TOPIC, partition, &batch)?;
                ensure!(answer.error == error::NONE, "{answer:?}");
            }
        }
        match end {
            End::Clean => drop(node.terminate()?),
            End::Kill => node.kill9()?,
        }
        if life + 1 < LIVES {
            node.restart()?;
        }
    }
    let checked = fsck(&node.data_dir(), &[])?;
    ensure!(checked.code == 0, "{:#}", checked.report);
    Ok(node)
}

fn log_dir(node: &Node) -> PathBuf {
    node.data_dir().join("log-0")
}

/// Where a record's value stands: file name and byte position.
fn find(directory: &Path, partition: i32, number: usize) -> Result<(String, u64)> {
    let wanted = value(partition, number);
    for entry in directory.read_dir()? {
        let entry = entry?;
        let content = std::fs::read(entry.path())?;
        let mut windows = content.windows(wanted.len());
        if let Some(at) = windows.position(|window| window == wanted) {
            return Ok((entry.file_name().to_string_lossy().into_owned(), at as u64));
        }
    }
    anyhow::bail!("no file holds value {number} of partition {partition}")
}

fn change(path: &Path, position: u64, bytes: usize, edit: impl Fn(&mut [u8])) -> Result<()> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)?;
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, position)?;
    edit(&mut content);
    file.write_all_at(&content, position)?;
    Ok(file.sync_all()?)
}

fn flip(path: &Path, position: u64) -> Result<()> {
    change(path, position, 1, |byte| byte[0] ^= 0x10)
}

/// Reads every offset of every partition. Returns those that are refused as damaged; anything else
/// has to come back as it was produced.
fn read_everything(node: &Node) -> Result<BTreeMap<i32, Vec<u64>>> {
    let mut client = Connection::open(node.kafka(0))?;
    let mut refused = BTreeMap::new();
    let promised = LIVES * BATCHES_IN_A_LIFE;
    for partition in 0..PARTITIONS {
        let mut at = 0;
        while at < promised {
            let (code, high_watermark, records) = client.fetch(TOPIC, partition, at as i64)?;
            ensure!(
                high_watermark == promised as i64,
                "partition {partition}: {promised} were acknowledged, it ends at {high_watermark}"
            );
            if code == error::CORRUPT_MESSAGE {
                refused
                    .entry(partition)
                    .or_insert_with(Vec::new)
                    .push(at as u64);
                at += 1;
                continue;
            }
            ensure!(
                code == error::NONE,
                "partition {partition} at {at}: error {code}"
            );
            let found = values(&records);
            ensure!(!found.is_empty(), "partition {partition}: nothing at {at}");
            for (offset, found) in found {
                ensure!(
                    offset == at as i64,
                    "partition {partition}: {offset} at {at}"
                );
                ensure!(
                    found == value(partition, at),
                    "wrong bytes at {partition}/{at}"
                );
                at += 1;
            }
        }
    }
    Ok(refused)
}

/// Checks, starts the node and reads: what `fsck` names is what fetches refuse, and the node's log
/// names it as well.
fn check_named(node: &mut Node, lost: &[(i32, u64)]) -> Result<Checked> {
    let checked = fsck(&node.data_dir(), &[])?;
    println!("{:#}", checked.report);
    ensure!(checked.code == 1, "exit code {}", checked.code);
    let named = checked.named();
    let mut found: Vec<(i32, u64)> = Vec::new();
    for range in &named {
        let index = i32::try_from(range.index)?;
        found.extend((range.first..range.end).map(|offset| (index, offset)));
    }
    found.sort_unstable();
    found.dedup();
    ensure!(found == lost, "fsck names {found:?}, {lost:?} were damaged");
    let from = node.log_position()?;
    node.restart()?;
    let refused = read_everything(node)?;
    let refused: Vec<(i32, u64)> = refused
        .into_iter()
        .flat_map(|(partition, offsets)| offsets.into_iter().map(move |at| (partition, at)))
        .collect();
    ensure!(
        refused == lost,
        "fetches refuse {refused:?}, {lost:?} were damaged"
    );
    for range in named {
        let log = node.log()?;
        let lines = log[from..].lines();
        let mut naming = lines.filter(|line| {
            line.to_lowercase().contains("damage") && line.contains(&range.partition)
        });
        naming
            .next()
            .with_context(|| format!("no log line names {range:?}"))?;
    }
    Ok(checked)
}

/// Damages the record with this number in partition 1 by what stands around it.
fn damage_one(end: End, fault: &str, edit: impl Fn(&Path, u64) -> Result<()>) -> Result<()> {
    let mut node = filled(end)?;
    // In the middle of the second segment: later blocks state that it was durable.
    let number = BATCHES_IN_A_LIFE + BATCHES_IN_A_LIFE / 2;
    let (name, at) = find(&log_dir(&node), 1, number)?;
    edit(&log_dir(&node).join(&name), at)?;
    let checked = check_named(&mut node, &[(1, number as u64)])?;
    ensure!(
        checked.finds(fault, &name),
        "not found as {fault} in {name}"
    );
    // What was damaged stays named over another start.
    node.terminate()?;
    node.restart()?;
    let refused = read_everything(&node)?;
    ensure!(
        refused == BTreeMap::from([(1, vec![number as u64])]),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn a_flipped_bit_in_a_record_is_named_and_never_served() -> Result<()> {
    for end in [End::Clean, End::Kill] {
        damage_one(end, "payload", |file, at| flip(file, at + 300))?;
    }
    Ok(())
}

#[test]
fn a_flipped_bit_in_a_block_header_is_named_and_its_block_never_served() -> Result<()> {
    for end in [End::Clean, End::Kill] {
        damage_one(end, "block-header", |file, at| {
            flip(file, at / UNIT * UNIT + 20)
        })?;
    }
    Ok(())
}

#[test]
fn a_zeroed_sector_range_is_named_and_its_block_never_served() -> Result<()> {
    for end in [End::Clean, End::Kill] {
        damage_one(end, "block-header", |file, at| {
            change(file, at / UNIT * UNIT, 1024, |sectors| sectors.fill(0))
        })?;
    }
    Ok(())
}

/// Damages something that is no record: everything is served as if nothing were wrong.
fn damage_around(fault: &str, edit: impl Fn(&Path) -> Result<()>) -> Result<()> {
    for end in [End::Clean, End::Kill] {
        let mut node = filled(end)?;
        let (name, _) = find(&log_dir(&node), 0, 0)?;
        edit(&log_dir(&node).join(&name))?;
        let checked = check_named(&mut node, &[])?;
        ensure!(
            checked.finds(fault, &name),
            "not found as {fault} in {name}"
        );
    }
    Ok(())
}

#[test]
fn a_flipped_bit_in_a_segment_header_is_named_and_costs_no_record() -> Result<()> {
    damage_around("segment-header", |file| flip(file, 65))
}

#[test]
fn a_flipped_bit_in_a_trailer_is_named_and_costs_no_record() -> Result<()> {
    damage_around("trailer", |file| {
        let length = file.metadata()?.len();
        flip(file, length - UNIT + 34)
    })
}

#[test]
fn a_flipped_bit_in_a_footer_is_named_and_costs_no_record() -> Result<()> {
    damage_around("footer", |file| {
        // The footer's position stands at 32 in the trailer.
        let content = std::fs::read(file)?;
        let trailer = content.len() - usize::try_from(UNIT)?;
        let position = content[trailer + 32..trailer + 40].try_into()?;
        flip(file, u64::from_le_bytes(position) + 9)
    })
}

#[test]
fn two_exchanged_blocks_are_named_and_each_is_served_for_itself() -> Result<()> {
    for end in [End::Clean, End::Kill] {
        let mut node = filled(end)?;
        let numbers = [BATCHES_IN_A_LIFE + 2, BATCHES_IN_A_LIFE + 5];
        let (name, first) = find(&log_dir(&node), 1, numbers[0])?;
        let (_, second) = find(&log_dir(&node), 1, numbers[1])?;
        let path = log_dir(&node).join(&name);
        let content = std::fs::read(&path)?;
        let block = |at: u64| (at / UNIT * UNIT) as usize..(at / UNIT * UNIT + UNIT) as usize;
        let (first, second) = (block(first), block(second));
        let write = |at: usize, from: &[u8]| {
            change(&path, at as u64, from.len(), |bytes| {
                bytes.copy_from_slice(from)
            })
        };
        write(first.start, &content[second.clone()])?;
        write(second.start, &content[first.clone()])?;
        // Both are whole: the chain of blocks, or the segment's blocks when they are read in place
        // of a footer that is not true, say where they are.
        let checked = fsck(&node.data_dir(), &[])?;
        ensure!(checked.code == 1, "exit code {}", checked.code);
        node.restart()?;
        let refused = read_everything(&node)?;
        ensure!(refused.is_empty(), "refused: {refused:?}");
        ensure!(checked.finds("chain", &name), "not found in {name}");
    }
    Ok(())
}

#[test]
fn a_cut_segment_is_named_and_what_was_cut_off_is_never_served() -> Result<()> {
    for end in [End::Clean, End::Kill] {
        let mut node = filled(end)?;
        let first = BATCHES_IN_A_LIFE + 4;
        let (name, at) = find(&log_dir(&node), 0, first)?;
        let path = log_dir(&node).join(&name);
        let file = std::fs::OpenOptions::new().write(true).open(&path)?;
        file.set_len(at / UNIT * UNIT)?;
        file.sync_all()?;
        let lost = (0..PARTITIONS).flat_map(|partition| {
            (first..2 * BATCHES_IN_A_LIFE).map(move |number| (partition, number as u64))
        });
        let lost: Vec<_> = lost.collect();
        let checked = check_named(&mut node, &lost)?;
        ensure!(checked.finds("trailer", &name), "not found in {name}");
    }
    Ok(())
}

#[test]
fn a_deleted_segment_is_named_with_all_that_was_in_it() -> Result<()> {
    for end in [End::Clean, End::Kill] {
        let mut node = filled(end)?;
        let (name, _) = find(&log_dir(&node), 0, BATCHES_IN_A_LIFE)?;
        std::fs::remove_file(log_dir(&node).join(&name))?;
        let lost = (0..PARTITIONS).flat_map(|partition| {
            let numbers = BATCHES_IN_A_LIFE..2 * BATCHES_IN_A_LIFE;
            numbers.map(move |number| (partition, number as u64))
        });
        let lost: Vec<_> = lost.collect();
        let checked = check_named(&mut node, &lost)?;
        let missing = checked.damage().iter().any(|finding| {
            finding["fault"] == "missing-segment" || finding["first_block"].is_u64()
        });
        ensure!(missing, "the missing segment is not named");
    }
    Ok(())
}

#[test]
fn a_torn_tail_is_no_damage_and_repair_leaves_a_clean_end() -> Result<()> {
    let mut node = filled(End::Kill)?;
    let last = LIVES * BATCHES_IN_A_LIFE - 1;
    // As a power cut may leave it: of the last record's block a sector is missing, and nothing
    // later states that it was durable.
    let (name, at) = find(&log_dir(&node), PARTITIONS - 1, last)?;
    let path = log_dir(&node).join(&name);
    let from = at / UNIT * UNIT;
    let behind = std::fs::metadata(&path)?.len() - from;
    change(&path, at, 512, |sector| sector.fill(0))?;
    change(
        &path,
        from + UNIT,
        usize::try_from(behind - UNIT)?,
        |mark| mark.fill(0),
    )?;
    let checked = fsck(&node.data_dir(), &[])?;
    println!("{:#}", checked.report);
    ensure!(checked.code == 0, "exit code {}", checked.code);
    let tail = |checked: &Checked| checked.report["logs"][0]["torn_tail"].clone();
    ensure!(
        tail(&checked)[0]["file"] == name.as_str(),
        "{}",
        tail(&checked)
    );
    ensure!(tail(&checked)[0]["position"] == from, "{}", tail(&checked));
    let before = std::fs::read(&path)?;
    let repaired = fsck(&node.data_dir(), &["--repair"])?;
    ensure!(repaired.code == 0, "exit code {}", repaired.code);
    ensure!(
        repaired.report["logs"][0]["repaired_bytes"] == UNIT,
        "{}",
        repaired.report
    );
    ensure!(
        tail(&repaired).as_array().is_some_and(Vec::is_empty),
        "a tail is left"
    );
    let after = std::fs::read(&path)?;
    let (from, unit) = (usize::try_from(from)?, usize::try_from(UNIT)?);
    ensure!(
        before[..from] == after[..from],
        "repair changed what was durable"
    );
    ensure!(
        after[from..from + unit].iter().all(|byte| *byte == 0),
        "not zeroed"
    );
    node.restart()?;
    let mut client = Connection::open(node.kafka(0))?;
    ensure!(
        client.read_all(TOPIC, 0)?.len() == last + 1,
        "partition 0 is whole"
    );
    ensure!(
        client.read_all(TOPIC, PARTITIONS - 1)?.len() == last,
        "only the torn one is gone"
    );
    Ok(())
}

#[test]
fn repair_refuses_where_something_durable_is_damaged() -> Result<()> {
    let node = filled(End::Clean)?;
    let (name, at) = find(&log_dir(&node), 1, 3)?;
    let path = log_dir(&node).join(&name);
    flip(&path, at)?;
    let before = std::fs::read(&path)?;
    let refused = fsck(&node.data_dir(), &["--repair"])?;
    ensure!(refused.code == 2, "exit code {}", refused.code);
    let why = refused.report["logs"][0]["not_repaired"].to_string();
    ensure!(why.contains("damaged"), "{why}");
    ensure!(before == std::fs::read(&path)?, "it changed something");
    Ok(())
}

#[test]
fn a_directory_that_a_node_holds_or_that_is_none_is_not_checked() -> Result<()> {
    let node = Node::start(1)?;
    let refused = fsck(&node.data_dir(), &[])?;
    ensure!(refused.code == 2, "exit code {}", refused.code);
    let why = refused.report["error"].to_string();
    ensure!(why.contains("in use by process"), "{why}");
    let refused = fsck(&node.scratch("nothing"), &[])?;
    ensure!(refused.code == 2, "exit code {}", refused.code);
    let why = refused.report["error"].to_string();
    ensure!(why.contains("no data directory"), "{why}");
    Ok(())
}
