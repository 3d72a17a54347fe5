//! All groups of a log: routes what members ask to their group, keeps the timers, and applies what
//! the log has made durable.
//!
//! Invariant: what is committed changes by [`Groups::apply`] alone. A group that lives is made of
//! what is committed, and nothing it tells a member depends on more than that, but for the
//! generation of a rebalance that is not complete: a restart forgets it, and its members join
//! again. Timers and places among those who wait are not in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringlog_types::PartitionId;
use ringlog_types::snapshot::Pieces;

use super::command::{GroupAnswer, GroupSettings, Identity, Join, Now, Outbox, Sync, Ticket};
use super::commit::Commit;
use super::error::GroupError;
use super::group::{Group, Phase, Turn};
use super::member::bytes_of;
use super::offset::CommittedOffset;
use super::record::GroupRecord;
use super::stored::StoredGroup;
use super::table::Table;
use crate::limits::{GROUP_BYTES_PER_LOG, GROUPS_PER_TIMER_STEP};
use crate::little_endian::DecodeError;

/// The groups of a log.
#[derive(Clone, Debug)]
pub struct Groups {
    pub(super) table: Table,
    pub(super) live: BTreeMap<Arc<str>, Group>,
    timers: BTreeSet<(u64, Arc<str>)>,
    out: Outbox,
    next_ticket: u64,
    /// Bytes that members of all groups brought.
    bytes: usize,
    settings: GroupSettings,
}

impl Groups {
    /// None.
    #[must_use]
    pub fn new(settings: GroupSettings) -> Groups {
        Groups {
            table: Table::default(),
            live: BTreeMap::new(),
            timers: BTreeSet::new(),
            out: Outbox::default(),
            next_ticket: 0,
            bytes: 0,
            settings,
        }
    }

    pub(super) fn of(table: Table, settings: GroupSettings) -> Groups {
        Groups {
            table,
            ..Groups::new(settings)
        }
    }

    /// Bytes that members of all groups brought.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// After a restart, before anything is asked: the members that the log knows go on, and have a
    /// session timeout from now to be heard.
    pub fn resume(&mut self, now: Now) {
        let rows = self.table.groups_behind(None);
        let stored = rows.filter_map(|(_, row)| row.stored.clone());
        let stored: Vec<Arc<StoredGroup>> = stored.collect();
        for stored in stored {
            if !stored.members.is_empty() {
                let group = Group::restored(&stored, now.steady_ms);
                self.put_back(group);
            }
        }
    }

    /// A member wants to be in its group's next generation. The answer comes by
    /// [`Groups::take_answers`]: at once, or when the rebalance is complete.
    pub fn join(&mut self, join: &Join, now: Now) -> Ticket {
        let ticket = self.ticket();
        if let Err(error) = self.check_join(join) {
            self.out.join_refused(ticket, error, &join.member_id);
            return ticket;
        }
        let mut group = self.take_out(&join.group);
        group.join(join, ticket, &mut self.turn(now));
        self.put_back(group);
        ticket
    }

    fn check_join(&self, join: &Join) -> Result<(), GroupError> {
        if join.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let timeouts = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if !timeouts.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let is_known = self.exists(&join.group);
        if !is_known && !join.member_id.is_empty() {
            return Err(GroupError::UnknownMember);
        }
        let is_full =
            !is_known && self.table.len().max(self.live.len()) >= self.settings.max_groups;
        if is_full || self.bytes + bytes_of(&join.protocols) > GROUP_BYTES_PER_LOG {
            return Err(GroupError::MaxSizeReached);
        }
        Ok(())
    }

    /// A member asks for its part of the assignment. The answer comes by
    /// [`Groups::take_answers`].
    pub fn sync(&mut self, sync: &Sync, now: Now) -> Ticket {
        let ticket = self.ticket();
        if !self.exists(&sync.group) {
            let error = unknown(&sync.group, GroupError::UnknownMember);
            self.out.synced(ticket, Err(error));
            return ticket;
        }
        let mut group = self.take_out(&sync.group);
        group.sync(sync, ticket, &mut self.turn(now));
        self.put_back(group);
        ticket
    }

    /// A member says that it is there.
    ///
    /// # Errors
    /// What it has to do instead.
    pub fn heartbeat(
        &mut self,
        group: &str,
        who: &Identity<'_>,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        let Some(group) = self.live.get_mut(group) else {
            return Err(unknown(group, GroupError::UnknownMember));
        };
        group.heartbeat(who, generation, now.steady_ms)
    }

    /// A member goes, by its own word or that of an operator.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn leave(&mut self, group: &str, who: &Identity<'_>, now: Now) -> Result<(), GroupError> {
        let Some((id, _)) = self.live.get_key_value(group) else {
            return Err(unknown(group, GroupError::UnknownMember));
        };
        let id = Arc::clone(id);
        let mut group = self.take_out(&id);
        let result = group.leave(who, &mut self.turn(now));
        self.put_back(group);
        result
    }

    /// Whether whoever asks may commit offsets of a group. A member is heard by it.
    ///
    /// # Errors
    /// Why the member, or client without a group, may not.
    pub fn check_commit(
        &mut self,
        group: &str,
        who: &Identity<'_>,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        match self.live.get_mut(group) {
            Some(live) => live.check_commit(who, generation, now.steady_ms),
            None if generation < 0 => Ok(()),
            None if self.table.find(group).is_some() => Err(GroupError::UnknownMember),
            None => Err(GroupError::NotFound),
        }
    }

    /// Decides whether offsets are committed: the records of the commit are to be logged then, as
    /// one atomic group. Answered when that is durable.
    ///
    /// # Errors
    /// Why the member, or client without a group, may not commit.
    pub fn prepare_commit(
        &mut self,
        commit: &Commit,
        who: &Identity<'_>,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        let group = commit.group();
        self.check_commit(group, who, generation, now)?;
        if commit.is_too_large() {
            return Err(GroupError::CommitTooLarge);
        }
        let groups = self.table.len() + usize::from(self.table.find(group).is_none());
        // A group commits again and again what it has committed: only what is new needs room.
        let has_room = match commit.new_offsets() {
            0 => true,
            new => self.table.offset_count() + new <= self.settings.max_offsets,
        };
        if !has_room || groups > self.settings.max_groups.max(self.table.len()) {
            return Err(GroupError::TooManyOffsets);
        }
        Ok(())
    }

    /// Decides the end of a group: the record to be logged.
    ///
    /// # Errors
    /// When it is not there, or has members.
    pub fn prepare_remove(&self, group: &str) -> Result<GroupRecord, GroupError> {
        let is_empty = self
            .live
            .get(group)
            .is_none_or(|group| group.phase == Phase::Empty && group.promised.is_empty());
        match self.table.find(group) {
            _ if !is_empty => Err(GroupError::NotEmpty),
            None => Err(GroupError::NotFound),
            Some(_) => Ok(GroupRecord::Removed {
                group: group.into(),
                if_unused: false,
            }),
        }
    }

    /// The offset that a group committed for a partition.
    #[must_use]
    pub fn offset(&self, group: &str, partition: PartitionId) -> Option<&CommittedOffset> {
        self.table.offset(self.table.find(group)?, partition)
    }

    /// Offsets that a group committed, by partition, behind one.
    pub fn offsets<'a>(
        &'a self,
        group: &str,
        behind: Option<PartitionId>,
    ) -> impl Iterator<Item = (PartitionId, &'a CommittedOffset)> + use<'a> {
        let number = self.table.find(group);
        let rows = number.map(|number| {
            let behind = behind.map(|partition| (number, partition));
            self.table.offsets_in(number, behind)
        });
        rows.into_iter().flatten()
    }

    /// Whether there is such a group.
    #[must_use]
    pub fn exists(&self, group: &str) -> bool {
        self.live.contains_key(group) || self.table.find(group).is_some()
    }

    /// When [`Groups::expire`] has something to do.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.first().map(|(at_ms, _)| *at_ms)
    }

    /// Does what is due, for a bounded number of groups. Whether more is due now.
    pub fn expire(&mut self, now: Now) -> bool {
        for _ in 0..GROUPS_PER_TIMER_STEP {
            let due = self.timers.first();
            let Some((_, id)) = due.filter(|(at_ms, _)| *at_ms <= now.steady_ms) else {
                return false;
            };
            let id = Arc::clone(id);
            let mut group = self.take_out(&id);
            group.expire(&mut self.turn(now));
            self.put_back(group);
        }
        true
    }

    /// Answers that are due, in their order.
    #[must_use]
    pub fn take_answers(&mut self) -> Vec<(Ticket, GroupAnswer)> {
        std::mem::take(&mut self.out.answers)
    }

    /// The next record to be logged. Records go into the log in the order in which they come here,
    /// and before any that was decided later.
    #[must_use]
    pub fn record(&self) -> Option<&[u8]> {
        self.out.records.front().map(Vec::as_slice)
    }

    /// The log took it.
    pub fn record_logged(&mut self) {
        self.out.records.pop_front();
    }

    /// The log takes nothing any more: nobody is told what is not durable.
    pub fn log_closed(&mut self) {
        self.out.records.clear();
        for group in self.live.values_mut() {
            group.was_refused(&mut self.out);
        }
    }

    /// An entry is durable.
    ///
    /// # Errors
    /// Bytes that are not a record of this machine.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let record = GroupRecord::decode(record)?;
        let stored = match &record {
            GroupRecord::Group(stored) => Some(Arc::clone(&stored.id)),
            _ => None,
        };
        self.table.apply(record);
        if let Some(id) = stored
            && self.live.contains_key(&id)
        {
            let mut group = self.take_out(&id);
            group.became_durable(&mut self.out);
            self.put_back(group);
        }
        Ok(())
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn turn(&mut self, now: Now) -> Turn<'_> {
        Turn {
            now,
            settings: &self.settings,
            out: &mut self.out,
        }
    }

    /// Takes a group to change it, made of what is committed if it does not live.
    fn take_out(&mut self, id: &Arc<str>) -> Group {
        if let Some(mut group) = self.live.remove(id) {
            if let Some(timer_ms) = group.timer_ms.take() {
                self.timers.remove(&(timer_ms, Arc::clone(id)));
            }
            self.bytes -= group.bytes;
            return group;
        }
        match self.table.stored(id) {
            Some(stored) => Group::restored(stored, 0),
            None => Group::new(Arc::clone(id)),
        }
    }

    fn put_back(&mut self, mut group: Group) {
        if group.is_at_rest() {
            return;
        }
        self.bytes += group.bytes;
        group.timer_ms = group.next_deadline_ms();
        if let Some(timer_ms) = group.timer_ms {
            self.timers.insert((timer_ms, Arc::clone(&group.id)));
        }
        self.live.insert(Arc::clone(&group.id), group);
    }
}

/// Checkpoints of what is committed.
impl Groups {
    /// All of it.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        self.table.checkpoint()
    }

    /// Begins a checkpoint of what is committed now, to be taken by [`Groups::checkpoint_step`]
    /// while more is applied. Another one before is forgotten.
    pub fn begin_checkpoint(&mut self) {
        self.table.begin_checkpoint();
    }

    /// Writes about so many further rows of the checkpoint that was begun. Whether there are more.
    pub fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> bool {
        self.table.checkpoint_step(rows, out)
    }

    /// Whether a checkpoint was begun and is not at its end.
    #[must_use]
    pub fn takes_checkpoint(&self) -> bool {
        self.table.takes_checkpoint()
    }

    /// Starts from a checkpoint: whatever was there before is gone.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let table = Table::restore(checkpoint).map_err(|error| error.to_string())?;
        *self = Groups::of(table, self.settings);
        Ok(())
    }
}

/// What is said of a group that is not there.
fn unknown(group: &str, error: GroupError) -> GroupError {
    if group.is_empty() {
        GroupError::InvalidGroupId
    } else {
        error
    }
}
