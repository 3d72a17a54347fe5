//! A partition's batches in log order against what was promised: nothing lost, doubled,
//! reordered, altered or invented.
//!
//! Pure: fed by [`super::readback`], and by tests with planted faults. Batches of other runs are
//! passed over; batches of this run that nobody acknowledged are counted and accepted where they
//! keep the order (their acknowledgement may have died with the connection).

use std::collections::BTreeSet;
use std::fmt;

use crate::batch::stamp::{RunId, Stamp};
use crate::verify::content::Content;
use crate::verify::expectation::PartitionExpectation;
use crate::verify::ledger::Entry;

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged and not there.
    Lost {
        /// Which batch.
        number: u64,
        /// Where it was acknowledged, if the broker told.
        offset: Option<u64>,
    },
    /// There for the second time.
    Duplicate {
        /// Which batch.
        number: u64,
        /// Where the repeat lies.
        offset: u64,
    },
    /// There, but behind a later one.
    Reordered {
        /// Which batch.
        number: u64,
        /// Which later one came first.
        behind: u64,
        /// Where it lies.
        offset: u64,
    },
    /// Not what was sent.
    Altered {
        /// Which batch; `None` when its stamp cannot be read.
        number: Option<u64>,
        /// Where it lies.
        offset: u64,
        /// In what way.
        reason: &'static str,
    },
    /// Stamped with this run, but never sent to this partition.
    Phantom {
        /// Which batch it claims to be.
        number: u64,
        /// Which partition it claims.
        partition: u32,
        /// Where it lies.
        offset: u64,
    },
    /// Acknowledged at one offset, found at another.
    Moved {
        /// Which batch.
        number: u64,
        /// Where it was acknowledged.
        acknowledged: u64,
        /// Where it lies.
        found: u64,
    },
    /// Offsets that no batch covers, or two do.
    NotDense {
        /// Where the next batch had to begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Lost {
                number,
                offset: Some(offset),
            } => {
                write!(
                    f,
                    "LOST: batch {number}, acknowledged at offset {offset}, is not there"
                )
            }
            Fault::Lost {
                number,
                offset: None,
            } => {
                write!(f, "LOST: batch {number}, acknowledged, is not there")
            }
            Fault::Duplicate { number, offset } => {
                write!(
                    f,
                    "DUPLICATE: batch {number} is there again at offset {offset}"
                )
            }
            Fault::Reordered {
                number,
                behind,
                offset,
            } => {
                write!(
                    f,
                    "REORDERED: batch {number} lies at offset {offset}, behind {behind}"
                )
            }
            Fault::Altered {
                number: Some(number),
                offset,
                reason,
            } => {
                write!(f, "ALTERED: batch {number} at offset {offset}: {reason}")
            }
            Fault::Altered {
                number: None,
                offset,
                reason,
            } => {
                write!(f, "ALTERED: a batch at offset {offset}: {reason}")
            }
            Fault::Phantom {
                number,
                partition,
                offset,
            } => write!(
                f,
                "PHANTOM: offset {offset} holds batch {number} of partition {partition}, \
                 which was never sent here"
            ),
            Fault::Moved {
                number,
                acknowledged,
                found,
            } => write!(
                f,
                "MOVED: batch {number} was acknowledged at offset {acknowledged}, lies at {found}"
            ),
            Fault::NotDense { expected, found } => {
                write!(f, "NOT DENSE: offset {expected} was due, {found} follows")
            }
        }
    }
}

/// What was found in one partition.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Acknowledged batches that are there.
    pub confirmed_batches: u64,
    /// Batches of this run that are there although nobody acknowledged them.
    pub unacknowledged_batches: u64,
    /// Batches of other runs or other producers.
    pub foreign_batches: u64,
    /// The first faults, [`FAULTS_KEPT`] at most of each kind.
    pub faults: Vec<Fault>,
    /// All faults, also those not kept.
    pub fault_count: u64,
}

/// More faults of a kind than this are only counted.
pub const FAULTS_KEPT: usize = 10;

/// Walks one partition.
pub struct PartitionChecker<'a> {
    run: RunId,
    partition: u32,
    expected: &'a PartitionExpectation,
    next_offset: Option<u64>,
    /// Numbers up to here are settled: seen or reported.
    next_number: u64,
    /// Acknowledged numbers below `next_number` that were passed over; found later, they are
    /// reordered, else lost.
    skipped: BTreeSet<u64>,
    /// Unacknowledged numbers that are there.
    unacknowledged: BTreeSet<u64>,
    findings: Findings,
}

impl<'a> PartitionChecker<'a> {
    /// A checker at the start of a partition.
    #[must_use]
    pub fn new(run: RunId, partition: u32, expected: &'a PartitionExpectation) -> Self {
        let next_offset = u64::try_from(expected.start_offset).ok();
        PartitionChecker {
            run,
            partition,
            expected,
            next_offset,
            next_number: 0,
            skipped: BTreeSet::new(),
            unacknowledged: BTreeSet::new(),
            findings: Findings::default(),
        }
    }

    /// The next batch in the log, in offset order.
    pub fn batch(&mut self, base_offset: u64, offsets: u64, content: Content) {
        self.check_dense(base_offset, offsets);
        let stamp = match content {
            Content::Foreign => return self.foreign(base_offset),
            Content::Intact(stamp) | Content::Altered(stamp, _) => stamp,
        };
        if stamp.run != self.run {
            self.findings.foreign_batches += 1;
            return;
        }
        if let Content::Altered(_, reason) = content {
            let number = Some(stamp.number);
            self.fault(Fault::Altered {
                number,
                offset: base_offset,
                reason,
            });
        }
        self.place(base_offset, stamp);
    }

    /// A foreign batch is other people's, unless it lies where one of ours was acknowledged: then
    /// ours was damaged beyond recognition, and counts as lost besides.
    fn foreign(&mut self, base_offset: u64) {
        self.findings.foreign_batches += 1;
        let next_of_ours = self.expected.ledger.entry(self.next_number);
        if next_of_ours == Entry::Acknowledged(Some(base_offset)) {
            let reason = "its first record holds no stamp any more";
            self.fault(Fault::Altered {
                number: None,
                offset: base_offset,
                reason,
            });
        }
    }

    fn check_dense(&mut self, base_offset: u64, offsets: u64) {
        if let Some(expected) = self.next_offset
            && expected != base_offset
        {
            self.fault(Fault::NotDense {
                expected,
                found: base_offset,
            });
        }
        self.next_offset = Some(base_offset + offsets);
    }

    fn place(&mut self, offset: u64, stamp: Stamp) {
        let number = stamp.number;
        let never_sent = self.expected.sent.is_some_and(|sent| number >= sent);
        if stamp.partition != self.partition || never_sent {
            self.fault(Fault::Phantom {
                number,
                partition: stamp.partition,
                offset,
            });
            return;
        }
        let entry = self.expected.ledger.entry(number);
        if number >= self.next_number {
            // A number of a torn universe must not make this walk 2^64 numbers: the ledger only
            // yields what was acknowledged.
            let passed = self
                .expected
                .ledger
                .acknowledged_between(self.next_number, number);
            self.skipped.extend(passed);
            self.next_number = number + 1;
        } else if self.skipped.remove(&number)
            || (entry == Entry::Unacknowledged && !self.unacknowledged.contains(&number))
        {
            self.fault(Fault::Reordered {
                number,
                behind: self.next_number - 1,
                offset,
            });
        } else {
            self.fault(Fault::Duplicate { number, offset });
            return;
        }
        match entry {
            Entry::Unacknowledged => {
                self.findings.unacknowledged_batches += 1;
                self.unacknowledged.insert(number);
            }
            Entry::Acknowledged(acknowledged) => {
                self.findings.confirmed_batches += 1;
                if let Some(acknowledged) = acknowledged
                    && acknowledged != offset
                {
                    self.fault(Fault::Moved {
                        number,
                        acknowledged,
                        found: offset,
                    });
                }
            }
        }
    }

    /// The end of the partition.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        let ledger = &self.expected.ledger;
        let mut lost = std::mem::take(&mut self.skipped);
        lost.extend(ledger.acknowledged_between(self.next_number, u64::MAX));
        for number in lost {
            let offset = match self.expected.ledger.entry(number) {
                Entry::Acknowledged(offset) => offset,
                Entry::Unacknowledged => None,
            };
            self.fault(Fault::Lost { number, offset });
        }
        self.findings
    }

    fn fault(&mut self, fault: Fault) {
        self.findings.fault_count += 1;
        let kind = std::mem::discriminant(&fault);
        let kept = &mut self.findings.faults;
        if kept
            .iter()
            .filter(|other| std::mem::discriminant(*other) == kind)
            .count()
            < FAULTS_KEPT
        {
            kept.push(fault);
        }
    }
}

#[cfg(test)]
mod tests;
