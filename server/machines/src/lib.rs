//! The machines of a core behind the one face that its log knows: routes committed entries,
//! frames their checkpoints, and remembers what followed from an entry until the driver takes it.
//! Between the engine, which knows no log, and the node; the simulator runs it on a disk of its own.
//!
//! Invariants: only core 0's log holds metadata, so only there does an entry change [`Topics`] and [`Users`];
//! what an entry changes does not depend on when it is applied (live, replayed, or restored).
//!
//! ```text
//! checkpoint = version u16 = 1, count u16, { machine u16, reserved u16, length u32, bytes }*
//! ```

use ringlog_engine::groups::Groups;
use ringlog_engine::machine::{GROUPS, METADATA, PRODUCER_IDS, USERS};
use ringlog_engine::partitions::{Partitions, ProducerIds};
use ringlog_engine::topics::{MetadataRecord, Topics};
use ringlog_engine::users::Users;
use ringlog_storage::log::{Entry, EntryKind, EntryMeta, Machine, Taken};
use ringlog_types::batch::BatchHeader;
use ringlog_types::snapshot::Pieces;
use ringlog_types::{LogId, PartitionId, TopicNumber};

const CHECKPOINT_VERSION: u16 = 1;
/// Partitions and their producers have no machine number of their own in entries: theirs are
/// the record entries.
const PARTITIONS: u16 = 0;

/// What followed from committed entries, in their order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Partitions whose bounds moved or that are gone.
    pub moved: Vec<PartitionId>,
    /// Metadata records that are durable now, as they lie in the log, with the version of the
    /// topics after each. To be told to the other cores.
    pub metadata: Vec<(u64, MetadataRecord)>,
    /// Partitions of this core's log whose topic was deleted: their end is to be logged.
    pub orphaned: Vec<PartitionId>,
    /// Entries that could not be understood. The log's checksums held, so this is a defect or
    /// the log of another version; what they say is for people.
    pub refused: Vec<String>,
}

/// Changes a copy of topics and users by a durable record. Returns the partitions of `log` that
/// lose their topic by it.
pub fn apply_metadata(
    topics: &mut Topics,
    users: &mut Users,
    log: LogId,
    record: &MetadataRecord,
) -> Vec<PartitionId> {
    let orphaned = match record {
        MetadataRecord::TopicDeleted { number, .. } => partitions_in(topics, *number, log),
        _ => Vec::new(),
    };
    if let MetadataRecord::User(record) = record {
        users.apply(record);
    }
    topics.apply(record);
    orphaned
}

fn partitions_in(topics: &Topics, number: TopicNumber, log: LogId) -> Vec<PartitionId> {
    let owners = topics
        .by_number(number)
        .map_or(&[][..], |topic| topic.partitions.as_slice());
    (0u32..)
        .zip(owners)
        .filter(|(_, owner)| **owner == log)
        .map(|(index, _)| PartitionId::new(number, index))
        .collect()
}

/// A core's machines, borrowed for the time of one call into the log.
pub struct CoreMachine<'a> {
    /// The topics: changed by entries on core 0 only.
    pub topics: &'a mut Topics,
    /// The users: likewise.
    pub users: &'a mut Users,
    /// Whether this core's log is the one with the metadata.
    pub owns_metadata: bool,
    /// This core's log.
    pub log_id: LogId,
    /// Partitions of this core's log.
    pub partitions: &'a mut Partitions,
    /// Producer ids handed out by this core.
    pub producer_ids: &'a mut ProducerIds,
    /// Consumer groups of this core's log.
    pub groups: &'a mut Groups,
    /// What follows.
    pub effects: &'a mut Effects,
}

impl CoreMachine<'_> {
    fn apply_records(&mut self, entry: &Entry) {
        match BatchHeader::parse(&entry.payload) {
            Ok(header) => {
                self.partitions.apply_records(
                    entry.meta.partition,
                    entry.meta.base_offset,
                    &header,
                );
                self.moved(entry.meta.partition);
            }
            Err(error) => self.refuse(entry, &error.to_string()),
        }
    }

    fn apply_machine(&mut self, entry: &Entry) {
        let result = match entry.meta.machine {
            METADATA if self.owns_metadata => MetadataRecord::decode(&entry.payload)
                .map_err(|error| error.to_string())
                .map(|record| {
                    let orphaned = apply_metadata(self.topics, self.users, self.log_id, &record);
                    self.effects.orphaned.extend(orphaned);
                    self.effects.metadata.push((self.topics.version(), record));
                }),
            METADATA => Err("metadata in the log of a core that has none".to_owned()),
            PRODUCER_IDS => self
                .producer_ids
                .apply(&entry.payload)
                .map_err(|error| error.to_string()),
            GROUPS => self
                .groups
                .apply(&entry.payload)
                .map_err(|error| error.to_string()),
            other => Err(format!("no machine has the number {other}")),
        };
        if let Err(reason) = result {
            self.refuse(entry, &reason);
        }
    }

    fn moved(&mut self, partition: PartitionId) {
        // A block often has several batches of a partition one after the other.
        if self.effects.moved.last() != Some(&partition) {
            self.effects.moved.push(partition);
        }
    }

    fn refuse(&mut self, entry: &Entry, reason: &str) {
        self.effects.refused.push(format!(
            "an entry of partition {} at offset {} in block {} cannot be applied: {reason}",
            entry.meta.partition, entry.meta.base_offset, entry.sequence
        ));
    }
}

impl Machine for CoreMachine<'_> {
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        for (machine, bytes) in parse_checkpoint(checkpoint)? {
            match machine {
                PARTITIONS => self.partitions.restore(bytes)?,
                METADATA if self.owns_metadata => self.topics.restore(bytes)?,
                USERS if self.owns_metadata => self.users.restore(bytes)?,
                PRODUCER_IDS => self.producer_ids.restore(bytes)?,
                GROUPS => self.groups.restore(bytes)?,
                other => return Err(format!("a checkpoint has state of unknown machine {other}")),
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) {
        match entry.meta.kind {
            EntryKind::Records => self.apply_records(entry),
            EntryKind::StartOffset => {
                self.partitions
                    .apply_start_offset(entry.meta.partition, entry.meta.base_offset);
                self.moved(entry.meta.partition);
            }
            EntryKind::PartitionDropped => {
                self.partitions.apply_dropped(entry.meta.partition);
                self.moved(entry.meta.partition);
            }
            EntryKind::Machine => self.apply_machine(entry),
            EntryKind::Checkpoint | EntryKind::Replaced | EntryKind::Removed => {}
        }
    }

    fn apply_damaged(&mut self, meta: &EntryMeta) {
        if meta.kind == EntryKind::Records {
            self.partitions
                .apply_damaged(meta.partition, meta.base_offset, meta.count);
            self.moved(meta.partition);
        } else {
            self.effects.refused.push(format!(
                "a {:?} entry of machine {} (partition {}) is damaged on disk: what it changed is \
                 lost",
                meta.kind, meta.machine, meta.partition
            ));
        }
    }

    fn checkpoint(&self) -> Vec<u8> {
        let metadata = (&*self.topics, &*self.users);
        let metadata = self.owns_metadata.then_some(metadata);
        checkpoint_of(self.partitions, self.producer_ids, self.groups, metadata)
    }

    fn begin_checkpoint(&mut self, out: &mut Pieces) -> Taken {
        let count = if self.owns_metadata { 5u16 } else { 3 };
        out.add(|out| {
            out.extend(CHECKPOINT_VERSION.to_le_bytes());
            out.extend(count.to_le_bytes());
        });
        open_part(PRODUCER_IDS, out);
        out.add(|out| out.extend(self.producer_ids.checkpoint()));
        out.close_length();
        self.partitions.begin_checkpoint();
        self.groups.begin_checkpoint();
        if self.owns_metadata {
            self.topics.begin_checkpoint();
            self.users.begin_checkpoint();
        }
        open_part(PARTITIONS, out);
        Taken::More
    }

    fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> Taken {
        if self.partitions.takes_checkpoint() {
            if self.partitions.checkpoint_step(rows, out) {
                return Taken::More;
            }
            out.close_length();
            open_part(GROUPS, out);
            return Taken::More;
        }
        if self.groups.takes_checkpoint() {
            if self.groups.checkpoint_step(rows, out) {
                return Taken::More;
            }
            out.close_length();
            if self.owns_metadata {
                open_part(USERS, out);
                return Taken::More;
            }
            return Taken::Whole;
        }
        if self.users.takes_checkpoint() {
            if self.users.checkpoint_step(rows, out) {
                return Taken::More;
            }
            out.close_length();
            open_part(METADATA, out);
            return Taken::More;
        }
        if self.topics.checkpoint_step(rows, out) {
            return Taken::More;
        }
        out.close_length();
        Taken::Whole
    }
}

/// Begins the state of a machine, of a length that is known at its end.
fn open_part(machine: u16, out: &mut Pieces) {
    out.add(|out| {
        out.extend(machine.to_le_bytes());
        out.extend(0u16.to_le_bytes());
    });
    out.open_number();
}

/// The checkpoint of a core with these machines; topics and users belong to core 0's.
#[must_use]
pub fn checkpoint_of(
    partitions: &Partitions,
    producer_ids: &ProducerIds,
    groups: &Groups,
    metadata: Option<(&Topics, &Users)>,
) -> Vec<u8> {
    let mut parts = vec![(PARTITIONS, partitions.checkpoint())];
    parts.push((PRODUCER_IDS, producer_ids.checkpoint()));
    parts.push((GROUPS, groups.checkpoint()));
    if let Some((topics, users)) = metadata {
        parts.push((USERS, users.checkpoint()));
        parts.push((METADATA, topics.checkpoint()));
    }
    frame_checkpoint(&parts)
}

fn frame_checkpoint(parts: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(
        4 + parts
            .iter()
            .map(|(_, bytes)| 8 + bytes.len())
            .sum::<usize>(),
    );
    let count = u16::try_from(parts.len()).expect("a core has a handful of machines");
    out.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    for (machine, bytes) in parts {
        let length =
            u32::try_from(bytes.len()).expect("machines bound their state far below 4 GiB");
        out.extend_from_slice(&machine.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

fn parse_checkpoint(bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, String> {
    let mut rest = bytes;
    let version = take_u16(&mut rest)?;
    if version != CHECKPOINT_VERSION {
        return Err(format!(
            "the checkpoint has version {version}, this build reads {CHECKPOINT_VERSION}: \
             start the version of Ringlog that wrote it"
        ));
    }
    let count = take_u16(&mut rest)?;
    let mut parts = Vec::with_capacity(usize::from(count).min(16));
    for _ in 0..count {
        let machine = take_u16(&mut rest)?;
        let _reserved = take_u16(&mut rest)?;
        let length = u32::from_le_bytes(take_array(&mut rest)?);
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let part = rest
            .get(..length)
            .ok_or("the checkpoint ends inside a machine's state")?;
        rest = &rest[length..];
        parts.push((machine, part));
    }
    if rest.is_empty() {
        Ok(parts)
    } else {
        Err(format!("the checkpoint has {} bytes too many", rest.len()))
    }
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, String> {
    Ok(u16::from_le_bytes(take_array(rest)?))
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or("the checkpoint is cut off")?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use ringlog_engine::groups::{CommittedOffset, GroupRecord, GroupSettings};
    use ringlog_engine::users::{Credential, Mechanism, UserRecord};

    use super::*;

    #[test]
    fn a_framed_checkpoint_is_parsed_back_and_damage_is_refused() {
        let parts = vec![(PARTITIONS, vec![1, 2, 3]), (METADATA, Vec::new())];
        let framed = frame_checkpoint(&parts);
        let parsed = parse_checkpoint(&framed).unwrap();
        assert_eq!(
            parsed,
            vec![(PARTITIONS, &[1u8, 2, 3][..]), (METADATA, &[][..])]
        );
        for cut in 0..framed.len() {
            assert!(parse_checkpoint(&framed[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = framed.clone();
        longer.push(0);
        assert!(parse_checkpoint(&longer).is_err());
        let mut newer = framed;
        newer[0] = 2;
        assert!(parse_checkpoint(&newer).unwrap_err().contains("version 2"));
    }

    #[test]
    fn a_checkpoint_in_steps_is_that_of_all_machines_at_its_begin() {
        let log_id = LogId(3);
        for owns_metadata in [false, true] {
            let mut topics = Topics::new(vec![log_id]);
            let (mut partitions, mut ids) = (Partitions::new(), ProducerIds::new(log_id));
            let create = |name: &str| MetadataRecord::TopicCreated {
                number: TopicNumber(topics_named(name)),
                id: ringlog_engine::topics::TopicId([1; 16]),
                name: name.to_owned(),
                partitions: vec![log_id; 3],
                config: ringlog_engine::topics::TopicConfig::default(),
            };
            topics.apply(&create("a"));
            for index in 0..10 {
                let partition = PartitionId::new(TopicNumber(0), index);
                partitions.apply_damaged(partition, ringlog_types::Offset(0), 1);
            }
            let mut groups = Groups::new(GroupSettings::default());
            groups.apply(&commit("a")).unwrap();
            let mut users = Users::new();
            (0..5).for_each(|number| users.apply(&user(number)));
            let metadata = owns_metadata.then_some((&topics, &users));
            let wanted = checkpoint_of(&partitions, &ids, &groups, metadata);
            let mut out = Pieces::default();
            let mut taken = None;
            while taken != Some(Taken::Whole) {
                let mut machine = CoreMachine {
                    topics: &mut topics,
                    users: &mut users,
                    owns_metadata,
                    log_id,
                    partitions: &mut partitions,
                    producer_ids: &mut ids,
                    groups: &mut groups,
                    effects: &mut Effects::default(),
                };
                taken = Some(match taken {
                    None => machine.begin_checkpoint(&mut out),
                    Some(_) => machine.checkpoint_step(2, &mut out),
                });
                // More comes meanwhile.
                topics.apply(&create("b"));
                groups.apply(&commit("b")).unwrap();
                users.apply(&user(9));
                let partition = PartitionId::new(TopicNumber(9), 0);
                partitions.apply_start_offset(partition, ringlog_types::Offset(5));
            }
            let taken = out.into_pieces().concat();
            let sorted = |bytes: &[u8]| {
                let parts = parse_checkpoint(bytes).unwrap();
                let mut parts: Vec<_> = parts.iter().map(|(at, of)| (*at, of.to_vec())).collect();
                parts.sort();
                parts
            };
            assert_eq!(sorted(&taken), sorted(&wanted), "metadata: {owns_metadata}");
        }
    }

    fn user(number: u32) -> UserRecord {
        let credential = Credential {
            iterations: 4096,
            salt: b"salt".to_vec(),
            stored_key: vec![1; 32],
            server_key: vec![2; 32],
        };
        UserRecord::Set {
            user: format!("user-{number}"),
            credentials: vec![(Mechanism::ScramSha256, credential)],
        }
    }

    fn commit(group: &str) -> Vec<u8> {
        let offset = CommittedOffset {
            offset: 7,
            leader_epoch: 1,
            committed_ms: 5,
            expires_ms: -1,
            metadata: "".into(),
        };
        let record = GroupRecord::Offsets {
            group: group.into(),
            offsets: vec![(PartitionId::new(TopicNumber(0), 0), offset)],
        };
        record.encode()
    }

    fn topics_named(name: &str) -> u32 {
        u32::from(name.as_bytes()[0] - b'a')
    }
}
