//! What was asked for, in the order of the log, and what the node must look like after any
//! beginning of it: the simplest thing that says so.

use std::collections::{BTreeMap, BTreeSet};

/// What an acknowledgement of a topic's batches promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing past the end of the process.
    Buffered,
    /// Survives the end of the process.
    Written,
    /// Survives the end of power.
    Flushed,
}

impl Promise {
    /// All, weakest first.
    pub const ALL: [Promise; 3] = [Promise::Buffered, Promise::Written, Promise::Flushed];

    /// As `ringlog.durability` has it.
    pub fn name(self) -> &'static str {
        match self {
            Promise::Buffered => "buffered",
            Promise::Written => "written",
            Promise::Flushed => "flushed",
        }
    }
}

/// Who wrote a batch: producer, epoch, first sequence.
pub type Writer = (i64, i16, i32);

/// A batch that was appended.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base: u64,
    pub count: u32,
    pub writer: Option<Writer>,
    /// As it lies in the log.
    pub bytes: Vec<u8>,
}

impl Batch {
    pub fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

/// One thing that was logged.
#[derive(Clone, Debug)]
pub enum Act {
    /// A block of producer ids: the ids themselves are in `told_ids`.
    ProducerIds,
    Batch {
        partition: u64,
        batch: Batch,
    },
    Start {
        partition: u64,
        offset: u64,
    },
    Dropped {
        partition: u64,
    },
    Created {
        number: u32,
        topic: Topic,
    },
    Deleted {
        number: u32,
    },
    Grown {
        number: u32,
        partitions: u32,
    },
    Configured {
        number: u32,
        retention_ms: Option<u64>,
    },
    /// A group committed offsets.
    Committed {
        group: String,
        offsets: Vec<(u64, i64)>,
        /// With the op behind it: both are in the log, or none.
        has_more: bool,
    },
    /// A group came to a generation: members by id, with their parts.
    Grouped {
        group: String,
        generation: i32,
        members: BTreeMap<String, Vec<u8>>,
    },
    /// A group was removed.
    Removed {
        group: String,
    },
}

/// It, the block that commits it, and whether it was acknowledged.
#[derive(Clone, Debug)]
pub struct Op {
    pub sequence: u64,
    pub act: Act,
    /// What was promised about it: nothing yet, or with an acknowledgement.
    pub acknowledged: Option<Promise>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub partitions: u32,
    pub retention_ms: Option<u64>,
    pub promise: Promise,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub start: u64,
    pub end: u64,
    pub batches: Vec<Batch>,
    /// By producer: its epoch, and the batches written in it.
    pub producers: BTreeMap<i64, (i16, Vec<Batch>)>,
}

/// The node after some ops.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub topics: BTreeMap<u32, Topic>,
    /// Numbers that were given to topics: none is given again.
    pub numbers: BTreeSet<u32>,
    pub partitions: BTreeMap<u64, Partition>,
    /// What groups committed.
    pub offsets: BTreeMap<(String, u64), i64>,
    /// Generations and members of groups.
    pub groups: BTreeMap<String, (i32, BTreeMap<String, Vec<u8>>)>,
}

impl State {
    pub fn apply(&mut self, act: &Act) {
        match act {
            Act::ProducerIds => {}
            Act::Batch { partition, batch } => {
                let state = self.partitions.entry(*partition).or_default();
                state.end = batch.end();
                state.batches.push(batch.clone());
                if let Some((id, epoch, _)) = batch.writer {
                    let written = state.producers.entry(id).or_default();
                    if written.0 != epoch {
                        *written = (epoch, Vec::new());
                    }
                    written.1.push(batch.clone());
                }
            }
            Act::Start { partition, offset } => {
                let state = self.partitions.entry(*partition).or_default();
                state.start = state.start.max(*offset);
                state.end = state.end.max(*offset);
                let start = state.start;
                state.batches.retain(|batch| batch.end() > start);
            }
            Act::Dropped { partition } => {
                self.partitions.remove(partition);
            }
            Act::Created { number, topic } => {
                self.numbers.insert(*number);
                self.topics.insert(*number, topic.clone());
            }
            Act::Deleted { number } => {
                self.topics.remove(number);
            }
            Act::Grown { number, partitions } => {
                if let Some(topic) = self.topics.get_mut(number) {
                    topic.partitions = *partitions;
                }
            }
            Act::Committed { group, offsets, .. } => {
                for (partition, offset) in offsets {
                    let key = (group.clone(), *partition);
                    self.offsets.insert(key, *offset);
                }
            }
            Act::Grouped {
                group,
                generation,
                members,
            } => {
                let stands = (*generation, members.clone());
                self.groups.insert(group.clone(), stands);
            }
            Act::Removed { group } => self.offsets.retain(|(of, _), _| of != group),
            Act::Configured {
                number,
                retention_ms,
            } => {
                if let Some(topic) = self.topics.get_mut(number) {
                    topic.retention_ms = *retention_ms;
                }
            }
        }
    }
}

/// How the machine that the node runs on was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The log was closed.
    Closed,
    /// The process was killed.
    Killed,
    /// The power went, or a write or flush failed before.
    PowerCut,
}

/// Acknowledged batches that were lost as their level allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// `buffered`, by a kill.
    pub buffered_by_kill: u64,
    /// `buffered`, by a power cut or a log that had failed.
    pub buffered_by_power_cut: u64,
    /// `written`, by the same.
    pub written_by_power_cut: u64,
}

/// Everything that was logged, and what is known of it.
#[derive(Debug, Default)]
pub struct Model {
    ops: Vec<Op>,
    /// The node after all of them.
    pub state: State,
    /// Producer ids that were told, in any life.
    pub told_ids: BTreeSet<i64>,
    /// Ops before this one are acknowledged as far as they can be.
    settled: usize,
}

impl Model {
    pub fn push(&mut self, sequence: u64, act: Act) -> usize {
        self.state.apply(&act);
        let op = Op {
            sequence,
            act,
            acknowledged: None,
        };
        self.ops.push(op);
        self.ops.len() - 1
    }

    /// An acknowledgement was sent.
    pub fn acknowledge(&mut self, op: usize, promise: Promise) {
        let known = &mut self.ops[op].acknowledged;
        *known = (*known).max(Some(promise));
    }

    /// The log says how far it has come: what that acknowledges. Returns how many ops are new
    /// among the durable ones.
    pub fn advance(&mut self, written: u64, durable: u64, ignore_durability: bool) -> u64 {
        let before = self.settled;
        while self
            .ops
            .get(self.settled)
            .is_some_and(|op| op.sequence <= durable)
        {
            self.acknowledge(self.settled, Promise::Flushed);
            self.settled += 1;
        }
        for at in self.settled..self.ops.len() {
            if self.ops[at].sequence > written {
                break;
            }
            let Act::Batch { partition, .. } = &self.ops[at].act else {
                continue;
            };
            let topic = self.state.topics.get(&((*partition >> 32) as u32));
            let promise = topic.map_or(Promise::Flushed, |topic| topic.promise);
            if promise < Promise::Flushed {
                // A kill loses nothing of it from here on, also where that was not promised.
                self.acknowledge(at, Promise::Written);
            } else if ignore_durability {
                self.acknowledge(at, Promise::Flushed);
            }
        }
        (self.settled - before) as u64
    }

    /// Whether a generation that gives a member this part is durable.
    pub fn assigned(
        &self,
        of: &str,
        (number, member): (i32, &str),
        part: &[u8],
        durable: u64,
    ) -> bool {
        let mut ops = self.ops.iter().rev();
        ops.any(|op| match &op.act {
            Act::Grouped {
                group,
                generation,
                members,
            } if op.sequence <= durable || op.acknowledged.is_some() => {
                let given = members.get(member).map(Vec::as_slice);
                group == of && *generation == number && given == Some(part)
            }
            _ => false,
        })
    }

    /// A repeat of the batch at this offset was answered.
    pub fn repeat_answered(&mut self, of: u64, base: u64) {
        let is_first = |op: &Op| {
            matches!(&op.act, Act::Batch { partition, batch }
                if *partition == of && batch.base == base)
        };
        if let Some(at) = self.ops.iter().rposition(is_first) {
            self.acknowledge(at, Promise::Flushed);
        }
    }

    /// A start kept so many ops; the rest is gone. What of it was acknowledged must be of a level
    /// that allows it.
    ///
    /// # Errors
    /// The first promise found broken.
    pub fn keep(&mut self, kept: usize, how: End) -> Result<Lost, String> {
        if kept > self.ops.len() {
            return Err(format!(
                "{kept} entries came back, {} were written",
                self.ops.len()
            ));
        }
        let last = kept.checked_sub(1).map(|last| &self.ops[last].act);
        if let Some(Act::Committed { has_more: true, .. }) = last {
            return Err(format!("a part of a commit came back: {last:?}"));
        }
        let mut lost = Lost::default();
        for op in self.ops.drain(kept..) {
            match (op.acknowledged, how) {
                (None, _) => {}
                (Some(Promise::Buffered), End::Killed) => lost.buffered_by_kill += 1,
                (Some(Promise::Buffered), End::PowerCut) => lost.buffered_by_power_cut += 1,
                (Some(Promise::Written), End::PowerCut) => lost.written_by_power_cut += 1,
                (Some(promise), _) => {
                    return Err(format!(
                        "block {} was acknowledged as {}, and is gone after {how:?} ({kept} entries \
                         were kept): {:?}",
                        op.sequence,
                        promise.name(),
                        op.act
                    ));
                }
            }
        }
        self.settled = kept;
        self.state = State::default();
        for op in &mut self.ops {
            // It is certain from here on.
            op.acknowledged = Some(Promise::Flushed);
            self.state.apply(&op.act);
        }
        Ok(lost)
    }
}

/// Batches of a producer that a partition remembers.
pub const WINDOW: usize = 5;

pub fn describe(batch: &Batch) -> String {
    format!("{}..{} of {:?}", batch.base, batch.end(), batch.writer)
}

/// What a client sends again.
pub fn repeat_of(batch: &Batch) -> Vec<u8> {
    let mut bytes = batch.bytes.clone();
    ringlog_types::batch::set_base_offset(&mut bytes, ringlog_types::Offset::ZERO);
    ringlog_types::batch::set_leader_epoch(&mut bytes, -1);
    bytes
}
