//! What the disk did silently: which bytes of which file are not what a disk that keeps its word
//! would hold.
//!
//! Invariant: a range is in here from the lost or misdirected write or the rot on, until a later
//! write to it is durable. So a checker may take damage for explained where it meets one of
//! these ranges, and nowhere else.

use std::collections::BTreeMap;
use std::ops::Range;

/// Corrupted ranges by file, in no order.
pub type Corrupted = BTreeMap<String, Vec<Range<u64>>>;

#[derive(Clone, Debug)]
struct Wrong {
    range: Range<u64>,
    since: u64,
}

#[derive(Clone, Debug)]
struct Unflushed {
    name: String,
    range: Range<u64>,
    at: u64,
}

/// The record.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    wrong: BTreeMap<String, Vec<Wrong>>,
    unflushed: Vec<Unflushed>,
    next: u64,
}

impl Ledger {
    /// Now: what was noted so far.
    pub(super) fn moment(&self) -> u64 {
        self.next
    }

    /// A range holds something else than was written there.
    pub(super) fn corrupted(&mut self, name: &str, range: Range<u64>) {
        let since = self.tick();
        let file = self.wrong.entry(name.to_owned()).or_default();
        file.push(Wrong { range, since });
    }

    /// A range was written as asked for.
    pub(super) fn written(&mut self, name: &str, range: Range<u64>, durable: bool) {
        let at = self.tick();
        if durable {
            self.mended(name, &range, at);
        } else {
            let name = name.to_owned();
            self.unflushed.push(Unflushed { name, range, at });
        }
    }

    /// A flush covered what was written before `moment`.
    pub(super) fn flushed(&mut self, name: &str, moment: u64) {
        let covers = |write: &Unflushed| write.name == name && write.at < moment;
        let covered: Vec<Unflushed> = self
            .unflushed
            .iter()
            .filter(|w| covers(w))
            .cloned()
            .collect();
        self.unflushed.retain(|write| !covers(write));
        for write in covered {
            self.mended(&write.name, &write.range, write.at);
        }
    }

    /// What was written and not flushed may be gone; a flush that failed vouches for nothing.
    pub(super) fn forget_unflushed(&mut self) {
        self.unflushed.clear();
    }

    /// All of it.
    pub(super) fn all(&self) -> Corrupted {
        let files = self.wrong.iter().filter(|(_, wrong)| !wrong.is_empty());
        files
            .map(|(name, wrong)| {
                let ranges = wrong.iter().map(|wrong| wrong.range.clone());
                (name.clone(), ranges.collect())
            })
            .collect()
    }

    fn mended(&mut self, name: &str, by: &Range<u64>, at: u64) {
        let Some(file) = self.wrong.get_mut(name) else {
            return;
        };
        let older = std::mem::take(file);
        for wrong in older {
            if wrong.since > at {
                file.push(wrong);
                continue;
            }
            let Range { start, end } = wrong.range;
            let parts = [
                start..end.min(by.start.max(start)),
                start.max(by.end.min(end))..end,
            ];
            let outside = parts.into_iter().filter(|range| range.start < range.end);
            file.extend(outside.map(|range| Wrong {
                range,
                since: wrong.since,
            }));
        }
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_corrupted_until_a_later_write_to_it_is_durable() {
        let mut ledger = Ledger::default();
        ledger.written("a", 0..10, false);
        ledger.corrupted("a", 2..8);
        ledger.flushed("a", ledger.moment());
        assert_eq!(
            ledger.all()["a"],
            vec![2..8],
            "the flush covers an older write"
        );
        ledger.written("a", 4..6, false);
        assert_eq!(
            ledger.all()["a"],
            vec![2..8],
            "the write is not durable yet"
        );
        ledger.flushed("a", ledger.moment());
        assert_eq!(ledger.all()["a"], vec![2..4, 6..8]);
        ledger.written("a", 0..20, true);
        assert!(ledger.all().is_empty());
    }
}
