//! What was asked for, in the order of the log.

use std::collections::BTreeMap;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: u64,
    pub key: Vec<u8>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: i64,
}

/// One thing that was logged.
#[derive(Clone, Debug)]
pub enum Act {
    Batch {
        partition: u64,
        records: Vec<Record>,
    },
    Start {
        partition: u64,
        offset: u64,
    },
}

#[derive(Clone, Debug)]
struct Op {
    /// The block that commits it.
    sequence: u64,
    act: Act,
}

/// A pass that was begun.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// What was logged before it.
    ops: usize,
    now_ms: i64,
}

/// A partition after everything that was logged.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub start: u64,
    pub end: u64,
    /// All that were appended, in offset order, each with the number of what it came with.
    pub records: Vec<(usize, Record)>,
}

/// Everything that was logged, and what is known of it.
#[derive(Debug, Default)]
pub struct Model {
    ops: Vec<Op>,
    /// Ops before this one are acknowledged.
    acknowledged: usize,
    passes: BTreeMap<u64, Vec<Pass>>,
    /// The partitions after all ops.
    pub partitions: BTreeMap<u64, Partition>,
}

impl Model {
    pub fn push(&mut self, sequence: u64, act: Act) {
        apply(&mut self.partitions, self.ops.len(), &act);
        self.ops.push(Op { sequence, act });
    }

    /// The offset of the next record.
    pub fn next_offset(&self, partition: u64) -> u64 {
        self.partitions.get(&partition).map_or(0, |state| state.end)
    }

    /// Blocks up to this one are durable. Returns how much that acknowledges.
    pub fn acknowledge(&mut self, durable: u64) -> u64 {
        let more = self.ops[self.acknowledged..].iter();
        let more = more.take_while(|op| op.sequence <= durable).count();
        self.acknowledged += more;
        more as u64
    }

    /// A pass over a partition begins, by the clock that says how old tombstones are.
    pub fn pass_begins(&mut self, partition: u64, now_ms: i64) {
        let ops = self.ops.len();
        let passes = self.passes.entry(partition).or_default();
        passes.push(Pass { ops, now_ms });
    }

    /// Whether a tombstone that came with so many ops before it may be gone: one pass met it, and
    /// another began after its retention.
    pub fn may_expire(&self, partition: u64, came_with: usize, retention_ms: i64) -> bool {
        let passes = self.passes.get(&partition).into_iter().flatten();
        let after = passes.filter(|pass| pass.ops > came_with);
        let mut times: Vec<i64> = after.map(|pass| pass.now_ms).collect();
        times.sort_unstable();
        match (times.first(), times.last()) {
            (Some(first), Some(last)) => first + retention_ms < *last,
            _ => false,
        }
    }

    /// A start kept so many ops; the rest is gone.
    ///
    /// # Errors
    /// Some of it was acknowledged.
    pub fn keep(&mut self, kept: usize) -> Result<(), String> {
        if kept > self.ops.len() {
            let written = self.ops.len();
            return Err(format!("{kept} entries came back, {written} were written"));
        }
        if kept < self.acknowledged {
            let op = &self.ops[kept];
            return Err(format!(
                "block {} was acknowledged and is gone, {kept} entries were kept: {:?}",
                op.sequence, op.act
            ));
        }
        self.ops.truncate(kept);
        self.acknowledged = kept;
        self.partitions.clear();
        for (number, op) in self.ops.iter().enumerate() {
            apply(&mut self.partitions, number, &op.act);
        }
        Ok(())
    }
}

fn apply(partitions: &mut BTreeMap<u64, Partition>, number: usize, act: &Act) {
    match act {
        Act::Batch { partition, records } => {
            let state = partitions.entry(*partition).or_default();
            state.end = records.last().map_or(state.end, |last| last.offset + 1);
            let records = records.iter().map(|record| (number, record.clone()));
            state.records.extend(records);
        }
        Act::Start { partition, offset } => {
            let state = partitions.entry(*partition).or_default();
            state.start = state.start.max(*offset);
        }
    }
}
