//! What must be true: every group appended, in order, how far they were acknowledged, and what
//! the partitions look like after any prefix of them.

use std::collections::BTreeMap;

use ringlog_types::Sequence;

use super::machine::{Witness, chain};

/// What a group does to one partition.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A batch of `count` offsets.
    Batch {
        /// Which.
        partition: u64,
        /// First offset.
        base: u64,
        /// Offsets.
        count: u32,
        /// Its bytes.
        payload: Vec<u8>,
    },
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

/// One atomic group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number, from 1.
    pub number: u64,
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
    /// Behind the last offset.
    pub end: u64,
    /// Chained hash of all batches ever.
    pub hash: u64,
    /// Batches in offset order: base offset, count, bytes.
    pub batches: Vec<(u64, u32, Vec<u8>)>,
}

/// The model.
#[derive(Debug, Default)]
pub struct Model {
    /// Groups that are certain: they survived a start.
    pub settled: u64,
    /// The partitions after the settled groups.
    pub partitions: BTreeMap<u64, Partition>,
    /// Groups appended in this life.
    pub waiting: Vec<Group>,
    /// Groups of this life that were acknowledged.
    pub acknowledged: usize,
}

impl Model {
    /// The number of the next group.
    pub fn next_group(&self) -> u64 {
        self.settled + self.waiting.len() as u64 + 1
    }

    /// The end of a partition with every group of this life.
    pub fn pending_end(&self, partition: u64) -> u64 {
        let mut end = self.partitions.get(&partition).map_or(0, |p| p.end);
        for effect in self.waiting.iter().flat_map(|group| &group.effects) {
            match effect {
                Effect::Batch {
                    partition: p,
                    base,
                    count,
                    ..
                } if *p == partition => {
                    end = base + u64::from(*count);
                }
                Effect::Dropped { partition: p } if *p == partition => end = 0,
                _ => {}
            }
        }
        end
    }

    /// The log says everything up to `durable` is durable.
    pub fn acknowledge(&mut self, durable: Sequence) {
        let waiting = self.waiting[self.acknowledged..].iter();
        self.acknowledged += waiting
            .take_while(|group| group.sequence <= durable)
            .count();
    }

    /// A restart kept the groups up to number `last`: they are certain now, the rest is gone.
    pub fn settle(&mut self, last: u64) {
        for group in std::mem::take(&mut self.waiting) {
            if group.number > last {
                break;
            }
            self.settled = group.number;
            for effect in group.effects {
                self.apply(effect);
            }
        }
        self.acknowledged = 0;
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Batch {
                partition,
                base,
                count,
                payload,
            } => {
                let state = self.partitions.entry(partition).or_default();
                state.end = base + u64::from(count);
                state.hash = chain(state.hash, &payload);
                state.batches.push((base, count, payload));
            }
            Effect::Start { partition, offset } => {
                let state = self.partitions.entry(partition).or_default();
                state.start = state.start.max(offset);
                let start = state.start;
                state
                    .batches
                    .retain(|(base, count, _)| base + u64::from(*count) > start);
            }
            Effect::Dropped { partition } => {
                self.partitions.remove(&partition);
            }
        }
    }

    /// What a machine must have seen.
    pub fn witness(&self) -> Witness {
        let partitions = self.partitions.iter().filter(|(_, state)| state.end > 0);
        Witness {
            groups: self.settled,
            last_group: self.settled,
            out_of_order: None,
            partitions: partitions
                .map(|(p, state)| (*p, (state.end, state.hash)))
                .collect(),
        }
    }
}
