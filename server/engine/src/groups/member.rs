//! A member of a group that lives: its timers and what it waits for.

use std::sync::Arc;

use super::command::{Join, JoinedMember, Protocol, Ticket};
use super::stored::StoredMember;

/// A new member that waits for its first rebalance is given up after this time, as in Kafka: its
/// client may have gone, and sends no heartbeats yet.
pub(super) const NEW_MEMBER_TIMEOUT_MS: u64 = 5 * 60 * 1000;

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    pub protocols: Vec<Protocol>,
    pub assignment: Arc<[u8]>,
    /// When it is given up, unless something is heard of it.
    pub deadline_ms: u64,
    /// It was never in a generation.
    pub is_new: bool,
    /// It has the generation that waits for its assignment, and asked for its part.
    pub asked: bool,
    pub joining: Option<Ticket>,
    pub syncing: Option<Ticket>,
}

impl Member {
    pub fn of(join: &Join, now_ms: u64) -> Member {
        Member {
            instance_id: join.instance_id.clone(),
            client_id: Arc::clone(&join.client_id),
            client_host: Arc::clone(&join.client_host),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Arc::default(),
            deadline_ms: now_ms + NEW_MEMBER_TIMEOUT_MS,
            is_new: true,
            asked: false,
            joining: None,
            syncing: None,
        }
    }

    /// As it is after a restart: its session begins anew.
    pub fn restored(stored: &StoredMember, protocol: &Arc<str>, now_ms: u64) -> Member {
        Member {
            instance_id: stored.instance_id.clone(),
            client_id: Arc::clone(&stored.client_id),
            client_host: Arc::clone(&stored.client_host),
            session_timeout_ms: stored.session_timeout_ms,
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            protocols: vec![Protocol {
                name: Arc::clone(protocol),
                metadata: Arc::clone(&stored.subscription),
            }],
            assignment: Arc::clone(&stored.assignment),
            deadline_ms: now_ms + u64::from(stored.session_timeout_ms),
            is_new: false,
            asked: true,
            joining: None,
            syncing: None,
        }
    }

    /// Takes over what a join says.
    pub fn update(&mut self, join: &Join) {
        self.client_id = Arc::clone(&join.client_id);
        self.client_host = Arc::clone(&join.client_host);
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.protocols.clone_from(&join.protocols);
    }

    /// Something was heard of it.
    pub fn heard(&mut self, now_ms: u64) {
        self.deadline_ms = now_ms + u64::from(self.session_timeout_ms);
    }

    /// It waits for an answer, and so sends no heartbeats.
    pub fn waits(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| &*known.name == protocol)
    }

    /// What it tells the leader for a protocol.
    pub fn metadata(&self, protocol: &str) -> Arc<[u8]> {
        let known = self.protocols.iter().find(|known| &*known.name == protocol);
        known.map_or_else(Arc::default, |known| Arc::clone(&known.metadata))
    }

    pub fn described(&self, id: &Arc<str>, protocol: &str) -> JoinedMember {
        JoinedMember {
            id: Arc::clone(id),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub fn stored(&self, id: &Arc<str>, protocol: &str) -> StoredMember {
        StoredMember {
            id: Arc::clone(id),
            instance_id: self.instance_id.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: Arc::clone(&self.assignment),
        }
    }

    /// Bytes that it brought.
    pub fn bytes(&self) -> usize {
        bytes_of(&self.protocols) + self.assignment.len()
    }
}

/// Bytes that a member brings with these.
pub(super) fn bytes_of(protocols: &[Protocol]) -> usize {
    let bytes = |protocol: &Protocol| protocol.name.len() + protocol.metadata.len();
    protocols.iter().map(bytes).sum()
}
