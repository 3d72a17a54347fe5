//! Offsets expire as Kafka has it (KIP-211), whatever a group is doing: against a model that looks
//! at one offset at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use ringlog_types::{PartitionId, TopicNumber};

use super::rig::{Rig, protocol};
use crate::groups::{CommittedOffset, GroupRecord, GroupState, Sweep};
use crate::limits::ROWS_PER_SWEEP_STEP;

const RETENTION_MS: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody was ever a member.
    Simple,
    Stable,
    /// Stable, and then started again.
    Resumed,
    Preparing,
    Completing,
    /// All have left; the entry that says so is durable.
    Empty,
    /// It is not.
    Leaving,
}

#[derive(Clone, Debug)]
struct Member {
    topics: BTreeSet<u32>,
    /// Topics that nobody committed an offset for, so that a step does not get to the end of them.
    more: usize,
    is_readable: bool,
}

#[derive(Clone, Debug)]
struct Case {
    phase: Phase,
    is_consumer: bool,
    members: Vec<Member>,
    /// Topic, how long ago it was committed, when it expires by itself (counted from now).
    offsets: Vec<(u32, i64, Option<i64>)>,
    /// How long the group is as it is.
    since_ms: i64,
}

fn case() -> impl Strategy<Value = Case> {
    let phase = prop_oneof![
        1 => Just(Phase::Simple),
        3 => Just(Phase::Stable),
        2 => Just(Phase::Resumed),
        1 => Just(Phase::Preparing),
        1 => Just(Phase::Completing),
        2 => Just(Phase::Empty),
        1 => Just(Phase::Leaving),
    ];
    let more = prop_oneof![4 => 0usize..3, 1 => 0..2 * ROWS_PER_SWEEP_STEP];
    let member = (
        proptest::collection::btree_set(0u32..4, 0..3),
        more,
        proptest::bool::weighted(0.9),
    );
    let member = member.prop_map(|(topics, more, is_readable)| Member {
        topics,
        more,
        is_readable,
    });
    let around = || 0..2 * RETENTION_MS;
    let own = proptest::option::weighted(0.2, -RETENTION_MS..RETENTION_MS);
    let offset = (0u32..4, around(), own);
    (
        phase,
        proptest::bool::weighted(0.8),
        proptest::collection::vec(member, 1..4),
        proptest::collection::vec(offset, 0..8),
        around(),
    )
        .prop_map(|(phase, is_consumer, members, offsets, since_ms)| Case {
            phase,
            is_consumer,
            members,
            offsets,
            since_ms,
        })
}

fn subscription(member: &Member) -> Arc<[u8]> {
    let named = member.topics.iter().map(|topic| format!("topic-{topic}"));
    let more = (0..member.more).map(|number| format!("more-{number}"));
    let topics: Vec<String> = more.chain(named).collect();
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in &topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    if !member.is_readable {
        bytes.truncate(5);
    }
    bytes.into()
}

/// A group in its phase, of members who came when the rig began.
fn group(case: &Case) -> Rig {
    let mut rig = Rig::new();
    if case.phase == Phase::Simple {
        return rig;
    }
    let kind = if case.is_consumer {
        "consumer"
    } else {
        "connect"
    };
    let join = |rig: &mut Rig, id: &str, metadata: &Arc<[u8]>| {
        let mut join = rig.request(id);
        join.protocol_type = kind.into();
        join.protocols = vec![protocol("range", metadata)];
        join.session_timeout_ms = 60_000;
        join.rebalance_timeout_ms = 60_000;
        rig.join_as(join)
    };
    let metadata: Vec<Arc<[u8]>> = case.members.iter().map(subscription).collect();
    let first = join(&mut rig, "", &metadata[0]);
    let first = rig.joined(first).unwrap();
    let others: Vec<_> = metadata[1..]
        .iter()
        .map(|metadata| join(&mut rig, "", metadata))
        .collect();
    let mut generation = first.generation;
    if !others.is_empty() {
        let again = join(&mut rig, &first.member_id, &metadata[0]);
        generation = rig.joined(again).unwrap().generation;
    }
    let ids = others
        .iter()
        .map(|ticket| rig.joined(*ticket).unwrap().member_id);
    let ids: Vec<Arc<str>> = [Arc::clone(&first.member_id)]
        .into_iter()
        .chain(ids)
        .collect();
    if case.phase == Phase::Completing {
        return rig;
    }
    rig.sync(&first.member_id, generation, &[]);
    rig.flush();
    match case.phase {
        Phase::Resumed => rig.restart(),
        Phase::Preparing => {
            join(&mut rig, "", &metadata[0]);
        }
        Phase::Empty | Phase::Leaving => {
            for id in &ids {
                rig.leave(id).unwrap();
            }
            if case.phase == Phase::Empty {
                rig.flush();
            }
        }
        _ => {}
    }
    rig
}

/// What Kafka says, of one offset.
fn expires(case: &Case, (topic, age_ms, own_ms): (u32, i64, Option<i64>)) -> bool {
    let has_members = !matches!(case.phase, Phase::Simple | Phase::Empty);
    let since_ms = if case.phase == Phase::Empty {
        case.since_ms
    } else {
        i64::MAX
    };
    let age_ms = if has_members {
        age_ms
    } else {
        age_ms.min(since_ms)
    };
    let is_due = own_ms.map_or(age_ms >= RETENTION_MS, |own_ms| own_ms <= 0);
    let is_read = case
        .members
        .iter()
        .any(|member| member.topics.contains(&topic));
    let are_readable = case.members.iter().all(|member| member.is_readable);
    let is_stable = matches!(case.phase, Phase::Stable | Phase::Resumed);
    is_due && (!has_members || (is_stable && case.is_consumer && are_readable && !is_read))
}

proptest! {
    #[test]
    fn offsets_that_no_member_reads_expire_and_no_others(case in case()) {
        let mut rig = group(&case);
        rig.now.wall_ms += case.since_ms;
        let now_ms = rig.now.wall_ms;
        let waiting = rig.pending.len();
        for (index, (topic, age_ms, own_ms)) in case.offsets.iter().enumerate() {
            let offset = CommittedOffset {
                committed_ms: now_ms - age_ms,
                expires_ms: own_ms.map_or(-1, |own_ms| now_ms + own_ms),
                ..rig.committed(1)
            };
            let at = PartitionId::new(TopicNumber(*topic), index as u32);
            let offsets = vec![(at, offset)];
            let record = GroupRecord::Offsets { group: "g".into(), offsets };
            rig.groups.apply(&record.encode()).unwrap();
        }
        let names: Vec<String> = (0..4).map(|topic| format!("topic-{topic}")).collect();
        let topic = |at: PartitionId| names.get(at.topic().0 as usize).map(String::as_str);
        let (mut sweep, mut steps, mut gone) = (Sweep::default(), 0, Vec::new());
        while !sweep.is_at_end() {
            steps += 1;
            prop_assert!(steps < 20, "it does not come to its end");
            for record in rig.groups.sweep(&mut sweep, now_ms, RETENTION_MS, topic) {
                match record {
                    GroupRecord::OffsetsForgotten { offsets, .. } => gone.extend(offsets),
                    GroupRecord::Removed { if_unused, .. } => prop_assert!(if_unused),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        let gone: BTreeSet<u32> = gone.iter().map(|(at, _)| at.index()).collect();
        let wanted = case.offsets.iter().enumerate();
        let wanted = wanted.filter(|(_, offset)| expires(&case, **offset));
        let wanted: BTreeSet<u32> = wanted.map(|(index, _)| index as u32).collect();
        prop_assert_eq!(gone, wanted);
        prop_assert_eq!(waiting > 0, case.phase == Phase::Leaving);
    }
}

/// A member that comes between two steps of a sweep may read what the others did not.
#[test]
fn what_a_sweep_knows_of_a_group_is_not_believed_when_the_group_has_changed() {
    let many = Member {
        topics: BTreeSet::new(),
        more: 2 * ROWS_PER_SWEEP_STEP,
        is_readable: true,
    };
    let case = Case {
        phase: Phase::Stable,
        is_consumer: true,
        members: vec![many],
        offsets: Vec::new(),
        since_ms: 0,
    };
    for changes in [false, true] {
        let mut rig = group(&case);
        let old = rig.committed(1);
        rig.now.wall_ms += RETENTION_MS;
        let record = GroupRecord::Offsets {
            group: "g".into(),
            offsets: vec![(PartitionId::new(TopicNumber(0), 0), old)],
        };
        rig.groups.apply(&record.encode()).unwrap();
        let mut sweep = Sweep::default();
        let now_ms = rig.now.wall_ms;
        let first = rig
            .groups
            .sweep(&mut sweep, now_ms, RETENTION_MS, |_| Some("topic-0"));
        assert!(first.is_empty() && !sweep.is_at_end());
        if changes {
            let reader = Member {
                topics: [0].into(),
                more: 0,
                is_readable: true,
            };
            let described = rig.groups.describe("g").unwrap();
            let (known, metadata) = (&described.members[0].id, &described.members[0].metadata);
            let mut join = rig.request("");
            join.protocols = vec![protocol("range", &subscription(&reader))];
            rig.join_as(join);
            let mut again = rig.request(known);
            again.protocols = vec![protocol("range", metadata)];
            let again = rig.join_as(again);
            let generation = rig.joined(again).unwrap().generation;
            rig.sync(known, generation, &[]);
            rig.flush();
            let described = rig.groups.describe("g").unwrap();
            assert_eq!(described.state, GroupState::Stable);
        }
        let mut forgotten = 0;
        while !sweep.is_at_end() {
            let step = rig
                .groups
                .sweep(&mut sweep, now_ms, RETENTION_MS, |_| Some("topic-0"));
            forgotten += step.len();
        }
        assert_eq!(forgotten, usize::from(!changes));
    }
}
