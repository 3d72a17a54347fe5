//! Which segment files, and what of them, each new log takes in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ringlog_engine::topics::{Owners, Topics};
use ringlog_storage::format::manifest::{RangeRow, SegmentRow};
use ringlog_storage::format::origin::Origin;
use ringlog_storage::log::{Import, Retired};
use ringlog_types::{LogId, PartitionId};

/// What a new log begins with.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    /// For the log.
    pub import: Import,
    /// The files: where each is now, by its origin.
    pub files: BTreeMap<Origin, PathBuf>,
}

/// Shares out what the old logs hold: each partition, and its part of each segment, to the one
/// new log that owns it. What lies in a log that does not own it (its topic was deleted) goes to
/// none. The shares come without the machines' state.
pub(super) fn share_out(
    old: &[(LogId, PathBuf, &Retired)],
    topics: &Topics,
    owners: &Owners,
    new: &[LogId],
) -> Vec<Share> {
    let epoch = old.iter().map(|(_, _, retired)| retired.epoch).max();
    let empty = Share {
        import: Import {
            epoch: epoch.unwrap_or(0),
            ..Import::default()
        },
        files: BTreeMap::new(),
    };
    let mut shares = vec![empty; new.len()];
    let place = |log: LogId| new.iter().position(|new| *new == log);
    for (log, path, retired) in old {
        let owner = |partition: PartitionId| {
            let index = usize::try_from(partition.index()).ok()?;
            let topic = topics.by_number(partition.topic())?;
            let is_here = topic.partitions.get(index) == Some(log);
            owners.of(partition).filter(|_| is_here).and_then(place)
        };
        for row in &retired.partitions {
            if let Some(to) = owner(row.partition) {
                shares[to].import.partitions.push(row.clone());
            }
        }
        for file in &retired.segments {
            let origin = file.row.origin.expect("a retired log names each origin");
            let mut ranges: BTreeMap<usize, Vec<RangeRow>> = BTreeMap::new();
            for range in &file.row.ranges {
                if let Some(to) = owner(range.partition) {
                    ranges.entry(to).or_default().push(*range);
                }
            }
            for (to, ranges) in ranges {
                let row = SegmentRow {
                    ranges,
                    ..file.row.clone()
                };
                shares[to].import.segments.push(row);
                let files = &mut shares[to].files;
                files.entry(origin).or_insert_with(|| path.join(&file.name));
            }
        }
    }
    shares
}
