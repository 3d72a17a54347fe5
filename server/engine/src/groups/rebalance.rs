//! From one generation of a group to the next: joins, assignments, departures, timers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Identity, Join, Joined, JoinedMember, Sync, Ticket};
use super::error::GroupError;
use super::group::{Grace, Group, Phase, Turn, synced};
use super::member::{Member, bytes_of};
use crate::limits::BYTES_PER_GROUP;

impl Group {
    /// A member wants to be in the next generation. Answered through `turn`, at once or later.
    pub fn join(&mut self, join: &Join, ticket: Ticket, turn: &mut Turn<'_>) {
        let result = if join.member_id.is_empty() {
            self.join_first(join, ticket, turn)
        } else {
            self.join_again(join, ticket, turn)
        };
        if let Err(error) = result {
            let id = match error {
                GroupError::MemberIdRequired => &join.fresh_id,
                _ => &join.member_id,
            };
            turn.out.join_refused(ticket, error, id);
        }
    }

    /// A member without an id.
    fn join_first(
        &mut self,
        join: &Join,
        ticket: Ticket,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let instance = join.instance_id.as_ref();
        let known = instance.and_then(|instance| self.statics.get(instance).cloned());
        self.check_room(join, known.as_deref(), turn)?;
        self.check_protocols(join)?;
        match known {
            Some(old) => self.replace(&old, join, ticket, turn),
            None if instance.is_none() && join.must_know_its_id => {
                let until_ms = turn.now.steady_ms + u64::from(join.session_timeout_ms);
                self.promised.insert(Arc::clone(&join.fresh_id), until_ms);
                return Err(GroupError::MemberIdRequired);
            }
            None => self.admit(&join.fresh_id, join, ticket, turn),
        }
        Ok(())
    }

    /// A member with an id that it was given.
    fn join_again(
        &mut self,
        join: &Join,
        ticket: Ticket,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        self.check_room(join, Some(&join.member_id), turn)?;
        let is_promised = self.promised.contains_key(&join.member_id);
        if is_promised && join.instance_id.is_none() {
            self.check_protocols(join)?;
            self.admit(&join.member_id, join, ticket, turn);
            return Ok(());
        }
        self.check(&Identity {
            member_id: &join.member_id,
            instance_id: join.instance_id.as_deref(),
        })?;
        self.check_protocols(join)?;
        let is_leader = self.leader.as_ref() == Some(&join.member_id);
        let member = &self.members[&join.member_id];
        let is_same = member.protocols == join.protocols;
        match self.phase {
            // Its answer was lost, or it asks for what it has.
            Phase::Completing { .. } if is_same => self.tell_again(join, ticket, turn),
            Phase::Stable if is_same && !is_leader => self.tell_again(join, ticket, turn),
            _ => {
                self.bytes -= member.bytes();
                let member = self.members.get_mut(&join.member_id);
                let member = member.expect("it was found above");
                member.update(join);
                self.bytes += member.bytes();
                if let Some(before) = member.joining.replace(ticket) {
                    let error = GroupError::RebalanceInProgress;
                    turn.out.join_refused(before, error, &join.member_id);
                }
                self.rebalance(turn);
            }
        }
        Ok(())
    }

    fn check_room(
        &self,
        join: &Join,
        known: Option<&str>,
        turn: &Turn<'_>,
    ) -> Result<(), GroupError> {
        let member = known.and_then(|id| self.members.get(id));
        let bytes = self.bytes - member.map_or(0, Member::bytes) + bytes_of(&join.protocols);
        let is_full = member.is_none() && self.members.len() >= turn.settings.max_members;
        let promised = member.is_none() && self.promised.len() >= turn.settings.max_members;
        let is_awaited = known.is_some_and(|id| self.promised.contains_key(id));
        if is_full || bytes > BYTES_PER_GROUP || (promised && !is_awaited) {
            return Err(GroupError::MaxSizeReached);
        }
        Ok(())
    }

    fn check_protocols(&self, join: &Join) -> Result<(), GroupError> {
        let by_all = |name: &str| self.members.values().all(|member| member.speaks(name));
        let fits = !join.protocol_type.is_empty()
            && !join.protocols.is_empty()
            && (self.members.is_empty()
                || (self.protocol_type == join.protocol_type
                    && join.protocols.iter().any(|known| by_all(&known.name))));
        if fits {
            Ok(())
        } else {
            Err(GroupError::InconsistentProtocol)
        }
    }

    fn admit(&mut self, id: &Arc<str>, join: &Join, ticket: Ticket, turn: &mut Turn<'_>) {
        self.promised.remove(id);
        if self.members.is_empty() {
            self.protocol_type = Arc::clone(&join.protocol_type);
        }
        let mut member = Member::of(join, turn.now.steady_ms);
        member.joining = Some(ticket);
        self.bytes += member.bytes();
        if let Some(instance) = &member.instance_id {
            self.statics.insert(Arc::clone(instance), Arc::clone(id));
        }
        self.members.insert(Arc::clone(id), member);
        self.leader.get_or_insert_with(|| Arc::clone(id));
        if let Phase::Preparing {
            grace: Some(grace), ..
        } = &mut self.phase
        {
            grace.somebody_came = true;
        }
        self.rebalance(turn);
    }

    /// Another process of a static member: it takes the place over, under a new id (KIP-345).
    fn replace(&mut self, old: &Arc<str>, join: &Join, ticket: Ticket, turn: &mut Turn<'_>) {
        let id = &join.fresh_id;
        let mut member = self
            .members
            .remove(old)
            .expect("static members are members");
        self.bytes -= member.bytes();
        if let Some(before) = member.joining.take() {
            turn.out
                .join_refused(before, GroupError::FencedInstance, old);
        }
        if let Some(before) = member.syncing.take() {
            turn.out.synced(before, Err(GroupError::FencedInstance));
        }
        member.update(join);
        member.heard(turn.now.steady_ms);
        self.bytes += member.bytes();
        if let Some(instance) = &member.instance_id {
            self.statics.insert(Arc::clone(instance), Arc::clone(id));
        }
        self.members.insert(Arc::clone(id), member);
        let leader_before = self.leader.clone().unwrap_or_default();
        let is_leader = leader_before == *old;
        if is_leader {
            self.leader = Some(Arc::clone(id));
        }
        if self.phase == Phase::Stable && self.choose_protocol() == self.protocol {
            // The group goes on as it is. A leader whose client cannot skip the assignment is told
            // the old leader's id, or it would make an assignment that nobody hears of.
            let leads = is_leader && join.can_skip_assignment;
            let joined = Joined {
                leader: if leads { Arc::clone(id) } else { leader_before },
                members: if leads { self.described() } else { Vec::new() },
                skip_assignment: leads,
                ..self.joined(id)
            };
            let number = self.log(turn);
            self.replaced.push((number, ticket, joined));
            return;
        }
        if let Some(member) = self.members.get_mut(id) {
            member.joining = Some(ticket);
        }
        self.rebalance(turn);
    }

    /// The generation that is, for a member of it.
    fn tell_again(&mut self, join: &Join, ticket: Ticket, turn: &mut Turn<'_>) {
        let id = &join.member_id;
        let mut joined = self.joined(id);
        if self.leader.as_ref() == Some(id) {
            joined.members = self.described();
        }
        if let Some(member) = self.members.get_mut(id) {
            member.heard(turn.now.steady_ms);
        }
        turn.out.joined(ticket, joined);
    }

    fn joined(&self, id: &Arc<str>) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: Arc::clone(&self.protocol_type),
            protocol: Arc::clone(&self.protocol),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: Arc::clone(id),
            members: Vec::new(),
            skip_assignment: false,
        }
    }

    fn described(&self) -> Vec<JoinedMember> {
        let members = self.members.iter();
        members
            .map(|(id, member)| member.described(id, &self.protocol))
            .collect()
    }

    /// Has all members join again, unless they are asked to already.
    fn rebalance(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.steady_ms;
        let delay_ms = u64::from(turn.settings.initial_delay_ms);
        match self.phase {
            Phase::Preparing { .. } => {}
            Phase::Empty if delay_ms > 0 => {
                let left_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
                let somebody_came = false;
                self.phase = Phase::Preparing {
                    until_ms: now_ms + delay_ms,
                    grace: Some(Grace {
                        left_ms,
                        somebody_came,
                    }),
                };
            }
            Phase::Empty | Phase::Completing { .. } | Phase::Stable => {
                if matches!(self.phase, Phase::Completing { .. }) {
                    self.drop_assignment(GroupError::RebalanceInProgress, turn);
                }
                self.phase = Phase::Preparing {
                    until_ms: now_ms + self.rebalance_timeout_ms(),
                    grace: None,
                };
            }
        }
        self.sync_until_ms = None;
        self.complete_if_all_joined(turn);
    }

    /// The assignment that is on its way is for nobody any more.
    fn drop_assignment(&mut self, error: GroupError, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            self.bytes -= member.assignment.len();
            member.assignment = Arc::default();
            if let Some(ticket) = member.syncing.take() {
                turn.out.synced(ticket, Err(error));
            }
        }
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let timeouts = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).into()
    }

    fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let is_waiting = matches!(self.phase, Phase::Preparing { grace: None, .. });
        let have_joined = self.members.values().all(|member| member.joining.is_some());
        if is_waiting && have_joined && self.promised.is_empty() {
            self.complete_join(turn);
        }
    }

    /// The members that have joined are the next generation. Static members that have not are in
    /// it too, until their session ends.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.steady_ms;
        let left_behind = self.members.iter();
        let left_behind = left_behind
            .filter(|(_, member)| member.joining.is_none() && member.instance_id.is_none());
        let left_behind: Vec<Arc<str>> = left_behind.map(|(id, _)| Arc::clone(id)).collect();
        for id in left_behind {
            self.take_out(&id, turn);
        }
        self.sync_until_ms = None;
        if self.members.is_empty() {
            self.generation = self.generation.wrapping_add(1).max(1);
            self.phase = Phase::Empty;
            self.protocol = Arc::default();
            self.leader = None;
            self.log(turn);
            return;
        }
        let has_joined = |id: &Arc<str>| {
            let member = self.members.get(id);
            member.is_some_and(|member| member.joining.is_some())
        };
        if !self.leader.as_ref().is_some_and(has_joined) {
            let Some(leader) = self.members.keys().find(|id| has_joined(id)) else {
                // Static members alone, none of which is there: their sessions end or they come.
                self.phase = Phase::Preparing {
                    until_ms: now_ms + self.rebalance_timeout_ms().max(1),
                    grace: None,
                };
                return;
            };
            self.leader = Some(Arc::clone(leader));
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        self.protocol = self.choose_protocol();
        self.phase = Phase::Completing { logged: None };
        self.sync_until_ms = Some(now_ms + self.rebalance_timeout_ms());
        let described = self.described();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let mut joined = self.joined(&id);
            if self.leader.as_ref() == Some(&id) {
                joined.members.clone_from(&described);
            }
            let member = self.members.get_mut(&id).expect("its id is among the keys");
            member.is_new = false;
            member.asked = false;
            if let Some(ticket) = member.joining.take() {
                member.heard(now_ms);
                turn.out.joined(ticket, joined);
            }
        }
    }

    /// Of the protocols that all speak, the one that most like best; of several the first by name.
    fn choose_protocol(&self) -> Arc<str> {
        let by_all = |name: &str| self.members.values().all(|member| member.speaks(name));
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        let Some(any) = self.members.values().next() else {
            return Arc::default();
        };
        let candidates: Vec<&str> = any
            .protocols
            .iter()
            .map(|known| &*known.name)
            .filter(|name| by_all(name))
            .collect();
        for member in self.members.values() {
            let mut known = member.protocols.iter();
            if let Some(best) = known.find(|known| candidates.contains(&&*known.name)) {
                *votes.entry(&best.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied();
        let chosen = votes.iter().find(|(_, count)| Some(**count) == most);
        chosen.map_or_else(Arc::default, |(name, _)| Arc::clone(name))
    }

    /// A member asks for its part; the leader's brings all of them. Answered through `turn`, when
    /// the assignment is durable.
    pub fn sync(&mut self, sync: &Sync, ticket: Ticket, turn: &mut Turn<'_>) {
        if let Err(error) = self.take_sync(sync, ticket, turn) {
            turn.out.synced(ticket, Err(error));
        }
    }

    fn take_sync(
        &mut self,
        sync: &Sync,
        ticket: Ticket,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let who = Identity {
            member_id: &sync.member_id,
            instance_id: sync.instance_id.as_deref(),
        };
        self.check_generation(&who, sync.generation)?;
        let other = |said: &Option<Arc<str>>, own| said.as_ref().is_some_and(|said| said != own);
        if other(&sync.protocol_type, &self.protocol_type) || other(&sync.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let member = self.members.get_mut(&sync.member_id);
        let member = member.ok_or(GroupError::UnknownMember)?;
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Stable => {
                member.heard(turn.now.steady_ms);
                member.asked = true;
                let part = Arc::clone(&member.assignment);
                let part = synced(&self.protocol_type, &self.protocol, part);
                turn.out.synced(ticket, Ok(part));
                Ok(())
            }
            Phase::Completing { logged } => {
                member.heard(turn.now.steady_ms);
                member.asked = true;
                if let Some(before) = member.syncing.replace(ticket) {
                    turn.out
                        .synced(before, Err(GroupError::RebalanceInProgress));
                }
                if logged.is_none() && self.leader.as_ref() == Some(&sync.member_id) {
                    self.assign(sync, turn);
                }
                Ok(())
            }
        }
    }

    fn assign(&mut self, sync: &Sync, turn: &mut Turn<'_>) {
        let bytes: usize = sync.assignments.iter().map(|(_, part)| part.len()).sum();
        if bytes > BYTES_PER_GROUP {
            self.drop_assignment(GroupError::AssignmentTooLarge, turn);
            self.rebalance(turn);
            return;
        }
        for member in self.members.values_mut() {
            self.bytes -= member.assignment.len();
            member.assignment = Arc::default();
        }
        for (id, part) in &sync.assignments {
            if let Some(member) = self.members.get_mut(id) {
                self.bytes = self.bytes - member.assignment.len() + part.len();
                member.assignment = Arc::clone(part);
            }
        }
        let logged = Some(self.log(turn));
        self.phase = Phase::Completing { logged };
    }

    /// A member goes, by its own word or that of an operator.
    pub fn leave(&mut self, who: &Identity<'_>, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        if who.member_id.is_empty()
            && let Some(instance) = who.instance_id
        {
            let id = self.statics.get(instance).cloned();
            let id = id.ok_or(GroupError::UnknownMember)?;
            self.remove(&id, turn);
            return Ok(());
        }
        if who.instance_id.is_none() && self.promised.remove(who.member_id).is_some() {
            self.complete_if_all_joined(turn);
            return Ok(());
        }
        self.check(who)?;
        self.remove(who.member_id, turn);
        Ok(())
    }

    fn remove(&mut self, id: &str, turn: &mut Turn<'_>) {
        self.take_out(id, turn);
        match self.phase {
            Phase::Completing { .. } | Phase::Stable => self.rebalance(turn),
            Phase::Preparing { .. } => self.complete_if_all_joined(turn),
            Phase::Empty => {}
        }
    }

    fn take_out(&mut self, id: &str, turn: &mut Turn<'_>) {
        let Some((id, member)) = self.members.remove_entry(id) else {
            return;
        };
        self.bytes -= member.bytes();
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        if let Some(ticket) = member.joining {
            turn.out
                .join_refused(ticket, GroupError::UnknownMember, &id);
        }
        if let Some(ticket) = member.syncing {
            turn.out.synced(ticket, Err(GroupError::UnknownMember));
        }
        if self.leader.as_ref() == Some(&id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Does what is due.
    pub fn expire(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.steady_ms;
        let before = self.promised.len();
        self.promised.retain(|_, until_ms| *until_ms > now_ms);
        if self.promised.len() < before {
            self.complete_if_all_joined(turn);
        }
        let is_due =
            |member: &Member| member.deadline_ms <= now_ms && (member.is_new || !member.waits());
        self.remove_where(is_due, turn);
        if self
            .sync_until_ms
            .is_some_and(|until_ms| until_ms <= now_ms)
        {
            self.sync_until_ms = None;
            self.remove_where(|member| !member.asked, turn);
        }
        if let Phase::Preparing { until_ms, grace } = self.phase
            && until_ms <= now_ms
        {
            match grace {
                Some(Grace {
                    left_ms,
                    somebody_came: true,
                }) if left_ms > 0 => {
                    let delay_ms = left_ms.min(turn.settings.initial_delay_ms.into());
                    let left_ms = left_ms - delay_ms;
                    let somebody_came = false;
                    self.phase = Phase::Preparing {
                        until_ms: now_ms + delay_ms,
                        grace: Some(Grace {
                            left_ms,
                            somebody_came,
                        }),
                    };
                }
                _ => self.complete_join(turn),
            }
        }
    }

    fn remove_where(&mut self, gone: impl Fn(&Member) -> bool, turn: &mut Turn<'_>) {
        let ids = self.members.iter().filter(|(_, member)| gone(member));
        let ids: Vec<Arc<str>> = ids.map(|(id, _)| Arc::clone(id)).collect();
        for id in ids {
            // Of the first, a rebalance comes to be that has others join anew.
            self.remove(&id, turn);
        }
    }
}
