//! What a run asks of a node, with the answer that each must have.

use std::sync::Arc;

use ringlog_engine::groups::{Commit, CommittedOffset, GroupError, Identity};
use ringlog_engine::partitions::ProduceError;
use ringlog_engine::topics::{ConfigChange, Durability, MetadataRecord, TopicCommand};
use ringlog_storage::io::Io;
use ringlog_storage::log::{AppendError, Urgency};
use ringlog_types::batch::Builder;
use ringlog_types::{Offset, PartitionId, TopicNumber};

use super::members::Crew;
use super::mistake::Mistake;
use super::model::{Act, Batch, Model, Promise, Topic, WINDOW, Writer, describe, repeat_of};
use super::node::{Node, Produced};
use crate::sim::random::Random;

const NAMES: u64 = 5;
const MOST_PARTITIONS: u32 = 4;
/// Of no topic: the first of the partitions of large commits.
const MANY: PartitionId = PartitionId(0xffff_fff0_0000_0000);

/// A workload, and what is known of it.
#[derive(Debug)]
pub struct Workload {
    pub random: Random,
    pub model: Model,
    pub mistake: Option<Mistake>,
    pub trace: bool,
    /// Producers: ids that were told.
    producers: Vec<i64>,
    /// Ids that wait for the block that must be durable before they are told.
    waiting_ids: Vec<(i64, u64)>,
    pub crew: Crew,
    /// What was done.
    pub done: Done,
}

/// What a workload did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub appended: u64,
    pub repeats: u64,
    pub repeats_of_pending: u64,
    pub refused: u64,
    pub commands: u64,
    pub ids: u64,
    pub commits: u64,
    /// Of them those of several records.
    pub large_commits: u64,
}

impl Workload {
    pub fn new(random: Random, mistake: Option<Mistake>, trace: bool) -> Workload {
        Workload {
            crew: Crew::new(random.clone().bits()),
            random,
            model: Model::default(),
            mistake,
            trace,
            producers: Vec::new(),
            waiting_ids: Vec::new(),
            done: Done::default(),
        }
    }

    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("  {}", what());
        }
    }

    /// A process is gone: what it would have told is not told.
    pub fn forget_waiting(&mut self) {
        self.waiting_ids.clear();
        self.crew.lost_the_node();
    }

    /// One thing is asked.
    pub fn step<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        match self.random.below(40) {
            0..=22 => self.write(node)?,
            23..=26 => self.repeat(node)?,
            27 | 28 => self.go_wrong(node)?,
            29..=31 => self.command(node)?,
            32 => self.delete_records(node)?,
            33 | 34 => self.producer_id(node)?,
            35 | 36 => self.commit(node)?,
            _ => {}
        }
        self.crew.step(node, &mut self.model)?;
        for (partition, sequence) in node.drop_orphaned() {
            let partition = partition.0;
            self.model.push(sequence.0, Act::Dropped { partition });
        }
        Ok(())
    }

    /// Takes completions and what they acknowledge. Returns how much became durable.
    pub fn poll<I: Io>(&mut self, node: &mut Node<I>) -> Result<u64, String> {
        node.poll()?;
        let (written, durable) = (node.log.written().0, node.log.durable().0);
        let lax = self.mistake == Some(Mistake::IgnoreDurability);
        let new = self.model.advance(written, durable, lax);
        self.crew.hear(node, &self.model)?;
        let early = self.mistake == Some(Mistake::TellIdsEarly);
        let waiting = std::mem::take(&mut self.waiting_ids);
        let (told, waiting) = waiting
            .into_iter()
            .partition(|(_, sequence)| *sequence <= durable || early);
        self.waiting_ids = waiting;
        let told: Vec<(i64, u64)> = told;
        for (id, _) in told {
            if !self.model.told_ids.insert(id) {
                return Err(format!("producer id {id} is told for the second time"));
            }
            self.done.ids += 1;
            self.producers.push(id);
        }
        Ok(new)
    }

    /// A partition of a committed topic that is not about to go.
    fn pick<I: Io>(&mut self, node: &Node<I>) -> Option<(PartitionId, Promise)> {
        let topics = self.model.state.topics.iter();
        let there: Vec<(u32, u32, Promise)> = topics
            .filter_map(|(number, topic)| {
                let committed = node.machines.topics.by_number(TopicNumber(*number))?;
                Some((*number, committed.partition_count(), topic.promise))
            })
            .collect();
        if there.is_empty() {
            return None;
        }
        let at = self.random.below(there.len() as u64) as usize;
        let (number, partitions, promise) = there[at];
        let index = self.random.below(partitions.into()) as u32;
        Some((PartitionId::new(TopicNumber(number), index), promise))
    }

    fn pick_producer(&mut self) -> Option<i64> {
        // Few at a time, so that each writes often.
        let recent = self.producers.len().min(4) as u64;
        let back = self.random.below(recent.max(1)) as usize;
        self.producers.iter().rev().nth(back).copied()
    }

    /// The next batch of an idempotent producer, the first of its next epoch, or one of nobody.
    fn write<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        let Some((at, promise)) = self.pick(node) else {
            return Ok(());
        };
        let producer = if self.random.once_in(4) {
            None
        } else {
            self.pick_producer()
        };
        let bumps = self.random.once_in(12);
        let state = self.model.state.partitions.get(&at.0);
        let writer = producer.map(|id| {
            let written = state.and_then(|state| state.producers.get(&id));
            match written {
                Some((epoch, _)) if bumps => (id, epoch + 1, 0),
                Some((epoch, batches)) => (id, *epoch, batches.last().map_or(0, next_sequence)),
                None => (id, 0, 0),
            }
        });
        let expected = state.map_or(0, |state| state.end);
        let (count, length) = self.shape();
        let bytes = batch(writer, count, length);
        match node.produce(at, &bytes, urgency_of(promise)) {
            Produced::Appended {
                base_offset,
                sequence,
                bytes,
            } => {
                if base_offset.0 != expected {
                    return Err(format!(
                        "partition {at}: offset {base_offset} was given, {expected} is next"
                    ));
                }
                self.done.appended += 1;
                let batch = Batch {
                    base: expected,
                    count,
                    writer,
                    bytes,
                };
                self.trace(|| format!("{at}: {} in block {sequence}", describe(&batch)));
                let partition = at.0;
                let op = self.model.push(sequence.0, Act::Batch { partition, batch });
                if promise == Promise::Buffered {
                    self.model.acknowledge(op, Promise::Buffered);
                }
                Ok(())
            }
            Produced::NotTaken(error) => not_taken(&error),
            other => Err(format!(
                "partition {at}: the batch of {writer:?} came to {other:?}"
            )),
        }
    }

    /// Repeats one of the last batches of a producer, durable or still on its way.
    fn repeat<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        let Some((at, batches)) = self.written(node) else {
            return Ok(());
        };
        let back = self.random.below(batches.len().min(WINDOW) as u64) as usize;
        let first = batches[batches.len() - 1 - back].clone();
        let end = node.machines.partitions.end_offset(at).0;
        match node.produce(at, &repeat_of(&first), Urgency::Durable) {
            Produced::Repeated {
                base_offset,
                pending,
            } if base_offset.0 == first.base && pending == (first.base >= end) => {
                self.done.repeats += 1;
                self.done.repeats_of_pending += u64::from(pending);
                if !pending || self.mistake == Some(Mistake::AnswerRepeatsEarly) {
                    self.model.repeat_answered(at.0, first.base);
                }
                Ok(())
            }
            other => Err(format!(
                "partition {at}: a repeat of {} came to {other:?}, {end} is the end",
                describe(&first)
            )),
        }
    }

    /// A batch that its producer's rules forbid.
    fn go_wrong<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        let Some((at, batches)) = self.written(node) else {
            return Ok(());
        };
        let last = batches.last().expect("a producer wrote at least once");
        let (id, epoch, _) = last.writer.expect("a producer's batch has a writer");
        let next = next_sequence(last);
        let (writer, is_as_due): (Writer, fn(&ProduceError) -> bool) = match self.random.below(3) {
            0 => ((id, epoch, next + 1), |error| {
                matches!(error, ProduceError::OutOfOrderSequence { .. })
            }),
            1 if epoch > 0 => ((id, epoch - 1, next), |error| {
                matches!(error, ProduceError::InvalidProducerEpoch { .. })
            }),
            _ => ((id, epoch + 1, 3), |error| {
                matches!(error, ProduceError::OutOfOrderSequence { .. })
            }),
        };
        match node.produce(at, &batch(Some(writer), 1, 20), Urgency::Durable) {
            Produced::Refused(error) if is_as_due(&error) => {
                self.done.refused += 1;
                Ok(())
            }
            other => Err(format!(
                "partition {at}: {writer:?} behind {} came to {other:?}",
                describe(last)
            )),
        }
    }

    /// What a producer wrote to a partition in its epoch.
    fn written<I: Io>(&mut self, node: &Node<I>) -> Option<(PartitionId, Vec<Batch>)> {
        let (at, _) = self.pick(node)?;
        let producers = &self.model.state.partitions.get(&at.0)?.producers;
        let number = self.random.below(producers.len().max(1) as u64) as usize;
        let (_, batches) = producers.values().nth(number)?;
        Some((at, batches.clone()))
    }

    fn command<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        let numbers: Vec<u32> = self.model.state.topics.keys().copied().collect();
        let picked = self.random.below(numbers.len().max(1) as u64) as usize;
        let picked = numbers.get(picked).copied();
        let retention_ms = Some(self.random.below(1 << 40)).filter(|_| self.random.once_in(2));
        let (command, is_due) = match (self.random.below(8), picked) {
            (0, Some(number)) => {
                let number = TopicNumber(number);
                (TopicCommand::Delete { number }, true)
            }
            (1 | 2, Some(number)) => {
                let total = self.model.state.topics[&number].partitions + 1;
                let is_due = total <= MOST_PARTITIONS;
                let total = if is_due { total } else { 1 };
                let number = TopicNumber(number);
                (TopicCommand::AddPartitions { number, total }, is_due)
            }
            (3 | 4, Some(number)) => {
                let number = TopicNumber(number);
                let change = retention_ms
                    .map_or(ConfigChange::Reset, |ms| ConfigChange::Set(ms.to_string()));
                let changes = vec![("retention.ms".to_owned(), change)];
                (TopicCommand::AlterConfigs { number, changes }, true)
            }
            _ => {
                let name = format!("topic-{}", self.random.below(NAMES));
                let partitions = 1 + self.random.below(2) as u32;
                let promise = Promise::ALL[self.random.below(3) as usize];
                let value = Some(promise.name().to_owned());
                let mut configs = vec![("ringlog.durability".to_owned(), value)];
                configs.extend(
                    retention_ms.map(|ms| ("retention.ms".to_owned(), Some(ms.to_string()))),
                );
                let is_due = self
                    .model
                    .state
                    .topics
                    .values()
                    .all(|topic| topic.name != name);
                let command = TopicCommand::Create {
                    name,
                    partitions,
                    configs,
                };
                (command, is_due)
            }
        };
        match node.command(&command) {
            Err(_) if !is_due => {
                self.done.refused += 1;
                Ok(())
            }
            Err(error) => Err(format!("{command:?} was refused: {error}")),
            Ok(Err(error)) => not_taken(&error),
            Ok(Ok(_)) if !is_due => Err(format!("{command:?} was taken")),
            Ok(Ok((record, sequence))) => {
                self.trace(|| format!("{record:?} in block {sequence}"));
                self.done.commands += 1;
                self.decided(&command, &record, sequence.0)
            }
        }
    }

    fn decided(
        &mut self,
        command: &TopicCommand,
        record: &MetadataRecord,
        sequence: u64,
    ) -> Result<(), String> {
        let act = match (command, record) {
            (
                TopicCommand::Create { .. },
                MetadataRecord::TopicCreated {
                    number,
                    name,
                    partitions,
                    config,
                    ..
                },
            ) => {
                if self.model.state.numbers.contains(&number.0) {
                    return Err(format!(
                        "topic number {} is given for the second time",
                        number.0
                    ));
                }
                let is_set = config
                    .entry("retention.ms")
                    .is_some_and(|entry| !entry.is_default);
                let topic = Topic {
                    name: name.clone(),
                    partitions: partitions.len() as u32,
                    retention_ms: config.retention_ms().filter(|_| is_set),
                    promise: promise_of(config.durability()),
                };
                Act::Created {
                    number: number.0,
                    topic,
                }
            }
            (TopicCommand::Delete { number }, MetadataRecord::TopicDeleted { .. }) => {
                Act::Deleted { number: number.0 }
            }
            (
                TopicCommand::AddPartitions { number, total },
                MetadataRecord::PartitionsAdded { .. },
            ) => Act::Grown {
                number: number.0,
                partitions: *total,
            },
            (TopicCommand::AlterConfigs { number, changes }, MetadataRecord::ConfigsSet { .. }) => {
                let retention_ms = match &changes[0].1 {
                    ConfigChange::Set(ms) => Some(ms.parse().expect("the workload's own number")),
                    _ => None,
                };
                Act::Configured {
                    number: number.0,
                    retention_ms,
                }
            }
            _ => return Err(format!("{command:?} became {record:?}")),
        };
        self.model.push(sequence, act);
        Ok(())
    }

    fn delete_records<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        let Some((at, _)) = self.pick(node) else {
            return Ok(());
        };
        let (start, end) = node.log.bounds(at);
        if start == end {
            return Ok(());
        }
        let before = start.0 + self.random.below(end.0 - start.0 + 1);
        match node.delete_records(at, Offset(before)) {
            Ok(sequence) => {
                self.trace(|| format!("{at}: starts at {before} in block {sequence}"));
                let act = Act::Start {
                    partition: at.0,
                    offset: before,
                };
                self.model.push(sequence.0, act);
                Ok(())
            }
            Err(error) => not_taken(&error),
        }
    }

    /// A client commits an offset, or an operator removes a group.
    fn commit<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        let Some((at, _)) = self.pick(node) else {
            return Ok(());
        };
        let group = format!("group-{}", self.random.below(NAMES));
        let (is_removal, offset) = (self.random.once_in(12), self.random.below(1 << 20) as i64);
        let committed_ms = node.log.io().wall_ms();
        let now = node.group_time();
        let nobody = Identity {
            member_id: "",
            instance_id: None,
        };
        // At times more than one record, of the same partitions: checkpoints stay small.
        let (first, count, bytes) = match self.random.below(12) {
            0 => (MANY, 520, 0),
            1 => (MANY, 20, 4_000),
            _ => (at, 1, 4),
        };
        let group = if count > 1 {
            "group-0".to_owned()
        } else {
            group
        };
        let metadata: Arc<str> = "x".repeat(bytes).into();
        let mut commit = Commit::of(group.as_str().into());
        for index in 0..count {
            let committed = CommittedOffset {
                offset,
                leader_epoch: -1,
                committed_ms,
                expires_ms: -1,
                metadata: Arc::clone(&metadata),
            };
            let at = PartitionId::new(first.topic(), first.index() + index);
            commit.add(at, committed);
        }
        let commit = commit.finish();
        let logged = match is_removal {
            true => node.remove_group(&group, &mut self.model)?,
            false => node.commit(&commit, &mut self.model, |groups| {
                groups.prepare_commit(&commit, &nobody, -1, now)
            })?,
        };
        match logged {
            // Its first commit is not durable.
            Err(GroupError::NotFound) if is_removal => {
                self.done.refused += 1;
                Ok(())
            }
            Err(error) => Err(format!("{group} was refused: {error}")),
            Ok(is_logged) => {
                self.trace(|| format!("{group}: {count} from {first} at {offset}: {is_logged}"));
                self.done.commits += u64::from(is_logged);
                self.done.large_commits += u64::from(is_logged && !is_removal && count > 1);
                Ok(())
            }
        }
    }

    fn producer_id<I: Io>(&mut self, node: &mut Node<I>) -> Result<(), String> {
        // Enough at times to go through a block of ids.
        let count = if self.random.once_in(6) { 400 } else { 1 };
        for _ in 0..count {
            match node.producer_id() {
                Ok((id, sequence, is_logged)) => {
                    self.waiting_ids.push((id, sequence.0));
                    if is_logged {
                        self.model.push(sequence.0, Act::ProducerIds);
                    }
                }
                Err(error) => return not_taken(&error),
            }
        }
        Ok(())
    }

    fn shape(&mut self) -> (u32, usize) {
        let count = 1 + self.random.below(5) as u32;
        let length = match self.random.below(10) {
            0 => 20_000,
            1 | 2 => 3_000,
            _ => 10 + self.random.below(200),
        };
        (count, length as usize)
    }
}

fn next_sequence(batch: &Batch) -> i32 {
    let (_, _, first) = batch.writer.expect("a producer's batch");
    first + batch.count as i32
}

/// A batch's bytes, of `count` records.
pub fn batch(writer: Option<Writer>, count: u32, length: usize) -> Vec<u8> {
    let mut builder = Builder::new();
    if let Some((id, epoch, sequence)) = writer {
        builder = builder.producer(id, epoch, sequence);
    }
    let value = vec![count as u8; length];
    for _ in 0..count {
        builder = builder.push(1_700_000_000_000, None, Some(&value), &[]);
    }
    builder.build()
}

/// As the engine has it.
pub fn promise_of(durability: Durability) -> Promise {
    match durability {
        Durability::Buffered => Promise::Buffered,
        Durability::Written => Promise::Written,
        Durability::Flushed => Promise::Flushed,
    }
}

fn urgency_of(promise: Promise) -> Urgency {
    match promise {
        Promise::Flushed => Urgency::Durable,
        Promise::Written | Promise::Buffered => Urgency::Written,
    }
}

fn not_taken(error: &AppendError) -> Result<(), String> {
    match error {
        AppendError::Busy | AppendError::Full { .. } | AppendError::Closed { .. } => Ok(()),
        other => Err(format!("an append was refused: {other}")),
    }
}
