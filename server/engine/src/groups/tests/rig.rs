//! A log of groups whose entries become durable when a test says so, and that can be restarted.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringlog_types::{PartitionId, TopicNumber};

use crate::groups::{
    Commit, CommittedOffset, GroupAnswer, GroupError, GroupSettings, Groups, Identity, Join,
    JoinRefused, Joined, Now, Protocol, Sync, Synced, Ticket,
};

pub const SESSION_MS: u32 = 10_000;
pub const REBALANCE_MS: u32 = 20_000;

pub const SETTINGS: GroupSettings = GroupSettings {
    min_session_timeout_ms: 6_000,
    max_session_timeout_ms: 60_000,
    initial_delay_ms: 0,
    max_members: 5,
    max_groups: 100,
    max_offsets: 1_000,
};

pub struct Rig {
    pub groups: Groups,
    pub now: Now,
    /// Entries that the log took and that are not durable.
    pub pending: Vec<Vec<u8>>,
    /// Those that are.
    pub log: Vec<Vec<u8>>,
    pub answers: BTreeMap<Ticket, GroupAnswer>,
    fresh: u32,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(SETTINGS)
    }

    pub fn with(settings: GroupSettings) -> Rig {
        Rig {
            groups: Groups::new(settings),
            now: Now {
                steady_ms: 1_000,
                wall_ms: 1_000_000,
            },
            pending: Vec::new(),
            log: Vec::new(),
            answers: BTreeMap::new(),
            fresh: 0,
        }
    }

    pub fn later(&mut self, ms: u32) {
        self.now.steady_ms += u64::from(ms);
        self.now.wall_ms += i64::from(ms);
        while self.groups.expire(self.now) {}
        self.take();
    }

    /// Answers and records out.
    pub fn take(&mut self) {
        while let Some(record) = self.groups.record() {
            self.pending.push(record.to_vec());
            self.groups.record_logged();
        }
        for (ticket, answer) in self.groups.take_answers() {
            let before = self.answers.insert(ticket, answer);
            assert_eq!(before, None, "{ticket:?} is answered twice");
        }
    }

    /// The next entry of the log becomes durable.
    pub fn flush_one(&mut self) {
        self.take();
        let record = self.pending.remove(0);
        self.groups.apply(&record).unwrap();
        self.log.push(record);
        self.take();
    }

    /// Everything in the log becomes durable.
    pub fn flush(&mut self) {
        self.take();
        for record in std::mem::take(&mut self.pending) {
            self.groups.apply(&record).unwrap();
            self.log.push(record);
        }
        self.take();
    }

    /// What was not durable is gone, and so are those who waited.
    pub fn restart(&mut self) {
        self.pending.clear();
        self.answers.clear();
        let before = self.groups.checkpoint();
        self.groups = Groups::new(SETTINGS);
        for record in &self.log {
            self.groups.apply(record).unwrap();
        }
        assert_eq!(self.groups.checkpoint(), before);
        self.groups.resume(self.now);
    }

    pub fn join_as(&mut self, join: Join) -> Ticket {
        let ticket = self.groups.join(&join, self.now);
        self.take();
        ticket
    }

    pub fn request(&mut self, member_id: &str) -> Join {
        self.fresh += 1;
        Join {
            group: "g".into(),
            member_id: member_id.into(),
            fresh_id: format!("member-{:04}", self.fresh).into(),
            instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".into(),
            protocols: vec![protocol("range", b"sub")],
            must_know_its_id: false,
            can_skip_assignment: true,
        }
    }

    /// A member comes; its ticket.
    pub fn join(&mut self, member_id: &str) -> Ticket {
        let join = self.request(member_id);
        self.join_as(join)
    }

    pub fn joined(&self, ticket: Ticket) -> Result<Joined, JoinRefused> {
        match self.answers.get(&ticket) {
            Some(GroupAnswer::Joined(joined)) => joined.clone(),
            other => panic!("{ticket:?} got {other:?}"),
        }
    }

    pub fn refusal(&self, ticket: Ticket) -> GroupError {
        self.joined(ticket).unwrap_err().error
    }

    pub fn sync(&mut self, member_id: &str, generation: i32, parts: &[(&str, &str)]) -> Ticket {
        let parts = parts.iter();
        let sync = Sync {
            group: "g".into(),
            member_id: member_id.into(),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: parts
                .map(|(id, part)| (Arc::from(*id), part.as_bytes().into()))
                .collect(),
        };
        let ticket = self.groups.sync(&sync, self.now);
        self.take();
        ticket
    }

    pub fn synced(&self, ticket: Ticket) -> Result<Synced, GroupError> {
        match self.answers.get(&ticket) {
            Some(GroupAnswer::Synced(synced)) => synced.clone(),
            other => panic!("{ticket:?} got {other:?}"),
        }
    }

    pub fn is_open(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    pub fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        self.groups
            .heartbeat("g", &who(member_id), generation, self.now)
    }

    pub fn leave(&mut self, member_id: &str) -> Result<(), GroupError> {
        let result = self.groups.leave("g", &who(member_id), self.now);
        self.take();
        result
    }

    pub fn commit(
        &mut self,
        member_id: &str,
        generation: i32,
        offset: i64,
    ) -> Result<(), GroupError> {
        let offsets = [(partition(0), self.committed(offset))];
        self.commit_all(member_id, generation, offsets)
    }

    pub fn commit_all(
        &mut self,
        member_id: &str,
        generation: i32,
        offsets: impl IntoIterator<Item = (PartitionId, CommittedOffset)>,
    ) -> Result<(), GroupError> {
        let mut commit = Commit::of("g".into());
        for (partition, offset) in offsets {
            commit.add(partition, offset);
        }
        let (commit, who) = (commit.finish(), who(member_id));
        self.groups
            .prepare_commit(&commit, &who, generation, self.now)?;
        self.take();
        self.pending.extend(commit.records().iter().cloned());
        Ok(())
    }

    pub fn committed(&self, offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            committed_ms: self.now.wall_ms,
            expires_ms: -1,
            metadata: Arc::default(),
        }
    }

    /// Two members, one after the other, in a stable group: their ids and the generation.
    pub fn two(&mut self) -> (Arc<str>, Arc<str>, i32) {
        let first = self.join("");
        let first = self.joined(first).unwrap().member_id;
        let second = self.join("");
        let again = self.join(&first);
        let second = self.joined(second).unwrap();
        let generation = second.generation;
        assert_eq!(self.joined(again).unwrap().generation, generation);
        let second = second.member_id;
        let parts = [(&*first, "one"), (&*second, "two")];
        let waiting = self.sync(&second, generation, &[]);
        let leader = self.sync(&first, generation, &parts);
        assert!(self.is_open(waiting) && self.is_open(leader));
        self.flush();
        assert_eq!(&*self.synced(leader).unwrap().assignment, b"one");
        assert_eq!(&*self.synced(waiting).unwrap().assignment, b"two");
        (first, second, generation)
    }
}

pub fn who(member_id: &str) -> Identity<'_> {
    Identity {
        member_id,
        instance_id: None,
    }
}

pub fn partition(index: u32) -> PartitionId {
    PartitionId::new(TopicNumber(1), index)
}

pub fn protocol(name: &str, metadata: &[u8]) -> Protocol {
    Protocol {
        name: name.into(),
        metadata: metadata.into(),
    }
}
