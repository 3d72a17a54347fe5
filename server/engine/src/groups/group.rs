//! A group that lives: its members, the phase it is in, what members are refused. How it gets from
//! one generation to the next is in `rebalance`.
//!
//! ```text
//!          first member                 all joined, or time is up
//!  Empty ───────────────► Preparing ─────────────────────────────► Completing
//!    ▲                      │  ▲  ▲                                     │ the leader's assignment
//!    └──────────────────────┘  │  └─ a member came, left or expired ────┤ is durable
//!       nobody joined          └─────────────────────────────────── Stable
//! ```
//!
//! Invariants: a member is told its part of an assignment only when that is durable; a generation
//! has one leader; every join and sync that waits has a timer that ends it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{GroupSettings, Identity, Joined, Now, Outbox, Synced, Ticket};
use super::error::GroupError;
use super::member::Member;
use super::record::GroupRecord;
use super::stored::StoredGroup;

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has no members.
    Empty,
    /// Members are to join; those that have not by then are left behind.
    Preparing {
        until_ms: u64,
        /// The first rebalance of an empty group waits for more members.
        grace: Option<Grace>,
    },
    /// All know the generation and wait for the leader's assignment; logged with this number.
    Completing { logged: Option<u64> },
    /// All may ask for their part.
    Stable,
}

/// How the first rebalance waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grace {
    /// How much longer it may be made.
    pub left_ms: u64,
    /// Since it was made longer last.
    pub somebody_came: bool,
}

/// What a change of a group is made with.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub now: Now,
    pub settings: &'a GroupSettings,
    pub out: &'a mut Outbox,
}

/// A group that lives.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub id: Arc<str>,
    pub protocol_type: Arc<str>,
    pub protocol: Arc<str>,
    pub generation: i32,
    pub leader: Option<Arc<str>>,
    pub phase: Phase,
    pub members: BTreeMap<Arc<str>, Member>,
    /// Static members' ids, by instance id.
    pub statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given to members that have not come back with them, and how long they may take.
    pub promised: BTreeMap<Arc<str>, u64>,
    /// When members that have not asked for their part are given up.
    pub sync_until_ms: Option<u64>,
    /// Static members' new ids that are being logged: the entry, who waits, the answer.
    pub replaced: Vec<(u64, Ticket, Joined)>,
    /// Bytes that its members brought.
    pub bytes: usize,
    /// Entries of this group handed to the log, and those that became durable.
    pub logged: u64,
    pub durable: u64,
    /// When somebody looks at its timers.
    pub timer_ms: Option<u64>,
}

impl Group {
    pub fn new(id: Arc<str>) -> Group {
        Group {
            id,
            protocol_type: Arc::default(),
            protocol: Arc::default(),
            generation: 0,
            leader: None,
            phase: Phase::Empty,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            promised: BTreeMap::new(),
            sync_until_ms: None,
            replaced: Vec::new(),
            bytes: 0,
            logged: 0,
            durable: 0,
            timer_ms: None,
        }
    }

    /// As it is after a restart: the members of the last generation that was made durable go on.
    pub fn restored(stored: &StoredGroup, now_ms: u64) -> Group {
        let mut group = Group::new(Arc::clone(&stored.id));
        group.protocol_type = Arc::clone(&stored.protocol_type);
        group.generation = stored.generation;
        for of_member in &stored.members {
            let member = Member::restored(of_member, &stored.protocol, now_ms);
            group.bytes += member.bytes();
            if let Some(instance) = &member.instance_id {
                let id = Arc::clone(&of_member.id);
                group.statics.insert(Arc::clone(instance), id);
            }
            group.members.insert(Arc::clone(&of_member.id), member);
        }
        if !group.members.is_empty() {
            group.protocol = Arc::clone(&stored.protocol);
            group.leader = Some(Arc::clone(&stored.leader));
            group.phase = Phase::Stable;
        }
        group
    }

    /// Nothing of it is anywhere but in the log.
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Empty && self.promised.is_empty() && self.logged == self.durable
    }

    /// Whether the member may speak for itself.
    pub fn check(&self, who: &Identity<'_>) -> Result<(), GroupError> {
        if let Some(instance) = who.instance_id {
            return match self.statics.get(instance) {
                None => Err(GroupError::UnknownMember),
                Some(id) if **id == *who.member_id => Ok(()),
                Some(_) => Err(GroupError::FencedInstance),
            };
        }
        if self.members.contains_key(who.member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    /// The same of a member that names its generation.
    pub fn check_generation(&self, who: &Identity<'_>, generation: i32) -> Result<(), GroupError> {
        self.check(who)?;
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    pub fn heartbeat(
        &mut self,
        who: &Identity<'_>,
        generation: i32,
        now_ms: u64,
    ) -> Result<(), GroupError> {
        self.check_generation(who, generation)?;
        self.heard(who.member_id, now_ms);
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// Whether whoever asks may commit offsets. A negative generation without a member stands for
    /// a client that assigns partitions to itself.
    pub fn check_commit(
        &mut self,
        who: &Identity<'_>,
        generation: i32,
        now_ms: u64,
    ) -> Result<(), GroupError> {
        if generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        self.check_generation(who, generation)?;
        self.heard(who.member_id, now_ms);
        match self.phase {
            // It knows the generation, and may not yet have what it commits for.
            Phase::Completing { .. } => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn heard(&mut self, member: &str, now_ms: u64) {
        if let Some(member) = self.members.get_mut(member) {
            member.heard(now_ms);
        }
    }

    /// Logs what the group is now; the number of the entry.
    pub fn log(&mut self, turn: &mut Turn<'_>) -> u64 {
        let members = self.members.iter();
        let stored = StoredGroup {
            id: Arc::clone(&self.id),
            protocol_type: Arc::clone(&self.protocol_type),
            protocol: Arc::clone(&self.protocol),
            generation: self.generation,
            leader: self.leader.clone().unwrap_or_default(),
            since_ms: turn.now.wall_ms,
            members: members
                .map(|(id, member)| member.stored(id, &self.protocol))
                .collect(),
        };
        let record = GroupRecord::Group(stored).encode();
        turn.out.records.push_back(record);
        self.logged += 1;
        self.logged
    }

    /// Another entry of the group is durable.
    pub fn became_durable(&mut self, out: &mut Outbox) {
        self.durable += 1;
        let durable = self.durable;
        for (number, ticket, joined) in std::mem::take(&mut self.replaced) {
            if number <= durable {
                out.joined(ticket, joined);
            } else {
                self.replaced.push((number, ticket, joined));
            }
        }
        if let Phase::Completing {
            logged: Some(number),
        } = self.phase
            && number <= durable
        {
            self.phase = Phase::Stable;
            for member in self.members.values_mut() {
                if let Some(ticket) = member.syncing.take() {
                    let assignment = Arc::clone(&member.assignment);
                    let synced = synced(&self.protocol_type, &self.protocol, assignment);
                    out.synced(ticket, Ok(synced));
                }
            }
        }
    }

    /// The log took none of the entries that were handed to it.
    pub fn was_refused(&mut self, out: &mut Outbox) {
        for (_, ticket, joined) in self.replaced.drain(..) {
            out.join_refused(ticket, GroupError::Unavailable, &joined.member_id);
        }
        if let Phase::Completing { logged } = &mut self.phase {
            *logged = None;
        }
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                out.synced(ticket, Err(GroupError::Unavailable));
            }
        }
    }

    /// When something is due next.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let members = self.members.values();
        // Who waits is not given up, unless it is new.
        let members = members.filter(|member| member.is_new || !member.waits());
        let phase = match self.phase {
            Phase::Preparing { until_ms, .. } => Some(until_ms),
            _ => None,
        };
        let deadlines = members.map(|member| member.deadline_ms);
        deadlines
            .chain(self.promised.values().copied())
            .chain(phase)
            .chain(self.sync_until_ms)
            .min()
    }
}

/// A part of an assignment.
pub(super) fn synced(
    protocol_type: &Arc<str>,
    protocol: &Arc<str>,
    assignment: Arc<[u8]>,
) -> Synced {
    Synced {
        protocol_type: Arc::clone(protocol_type),
        protocol: Arc::clone(protocol),
        assignment,
    }
}
