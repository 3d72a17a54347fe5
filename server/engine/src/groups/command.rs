//! What members ask of their group, and what they are answered.

use std::sync::Arc;

use super::error::GroupError;
use crate::limits::{GROUPS_PER_LOG, MEMBERS_PER_GROUP, OFFSETS_PER_LOG};

/// The time of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never jumps: for timers.
    pub steady_ms: u64,
    /// The wall clock: for what is remembered.
    pub wall_ms: i64,
}

/// Limits and delays, as the node is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The shortest session timeout a member may ask for.
    pub min_session_timeout_ms: u32,
    /// The longest.
    pub max_session_timeout_ms: u32,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_delay_ms: u32,
    /// Members of a group.
    pub max_members: usize,
    /// Groups of a log.
    pub max_groups: usize,
    /// Offsets that the groups of a log may have committed.
    pub max_offsets: usize,
}

impl Default for GroupSettings {
    /// Kafka's, but for the members of a group, which it does not bound.
    fn default() -> GroupSettings {
        GroupSettings {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_delay_ms: 3_000,
            max_members: MEMBERS_PER_GROUP,
            max_groups: GROUPS_PER_LOG,
            max_offsets: OFFSETS_PER_LOG,
        }
    }
}

/// Stands for an answer that comes later, by [`super::Groups::take_answers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// A way of assigning that a member knows, with what it tells the leader for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: Arc<str>,
    /// The member's subscription.
    pub metadata: Arc<[u8]>,
}

/// Who asks, within a group.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The member's id.
    pub member_id: &'a str,
    /// Its instance id, if it says one.
    pub instance_id: Option<&'a str>,
}

/// A member wants to be in the next generation.
#[derive(Clone, Debug)]
pub struct Join {
    /// The group.
    pub group: Arc<str>,
    /// The member's id; empty when it has none yet.
    pub member_id: Arc<str>,
    /// The id it gets then: no other member of any group ever has it.
    pub fresh_id: Arc<str>,
    /// Its instance id, if it is a static member.
    pub instance_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is.
    pub client_host: Arc<str>,
    /// How long it may be silent.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: u32,
    /// The type of its protocols.
    pub protocol_type: Arc<str>,
    /// Its protocols, the one it likes best first.
    pub protocols: Vec<Protocol>,
    /// Whether a new dynamic member must come back with the id it is given (KIP-394).
    pub must_know_its_id: bool,
    /// Whether its client understands that a leader need not assign (KIP-814).
    pub can_skip_assignment: bool,
}

/// A member of a new generation, as its leader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// What it tells the leader.
    pub metadata: Arc<[u8]>,
}

/// A generation that a member is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub generation: i32,
    /// The type of the protocols.
    pub protocol_type: Arc<str>,
    /// The protocol chosen.
    pub protocol: Arc<str>,
    /// The leader's id.
    pub leader: Arc<str>,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// The leader is told all members; others none.
    pub members: Vec<JoinedMember>,
    /// The leader need not assign: the group keeps its assignment.
    pub skip_assignment: bool,
}

/// A join that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The member's id: what it came with, or the one it must come back with.
    pub member_id: Arc<str>,
}

/// A member's part of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The type of the protocols.
    pub protocol_type: Arc<str>,
    /// The protocol.
    pub protocol: Arc<str>,
    /// What the leader gave to the member.
    pub assignment: Arc<[u8]>,
}

/// A member asks for its part; the leader brings all parts.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The group.
    pub group: Arc<str>,
    /// The member's id.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// The generation it knows.
    pub generation: i32,
    /// The type of protocols it knows, if it says so.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol it knows.
    pub protocol: Option<Arc<str>>,
    /// The leader's: each member's part.
    pub assignments: Vec<(Arc<str>, Arc<[u8]>)>,
}

/// What a ticket stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAnswer {
    /// To a [`Join`].
    Joined(Result<Joined, JoinRefused>),
    /// To a [`Sync`].
    Synced(Result<Synced, GroupError>),
}

/// What members of a node's groups wait for, and what is to be logged; both in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    pub answers: Vec<(Ticket, GroupAnswer)>,
    pub records: std::collections::VecDeque<Vec<u8>>,
}

impl Outbox {
    pub fn joined(&mut self, ticket: Ticket, joined: Joined) {
        self.answers.push((ticket, GroupAnswer::Joined(Ok(joined))));
    }

    pub fn join_refused(&mut self, ticket: Ticket, error: GroupError, member_id: &Arc<str>) {
        let member_id = Arc::clone(member_id);
        let refused = JoinRefused { error, member_id };
        self.answers
            .push((ticket, GroupAnswer::Joined(Err(refused))));
    }

    pub fn synced(&mut self, ticket: Ticket, result: Result<Synced, GroupError>) {
        self.answers.push((ticket, GroupAnswer::Synced(result)));
    }
}
