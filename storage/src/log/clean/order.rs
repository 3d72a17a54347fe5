//! An order of segments in which the records of each partition follow each other without a gap, if
//! there is one: then what replaces the segments stands where they stood. Their first blocks do not
//! say it of two that cover the same stretch of the log.
//!
//! Found partition by partition, a bounded number in a step; pure.

use std::collections::{BTreeMap, BTreeSet};

use super::held::Held;

/// How far it is.
#[derive(Debug)]
pub(super) struct Ordering {
    /// Each with the place of the next of what it holds.
    sources: Vec<(u64, usize)>,
    /// Pairs of which the first stands behind the second.
    behind: BTreeSet<(u64, u64)>,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ordered {
    /// The next step goes on.
    Goes,
    /// This order.
    Yes(Vec<u64>),
    /// There is none.
    No,
}

impl Ordering {
    pub fn new(sources: &[u64]) -> Ordering {
        Ordering {
            sources: sources.iter().map(|id| (*id, 0)).collect(),
            behind: BTreeSet::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.sources.len()
    }

    /// Goes on for so many of `rows` as are left. `held`: by segment, sorted by partition.
    pub fn step(&mut self, held: &BTreeMap<u64, Vec<Held>>, rows: &mut usize) -> Ordered {
        let mut pieces: Vec<(Held, u64)> = Vec::with_capacity(self.sources.len());
        loop {
            if *rows == 0 {
                return Ordered::Goes;
            }
            let at = |(id, at): &(u64, usize)| held.get(id)?.get(*at).copied();
            let next = self.sources.iter().filter_map(at);
            let Some(partition) = next.map(|held| held.partition).min() else {
                break;
            };
            pieces.clear();
            for source in &mut self.sources {
                if let Some(held) = at(source).filter(|held| held.partition == partition) {
                    pieces.push((held, source.0));
                    source.1 += 1;
                }
            }
            *rows = rows.saturating_sub(pieces.len());
            pieces.sort_unstable();
            for pair in pieces.windows(2) {
                let [(before, source), (after, next)] = pair else {
                    continue;
                };
                if before.end != after.first {
                    return Ordered::No;
                }
                self.behind.insert((*next, *source));
            }
        }
        self.whole().map_or(Ordered::No, Ordered::Yes)
    }

    fn whole(&self) -> Option<Vec<u64>> {
        let mut left: Vec<u64> = self.sources.iter().map(|(id, _)| *id).collect();
        let mut ordered = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let waits = |id: u64| {
                let mut others = left.iter();
                others.any(|before| self.behind.contains(&(id, *before)))
            };
            let next = left.iter().position(|id| !waits(*id))?;
            ordered.push(left.remove(next));
        }
        Some(ordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlog_types::{Offset, PartitionId};

    fn held(partition: u64, first: u64, end: u64) -> Held {
        Held {
            partition: PartitionId(partition),
            first: Offset(first),
            end: Offset(end),
            bytes: 1,
        }
    }

    /// In steps of so many rows.
    fn ordered(held: &BTreeMap<u64, Vec<Held>>, step_rows: usize) -> Ordered {
        let sources: Vec<u64> = held.keys().copied().collect();
        let mut ordering = Ordering::new(&sources);
        for _ in 0..100 {
            let found = ordering.step(held, &mut step_rows.clone());
            if found != Ordered::Goes {
                return found;
            }
        }
        panic!("no step comes to an end");
    }

    #[test]
    fn segments_stand_in_the_order_of_all_their_partitions_offsets() {
        let all = BTreeMap::from([
            (1, vec![held(1, 10, 20), held(3, 0, 5)]),
            (2, vec![held(2, 7, 9), held(3, 5, 6)]),
            (3, vec![held(1, 0, 10), held(2, 9, 12)]),
        ]);
        for step_rows in [1, 2, 3, 100] {
            assert_eq!(
                ordered(&all, step_rows),
                Ordered::No,
                "1, 2, 3, 1: a circle"
            );
        }
        let all = BTreeMap::from([
            (1, vec![held(1, 10, 20), held(3, 0, 5)]),
            (2, vec![held(2, 12, 15), held(3, 5, 6)]),
            (3, vec![held(1, 0, 10), held(2, 9, 12)]),
        ]);
        for step_rows in [1, 2, 3, 100] {
            assert_eq!(ordered(&all, step_rows), Ordered::Yes(vec![3, 1, 2]));
        }
    }

    #[test]
    fn a_gap_or_an_overlap_in_one_partition_leaves_no_order() {
        for first in [9, 11] {
            let all = BTreeMap::from([
                (1, vec![held(1, 0, 10), held(2, 0, 10)]),
                (2, vec![held(1, 10, 20), held(2, first, 20)]),
            ]);
            assert_eq!(ordered(&all, 1), Ordered::No);
        }
        assert_eq!(ordered(&BTreeMap::new(), 1), Ordered::Yes(Vec::new()));
    }
}
