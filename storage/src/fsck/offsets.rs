//! The offsets of every partition as the blocks make them: dense, none twice, none missing.
//!
//! Findings hold the offsets that cannot be read as they come up. Which of them still matter is
//! known at the end only, when every start offset has moved to its place: see
//! [`Partitions::keep_live`].

use std::collections::BTreeMap;

use ringlog_types::{Offset, PartitionId};

use super::finding::{Finding, OffsetRange, Severity};
use crate::format::manifest::Manifest;

#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    start: Offset,
    end: Offset,
}

/// What a block of records did to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on where the last one ended.
    Dense,
    /// Offsets before it are in no block.
    Missing(OffsetRange),
    /// Its first offsets were given out before.
    Doubled(OffsetRange),
}

/// Bounds of all partitions.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    bounds: BTreeMap<PartitionId, Bounds>,
}

impl Partitions {
    /// As of a checkpoint.
    pub fn of(manifest: &Manifest) -> Partitions {
        let rows = manifest.partitions.iter();
        let bounds = rows.map(|row| {
            let (start, end) = (row.start, row.end);
            (row.partition, Bounds { start, end })
        });
        let bounds = bounds.collect();
        Partitions { bounds }
    }

    pub fn records(&mut self, range: OffsetRange) -> Step {
        let state = self.bounds.entry(range.partition).or_default();
        let (partition, end) = (range.partition, state.end);
        state.end = state.end.max(range.end);
        if range.first > end {
            let (first, end) = (end, range.first);
            Step::Missing(OffsetRange {
                partition,
                first,
                end,
            })
        } else if range.first < end {
            let (first, end) = (range.first, end.min(range.end));
            Step::Doubled(OffsetRange {
                partition,
                first,
                end,
            })
        } else {
            Step::Dense
        }
    }

    pub fn move_start(&mut self, partition: PartitionId, start: Offset) {
        let state = self.bounds.entry(partition).or_default();
        state.start = state.start.max(start);
        state.end = state.end.max(state.start);
    }

    pub fn drop_partition(&mut self, partition: PartitionId) {
        self.bounds.remove(&partition);
    }

    /// The part of a range that a reader may still ask for.
    pub fn live(&self, range: OffsetRange) -> Option<OffsetRange> {
        let first = self.bounds.get(&range.partition)?.start.max(range.first);
        (first < range.end).then_some(OffsetRange { first, ..range })
    }

    /// Leaves of each finding's offsets those that are live. One that named only dead offsets
    /// is no damage.
    pub fn keep_live(&self, findings: &mut [Finding]) {
        for finding in findings {
            let named = !finding.offsets.is_empty();
            let live = finding.offsets.iter().filter_map(|range| self.live(*range));
            finding.offsets = merged(live.collect());
            if named && finding.offsets.is_empty() && finding.severity == Severity::Damage {
                finding.severity = Severity::Notice;
                finding
                    .detail
                    .push_str(" (only records that were deleted since)");
            }
        }
    }

    /// All partitions with their bounds.
    pub fn all(&self) -> Vec<OffsetRange> {
        let bounds = self.bounds.iter();
        bounds
            .map(|(partition, bounds)| OffsetRange {
                partition: *partition,
                first: bounds.start,
                end: bounds.end,
            })
            .collect()
    }
}

/// Sorted, and ranges that touch made one.
pub(super) fn merged(mut ranges: Vec<OffsetRange>) -> Vec<OffsetRange> {
    ranges.sort();
    let mut merged: Vec<OffsetRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.partition == range.partition && range.first <= last.end => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What of `wanted` is in none of `shown`.
pub(super) fn missing(wanted: OffsetRange, shown: &[OffsetRange]) -> Vec<OffsetRange> {
    let own = shown
        .iter()
        .filter(|range| range.partition == wanted.partition);
    let mut left = Vec::new();
    let mut known = wanted.first;
    for range in merged(own.copied().collect()) {
        if range.first > known && known < wanted.end {
            let (first, end) = (known, range.first.min(wanted.end));
            left.push(OffsetRange {
                first,
                end,
                ..wanted
            });
        }
        known = known.max(range.end);
    }
    if known < wanted.end {
        left.push(OffsetRange {
            first: known,
            ..wanted
        });
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, end: u64) -> OffsetRange {
        OffsetRange {
            partition: PartitionId(1),
            first: Offset(first),
            end: Offset(end),
        }
    }

    #[test]
    fn what_is_missing_is_what_no_range_shows() {
        let shown = [range(7, 9), range(0, 2), range(3, 5), range(4, 6)];
        assert_eq!(
            missing(range(0, 10), &shown),
            [range(2, 3), range(6, 7), range(9, 10)]
        );
        assert_eq!(missing(range(4, 6), &shown), []);
        assert_eq!(missing(range(20, 21), &shown), [range(20, 21)]);
    }

    #[test]
    fn a_partition_that_skips_or_repeats_offsets_is_told() {
        let mut partitions = Partitions::default();
        assert_eq!(partitions.records(range(0, 4)), Step::Dense);
        assert_eq!(partitions.records(range(6, 8)), Step::Missing(range(4, 6)));
        assert_eq!(partitions.records(range(7, 9)), Step::Doubled(range(7, 8)));
        partitions.move_start(PartitionId(1), Offset(5));
        assert_eq!(partitions.live(range(4, 6)), Some(range(5, 6)));
        assert_eq!(partitions.live(range(0, 5)), None);
    }
}
