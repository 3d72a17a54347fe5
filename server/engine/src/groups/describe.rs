//! What there is to say about groups, for operators.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use ringlog_types::PartitionId;

use super::error::GroupError;
use super::group::{Group, Phase};
use super::record::GroupRecord;
use super::state::Groups;
use super::subscription::may_name;

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Its members are to join again.
    PreparingRebalance,
    /// Its members wait for the leader's assignment.
    CompletingRebalance,
    /// Its members have their parts.
    Stable,
}

impl GroupState {
    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

/// How much there is of what is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Groups with members, or on their way from or to that.
    pub live: usize,
    /// Bytes that their members brought.
    pub bytes: usize,
    /// Offsets committed.
    pub offsets: usize,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub id: Arc<str>,
    /// The type of its protocols; empty when it never had members.
    pub protocol_type: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The type of its protocols.
    pub protocol_type: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
    /// The protocol; empty unless it is stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is.
    pub client_host: Arc<str>,
    /// What it told the leader; empty unless the group is stable.
    pub metadata: Arc<[u8]>,
    /// Its part of the assignment; empty unless the group is stable.
    pub assignment: Arc<[u8]>,
}

fn state_of(group: &Group) -> GroupState {
    match group.phase {
        Phase::Empty => GroupState::Empty,
        Phase::Preparing { .. } => GroupState::PreparingRebalance,
        Phase::Completing { .. } => GroupState::CompletingRebalance,
        Phase::Stable => GroupState::Stable,
    }
}

impl Groups {
    /// How much there is of what is bounded.
    #[must_use]
    pub fn counts(&self) -> GroupCounts {
        GroupCounts {
            live: self.live.len(),
            bytes: self.bytes(),
            offsets: self.table.offset_count(),
        }
    }

    /// So many groups at most, by id, behind one.
    #[must_use]
    pub fn list(&self, behind: Option<&str>, count: usize) -> Vec<ListedGroup> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let live = self.live.range::<str, _>((from, Bound::Unbounded));
        let live = live.map(|(id, _)| id).take(count);
        let known = self.table.ids_behind(behind).take(count);
        let ids: BTreeSet<&Arc<str>> = live.chain(known).collect();
        ids.into_iter()
            .take(count)
            .map(|id| self.listed(id))
            .collect()
    }

    fn listed(&self, id: &Arc<str>) -> ListedGroup {
        let live = self.live.get(id);
        let stored = self.table.stored(id);
        let protocol_type = match (live, stored) {
            (Some(group), _) => Arc::clone(&group.protocol_type),
            (None, Some(stored)) => Arc::clone(&stored.protocol_type),
            (None, None) => Arc::default(),
        };
        ListedGroup {
            id: Arc::clone(id),
            protocol_type,
            state: live.map_or(GroupState::Empty, state_of),
        }
    }

    /// A group with its members, if it is there.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<DescribedGroup> {
        let Some(group) = self.live.get(group) else {
            self.table.find(group)?;
            let stored = self.table.stored(group);
            return Some(DescribedGroup {
                protocol_type: stored
                    .map_or_else(Arc::default, |stored| Arc::clone(&stored.protocol_type)),
                state: GroupState::Empty,
                protocol: Arc::default(),
                members: Vec::new(),
            });
        };
        let is_stable = group.phase == Phase::Stable;
        let members = group.members.iter().map(|(id, member)| DescribedMember {
            id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: match is_stable {
                true => member.metadata(&group.protocol),
                false => Arc::default(),
            },
            assignment: match is_stable {
                true => Arc::clone(&member.assignment),
                false => Arc::default(),
            },
        });
        Some(DescribedGroup {
            protocol_type: Arc::clone(&group.protocol_type),
            state: state_of(group),
            protocol: match is_stable {
                true => Arc::clone(&group.protocol),
                false => Arc::default(),
            },
            members: members.collect(),
        })
    }

    /// Decides that offsets of a group are forgotten: the record to be logged, and whether each of
    /// the partitions may be (none that a member reads).
    ///
    /// # Errors
    /// When the group is not there, or its members do not say what they read.
    pub fn prepare_forget(
        &self,
        group: &str,
        partitions: &[(PartitionId, &str)],
    ) -> Result<(GroupRecord, Vec<Result<(), GroupError>>), GroupError> {
        if !self.exists(group) {
            return Err(GroupError::NotFound);
        }
        let live = self.live.get(group);
        let live = live.filter(|group| group.phase != Phase::Empty);
        if live.is_some_and(|group| &*group.protocol_type != "consumer") {
            return Err(GroupError::NotEmpty);
        }
        let mut offsets = Vec::new();
        let outcomes = partitions.iter().map(|(partition, topic)| {
            if live.is_some_and(|group| reads(group, topic)) {
                return Err(GroupError::Subscribed);
            }
            offsets.push((*partition, i64::MAX));
            Ok(())
        });
        let outcomes = outcomes.collect();
        let group = group.into();
        Ok((GroupRecord::OffsetsForgotten { group, offsets }, outcomes))
    }
}

/// Whether a member reads the topic, or may: one whose subscription cannot be read reads all.
fn reads(group: &Group, topic: &str) -> bool {
    let mut subscriptions = group.members.values().flat_map(|member| &member.protocols);
    subscriptions.any(|known| may_name(&known.metadata, topic))
}
