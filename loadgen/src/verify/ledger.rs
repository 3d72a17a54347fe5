//! What was acknowledged of one partition, in runs: consecutive batch numbers at consecutive
//! offsets are one run, so that an undisturbed partition is one entry however long it was
//! written.

/// Batches `first_number ..` that lie behind each other from `first_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first_number: u64,
    batches: u64,
    /// `None`: the broker acknowledged without telling where (a repeat it recognised).
    first_offset: Option<u64>,
}

/// Acknowledged batches of one partition.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    records_per_batch: u64,
    runs: Vec<Run>,
}

/// What the ledger says of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Never acknowledged.
    Unacknowledged,
    /// Acknowledged; at this offset, if the broker told.
    Acknowledged(Option<u64>),
}

impl Ledger {
    /// An empty ledger of batches of this many records.
    #[must_use]
    pub fn new(records_per_batch: u32) -> Ledger {
        Ledger {
            records_per_batch: u64::from(records_per_batch),
            runs: Vec::new(),
        }
    }

    /// Notes an acknowledgement. Batches may be acknowledged in any order.
    pub fn acknowledge(&mut self, number: u64, base_offset: Option<u64>) {
        if let Some(last) = self.runs.last_mut()
            && number == last.first_number + last.batches
            && base_offset
                == last
                    .first_offset
                    .map(|first| first + last.batches * self.records_per_batch)
        {
            last.batches += 1;
            return;
        }
        let run = Run {
            first_number: number,
            batches: 1,
            first_offset: base_offset,
        };
        let at = self
            .runs
            .partition_point(|other| other.first_number < number);
        self.runs.insert(at, run);
    }

    /// Looks a batch up.
    #[must_use]
    pub fn entry(&self, number: u64) -> Entry {
        let behind = self.runs.partition_point(|run| run.first_number <= number);
        match behind.checked_sub(1).map(|at| self.runs[at]) {
            Some(run) if number < run.first_number + run.batches => Entry::Acknowledged(
                run.first_offset
                    .map(|first| first + (number - run.first_number) * self.records_per_batch),
            ),
            _ => Entry::Unacknowledged,
        }
    }

    /// Every acknowledged batch from `from` on, below `until`.
    pub fn acknowledged_between(&self, from: u64, until: u64) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(move |run| {
            run.first_number.max(from)..(run.first_number + run.batches).min(until)
        })
    }

    /// Number of acknowledged batches.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.runs.iter().map(|run| run.batches).sum()
    }

    /// The offset behind the last acknowledged record, if the broker told any.
    #[must_use]
    pub fn end_offset(&self) -> Option<u64> {
        self.runs
            .iter()
            .filter_map(|run| Some(run.first_offset? + run.batches * self.records_per_batch))
            .max()
    }

    /// Records in each batch.
    #[must_use]
    pub fn records_per_batch(&self) -> u64 {
        self.records_per_batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_ledger_is_a_map_from_number_to_offset(
            acknowledged in proptest::collection::btree_map(0_u64..60, proptest::option::weighted(0.8, 0_u64..5), 0..60),
            order in any::<u64>(),
        ) {
            // Offsets mostly dense, sometimes shifted or unknown.
            let model: BTreeMap<u64, Option<u64>> = acknowledged
                .into_iter()
                .map(|(number, shift)| (number, shift.map(|shift| number * 10 + shift / 4)))
                .collect();
            let mut entries: Vec<_> = model.iter().collect();
            let rotation = (order as usize) % entries.len().max(1);
            entries.rotate_left(rotation);
            let mut ledger = Ledger::new(10);
            for (number, offset) in entries {
                ledger.acknowledge(*number, *offset);
            }
            for number in 0..70 {
                let expected = match model.get(&number) {
                    None => Entry::Unacknowledged,
                    Some(offset) => Entry::Acknowledged(*offset),
                };
                prop_assert_eq!(ledger.entry(number), expected);
            }
            prop_assert_eq!(ledger.batches(), model.len() as u64);
            prop_assert_eq!(
                ledger.acknowledged_between(5, 50).collect::<Vec<_>>(),
                model.range(5..50).map(|(number, _)| *number).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn an_undisturbed_partition_is_one_run() {
        let mut ledger = Ledger::new(7);
        for number in 0..1_000 {
            ledger.acknowledge(number, Some(500 + number * 7));
        }
        assert_eq!(ledger.runs.len(), 1);
        assert_eq!(ledger.end_offset(), Some(7_500));
    }
}
