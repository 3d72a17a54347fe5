//! The rows of an ordered table as they were at one moment, taken one after the other while the
//! table goes on changing: whoever is about to change a row keeps it first, unless it was taken.
//!
//! So a snapshot costs nothing at its moment, one copy of each row that changes before its turn,
//! and nothing at all for the others.

use std::collections::BTreeMap;

/// A table's rows that are still to be taken.
#[derive(Clone, Debug)]
pub struct Rows<K, R> {
    /// All rows up to this key are taken.
    taken_to: Option<K>,
    /// Rows that changed before their turn; `None`: it was not there.
    kept: BTreeMap<K, Option<R>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<R> {
    /// This row.
    Row(R),
    /// A row that came to be after the moment was passed over.
    Passed,
    /// Nothing any more.
    End,
}

impl<K, R> Default for Rows<K, R> {
    fn default() -> Rows<K, R> {
        Rows {
            taken_to: None,
            kept: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Ord, R> Rows<K, R> {
    /// The row of this key is about to change, to come to be or to go: `row` is what it is.
    pub fn keep(&mut self, key: K, row: impl FnOnce() -> Option<R>) {
        if self.taken_to.as_ref().is_none_or(|taken| *taken < key) {
            self.kept.entry(key).or_insert_with(row);
        }
    }

    /// Takes the next row. `first_behind` gives the first key of the table behind another (or of
    /// all), `row` the row of that key.
    pub fn take(
        &mut self,
        first_behind: impl FnOnce(Option<K>) -> Option<K>,
        row: impl FnOnce(K) -> R,
    ) -> Next<R> {
        let live = first_behind(self.taken_to.clone());
        let kept = self.kept.first_key_value().map(|(key, _)| key.clone());
        let Some(key) = live.into_iter().chain(kept.clone()).min() else {
            return Next::End;
        };
        self.taken_to = Some(key.clone());
        if kept.as_ref() != Some(&key) {
            return Next::Row(row(key));
        }
        let kept = self.kept.pop_first().and_then(|(_, row)| row);
        kept.map_or(Next::Passed, Next::Row)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Set(u8, u32),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Take),
            (0u8..20, any::<u32>()).prop_map(|(key, row)| Step::Set(key, row)),
            (0u8..20).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn whatever_changes_meanwhile_the_rows_are_those_of_the_moment(
            table in proptest::collection::btree_map(0u8..20, any::<u32>(), 0..20),
            steps in proptest::collection::vec(step(), 0..100),
        ) {
            let wanted: Vec<u32> = table.values().copied().collect();
            let mut table = table;
            let (mut rows, mut taken) = (Rows::default(), Vec::new());
            let mut take = |table: &BTreeMap<u8, u32>, rows: &mut Rows<u8, u32>| {
                let behind = |key: Option<u8>| {
                    let from = key.map_or(Bound::Unbounded, Bound::Excluded);
                    table.range((from, Bound::Unbounded)).next().map(|(key, _)| *key)
                };
                let next = rows.take(behind, |key| table[&key]);
                if let Next::Row(row) = next {
                    taken.push(row);
                }
                next != Next::End
            };
            for step in steps {
                match step {
                    Step::Take => {
                        take(&table, &mut rows);
                    }
                    Step::Set(key, row) => {
                        rows.keep(key, || table.get(&key).copied());
                        table.insert(key, row);
                    }
                    Step::Remove(key) => {
                        rows.keep(key, || table.get(&key).copied());
                        table.remove(&key);
                    }
                }
            }
            while take(&table, &mut rows) {}
            prop_assert_eq!(taken, wanted);
        }
    }
}
