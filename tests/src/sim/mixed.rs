//! Two histories in one directory: a log is copied, both copies go on, and one segment file of the
//! one ends up in the other, as when a single file is restored from a copy made at another time.
//!
//! Every block of the mixed directory passes its own checks and has the sequence that is due. Only
//! the chain of checksums tells that it does not follow, so a start must say so, or refuse.

use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::medium::Image;
use ringlog_storage::io::sim::{Faults, SimDisk};
use ringlog_storage::log::{EntryKind, EntryMeta, Log, LogConfig, SeededBug};
use ringlog_types::{LogId, Offset, PartitionId};

use super::life::Failure;
use super::machine::Witness;
use super::random::Random;

const SEGMENT_BYTES: u64 = 128 << 10;
const UNIT_BYTES: usize = 4096;
const PARTITION: u64 = 3;

/// Runs a seed: a start on the mixed directory is silent about it only if it is a mistake.
///
/// # Errors
/// The start on mixed histories that said nothing.
pub fn mix_histories(seed: u64, bug: Option<SeededBug>) -> Result<(), Failure> {
    mixed(seed, bug).map_err(|what| Failure {
        seed,
        life: 0,
        what,
    })
}

fn mixed(seed: u64, bug: Option<SeededBug>) -> Result<(), String> {
    let mut random = Random::new(seed);
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        pool_segments: 1,
        checkpoint_bytes: u64::MAX,
        seeded_bug: bug,
        ..LogConfig::default()
    };
    let lengths: Vec<usize> = (0..60 + random.below(40))
        .map(|_| 100 + random.below(20_000) as usize)
        .collect();
    let (before, after) = lengths.split_at(random.below(8) as usize);
    let common = go_on(random.bits(), Image::new(), &config, before, 1)?;
    let forks = [2, 3].map(|fork| go_on(random.bits(), common.clone(), &config, after, fork));
    let [one, other] = forks;
    let (mut one, other) = (one?, other?);
    // A segment that was opened after the copy was made, and is not the last.
    let is_new = |name: &&String| {
        let length = common.get(*name).map_or(0, Vec::len);
        length == 0
            && other
                .get(*name)
                .is_some_and(|of_other| *of_other != one[*name])
    };
    let new: Vec<String> = one.keys().filter(is_new).cloned().collect();
    let used = |name: &&String| {
        let first_block = one[*name].get(UNIT_BYTES..2 * UNIT_BYTES);
        first_block.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    };
    let used: Vec<&String> = new.iter().filter(used).collect();
    if used.len() < 3 {
        return Err(format!("the histories are too short: {used:?}"));
    }
    let at = random.below(used.len() as u64 - 1) as usize;
    let name = used[at].clone();
    one.insert(name.clone(), other[&name].clone());
    let disk = SimDisk::from_image(random.bits(), Faults::none(), one);
    match Log::open(disk.io(), LogId(0), config, &mut Witness::default()) {
        Ok((_, report)) if report.damage.is_empty() => Err(format!(
            "{name} is of another history, and the start says nothing of it: {report}"
        )),
        _ => Ok(()),
    }
}

/// A life: one batch of each length after the other, each in a block of its own, then a kill.
fn go_on(
    seed: u64,
    image: Image,
    config: &LogConfig,
    lengths: &[usize],
    content: u8,
) -> Result<Image, String> {
    let disk = SimDisk::from_image(seed, Faults::none(), image);
    let mut witness = Witness::default();
    let (mut log, _) = Log::open(disk.io(), LogId(0), config.clone(), &mut witness)
        .map_err(|error| error.to_string())?;
    for length in lengths {
        let (_, end) = log.bounds(PartitionId(PARTITION));
        let number = witness.last_group + 1;
        let meta = |kind, partition, base_offset| EntryMeta {
            partition,
            kind,
            machine: u16::from(kind == EntryKind::Machine),
            base_offset,
            count: 1,
            max_timestamp: -1,
        };
        let records = meta(EntryKind::Records, PartitionId(PARTITION), end);
        let group = meta(EntryKind::Machine, PartitionId::NONE, Offset(number));
        let payload = vec![content; *length];
        let sequence = log
            .append(&[(records, payload.as_slice()), (group, b"".as_slice())])
            .map_err(|error| error.to_string())?;
        while log.durable() < sequence {
            log.submit();
            log.io_mut().wait(Duration::from_millis(1));
            log.poll(&mut witness);
        }
    }
    drop(log);
    disk.kill();
    Ok(disk.durable_image())
}
