//! What must be true: every group appended, in order, how far they were acknowledged, and what
//! the partitions look like after them, given what a machine says it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ringlog_types::Sequence;

use super::machine::{Fate, Seen, Witness, chain, digest};

/// What a group does to one partition.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A batch.
    Batch(Batch),
    /// The partition starts at this offset.
    Start {
        /// Which.
        partition: u64,
        /// First offset kept.
        offset: u64,
    },
    /// The partition is gone.
    Dropped {
        /// Which.
        partition: u64,
    },
}

/// A batch of records.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its partition.
    pub partition: u64,
    /// First offset.
    pub base: u64,
    /// Offsets.
    pub count: u32,
    /// Its bytes.
    pub payload: Rc<[u8]>,
    /// Their digest.
    digest: u64,
    /// The block that commits it.
    pub commit: Sequence,
    /// Known to be lost: never served, and named.
    pub lost: bool,
}

impl Batch {
    /// A batch that is about to be appended.
    pub fn new(partition: u64, base: u64, count: u32, payload: Vec<u8>) -> Batch {
        Batch {
            partition,
            base,
            count,
            digest: digest(&payload),
            payload: payload.into(),
            commit: Sequence::NONE,
            lost: false,
        }
    }

    /// Behind its last offset.
    pub fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

/// One atomic group.
#[derive(Clone, Debug)]
pub struct Group {
    /// The block that commits it.
    pub sequence: Sequence,
    /// What it does.
    pub effects: Vec<Effect>,
}

/// A partition as the model sees it.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// First offset.
    pub start: u64,
    /// What a machine must have seen.
    pub seen: Seen,
    /// Batches in offset order, lost ones among them.
    pub batches: Vec<Batch>,
}

impl Partition {
    /// Takes a batch that came as damaged, whatever became of its group.
    fn lose(&mut self, batch: &Batch) {
        let (base, end) = (batch.base, batch.end());
        if base > self.seen.end {
            self.seen.skipped.push((self.seen.end, base));
        }
        self.seen.add_damaged(base, end);
        self.seen.end = end;
        self.batches.push(Batch {
            lost: true,
            ..batch.clone()
        });
    }

    /// Behind the last offset: where the next batch begins.
    pub fn end(&self) -> u64 {
        self.seen.end.max(self.start)
    }
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Every group, by its number less one.
    pub groups: Vec<Group>,
    /// Groups that are certain: they survived a start.
    pub settled: usize,
    /// Groups that are certain or were acknowledged.
    pub acknowledged: usize,
    /// The last block the log said to be durable.
    pub durable: Sequence,
    /// Numbers of groups that are lost as a whole, as was found and reported.
    pub missed: BTreeSet<u64>,
    /// Partitions of which a trim or the end was lost, and the offset behind what that had ended:
    /// it lives again, as far as its segments were not let go.
    pub revived: BTreeMap<u64, u64>,
    /// Batches that came as damaged while nothing else of their group did, behind the group with
    /// this number: of blocks at the end of the log, whose offsets could be told.
    pub orphans: Vec<(u64, Batch)>,
    /// The partitions after the settled groups.
    pub partitions: BTreeMap<u64, Partition>,
}

impl Model {
    /// The number of the next group.
    pub fn next_group(&self) -> u64 {
        self.groups.len() as u64 + 1
    }

    /// Groups appended in this life.
    pub fn waiting(&self) -> &[Group] {
        &self.groups[self.settled..]
    }

    /// The end of a partition with every group of this life.
    pub fn pending_end(&self, partition: u64) -> u64 {
        let mut end = self.partitions.get(&partition).map_or(0, Partition::end);
        for effect in self.waiting().iter().flat_map(|group| &group.effects) {
            match effect {
                Effect::Batch(batch) if batch.partition == partition => end = batch.end(),
                Effect::Dropped { partition: p } if *p == partition => end = 0,
                _ => {}
            }
        }
        end
    }

    /// All batches of a partition that were appended and are not known to be gone, in offset order: also
    /// those that came as damaged while nothing else of their group did.
    pub fn appended(&self, partition: u64) -> Vec<&Batch> {
        let effects = self.groups.iter().flat_map(|group| &group.effects);
        let batches = effects.filter_map(|effect| match effect {
            Effect::Batch(batch) => Some(batch),
            _ => None,
        });
        let orphans = self.orphans.iter().map(|(_, batch)| batch);
        let all = batches.chain(orphans);
        let mut all: Vec<&Batch> = all.filter(|batch| batch.partition == partition).collect();
        all.sort_by_key(|batch| batch.base);
        all
    }

    /// A group was appended; `sequence` commits it.
    pub fn append(&mut self, sequence: Sequence, mut effects: Vec<Effect>) {
        for effect in &mut effects {
            if let Effect::Batch(batch) = effect {
                batch.commit = sequence;
            }
        }
        self.groups.push(Group { sequence, effects });
    }

    /// The log says everything up to `durable` is durable. Returns how many groups that
    /// acknowledges.
    pub fn acknowledge(&mut self, durable: Sequence) -> u64 {
        let waiting = self.groups[self.acknowledged..].iter();
        let more = waiting
            .take_while(|group| group.sequence <= durable)
            .count();
        self.acknowledged += more;
        self.durable = durable;
        more as u64
    }

    /// Partitions of which a trim or the end is lost, as a start shows, and the offset behind what
    /// that had ended.
    pub fn revived(&self, witness: &Witness) -> BTreeMap<u64, u64> {
        let mut revived = self.revived.clone();
        let behind = witness.last_group + 1..self.next_group();
        let lost = numbers(&witness.missed).chain(behind);
        let lost = lost.filter_map(|number| self.groups.get(number as usize - 1));
        for effect in lost.flat_map(|group| &group.effects) {
            let (partition, before) = match effect {
                Effect::Batch(_) => continue,
                Effect::Start { partition, offset } => (*partition, *offset),
                Effect::Dropped { partition } => (*partition, u64::MAX),
            };
            let known = revived.entry(partition).or_default();
            *known = before.max(*known);
        }
        revived
    }

    /// Takes out the groups behind the last that came, but for batches that came as damaged.
    fn cut_behind(&mut self, witness: &Witness) {
        let last = witness.last_group;
        let kept = self.groups.len().min(last as usize);
        for effect in self.groups.drain(kept..).flat_map(|group| group.effects) {
            let Effect::Batch(batch) = effect else {
                continue;
            };
            let seen = witness.partitions.get(&batch.partition);
            let fate = seen.map(|seen| seen.fate(batch.base, batch.end()));
            if fate == Some(Fate::Damaged) {
                self.orphans.push((last, batch));
            }
        }
    }

    /// A restart kept what `witness` says: that is certain now, the rest is gone. Returns the
    /// batches that are found lost without the machine having been told, while their group came.
    pub fn settle(&mut self, witness: &Witness) -> Vec<Batch> {
        self.revived = self.revived(witness);
        self.cut_behind(witness);
        self.settled = self.groups.len();
        self.acknowledged = self.settled;
        self.missed = numbers(&witness.missed).collect();
        self.partitions.clear();
        let mut found_lost = Vec::new();
        let mut orphans = self.orphans.iter().peekable();
        let mut take_orphans = |partitions: &mut BTreeMap<u64, Partition>, number: u64| {
            while let Some((_, batch)) = orphans.next_if(|(after, _)| *after < number) {
                partitions.entry(batch.partition).or_default().lose(batch);
            }
        };
        for (number, group) in (1..).zip(&mut self.groups) {
            take_orphans(&mut self.partitions, number);
            let missed = self.missed.contains(&number);
            for effect in &mut group.effects {
                let Effect::Batch(batch) = effect else {
                    if !missed {
                        apply(&mut self.partitions, effect);
                    }
                    continue;
                };
                let state = self.partitions.entry(batch.partition).or_default();
                let seen = witness.partitions.get(&batch.partition);
                let fate = seen.map_or(Fate::Skipped, |seen| seen.fate(batch.base, batch.end()));
                match fate {
                    Fate::Damaged => state.seen.add_damaged(batch.base, batch.end()),
                    // Whole, or of a partition that is dropped later on.
                    Fate::Whole if !missed => {
                        state.seen.hash = chain(state.seen.hash, batch.digest);
                    }
                    _ if !missed && !batch.lost => found_lost.push(batch.clone()),
                    _ => {}
                }
                // What an earlier start took for lost may stand somewhere after all.
                let lost = missed || fate != Fate::Whole;
                if fate == Fate::Damaged || !lost {
                    let base = batch.base;
                    if base > state.seen.end {
                        state.seen.skipped.push((state.seen.end, base));
                    }
                    state.seen.end = batch.end();
                }
                state.batches.push(Batch {
                    lost,
                    ..batch.clone()
                });
            }
        }
        take_orphans(&mut self.partitions, u64::MAX);
        // What was dropped lives again, whole, if the record that dropped it is lost one day.
        found_lost.retain(|batch| {
            let state = self.partitions.get(&batch.partition);
            state.is_some_and(|state| state.seen.end > 0 || state.start > 0)
        });
        let batches = self.partitions.values().flat_map(|state| &state.batches);
        // Also of what was trimmed since: it is reported once.
        let lost: BTreeSet<(u64, u64)> = batches
            .filter(|batch| batch.lost)
            .chain(&found_lost)
            .map(|batch| (batch.partition, batch.base))
            .collect();
        for effect in self.groups.iter_mut().flat_map(|group| &mut group.effects) {
            if let Effect::Batch(batch) = effect {
                batch.lost |= lost.contains(&(batch.partition, batch.base));
            }
        }
        // What is lost at the end of a partition is not there: its offsets are given again. Those of one
        // that is dropped are not, and what was lost in it before is lost still when it lives again.
        let partitions = &self.partitions;
        let there = |effect: &Effect| match effect {
            Effect::Batch(batch) => {
                let state = partitions.get(&batch.partition);
                !batch.lost || state.is_none_or(|state| batch.base < state.end())
            }
            _ => true,
        };
        for group in &mut self.groups {
            group.effects.retain(there);
        }
        for state in self.partitions.values_mut() {
            let end = state.end();
            state.batches.retain(|batch| batch.base < end);
        }
        self.partitions
            .retain(|_, state| state.seen.end > 0 || state.start > 0);
        found_lost
    }
}

fn apply(partitions: &mut BTreeMap<u64, Partition>, effect: &Effect) {
    match effect {
        Effect::Batch(_) => {}
        Effect::Start { partition, offset } => {
            let state = partitions.entry(*partition).or_default();
            state.start = state.start.max(*offset);
            let start = state.start;
            state.batches.retain(|batch| batch.end() > start);
        }
        Effect::Dropped { partition } => {
            partitions.remove(partition);
        }
    }
}

/// The numbers in ranges.
pub fn numbers(ranges: &[(u64, u64)]) -> impl Iterator<Item = u64> {
    ranges.iter().flat_map(|(first, end)| *first..*end)
}
