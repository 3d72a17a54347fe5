//! Committed state: groups and offsets as the log has made them. Changed by records alone, so it
//! is the same live, in replay and from a checkpoint.
//!
//! ```text
//! checkpoint = version u16 = 1, next number u64,
//!              group count u32, { number u64, id text, is stored u8, group as in `stored` }*
//!              offset count u32, { number u64, partition u64, offset as in `offset` }*
//! ```
//! Groups have numbers in the order in which they came, which stand for their ids in the offsets;
//! a number means nothing outside of this log.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use ringlog_types::PartitionId;
use ringlog_types::snapshot::{Next, Pieces, Rows};

use super::offset::CommittedOffset;
use super::record::GroupRecord;
use super::stored::StoredGroup;
use crate::little_endian::{DecodeError, Reader, Writer, put};

const VERSION: u16 = 1;

/// A group's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupNumber(u64);

/// A group, and what is stored of it; nothing when it never had members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupRow {
    pub id: Arc<str>,
    pub stored: Option<Arc<StoredGroup>>,
}

type OffsetKey = (GroupNumber, PartitionId);

/// All of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    numbers: BTreeMap<Arc<str>, GroupNumber>,
    groups: BTreeMap<GroupNumber, GroupRow>,
    offsets: BTreeMap<OffsetKey, CommittedOffset>,
    next: u64,
    taking: Option<Taking>,
}

/// A checkpoint that is being taken: groups, then offsets.
#[derive(Clone, Debug)]
struct Taking {
    next: u64,
    counts: (usize, usize),
    head: bool,
    groups: Option<Rows<GroupNumber, (GroupNumber, GroupRow)>>,
    offsets: Rows<OffsetKey, (OffsetKey, CommittedOffset)>,
}

impl Table {
    /// Changes the state by a record.
    pub fn apply(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Group(stored) => {
                let number = self.number(&stored.id);
                self.keep_group(number);
                if let Some(row) = self.groups.get_mut(&number) {
                    row.stored = Some(Arc::new(stored));
                }
            }
            GroupRecord::Offsets { group, offsets } => {
                let number = self.number(&group);
                for (partition, offset) in offsets {
                    self.keep_offset((number, partition));
                    self.offsets.insert((number, partition), offset);
                }
            }
            GroupRecord::OffsetsForgotten { group, offsets } => {
                let Some(number) = self.numbers.get(&group).copied() else {
                    return;
                };
                for (partition, newest_ms) in offsets {
                    let key = (number, partition);
                    let found = self.offsets.get(&key);
                    if found.is_some_and(|offset| offset.committed_ms <= newest_ms) {
                        self.keep_offset(key);
                        self.offsets.remove(&key);
                    }
                }
            }
            GroupRecord::Removed { group, if_unused } => self.remove(&group, if_unused),
        }
    }

    fn remove(&mut self, group: &str, if_unused: bool) {
        let Some(number) = self.numbers.get(group).copied() else {
            return;
        };
        let stored = self.groups.get(&number).and_then(|row| row.stored.as_ref());
        let has_members = stored.is_some_and(|stored| !stored.members.is_empty());
        if if_unused && (has_members || self.has_offsets(number)) {
            return;
        }
        let partitions: Vec<PartitionId> = self.offsets_of(number).map(|(at, _)| at).collect();
        for partition in partitions {
            self.keep_offset((number, partition));
            self.offsets.remove(&(number, partition));
        }
        self.keep_group(number);
        self.groups.remove(&number);
        self.numbers.remove(group);
    }

    /// The number of a group, which comes to be if it is not there.
    fn number(&mut self, id: &Arc<str>) -> GroupNumber {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = GroupNumber(self.next);
        self.next += 1;
        self.keep_group(number);
        let (id, stored) = (Arc::clone(id), None);
        self.numbers.insert(Arc::clone(&id), number);
        self.groups.insert(number, GroupRow { id, stored });
        number
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn offset_count(&self) -> usize {
        self.offsets.len()
    }

    pub fn find(&self, id: &str) -> Option<GroupNumber> {
        self.numbers.get(id).copied()
    }

    pub fn stored(&self, id: &str) -> Option<&Arc<StoredGroup>> {
        self.groups.get(&self.find(id)?)?.stored.as_ref()
    }

    pub fn offset(&self, number: GroupNumber, partition: PartitionId) -> Option<&CommittedOffset> {
        self.offsets.get(&(number, partition))
    }

    pub fn has_offsets(&self, number: GroupNumber) -> bool {
        self.offsets_of(number).next().is_some()
    }

    /// Ids of groups behind one, by id.
    pub fn ids_behind(&self, behind: Option<&str>) -> impl Iterator<Item = &Arc<str>> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.numbers
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(id, _)| id)
    }

    /// A group's offsets, by partition.
    pub fn offsets_of(
        &self,
        number: GroupNumber,
    ) -> impl Iterator<Item = (PartitionId, &CommittedOffset)> {
        let all = (number, PartitionId(0))..=(number, PartitionId(u64::MAX));
        self.offsets
            .range(all)
            .map(|((_, at), offset)| (*at, offset))
    }

    /// Those behind one.
    pub fn offsets_in(
        &self,
        number: GroupNumber,
        behind: Option<OffsetKey>,
    ) -> impl Iterator<Item = (PartitionId, &CommittedOffset)> {
        let from = (number, PartitionId(0));
        let from = behind.map_or(Bound::Included(from), Bound::Excluded);
        let to = Bound::Included((number, PartitionId(u64::MAX)));
        self.offsets
            .range((from, to))
            .map(|((_, at), offset)| (*at, offset))
    }

    /// Groups behind one, in the order in which they came.
    pub fn groups_behind(
        &self,
        behind: Option<GroupNumber>,
    ) -> impl Iterator<Item = (GroupNumber, &GroupRow)> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.groups.range((from, Bound::Unbounded));
        rows.map(|(number, row)| (*number, row))
    }

    /// Offsets behind one, with their groups.
    pub fn offsets_behind(
        &self,
        behind: Option<OffsetKey>,
    ) -> impl Iterator<Item = (OffsetKey, &GroupRow, &CommittedOffset)> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.offsets.range((from, Bound::Unbounded));
        rows.filter_map(|(key, offset)| Some((*key, self.groups.get(&key.0)?, offset)))
    }

    /// Takes a group of another table in, with its offsets.
    pub fn take_in(&mut self, from: &Table, number: GroupNumber) {
        let Some(row) = from.groups.get(&number) else {
            return;
        };
        let to = self.number(&row.id);
        self.groups.insert(to, row.clone());
        for (partition, offset) in from.offsets_of(number) {
            self.offsets.insert((to, partition), offset.clone());
        }
    }

    fn keep_group(&mut self, number: GroupNumber) {
        if let Some(Taking {
            groups: Some(rows), ..
        }) = &mut self.taking
        {
            rows.keep(number, || Some((number, self.groups.get(&number)?.clone())));
        }
    }

    fn keep_offset(&mut self, key: OffsetKey) {
        if let Some(taking) = &mut self.taking {
            let row = || Some((key, self.offsets.get(&key)?.clone()));
            taking.offsets.keep(key, row);
        }
    }
}

/// Checkpoints.
impl Table {
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        out.u64(self.next);
        out.count(self.groups.len());
        for (number, row) in &self.groups {
            put_group(&mut out, *number, row);
        }
        out.count(self.offsets.len());
        for (key, offset) in &self.offsets {
            put_offset(&mut out, *key, offset);
        }
        out.into_bytes()
    }

    pub fn begin_checkpoint(&mut self) {
        self.taking = Some(Taking {
            next: self.next,
            counts: (self.groups.len(), self.offsets.len()),
            head: true,
            groups: Some(Rows::default()),
            offsets: Rows::default(),
        });
    }

    pub fn takes_checkpoint(&self) -> bool {
        self.taking.is_some()
    }

    /// Writes about so many further rows; whether there are more.
    pub fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> bool {
        let Table {
            groups,
            offsets,
            taking,
            ..
        } = self;
        let Some(step) = taking else {
            return false;
        };
        let mut left = rows.max(1);
        if std::mem::take(&mut step.head) {
            put(out, |out| {
                out.array(&VERSION.to_le_bytes());
                out.u64(step.next);
                out.count(step.counts.0);
            });
        }
        while let Some(of_groups) = &mut step.groups {
            if left == 0 {
                return true;
            }
            let behind = |key: Option<GroupNumber>| first_behind(groups, key);
            match of_groups.take(behind, |number| (number, groups[&number].clone())) {
                Next::Row((number, row)) => {
                    let cost = row.stored.as_ref().map_or(1, |stored| stored.rows());
                    left = left.saturating_sub(cost);
                    put(out, |out| put_group(out, number, &row));
                }
                Next::Passed => left -= 1,
                Next::End => {
                    step.groups = None;
                    put(out, |out| out.count(step.counts.1));
                }
            }
        }
        while left > 0 {
            left -= 1;
            let behind = |key: Option<OffsetKey>| first_behind(offsets, key);
            match step
                .offsets
                .take(behind, |key| (key, offsets[&key].clone()))
            {
                Next::Row((key, offset)) => put(out, |out| put_offset(out, key, &offset)),
                Next::Passed => {}
                Next::End => {
                    *taking = None;
                    return false;
                }
            }
        }
        true
    }

    pub fn restore(checkpoint: &[u8]) -> Result<Table, DecodeError> {
        let mut reader = Reader::new("the checkpoint of the groups", checkpoint, VERSION)?;
        let mut table = Table {
            next: reader.u64("the next group's number")?,
            ..Table::default()
        };
        for _ in 0..reader.count("the groups", 13)? {
            let number = GroupNumber(reader.u64("a group's number")?);
            let id: Arc<str> = reader.text("a group's id")?.into();
            let stored = match reader.u8("whether a group is stored")? {
                0 => None,
                1 => Some(Arc::new(StoredGroup::decode(&mut reader)?)),
                other => return Err(reader.invalid(format!("a group is stored by {other}"))),
            };
            let is_other = stored.as_ref().is_some_and(|stored| stored.id != id);
            let in_order = table
                .groups
                .last_key_value()
                .is_none_or(|(last, _)| *last < number);
            let is_new = table.numbers.insert(Arc::clone(&id), number).is_none();
            if is_other || !in_order || !is_new || number.0 >= table.next {
                return Err(reader.invalid(format!("group {id:?} cannot have number {}", number.0)));
            }
            table.groups.insert(number, GroupRow { id, stored });
        }
        for _ in 0..reader.count("the offsets", 48)? {
            let number = GroupNumber(reader.u64("an offset's group")?);
            let key = (number, PartitionId(reader.u64("an offset's partition")?));
            let offset = CommittedOffset::decode(&mut reader)?;
            let in_order = table
                .offsets
                .last_key_value()
                .is_none_or(|(last, _)| *last < key);
            if !in_order || !table.groups.contains_key(&number) {
                return Err(reader.invalid(format!("an offset of {} in group {}", key.1, number.0)));
            }
            table.offsets.insert(key, offset);
        }
        reader.finish()?;
        Ok(table)
    }
}

fn put_group(out: &mut Writer, number: GroupNumber, row: &GroupRow) {
    out.u64(number.0);
    out.text(&row.id);
    out.u8(u8::from(row.stored.is_some()));
    if let Some(stored) = &row.stored {
        stored.encode(out);
    }
}

fn put_offset(out: &mut Writer, key: OffsetKey, offset: &CommittedOffset) {
    out.u64(key.0.0);
    out.u64(key.1.0);
    offset.encode(out);
}

fn first_behind<K: Copy + Ord, V>(table: &BTreeMap<K, V>, behind: Option<K>) -> Option<K> {
    let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = table.range((from, Bound::Unbounded));
    rest.next().map(|(key, _)| *key)
}
