//! A core without sockets: the log, the machines behind it, and the way of a batch, a command, a
//! trim and a producer id into them, as the node goes it.
//!
//! Invariant: a reservation is followed by an entry in the log, or given back.

use ringlog_engine::groups::{Commit, GroupError, GroupRecord, GroupSettings, Groups, Now};
use ringlog_engine::machine::{GROUPS, METADATA, PRODUCER_IDS};
use ringlog_engine::partitions::{Partitions, Prepared, ProduceError, ProducerIds};
use ringlog_engine::topics::{MetadataRecord, TopicCommand, TopicError, Topics};
use ringlog_engine::users::Users;
use ringlog_machines::{CoreMachine, Effects};
use ringlog_storage::io::Io;
use ringlog_storage::log::{
    AppendError, Entry, EntryKind, EntryMeta, Log, LogConfig, Machine, OpenError, RecoveryReport,
    Taken, Urgency,
};
use ringlog_types::batch::{self, BatchHeader, Builder};
use ringlog_types::snapshot::Pieces;
use ringlog_types::{LogId, Offset, PartitionId, Sequence};

use super::mistake::Mistake;
use super::model::{Act, Model};

const LOG: LogId = LogId(0);

/// Short, so that sessions end and rebalances are given up within a life.
const SETTINGS: GroupSettings = GroupSettings {
    min_session_timeout_ms: 1,
    max_session_timeout_ms: 60_000,
    initial_delay_ms: 4,
    max_members: 16,
    max_groups: 1_000,
    max_offsets: 1_000_000,
};
const GROUP_META: EntryMeta = EntryMeta {
    partition: PartitionId::NONE,
    kind: EntryKind::Machine,
    machine: GROUPS,
    base_offset: Offset::ZERO,
    count: 0,
    max_timestamp: -1,
};

/// The machines of a core.
#[derive(Debug)]
pub struct Machines {
    pub topics: Topics,
    users: Users,
    pub partitions: Partitions,
    pub producer_ids: ProducerIds,
    pub groups: Groups,
    pub effects: Effects,
    /// Entries that came, over all lives: how much of what was written is in the log.
    pub entries: u64,
    mistake: Option<Mistake>,
}

impl Machines {
    fn new(mistake: Option<Mistake>) -> Machines {
        Machines {
            topics: Topics::new(vec![LOG]),
            users: Users::new(),
            partitions: Partitions::new(),
            producer_ids: ProducerIds::new(LOG),
            groups: Groups::new(SETTINGS),
            effects: Effects::default(),
            entries: 0,
            mistake,
        }
    }

    fn core(&mut self) -> CoreMachine<'_> {
        CoreMachine {
            topics: &mut self.topics,
            users: &mut self.users,
            owns_metadata: true,
            log_id: LOG,
            partitions: &mut self.partitions,
            producer_ids: &mut self.producer_ids,
            groups: &mut self.groups,
            effects: &mut self.effects,
        }
    }

    /// The same partitions, of whose producers nothing is known.
    fn without_producers(&self) -> Partitions {
        let mut partitions = Partitions::new();
        for topic in self.topics.iter() {
            for index in 0..topic.partition_count() {
                let partition = PartitionId::new(topic.number, index);
                let mut at = self.partitions.start_offset(partition);
                partitions.apply_start_offset(partition, at);
                while at < self.partitions.end_offset(partition) {
                    at = self.write_epoch(partition, at, &mut partitions);
                }
            }
        }
        partitions
    }

    /// Writes records of nobody to `other`, as many as a leader epoch has here from an offset on.
    /// Returns the offset behind them.
    fn write_epoch(&self, partition: PartitionId, at: Offset, other: &mut Partitions) -> Offset {
        let epoch = self.partitions.epoch_at(partition, at);
        let known = epoch.and_then(|epoch| {
            let ended = self.partitions.epoch_end(partition, epoch, i32::MAX);
            Some((epoch, ended?.1))
        });
        let Some((epoch, end)) = known else {
            other.apply_damaged(partition, at, 1);
            return at.plus(1);
        };
        let batch = Builder::new().push(0, None, None, &[]).build();
        let mut header = BatchHeader::parse(&batch).expect("it was built soundly");
        header.last_offset_delta = i32::try_from(end.0 - at.0 - 1).expect("a run is short");
        header.partition_leader_epoch = epoch;
        other.apply_records(partition, at, &header);
        end
    }

    /// The same partitions, of whose leader epochs nothing is known: none are in their checkpoint.
    fn without_epochs(&self) -> Partitions {
        const HEAD: usize = 6;
        const BOUNDS: usize = 24;
        const EPOCH: usize = 12;
        let checkpoint = self.partitions.checkpoint();
        let (head, mut rest) = checkpoint.split_at(HEAD);
        let mut bare = head.to_vec();
        let rows = u32::from_le_bytes(head[2..].try_into().expect("a count has four bytes"));
        for _ in 0..rows {
            bare.extend_from_slice(&rest[..BOUNDS]);
            bare.push(0);
            let epochs = usize::from(rest[BOUNDS]);
            rest = &rest[BOUNDS + 1 + epochs * EPOCH..];
        }
        bare.extend_from_slice(rest);
        let mut partitions = Partitions::new();
        let restored = partitions.restore(&bare);
        restored.expect("a checkpoint need not have epochs");
        partitions
    }
}

impl Machine for Machines {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let (entries, checkpoint) = checkpoint.split_first_chunk().ok_or("it is short")?;
        self.entries = u64::from_le_bytes(*entries);
        self.core().restore(checkpoint)
    }

    fn apply(&mut self, entry: &Entry) {
        self.entries += 1;
        self.core().apply(entry);
    }

    fn apply_damaged(&mut self, meta: &EntryMeta) {
        self.core().apply_damaged(meta);
    }

    fn checkpoint(&self) -> Vec<u8> {
        let mut topics = self.topics.clone();
        let mut partitions = self.partitions.clone();
        let mut producer_ids = self.producer_ids.clone();
        let mut groups = self.groups.clone();
        match self.mistake {
            Some(Mistake::ForgetProducers) => partitions = self.without_producers(),
            Some(Mistake::ForgetEpochs) => partitions = self.without_epochs(),
            Some(Mistake::ForgetTopics) => topics = Topics::new(vec![LOG]),
            Some(Mistake::ForgetProducerIds) => producer_ids = ProducerIds::new(LOG),
            Some(Mistake::ForgetGroups) => groups = Groups::new(SETTINGS),
            _ => {}
        }
        let core = CoreMachine {
            topics: &mut topics,
            users: &mut self.users.clone(),
            owns_metadata: true,
            log_id: LOG,
            partitions: &mut partitions,
            producer_ids: &mut producer_ids,
            groups: &mut groups,
            effects: &mut Effects::default(),
        };
        let entries = self.entries.to_le_bytes();
        [&entries[..], &core.checkpoint()].concat()
    }

    fn begin_checkpoint(&mut self, out: &mut Pieces) -> Taken {
        use Mistake::{
            ForgetEpochs, ForgetGroups, ForgetProducerIds, ForgetProducers, ForgetTopics,
        };
        let forgets = matches!(
            self.mistake,
            Some(ForgetProducers | ForgetEpochs | ForgetTopics | ForgetProducerIds | ForgetGroups)
        );
        if forgets {
            out.add(|out| out.extend(self.checkpoint()));
            return Taken::Whole;
        }
        out.add(|out| out.extend(self.entries.to_le_bytes()));
        self.core().begin_checkpoint(out)
    }

    fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> Taken {
        self.core().checkpoint_step(rows, out)
    }
}

/// What became of a batch.
#[derive(Debug)]
pub enum Produced {
    /// Appended, to be committed by this block.
    Appended {
        base_offset: Offset,
        sequence: Sequence,
        /// As it lies in the log.
        bytes: Vec<u8>,
    },
    /// A repeat.
    Repeated { base_offset: Offset, pending: bool },
    /// The producers' rules refuse it.
    Refused(ProduceError),
    /// The log does.
    NotTaken(AppendError),
}

/// A core.
#[derive(Debug)]
pub struct Node<I: Io> {
    pub log: Log<I>,
    pub machines: Machines,
    ids_logged: Sequence,
    ids_unlogged: Option<Vec<u8>>,
    orphaned: Vec<PartitionId>,
}

impl<I: Io> Node<I> {
    /// Opens the log and finds partitions whose topic is gone.
    pub fn open(
        io: I,
        config: LogConfig,
        mistake: Option<Mistake>,
    ) -> Result<(Node<I>, RecoveryReport), OpenError> {
        let mut machines = Machines::new(mistake);
        let (log, report) = Log::open(io, LOG, config, &mut machines)?;
        machines.effects.metadata.clear();
        machines.effects.moved.clear();
        machines.effects.orphaned.clear();
        let mut node = Node {
            log,
            machines,
            ids_logged: Sequence::NONE,
            ids_unlogged: None,
            orphaned: Vec::new(),
        };
        let partitions = node.log.partitions().filter(|at| !node.has(*at));
        node.orphaned = partitions.collect();
        node.orphaned.sort_unstable();
        let now = node.group_time();
        if mistake != Some(Mistake::ForgetMembers) {
            node.machines.groups.resume(now);
        }
        Ok((node, report))
    }

    /// The time for the groups.
    pub fn group_time(&self) -> Now {
        let steady_ms = self.log.io().monotonic().as_millis();
        Now {
            steady_ms: u64::try_from(steady_ms).expect("a run is short"),
            wall_ms: self.log.io().wall_ms(),
        }
    }

    /// Whether a committed topic has the partition.
    pub fn has(&self, partition: PartitionId) -> bool {
        let topic = self.machines.topics.by_number(partition.topic());
        topic.is_some_and(|topic| partition.index() < topic.partition_count())
    }

    /// Takes completions of the log, and applies what is durable.
    pub fn poll(&mut self) -> Result<(), String> {
        self.log.poll(&mut self.machines);
        let effects = std::mem::take(&mut self.machines.effects);
        self.orphaned.extend(effects.orphaned);
        match effects.refused.first() {
            Some(refused) => Err(format!("live: {refused}")),
            None => Ok(()),
        }
    }

    /// A batch on its way into the log.
    pub fn produce(&mut self, partition: PartitionId, bytes: &[u8], urgency: Urgency) -> Produced {
        let header = BatchHeader::parse(bytes).expect("the workload makes sound batches");
        let now_ms = self.log.io().wall_ms();
        let prepared = self.machines.partitions.prepare(partition, &header, now_ms);
        let base_offset = match prepared {
            Err(error) => return Produced::Refused(error),
            Ok(Prepared::Duplicate {
                base_offset,
                pending,
            }) => {
                return Produced::Repeated {
                    base_offset,
                    pending,
                };
            }
            Ok(Prepared::Append { base_offset }) => base_offset,
        };
        let mut bytes = bytes.to_vec();
        batch::set_base_offset(&mut bytes, base_offset);
        let epoch = i32::try_from(self.log.epoch()).expect("a run has few lives");
        batch::set_leader_epoch(&mut bytes, epoch);
        let meta = EntryMeta {
            partition,
            kind: EntryKind::Records,
            machine: 0,
            base_offset,
            count: header.offsets(),
            max_timestamp: header.max_timestamp,
        };
        match self.log.append_with(&[(meta, bytes.as_slice())], urgency) {
            Ok(sequence) => Produced::Appended {
                base_offset,
                sequence,
                bytes,
            },
            Err(error) => {
                self.machines.partitions.abandon(partition, base_offset);
                Produced::NotTaken(error)
            }
        }
    }

    /// A change to the topics.
    pub fn command(
        &mut self,
        command: &TopicCommand,
    ) -> Result<Result<(MetadataRecord, Sequence), AppendError>, TopicError> {
        let entropy = self.log.io_mut().entropy();
        let record = self.machines.topics.prepare(command, entropy)?;
        let bytes = record.encode();
        let appended = self.append(PartitionId::NONE, EntryKind::Machine, METADATA, 0, &bytes);
        Ok(match appended {
            Ok(sequence) => Ok((record, sequence)),
            Err(error) => {
                self.machines.topics.abandon(&record);
                Err(error)
            }
        })
    }

    /// Moves the start of a partition.
    pub fn delete_records(
        &mut self,
        partition: PartitionId,
        before: Offset,
    ) -> Result<Sequence, AppendError> {
        self.append(partition, EntryKind::StartOffset, 0, before.0, &[])
    }

    /// A new producer id, and the block that must be durable before it may be told; whether
    /// something was logged for it.
    pub fn producer_id(&mut self) -> Result<(i64, Sequence, bool), AppendError> {
        let grant = self.machines.producer_ids.prepare();
        if grant.record.is_some() {
            self.ids_unlogged = grant.record;
        }
        let logs = self.ids_unlogged.is_some();
        if let Some(record) = self.ids_unlogged.clone() {
            let none = PartitionId::NONE;
            self.ids_logged = self.append(none, EntryKind::Machine, PRODUCER_IDS, 0, &record)?;
            self.ids_unlogged = None;
        }
        Ok((grant.id, self.ids_logged, logs))
    }

    /// Logs what groups have decided, as far as the log has room. Returns whether that was all.
    pub fn log_group_records(&mut self, model: &mut Model) -> Result<bool, String> {
        while let Some(record) = self.machines.groups.record() {
            let record = record.to_vec();
            match self.append(PartitionId::NONE, EntryKind::Machine, GROUPS, 0, &record) {
                Ok(sequence) => {
                    self.machines.groups.record_logged();
                    model.push(sequence.0, act_of(&record, false)?);
                }
                Err(AppendError::Busy) => return Ok(false),
                Err(_) => {
                    self.machines.groups.log_closed();
                    return Ok(false);
                }
            }
            if self.machines.mistake == Some(Mistake::TellPartsEarly) {
                let applied = self.machines.groups.apply(&record);
                applied.map_err(|error| error.to_string())?;
            }
        }
        Ok(true)
    }

    /// The end of a group, as its machine decides it; whether the log took it.
    pub fn remove_group(
        &mut self,
        group: &str,
        model: &mut Model,
    ) -> Result<Result<bool, GroupError>, String> {
        let record: GroupRecord = match self.machines.groups.prepare_remove(group) {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        self.log_decision(&[record.encode()], model).map(Ok)
    }

    /// A commit, all of it or nothing, if its group lets it; whether the log took it.
    pub fn commit(
        &mut self,
        commit: &Commit,
        model: &mut Model,
        decide: impl FnOnce(&mut Groups) -> Result<(), GroupError>,
    ) -> Result<Result<bool, GroupError>, String> {
        if let Err(error) = decide(&mut self.machines.groups) {
            return Ok(Err(error));
        }
        if self.machines.mistake == Some(Mistake::SplitCommits) {
            // Block by block.
            for (number, record) in commit.records().iter().enumerate() {
                let has_more = number + 1 < commit.records().len();
                let record = [(GROUP_META, record.as_slice())];
                let Ok(sequence) = self.log.append(&record) else {
                    return Ok(Ok(false));
                };
                model.push(sequence.0, act_of(record[0].1, has_more)?);
                self.log.submit();
            }
            return Ok(Ok(true));
        }
        self.log_decision(commit.records(), model).map(Ok)
    }

    fn log_decision(&mut self, records: &[Vec<u8>], model: &mut Model) -> Result<bool, String> {
        if !self.log_group_records(model)? {
            return Ok(false);
        }
        let entries = records.iter().map(|record| (GROUP_META, record.as_slice()));
        let entries: Vec<(EntryMeta, &[u8])> = entries.collect();
        match self.log.append(&entries) {
            Ok(sequence) => {
                for (number, record) in records.iter().enumerate() {
                    let has_more = number + 1 < records.len();
                    model.push(sequence.0, act_of(record, has_more)?);
                }
                Ok(true)
            }
            Err(AppendError::Busy | AppendError::Full { .. } | AppendError::Closed { .. }) => {
                Ok(false)
            }
            Err(error) => Err(format!("an append was refused: {error}")),
        }
    }

    /// Logs the end of partitions without a topic. Returns those that were taken.
    pub fn drop_orphaned(&mut self) -> Vec<(PartitionId, Sequence)> {
        let mut dropped = Vec::new();
        while let Some(partition) = self.orphaned.pop() {
            match self.append(partition, EntryKind::PartitionDropped, 0, 0, &[]) {
                Ok(sequence) => dropped.push((partition, sequence)),
                Err(AppendError::Busy) => {
                    self.orphaned.push(partition);
                    break;
                }
                // The rest is found again at the next start.
                Err(_) => self.orphaned.clear(),
            }
        }
        dropped
    }

    fn append(
        &mut self,
        partition: PartitionId,
        kind: EntryKind,
        machine: u16,
        base_offset: u64,
        payload: &[u8],
    ) -> Result<Sequence, AppendError> {
        let meta = EntryMeta {
            partition,
            kind,
            machine,
            base_offset: Offset(base_offset),
            count: 0,
            max_timestamp: -1,
        };
        self.log.append(&[(meta, payload)])
    }
}

/// What a record of the groups says, for the model.
fn act_of(record: &[u8], has_more: bool) -> Result<Act, String> {
    let record = GroupRecord::decode(record).map_err(|error| error.to_string())?;
    Ok(match record {
        GroupRecord::Group(stored) => {
            let members = stored.members.iter();
            let members = members.map(|of| (of.id.to_string(), of.assignment.to_vec()));
            Act::Grouped {
                group: stored.id.to_string(),
                generation: stored.generation,
                members: members.collect(),
            }
        }
        GroupRecord::Offsets { group, offsets } => {
            let offsets = offsets.iter().map(|(at, offset)| (at.0, offset.offset));
            Act::Committed {
                group: group.to_string(),
                offsets: offsets.collect(),
                has_more,
            }
        }
        GroupRecord::Removed { group, .. } => Act::Removed {
            group: group.to_string(),
        },
        other => return Err(format!("nobody asked for {other:?}")),
    })
}
