//! The partitions of several logs given to others: bounds and producers go where their partition
//! goes. For a node that starts with other logs than before.

use std::iter::Peekable;

use ringlog_types::PartitionId;

use super::checkpoint::Bounds;
use super::producers::{Producers, Window};
use super::state::Partitions;

type Remembered<'a> = (PartitionId, i64, &'a Window);

impl Partitions {
    /// Shares out committed state to `count` others, each partition to the one that `owner`
    /// names; what has no owner is left out. Nothing may be pending.
    ///
    /// In each, producers keep the order in which they fell silent, as far as the logs they come
    /// from know it; between logs their records' timestamps tell. It matters only where more are
    /// remembered than the limits allow.
    #[must_use]
    pub fn split(
        from: &[Partitions],
        count: usize,
        owner: impl Fn(PartitionId) -> Option<usize>,
    ) -> Vec<Partitions> {
        let mut bounds: Vec<Vec<Bounds>> = vec![Vec::new(); count];
        for row in from.iter().flat_map(Partitions::bounds) {
            if let Some(to) = owner(row.partition) {
                bounds[to].push(row);
            }
        }
        let limits = from.first().map(|first| first.producers().limits());
        let mut producers: Vec<Producers> = (0..count)
            .map(|_| Producers::new(limits.unwrap_or_default()))
            .collect();
        for (partition, id, window) in longest_idle_first(from) {
            if let Some(to) = owner(partition) {
                producers[to].restore(partition, id, *window);
            }
        }
        let parts = bounds.into_iter().zip(producers);
        parts
            .map(|(bounds, producers)| Partitions::of(bounds, producers))
            .collect()
    }
}

fn longest_idle_first(from: &[Partitions]) -> impl Iterator<Item = Remembered<'_>> {
    let logs = from.iter().map(|log| log.producers().iter().peekable());
    let mut logs: Vec<Peekable<_>> = logs.collect();
    std::iter::from_fn(move || {
        let heads = logs.iter_mut().enumerate();
        let heads = heads.filter_map(|(log, rest)| Some((rest.peek()?.2.max_timestamp(), log)));
        let (_, log) = heads.min()?;
        logs[log].next()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringlog_types::batch::{BatchHeader, Builder};
    use ringlog_types::{Offset, TopicNumber};

    use super::*;
    use crate::partitions::{Prepared, ProduceError};

    const NOW: i64 = 1_000;

    fn partition(index: u32) -> PartitionId {
        PartitionId::new(TopicNumber(1), index)
    }

    fn batch(producer: i64, sequence: i32, timestamp: i64) -> BatchHeader {
        let batch = Builder::new().producer(producer, 0, sequence);
        let batch = batch.push(timestamp, None, Some(b"v"), &[]).build();
        BatchHeader::parse(&batch).unwrap()
    }

    fn write(partitions: &mut Partitions, to: PartitionId, header: &BatchHeader) -> Offset {
        match partitions.prepare(to, header, NOW) {
            Ok(Prepared::Append { base_offset }) => {
                partitions.apply_records(to, base_offset, header);
                base_offset
            }
            other => panic!("{header:?} gave {other:?}"),
        }
    }

    proptest! {
        /// Two logs, four partitions, three producers; split into up to four.
        #[test]
        fn every_partition_and_producer_is_in_the_log_of_its_owner_and_goes_on_there(
            steps in proptest::collection::vec((0u32..4, 0i64..3), 1..60),
            count in 1usize..5,
        ) {
            let mut from = vec![Partitions::new(), Partitions::new()];
            let mut sequences = std::collections::BTreeMap::new();
            let mut bases = std::collections::BTreeMap::new();
            for (at, (index, producer)) in (0i64..).zip(steps) {
                let sequence = sequences.entry((index, producer)).or_insert(0);
                let header = batch(producer, *sequence, at);
                let base = write(&mut from[index as usize % 2], partition(index), &header);
                bases.insert((index, producer), (base, header));
                *sequence += 1;
            }
            let owner = |of: PartitionId| (of.index() != 3).then_some(of.index() as usize % count);
            let mut split = Partitions::split(&from, count, owner);
            prop_assert_eq!(split.len(), count);
            let remembered: usize = split.iter().map(Partitions::producer_count).sum();
            let owned = bases.keys().filter(|(index, _)| *index != 3).count();
            prop_assert_eq!(remembered, owned);
            for ((index, producer), (base, header)) in &bases {
                let of = partition(*index);
                let old = &from[*index as usize % 2];
                for (number, new) in split.iter_mut().enumerate() {
                    if owner(of) != Some(number) {
                        prop_assert_eq!(new.end_offset(of), Offset::ZERO);
                        continue;
                    }
                    prop_assert_eq!(new.end_offset(of), old.end_offset(of));
                    // The last batch again is a repeat, one further on is a gap.
                    let again = new.prepare(of, header, NOW);
                    let base_offset = *base;
                    let repeat = Prepared::Duplicate { base_offset, pending: false };
                    prop_assert_eq!(again, Ok(repeat));
                    let gap = batch(*producer, header.base_sequence + 2, 0);
                    let gap = new.prepare(of, &gap, NOW);
                    let is_gap = matches!(gap, Err(ProduceError::OutOfOrderSequence { .. }));
                    prop_assert!(is_gap, "{gap:?}");
                }
            }
            // What is split is a state like any other.
            for new in &split {
                let mut restored = Partitions::new();
                restored.restore(&new.checkpoint()).unwrap();
                prop_assert_eq!(restored.checkpoint(), new.checkpoint());
            }
        }
    }

    #[test]
    fn trimmed_starts_come_along() {
        let mut from = Partitions::new();
        for sequence in 0..4 {
            write(&mut from, partition(0), &batch(9, sequence, 0));
        }
        from.apply_start_offset(partition(0), Offset(3));
        let split = Partitions::split(&[from], 2, |_| Some(1));
        assert_eq!(split[1].start_offset(partition(0)), Offset(3));
        assert_eq!(split[1].end_offset(partition(0)), Offset(4));
        assert_eq!(split[0].end_offset(partition(0)), Offset(0));
    }
}
