//! Whatever members, the log and time do: every question is answered once, generations rise, a
//! generation has one leader, and what is committed is what the log says.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use ringlog_types::snapshot::Pieces;

use super::rig::{REBALANCE_MS, Rig, SESSION_MS, SETTINGS, protocol};
use crate::groups::{GroupAnswer, GroupState, Groups};

#[derive(Clone, Debug)]
enum Step {
    /// A newcomer: static or not, with its protocols.
    Come(Option<u8>, u8, bool),
    /// One of the ids ever given joins (again).
    Join(prop::sample::Index),
    Sync(prop::sample::Index),
    Heartbeat(prop::sample::Index),
    Leave(prop::sample::Index),
    Commit(prop::sample::Index, i64),
    Later(u32),
    Flush,
    Restart,
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => (proptest::option::of(0u8..2), 0u8..3, any::<bool>())
            .prop_map(|(instance, protocols, must)| Step::Come(instance, protocols, must)),
        4 => index().prop_map(Step::Join),
        5 => index().prop_map(Step::Sync),
        2 => index().prop_map(Step::Heartbeat),
        1 => index().prop_map(Step::Leave),
        2 => (index(), 0i64..100).prop_map(|(who, offset)| Step::Commit(who, offset)),
        3 => (0u32..REBALANCE_MS).prop_map(Step::Later),
        3 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Checkpoint),
    ]
}

fn protocols(kind: u8) -> Vec<crate::groups::Protocol> {
    let names: &[&str] = match kind {
        0 => &["range"],
        1 => &["range", "sticky"],
        _ => &["sticky", "range"],
    };
    names.iter().map(|name| protocol(name, b"topics")).collect()
}

#[derive(Default)]
struct Seen {
    /// Ids ever told, with their protocols and instance.
    ids: Vec<(Arc<str>, u8, Option<u8>)>,
    generations: BTreeMap<Arc<str>, i32>,
    leaders: BTreeMap<i32, Arc<str>>,
    newest: i32,
    looked: usize,
}

impl Seen {
    /// What the answers of this life say fits together.
    fn look(&mut self, rig: &Rig) {
        for answer in rig.answers.values() {
            let GroupAnswer::Joined(Ok(joined)) = answer else {
                continue;
            };
            self.generations
                .entry(Arc::clone(&joined.member_id))
                .and_modify(|known| *known = (*known).max(joined.generation))
                .or_insert(joined.generation);
            self.newest = self.newest.max(joined.generation);
            let leads = joined.leader == joined.member_id && !joined.skip_assignment;
            if leads && !joined.members.is_empty() {
                let leader = self
                    .leaders
                    .entry(joined.generation)
                    .or_insert_with(|| Arc::clone(&joined.leader));
                assert_eq!(*leader, joined.leader, "generation {}", joined.generation);
            }
        }
        self.looked += 1;
    }
}

fn generation(rig: &Rig) -> Option<i32> {
    rig.groups.table.stored("g").map(|stored| stored.generation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn members_are_answered_once_and_generations_have_one_leader(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut rig = Rig::new();
        let mut seen = Seen::default();
        let mut tickets = Vec::new();
        let mut committed = None;
        let mut pending_commit = None;
        for step in steps {
            let before = generation(&rig);
            let one = |at: &prop::sample::Index| {
                (!seen.ids.is_empty()).then(|| seen.ids[at.index(seen.ids.len())].clone())
            };
            match step {
                Step::Come(instance, kind, must_know) => {
                    let mut join = rig.request("");
                    join.instance_id = instance.map(|n| format!("host-{n}").into());
                    join.protocols = protocols(kind);
                    join.must_know_its_id = must_know;
                    seen.ids.push((Arc::clone(&join.fresh_id), kind, instance));
                    tickets.push(rig.join_as(join));
                }
                Step::Join(at) => if let Some((id, kind, instance)) = one(&at) {
                    let mut join = rig.request(&id);
                    join.instance_id = instance.map(|n| format!("host-{n}").into());
                    join.protocols = protocols(kind);
                    tickets.push(rig.join_as(join));
                },
                Step::Sync(at) => if let Some((id, ..)) = one(&at) {
                    let generation = seen.generations.get(&id).copied().unwrap_or(0);
                    tickets.push(rig.sync(&id, generation, &[(&id, "mine")]));
                },
                Step::Heartbeat(at) => if let Some((id, ..)) = one(&at) {
                    let generation = seen.generations.get(&id).copied().unwrap_or(0);
                    let _ = rig.heartbeat(&id, generation);
                },
                Step::Leave(at) => if let Some((id, ..)) = one(&at) {
                    let _ = rig.leave(&id);
                },
                Step::Commit(at, offset) => if let Some((id, ..)) = one(&at) {
                    let generation = seen.generations.get(&id).copied().unwrap_or(0);
                    if rig.commit(&id, generation, offset).is_ok() {
                        pending_commit = Some(offset);
                    }
                },
                Step::Later(ms) => rig.later(ms),
                Step::Flush => {
                    rig.flush();
                    committed = pending_commit.take().or(committed);
                }
                Step::Restart => {
                    rig.restart();
                    tickets.clear();
                    pending_commit = None;
                    // Generations that were not durable are given again.
                    seen.leaders.clear();
                }
                Step::Checkpoint => {
                    let wanted = rig.groups.checkpoint();
                    let mut out = Pieces::default();
                    rig.groups.begin_checkpoint();
                    rig.groups.checkpoint_step(1, &mut out);
                    rig.flush();
                    committed = pending_commit.take().or(committed);
                    while rig.groups.checkpoint_step(1, &mut out) {}
                    let taken = out.into_pieces().concat();
                    prop_assert_eq!(&taken, &wanted);
                    let mut restored = Groups::new(SETTINGS);
                    restored.restore(&taken).unwrap();
                    prop_assert_eq!(restored.checkpoint(), wanted);
                }
            }
            rig.take();
            seen.look(&rig);
            prop_assert!(generation(&rig) >= before, "the generation fell");
            let offset = rig.groups.offset("g", super::rig::partition(0));
            prop_assert_eq!(offset.map(|found| found.offset), committed);
        }
        // Nobody says anything more: every timer ends, the group is empty, and all are answered.
        for _ in 0..20 {
            rig.flush();
            rig.later(SESSION_MS.max(REBALANCE_MS));
        }
        rig.later(10 * 60 * 1000);
        rig.flush();
        for ticket in tickets {
            prop_assert!(!rig.is_open(ticket), "{ticket:?} is not answered");
        }
        let left = rig.groups.describe("g");
        prop_assert!(left.is_none_or(|group| group.state == GroupState::Empty));
        let counts = rig.groups.counts();
        prop_assert_eq!((counts.live, counts.bytes), (0, 0));
        prop_assert_eq!(rig.groups.next_deadline_ms(), None);
    }
}
