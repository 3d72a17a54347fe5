//! Offsets: committed, forgotten, moved.

use std::sync::Arc;

use super::rig::{Rig, SETTINGS, partition, who};
use crate::groups::{
    Commit, CommittedOffset, GroupError, GroupRecord, GroupSettings, Groups, Sweep, coordinator,
};
use crate::limits::{BYTES_PER_COMMIT, BYTES_PER_OFFSETS_RECORD, OFFSETS_PER_RECORD};

const RETENTION_MS: u32 = 7 * 24 * 3600 * 1000;

fn offset(groups: &Groups) -> Option<i64> {
    groups.offset("g", partition(0)).map(|found| found.offset)
}

/// Logs what a whole sweep decides.
fn sweep(rig: &mut Rig, exists: bool) {
    let mut sweep = Sweep::default();
    while !sweep.is_at_end() {
        let (now, keep) = (rig.now.wall_ms, i64::from(RETENTION_MS));
        let records = rig
            .groups
            .sweep(&mut sweep, now, keep, |_| exists.then_some("t"));
        rig.pending.extend(records.iter().map(GroupRecord::encode));
    }
    rig.flush();
}

#[test]
fn an_offset_is_there_when_it_is_durable_and_after_every_restart() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit("", -1, 5), Ok(()));
    assert_eq!(offset(&rig.groups), None);
    rig.flush();
    assert_eq!(offset(&rig.groups), Some(5));
    rig.commit("", -1, 6).unwrap();
    rig.restart();
    assert_eq!(offset(&rig.groups), Some(5));
    // There is such a group, and it has no members.
    let told = rig.commit("a", 1, 7);
    assert_eq!(told, Err(GroupError::UnknownMember));
    let told = Rig::new().commit("a", 1, 7);
    assert_eq!(told, Err(GroupError::NotFound));
}

#[test]
fn a_large_commit_is_cut_into_small_records_and_one_that_is_too_large_is_refused() {
    let settings = GroupSettings {
        max_offsets: 100_000,
        ..SETTINGS
    };
    let mut rig = Rig::with(settings);
    let offset = |rig: &Rig, bytes: usize| CommittedOffset {
        metadata: "x".repeat(bytes).into(),
        ..rig.committed(7)
    };
    for (count, bytes) in [(3 * OFFSETS_PER_RECORD as u32 + 1, 0), (40, 4_096)] {
        let mut rig = Rig::with(settings);
        let offsets: Vec<_> = (0..count)
            .map(|at| (partition(at), offset(&rig, bytes)))
            .collect();
        rig.commit_all("", -1, offsets.iter().cloned()).unwrap();
        assert!(rig.pending.len() > 3);
        for record in &rig.pending {
            assert!(record.len() < BYTES_PER_OFFSETS_RECORD + 4_096 + 100);
        }
        rig.flush();
        let found = rig
            .groups
            .offsets("g", None)
            .map(|(at, found)| (at, found.clone()));
        assert_eq!(found.collect::<Vec<_>>(), offsets);
    }
    // A partition that is named twice has the later offset.
    let twice = [
        (partition(1), rig.committed(1)),
        (partition(1), rig.committed(2)),
    ];
    rig.commit_all("", -1, twice).unwrap();
    rig.flush();
    let found = rig.groups.offset("g", partition(1));
    assert_eq!(found.map(|found| found.offset), Some(2));
    let many = BYTES_PER_COMMIT as u32 / 4_096 + 1;
    let large: Vec<_> = (0..many)
        .map(|at| (partition(at), offset(&rig, 4_096)))
        .collect();
    assert_eq!(
        rig.commit_all("", -1, large),
        Err(GroupError::CommitTooLarge)
    );
    assert!(rig.pending.is_empty());
}

#[test]
fn offsets_and_groups_beyond_the_limits_are_refused_and_those_that_are_there_go_on() {
    let mut rig = Rig::with(GroupSettings {
        max_groups: 2,
        max_offsets: 3,
        ..SETTINGS
    });
    let mut commit = |group: &str, partitions: std::ops::Range<u32>, at: i64| {
        let mut commit = Commit::of(group.into());
        for partition in partitions.map(partition) {
            commit.add(partition, rig.committed(at));
            if rig.groups.offset(group, partition).is_some() {
                commit.replaces();
            }
        }
        let commit = commit.finish();
        rig.groups.prepare_commit(&commit, &who(""), -1, rig.now)?;
        for record in commit.records() {
            rig.groups.apply(record).unwrap();
        }
        let found = rig.groups.offset(group, partition(0));
        Ok(found.map(|found| found.offset))
    };
    assert_eq!(commit("a", 0..2, 1), Ok(Some(1)));
    assert_eq!(
        commit("b", 0..2, 1),
        Err(GroupError::TooManyOffsets),
        "four offsets"
    );
    assert_eq!(commit("b", 0..1, 2), Ok(Some(2)));
    assert_eq!(
        commit("c", 0..1, 3),
        Err(GroupError::TooManyOffsets),
        "a third group"
    );
    assert_eq!(commit("a", 0..2, 4), Ok(Some(4)), "what it has already");
    assert_eq!(
        commit("a", 0..3, 5),
        Err(GroupError::TooManyOffsets),
        "and one more"
    );
    let new = rig.join("");
    assert_eq!(
        rig.refusal(new),
        GroupError::MaxSizeReached,
        "a member of a third group"
    );
}

#[test]
fn offsets_of_an_empty_group_expire_and_then_the_group_goes() {
    let mut rig = Rig::new();
    let (first, second, generation) = rig.two();
    rig.commit(&first, generation, 5).unwrap();
    rig.flush();
    for _ in 0..3 {
        // Sessions last while their members are heard.
        rig.restart();
        rig.now.wall_ms += i64::from(RETENTION_MS);
        sweep(&mut rig, true);
        assert_eq!(offset(&rig.groups), Some(5));
    }
    rig.leave(&first).unwrap();
    rig.leave(&second).unwrap();
    rig.flush();
    rig.now.wall_ms += i64::from(RETENTION_MS) - 1;
    sweep(&mut rig, true);
    assert_eq!(offset(&rig.groups), Some(5));
    rig.now.wall_ms += 1;
    sweep(&mut rig, true);
    sweep(&mut rig, true);
    assert_eq!(offset(&rig.groups), None);
    assert!(!rig.groups.exists("g"));
}

#[test]
fn offsets_of_deleted_topics_are_forgotten() {
    let mut rig = Rig::new();
    rig.commit("", -1, 5).unwrap();
    rig.flush();
    sweep(&mut rig, false);
    assert_eq!(offset(&rig.groups), None);
}

#[test]
fn a_commit_that_is_on_its_way_is_not_lost_by_what_was_decided_without_it() {
    let mut rig = Rig::new();
    rig.commit("", -1, 5).unwrap();
    rig.flush();
    rig.now.wall_ms += i64::from(RETENTION_MS);
    rig.commit("", -1, 6).unwrap();
    sweep(&mut rig, true);
    assert_eq!(offset(&rig.groups), Some(6));
    let all: Vec<_> = rig.groups.offsets("g", None).collect();
    assert_eq!((all.len(), all[0].0), (1, partition(0)));
    assert_eq!(rig.groups.offsets("g", Some(partition(0))).count(), 0);
    assert_eq!(rig.groups.offsets("h", None).count(), 0);
}

#[test]
fn a_group_that_was_unused_stays_when_a_commit_came_first() {
    let mut rig = Rig::new();
    rig.commit("", -1, 5).unwrap();
    rig.flush();
    sweep_offsets_only(&mut rig);
    assert!(rig.groups.exists("g"));
    rig.commit("", -1, 6).unwrap();
    // Decides without it that the group has nothing.
    sweep(&mut rig, true);
    assert_eq!(offset(&rig.groups), Some(6));
    sweep_offsets_only(&mut rig);
    sweep(&mut rig, true);
    assert!(!rig.groups.exists("g"));
}

/// Forgets all offsets, and not yet the group.
fn sweep_offsets_only(rig: &mut Rig) {
    let mut sweep = Sweep::default();
    let records = rig.groups.sweep(&mut sweep, rig.now.wall_ms, 0, |_| None);
    assert_eq!(records.len(), 1);
    rig.pending.extend(records.iter().map(GroupRecord::encode));
    rig.flush();
}

#[test]
fn a_group_is_removed_when_it_is_empty_only() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.groups.prepare_remove("g").unwrap_err(),
        GroupError::NotFound
    );
    let (first, second, generation) = rig.two();
    rig.commit(&first, generation, 5).unwrap();
    rig.flush();
    assert_eq!(
        rig.groups.prepare_remove("g").unwrap_err(),
        GroupError::NotEmpty
    );
    rig.leave(&first).unwrap();
    rig.leave(&second).unwrap();
    let record = rig.groups.prepare_remove("g").unwrap();
    rig.take();
    rig.pending.push(record.encode());
    rig.flush();
    assert!(!rig.groups.exists("g"));
    assert_eq!(offset(&rig.groups), None);
    rig.restart();
}

#[test]
fn offsets_of_topics_that_members_read_cannot_be_forgotten() {
    let mut rig = Rig::new();
    let mut join = rig.request("");
    let subscription = [&[0, 1, 0, 0, 0, 1, 0, 4][..], b"read"].concat();
    join.protocols[0].metadata = subscription.into();
    rig.join_as(join);
    let asked = [(partition(0), "read"), (partition(1), "other")];
    let (record, outcomes) = rig.groups.prepare_forget("g", &asked).unwrap();
    assert_eq!(outcomes, [Err(GroupError::Subscribed), Ok(())]);
    let expected = GroupRecord::OffsetsForgotten {
        group: "g".into(),
        offsets: vec![(partition(1), i64::MAX)],
    };
    assert_eq!(record, expected);
    let missing = rig.groups.prepare_forget("none", &asked);
    assert_eq!(missing.unwrap_err(), GroupError::NotFound);
}

#[test]
fn groups_move_to_the_log_at_their_place_with_all_they_have() {
    let mut old = Vec::new();
    let names: Vec<Arc<str>> = (0..40).map(|n| format!("group-{n}").into()).collect();
    for log in 0..3 {
        let mut rig = Rig::new();
        for name in names.iter().filter(|name| coordinator(name, 3) == log) {
            let mut join = rig.request("");
            join.group = Arc::clone(name);
            rig.join_as(join);
            let mut commit = Commit::of(Arc::clone(name));
            commit.add(partition(1), rig.committed(9));
            let commit = commit.finish();
            let told = rig.groups.prepare_commit(&commit, &who(""), -1, rig.now);
            // Members assigned by the group may not commit without their id.
            assert_eq!(told, Err(GroupError::UnknownMember));
            let record = GroupRecord::Offsets {
                group: Arc::clone(name),
                offsets: vec![(partition(1), rig.committed(9))],
            };
            rig.pending.push(record.encode());
        }
        rig.flush();
        old.push(rig.groups);
    }
    let split = Groups::split(&old, 2);
    for name in &names {
        for (place, groups) in split.iter().enumerate() {
            let found = groups.offset(name, partition(1)).is_some();
            assert_eq!(found, coordinator(name, 2) == place);
        }
    }
    for groups in &split {
        let mut again = Groups::new(SETTINGS);
        again.restore(&groups.checkpoint()).unwrap();
        assert_eq!(again.checkpoint(), groups.checkpoint());
    }
}
