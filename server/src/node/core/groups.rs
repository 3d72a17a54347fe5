//! The core's consumer groups: what is asked of them, what of it goes into the log, and who is
//! answered.
//!
//! Invariant: what groups decide goes into the log in the order in which it was decided; where the
//! log has no room, whatever is decided later waits behind it.

use std::time::Duration;

use ringlog_engine::groups::{
    Commit, GroupAnswer, GroupError, GroupRecord, Groups, Identity, Now, Ticket,
};
use ringlog_engine::machine::GROUPS;
use ringlog_storage::log::{AppendError, EntryKind, EntryMeta};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::{Core, CoreHandle};
use crate::node::message::StorageFailed;

const META: EntryMeta = EntryMeta {
    partition: PartitionId::NONE,
    kind: EntryKind::Machine,
    machine: GROUPS,
    base_offset: Offset::ZERO,
    count: 0,
    max_timestamp: -1,
};

/// Why a decision about a group is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum GroupFailure {
    /// The group refuses it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The log did not take it, or closed before it was durable.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
}

impl Core {
    /// The time for the groups.
    #[must_use]
    pub fn group_time(&self) -> Now {
        let steady_ms = self.began.elapsed().as_millis();
        Now {
            steady_ms: u64::try_from(steady_ms).unwrap_or(u64::MAX),
            wall_ms: self.now_ms(),
        }
    }

    /// Logs what the groups have decided, as far as the log has room.
    ///
    /// # Errors
    /// What the log says of the first that it does not take. When it takes none any more, all
    /// who wait for it are answered.
    pub fn log_group_records(&mut self) -> Result<(), AppendError> {
        while let Some(record) = self.groups.record() {
            match self.log.append(&[(META, record)]) {
                Ok(_) => self.groups.record_logged(),
                Err(AppendError::Busy) => return Err(AppendError::Busy),
                Err(error) => {
                    self.groups.log_closed();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Logs records that were decided together, as one atomic group.
    fn log_decision(&mut self, records: &[Vec<u8>]) -> Result<Sequence, AppendError> {
        self.log_group_records()?;
        let records = records.iter().map(|record| (META, record.as_slice()));
        let records: Vec<(EntryMeta, &[u8])> = records.collect();
        self.log.append(&records)
    }
}

impl CoreHandle {
    /// Asks or changes groups, with the time; then answers whoever is due.
    ///
    /// # Panics
    /// When called from inside [`CoreHandle::with`].
    pub fn groups<R>(&self, change: impl FnOnce(&mut Groups, Now) -> R) -> R {
        let (result, answers) = self.change_groups(change);
        self.0.group_waits.borrow_mut().answer(answers);
        self.0.groups_changed.raise();
        result
    }

    /// Asks a group something that is answered later; `None` when the node stops before.
    ///
    /// Cancellation: what was asked takes its course, and the answer is dropped.
    pub async fn ask_group(
        &self,
        ask: impl FnOnce(&mut Groups, Now) -> Ticket,
    ) -> Option<GroupAnswer> {
        let (ticket, answers) = self.change_groups(ask);
        let answer = {
            let mut waits = self.0.group_waits.borrow_mut();
            let answer = waits.enter(ticket);
            waits.answer(answers);
            answer
        };
        self.0.groups_changed.raise();
        answer.await.ok()
    }

    /// Decides something about a group, of about so many bytes, and waits until it is durable.
    /// `decide` is called again when the log has no room.
    ///
    /// Cancellation: what was logged becomes durable all the same.
    ///
    /// # Errors
    /// See [`GroupFailure`].
    pub async fn decide_group(
        &self,
        bytes: usize,
        mut decide: impl FnMut(&mut Groups, Now) -> Result<GroupRecord, GroupError>,
    ) -> Result<(), GroupFailure> {
        self.log_when_decided(bytes, |groups, now| Ok([decide(groups, now)?.encode()]))
            .await
    }

    /// Commits offsets, all or none, and waits until they are durable.
    ///
    /// Cancellation: what was logged becomes durable all the same.
    ///
    /// # Errors
    /// See [`GroupFailure`].
    pub async fn commit_offsets(
        &self,
        commit: &Commit,
        who: &Identity<'_>,
        generation: i32,
    ) -> Result<(), GroupFailure> {
        self.log_when_decided(commit.bytes(), |groups, now| {
            groups.prepare_commit(commit, who, generation, now)?;
            Ok(commit.records())
        })
        .await
    }

    async fn log_when_decided<R: AsRef<[Vec<u8>]>>(
        &self,
        bytes: usize,
        mut decide: impl FnMut(&mut Groups, Now) -> Result<R, GroupError>,
    ) -> Result<(), GroupFailure> {
        loop {
            self.room(None, bytes).await;
            let logged = self.with(|core| {
                let now = core.group_time();
                match decide(&mut core.groups, now) {
                    Ok(records) => Ok(core.log_decision(records.as_ref())),
                    Err(refused) => Err(refused),
                }
            })?;
            match logged {
                Ok(sequence) => return Ok(self.durable(sequence).await?),
                Err(AppendError::Busy) => self.log_moved().await,
                Err(error) => {
                    let cause = error.to_string();
                    return Err(StorageFailed { cause }.into());
                }
            }
        }
    }

    /// Does what the groups' timers have due; returns when more is.
    ///
    /// Cancellation: nothing is lost.
    pub async fn group_timers(&self) {
        let ((is_more, next_ms), answers) = self.change_groups(|groups, now| {
            let is_more = groups.expire(now);
            let next_ms = groups.next_deadline_ms();
            (
                is_more,
                next_ms.map(|at_ms| at_ms.saturating_sub(now.steady_ms)),
            )
        });
        self.0.group_waits.borrow_mut().answer(answers);
        if is_more {
            tokio::task::yield_now().await;
            return;
        }
        let changed = std::future::poll_fn(|cx| self.0.groups_changed.poll_raised(cx));
        match next_ms {
            // A timer of the runtime may ring within the millisecond before.
            Some(ms) => {
                let _ = tokio::time::timeout(Duration::from_millis(ms.max(1)), changed).await;
            }
            None => changed.await,
        }
    }

    fn change_groups<R>(
        &self,
        change: impl FnOnce(&mut Groups, Now) -> R,
    ) -> (R, Vec<(Ticket, GroupAnswer)>) {
        self.with(|core| {
            let now = core.group_time();
            let result = change(&mut core.groups, now);
            // What the log has no room for, the driver tries again when it moves; when it is
            // closed, those who wait are answered below.
            let _ = core.log_group_records();
            (result, core.groups.take_answers())
        })
    }

    /// Hands answers on. Called by the driver, after entries became durable.
    pub(in crate::node) fn answer_groups(&self, answers: Vec<(Ticket, GroupAnswer)>) {
        if !answers.is_empty() {
            self.0.group_waits.borrow_mut().answer(answers);
            self.0.groups_changed.raise();
        }
    }
}
