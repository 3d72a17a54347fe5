//! A group as the log knows it: the last generation whose assignment was made durable. Written
//! when a leader's assignment arrives, when a static member changes its id, and when the last
//! member is gone.
//!
//! ```text
//! group  = id text, protocol type text, protocol text, generation i32, leader text, since i64,
//!          member count u32, { member }*                                   (empty text: none)
//! member = id text, has instance u8, instance text, client id text, client host text,
//!          session timeout u32, rebalance timeout u32, subscription bytes, assignment bytes
//! ```

use std::sync::Arc;

use crate::little_endian::{DecodeError, Reader, Writer};

/// A member with its part of the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// Its id.
    pub id: Arc<str>,
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
    /// What it told the leader, for the group's protocol.
    pub subscription: Arc<[u8]>,
    /// What the leader gave it.
    pub assignment: Arc<[u8]>,
}

/// A group at one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// Its id.
    pub id: Arc<str>,
    /// The type of its protocols; empty when it never had a member.
    pub protocol_type: Arc<str>,
    /// The protocol chosen; empty without members.
    pub protocol: Arc<str>,
    /// Its generation.
    pub generation: i32,
    /// The leader's id; empty without members.
    pub leader: Arc<str>,
    /// When it became so, by the wall clock.
    pub since_ms: i64,
    /// Its members, by id.
    pub members: Vec<StoredMember>,
}

impl StoredGroup {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.text(&self.id);
        out.text(&self.protocol_type);
        out.text(&self.protocol);
        out.i32(self.generation);
        out.text(&self.leader);
        out.i64(self.since_ms);
        out.count(self.members.len());
        for member in &self.members {
            out.text(&member.id);
            out.u8(u8::from(member.instance_id.is_some()));
            out.text(member.instance_id.as_deref().unwrap_or_default());
            out.text(&member.client_id);
            out.text(&member.client_host);
            out.u32(member.session_timeout_ms);
            out.u32(member.rebalance_timeout_ms);
            out.bytes(&member.subscription);
            out.bytes(&member.assignment);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<StoredGroup, DecodeError> {
        let mut group = StoredGroup {
            id: reader.text("a group's id")?.into(),
            protocol_type: reader.text("a group's protocol type")?.into(),
            protocol: reader.text("a group's protocol")?.into(),
            generation: reader.i32("a group's generation")?,
            leader: reader.text("a group's leader")?.into(),
            since_ms: reader.i64("a group's time")?,
            members: Vec::new(),
        };
        for _ in 0..reader.count("a group's members", 33)? {
            let id = reader.text("a member's id")?.into();
            let is_static = reader.u8("whether a member is static")?;
            let instance_id = reader.text("a member's instance id")?;
            let instance_id = match is_static {
                0 if instance_id.is_empty() => None,
                1 => Some(instance_id.into()),
                other => return Err(reader.invalid(format!("a member is static by {other}"))),
            };
            group.members.push(StoredMember {
                id,
                instance_id,
                client_id: reader.text("a member's client id")?.into(),
                client_host: reader.text("a member's client host")?.into(),
                session_timeout_ms: reader.u32("a member's session timeout")?,
                rebalance_timeout_ms: reader.u32("a member's rebalance timeout")?,
                subscription: reader.bytes("a member's subscription")?.into(),
                assignment: reader.bytes("a member's assignment")?.into(),
            });
        }
        let by_id = |a: &StoredMember, b: &StoredMember| a.id < b.id;
        if !group.members.is_sorted_by(by_id) {
            return Err(reader.invalid("a group's members are not in the order of their ids"));
        }
        Ok(group)
    }

    /// About how many rows of a checkpoint this costs as much as.
    pub(super) fn rows(&self) -> usize {
        let bytes =
            |member: &StoredMember| 256 + member.subscription.len() + member.assignment.len();
        1 + self.members.iter().map(bytes).sum::<usize>() / 256
    }
}
