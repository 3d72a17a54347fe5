//! Clients that are members of one group: they come, are given parts, say that they are there, commit,
//! go or fall silent, some with an instance of their own; by the clock of the simulation, through
//! whatever becomes of their node.
//!
//! What is checked with each answer: a part is told only when the generation that gives it is
//! durable; in a generation a partition has one owner; generations that were told never go back; who
//! is let commit is of the newest of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringlog_engine::groups::{
    Commit, CommittedOffset, GroupAnswer, GroupError, Groups, Identity, Join, JoinRefused, Joined,
    Now, Protocol, Sync, Synced, Ticket,
};
use ringlog_storage::io::Io;
use ringlog_types::{PartitionId, TopicNumber};

use super::model::Model;
use super::node::Node;
use crate::sim::random::Random;

/// The group of all of them.
pub const CREW: &str = "crew";

const SESSION_MS: u32 = 20;
const REBALANCE_MS: u32 = 20;

const CLIENTS: usize = 5;
/// Of these so many have an instance id.
const STATIC_CLIENTS: usize = 2;
const PARTITIONS: u8 = 6;

/// What the members did.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrewDone {
    /// Parts that were told.
    pub parts: u64,
    /// Generations in which one was.
    pub generations: u64,
    /// Members that came back under a new id without a rebalance.
    pub replaced: u64,
    /// Commits that were taken.
    pub commits: u64,
    /// Members that were told that they are none any more: they had been silent for too long.
    pub given_up: u64,
}

impl CrewDone {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &CrewDone) {
        self.parts += other.parts;
        self.generations += other.generations;
        self.replaced += other.replaced;
        self.commits += other.commits;
        self.given_up += other.given_up;
    }
}

/// The members, and what they were told in all lives.
#[derive(Debug)]
pub struct Crew {
    random: Random,
    clients: Vec<Client>,
    /// Who waits in this life.
    waiting: BTreeMap<Ticket, usize>,
    fresh: u32,
    /// Of each generation and partition, the client that was told that it owns it.
    owners: BTreeMap<(i32, u8), usize>,
    /// The newest generation of which a part was told.
    newest: i32,
    next_offset: i64,
    pub done: CrewDone,
}

#[derive(Clone, Debug, Default)]
struct Client {
    instance: Option<Arc<str>>,
    id: Arc<str>,
    generation: i32,
    part: Vec<u8>,
    state: State,
    /// Until then its process stands still.
    asleep_until_ms: u64,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// It is to join: again, where it has an id.
    #[default]
    Away,
    Joining,
    /// It is to ask for its part; the leader with those of all these members.
    Joined(Vec<Arc<str>>),
    Syncing,
    In,
}

impl Crew {
    pub fn new(seed: u64) -> Crew {
        let client = |number: usize| Client {
            instance: (number < STATIC_CLIENTS).then(|| format!("host-{number}").into()),
            ..Client::default()
        };
        Crew {
            // Choices of its own: those of the rest of the workload stay what they are.
            random: Random::new(seed ^ 0x6372_6577),
            clients: (0..CLIENTS).map(client).collect(),
            waiting: BTreeMap::new(),
            fresh: 0,
            owners: BTreeMap::new(),
            newest: 0,
            next_offset: 0,
            done: CrewDone::default(),
        }
    }

    /// The node is gone: nobody is answered, and each tries again with what it has.
    pub fn lost_the_node(&mut self) {
        self.waiting.clear();
        for client in &mut self.clients {
            // The clock of the next life begins anew.
            client.asleep_until_ms = 0;
            if !matches!(client.state, State::In) {
                client.state = State::Away;
            }
        }
    }

    /// Some clients do something, and what is due by the clock happens.
    pub fn step<I: Io>(&mut self, node: &mut Node<I>, model: &mut Model) -> Result<(), String> {
        node.machines.groups.expire(node.group_time());
        for _ in 0..2 {
            self.act(node, model)?;
            node.log_group_records(model)?;
            self.hear(node, model)?;
        }
        Ok(())
    }

    fn act<I: Io>(&mut self, node: &mut Node<I>, model: &mut Model) -> Result<(), String> {
        let now = node.group_time();
        let number = self.random.below(CLIENTS as u64) as usize;
        let client = self.clients[number].clone();
        let choice = self.random.below(12);
        match client.state {
            _ if client.asleep_until_ms > now.steady_ms => {}
            State::Away if choice < 6 => self.join(number, node, now),
            State::Joined(members) => self.sync(number, &members, node, now),
            State::In if choice < 7 => self.heartbeat(number, node, now),
            State::In if choice < 10 => self.commit(number, node, model, now)?,
            State::In if choice == 10 && self.random.once_in(6) => {
                let gone = node.machines.groups.leave(CREW, &client.who(), now);
                self.clients[number].heard(gone);
                self.clients[number].vanish();
            }
            State::In if choice == 11 && self.random.once_in(8) => {
                let until_ms = now.steady_ms + 2 * u64::from(SESSION_MS);
                self.clients[number].asleep_until_ms = until_ms;
            }
            // Its process is gone; nobody hears of it.
            State::Joining | State::Syncing | State::In
                if choice == 11 && self.random.once_in(6) =>
            {
                self.clients[number].vanish();
                self.waiting.retain(|_, waiting| *waiting != number);
            }
            _ => {}
        }
        Ok(())
    }

    fn join<I: Io>(&mut self, number: usize, node: &mut Node<I>, now: Now) {
        self.fresh += 1;
        let client = &self.clients[number];
        let join = Join {
            group: CREW.into(),
            member_id: Arc::clone(&client.id),
            fresh_id: format!("member-{:05}", self.fresh).into(),
            instance_id: client.instance.clone(),
            client_id: format!("client-{number}").into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Arc::from(*b"topics"),
            }],
            must_know_its_id: number.is_multiple_of(2),
            can_skip_assignment: true,
        };
        let ticket = node.machines.groups.join(&join, now);
        self.waiting.insert(ticket, number);
        self.clients[number].state = State::Joining;
    }

    fn sync<I: Io>(&mut self, number: usize, members: &[Arc<str>], node: &mut Node<I>, now: Now) {
        let mut parts = vec![Vec::new(); members.len()];
        for partition in (0..PARTITIONS).filter(|_| !members.is_empty()) {
            parts[usize::from(partition) % members.len()].push(partition);
        }
        let client = &self.clients[number];
        let parts = members.iter().zip(parts);
        let sync = Sync {
            group: CREW.into(),
            member_id: Arc::clone(&client.id),
            instance_id: client.instance.clone(),
            generation: client.generation,
            protocol_type: None,
            protocol: None,
            assignments: parts
                .map(|(id, part)| (Arc::clone(id), part.into()))
                .collect(),
        };
        let ticket = node.machines.groups.sync(&sync, now);
        self.waiting.insert(ticket, number);
        self.clients[number].state = State::Syncing;
    }

    fn heartbeat<I: Io>(&mut self, number: usize, node: &mut Node<I>, now: Now) {
        let client = &self.clients[number];
        let groups = &mut node.machines.groups;
        let heard = groups.heartbeat(CREW, &client.who(), client.generation, now);
        self.done.given_up += u64::from(heard == Err(GroupError::UnknownMember));
        self.clients[number].heard(heard);
    }

    fn commit<I: Io>(
        &mut self,
        number: usize,
        node: &mut Node<I>,
        model: &mut Model,
        now: Now,
    ) -> Result<(), String> {
        let client = &self.clients[number];
        let mut commit = Commit::of(CREW.into());
        for partition in &client.part {
            self.next_offset += 1;
            let offset = CommittedOffset {
                offset: self.next_offset,
                leader_epoch: -1,
                committed_ms: now.wall_ms,
                expires_ms: -1,
                metadata: "".into(),
            };
            let at = PartitionId::new(TopicNumber(u32::MAX - 1), (*partition).into());
            commit.add(at, offset);
        }
        let commit = commit.finish();
        if commit.records().is_empty() {
            return Ok(());
        }
        let groups = |groups: &mut Groups| {
            groups.prepare_commit(&commit, &client.who(), client.generation, now)
        };
        match node.commit(&commit, model, groups)? {
            Err(error) => self.clients[number].heard(Err(error)),
            Ok(_) if client.generation < self.newest => {
                return Err(format!(
                    "client {number} of generation {} may commit, though a part of {} was told",
                    client.generation, self.newest
                ));
            }
            Ok(is_logged) => self.done.commits += u64::from(is_logged),
        }
        Ok(())
    }

    /// Hands answers on.
    pub fn hear<I: Io>(&mut self, node: &mut Node<I>, model: &Model) -> Result<(), String> {
        if node.log.failure().is_some() {
            node.machines.groups.log_closed();
        }
        // And the block of which some is applied already.
        let durable = node.log.durable().0 + u64::from(node.log.is_applying());
        for (ticket, answer) in node.machines.groups.take_answers() {
            // Of a process that is gone nobody hears.
            let Some(number) = self.waiting.remove(&ticket) else {
                continue;
            };
            match answer {
                GroupAnswer::Joined(answer) => self.joined(number, answer)?,
                GroupAnswer::Synced(Ok(part)) => self.synced(number, &part, model, durable)?,
                GroupAnswer::Synced(Err(error)) => self.clients[number].heard(Err(error)),
            }
        }
        Ok(())
    }

    fn joined(&mut self, number: usize, answer: Result<Joined, JoinRefused>) -> Result<(), String> {
        let client = &mut self.clients[number];
        let joined = match answer {
            Ok(joined) => joined,
            Err(JoinRefused { error, member_id }) => {
                client.heard(Err(error));
                if error == GroupError::MemberIdRequired {
                    client.id = member_id;
                }
                return Ok(());
            }
        };
        if joined.generation < self.newest {
            return Err(format!(
                "client {number} is told generation {}, and a part of {} was told before",
                joined.generation, self.newest
            ));
        }
        let is_same = joined.generation == client.generation && joined.generation > 0;
        self.done.replaced += u64::from(is_same && client.id != joined.member_id);
        client.id = joined.member_id;
        client.generation = joined.generation;
        let members = joined.members.into_iter().map(|member| member.id);
        let assigns = joined.leader == client.id && !joined.skip_assignment;
        client.state = State::Joined(if assigns {
            members.collect()
        } else {
            Vec::new()
        });
        Ok(())
    }

    fn synced(
        &mut self,
        number: usize,
        part: &Synced,
        model: &Model,
        durable: u64,
    ) -> Result<(), String> {
        let client = &mut self.clients[number];
        let generation = client.generation;
        if !model.assigned(CREW, (generation, &client.id), &part.assignment, durable) {
            return Err(format!(
                "client {number} is told its part of generation {generation} before that is durable"
            ));
        }
        if generation < self.newest {
            return Err(format!(
                "client {number} is told its part of generation {generation} after one of {}",
                self.newest
            ));
        }
        self.done.parts += 1;
        self.done.generations += u64::from(generation > self.newest);
        self.newest = generation;
        client.part = part.assignment.to_vec();
        client.state = State::In;
        for partition in client.part.clone() {
            let owner = self.owners.entry((generation, partition)).or_insert(number);
            if *owner != number {
                return Err(format!(
                    "partition {partition} belongs to clients {owner} and {number} in generation \
                     {generation}"
                ));
            }
        }
        Ok(())
    }
}

impl Client {
    fn who(&self) -> Identity<'_> {
        Identity {
            member_id: &self.id,
            instance_id: self.instance.as_deref(),
        }
    }

    /// Its next process knows nothing but its instance.
    fn vanish(&mut self) {
        self.id = Arc::default();
        self.state = State::Away;
    }

    /// What it does when it is refused something.
    fn heard(&mut self, result: Result<(), GroupError>) {
        match result {
            Ok(()) => {}
            Err(
                GroupError::UnknownMember
                | GroupError::FencedInstance
                | GroupError::IllegalGeneration,
            ) => self.vanish(),
            Err(_) => self.state = State::Away,
        }
    }
}
