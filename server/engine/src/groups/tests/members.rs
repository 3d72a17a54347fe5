//! One promise to members at a time.

use super::rig::{REBALANCE_MS, Rig, SESSION_MS, SETTINGS, protocol, who};
use crate::groups::{GroupError, GroupSettings, GroupState, Identity};
use crate::limits::BYTES_PER_GROUP;

#[test]
fn a_group_of_two_comes_to_a_generation_and_is_told_its_parts_when_they_are_durable() {
    let mut rig = Rig::new();
    let (first, second, generation) = rig.two();
    assert_eq!(generation, 2);
    assert_eq!(rig.heartbeat(&first, generation), Ok(()));
    assert_eq!(rig.heartbeat(&second, generation), Ok(()));
    let described = rig.groups.describe("g").unwrap();
    assert_eq!(described.state, GroupState::Stable);
    assert_eq!(described.members.len(), 2);
    let listed = rig.groups.list(None, 10);
    assert_eq!((listed.len(), &*listed[0].id), (1, "g"));
    assert!(rig.groups.list(Some("g"), 10).is_empty());
    assert_eq!(&*described.members[1].assignment, b"two");
}

#[test]
fn a_restart_goes_on_with_the_members_it_finds_and_their_sessions_begin_anew() {
    let mut rig = Rig::new();
    let (first, second, generation) = rig.two();
    rig.later(SESSION_MS - 1);
    rig.restart();
    rig.later(SESSION_MS - 1);
    assert_eq!(rig.heartbeat(&first, generation), Ok(()));
    assert_eq!(rig.commit(&first, generation, 7), Ok(()));
    let again = rig.sync(&first, generation, &[]);
    assert_eq!(&*rig.synced(again).unwrap().assignment, b"one");
    // The other is silent.
    rig.later(1);
    assert_eq!(
        rig.heartbeat(&second, generation),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        rig.heartbeat(&first, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let alone = rig.join(&first);
    let alone = rig.joined(alone).unwrap();
    assert_eq!((alone.generation, alone.members.len()), (generation + 1, 1));
}

#[test]
fn an_assignment_that_was_not_durable_is_told_to_nobody_and_its_members_join_again() {
    let mut rig = Rig::new();
    let (first, second, generation) = rig.two();
    let third = rig.join("");
    rig.join(&first);
    rig.join(&second);
    let third = rig.joined(third).unwrap();
    assert_eq!(third.generation, generation + 1);
    let leader = rig.sync(&first, generation + 1, &[(&first, "x")]);
    assert!(rig.is_open(leader));
    rig.restart();
    assert_eq!(rig.heartbeat(&second, generation), Ok(()));
    let newer = rig.heartbeat(&second, generation + 1);
    assert_eq!(newer, Err(GroupError::IllegalGeneration));
    let lost = rig.heartbeat(&third.member_id, generation + 1);
    assert_eq!(lost, Err(GroupError::UnknownMember));
}

#[test]
fn a_rebalance_ends_when_its_time_is_up_without_those_who_did_not_come() {
    let mut rig = Rig::new();
    let (first, second, generation) = rig.two();
    let third = rig.join("");
    rig.join(&first);
    assert!(rig.is_open(third));
    for _ in 0..4 {
        rig.later(REBALANCE_MS / 4 - 1);
        let told = rig.heartbeat(&second, generation);
        assert_eq!(told, Err(GroupError::RebalanceInProgress));
    }
    rig.later(4);
    let third = rig.joined(third).unwrap();
    assert_eq!(third.generation, generation + 1);
    assert_eq!(third.leader, first);
    assert_eq!(
        rig.heartbeat(&second, generation),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn who_does_not_ask_for_its_part_is_given_up() {
    let mut rig = Rig::new();
    let first = rig.join("");
    let first = rig.joined(first).unwrap();
    for _ in 0..4 {
        assert_eq!(rig.heartbeat(&first.member_id, first.generation), Ok(()));
        rig.later(REBALANCE_MS / 4);
    }
    let told = rig.heartbeat(&first.member_id, first.generation);
    assert_eq!(told, Err(GroupError::UnknownMember));
    rig.flush();
    assert_eq!(rig.groups.describe("g").unwrap().state, GroupState::Empty);
}

#[test]
fn a_new_member_is_told_its_id_first_where_its_client_can_do_that() {
    let mut rig = Rig::new();
    let mut join = rig.request("");
    join.must_know_its_id = true;
    let told = rig.join_as(join.clone());
    let told = rig.joined(told).unwrap_err();
    assert_eq!(told.error, GroupError::MemberIdRequired);
    assert_eq!(told.member_id, join.fresh_id);
    join.member_id = told.member_id;
    let joined = rig.join_as(join.clone());
    assert_eq!(rig.joined(joined).unwrap().member_id, join.member_id);
    // An id that was never given is nobody's, and one that was not used expires.
    let unknown = rig.join("somebody");
    assert_eq!(rig.refusal(unknown), GroupError::UnknownMember);
    let mut late = rig.request("");
    late.must_know_its_id = true;
    rig.join_as(late.clone());
    rig.later(SESSION_MS);
    late.member_id = late.fresh_id.clone();
    let late = rig.join_as(late);
    assert_eq!(rig.refusal(late), GroupError::UnknownMember);
}

#[test]
fn protocols_must_fit_and_the_one_most_like_best_is_chosen() {
    let mut rig = Rig::new();
    let with = |rig: &mut Rig, id: &str, names: &[&str]| {
        let mut join = rig.request(id);
        join.protocols = names.iter().map(|name| protocol(name, b"")).collect();
        rig.join_as(join)
    };
    let none = with(&mut rig, "", &[]);
    assert_eq!(rig.refusal(none), GroupError::InconsistentProtocol);
    let first = with(&mut rig, "", &["range", "sticky", "robin"]);
    let first = rig.joined(first).unwrap().member_id;
    let other = with(&mut rig, "", &["other"]);
    assert_eq!(rig.refusal(other), GroupError::InconsistentProtocol);
    let mut connect = rig.request("");
    connect.protocol_type = "connect".into();
    let connect = rig.join_as(connect);
    assert_eq!(rig.refusal(connect), GroupError::InconsistentProtocol);
    let second = with(&mut rig, "", &["sticky", "robin"]);
    let third = with(&mut rig, "", &["robin", "sticky"]);
    assert!(rig.is_open(second) && rig.is_open(third));
    with(&mut rig, &first, &["range", "sticky", "robin"]);
    // "range" is not spoken by all: two like "sticky" best of the others.
    assert_eq!(&*rig.joined(second).unwrap().protocol, "sticky");
    assert_eq!(&*rig.joined(third).unwrap().protocol, "sticky");
}

#[test]
fn a_static_member_comes_back_under_a_new_id_without_a_rebalance_and_fences_the_old_one() {
    let mut rig = Rig::new();
    let mut join = rig.request("");
    join.instance_id = Some("host-1".into());
    let first = rig.join_as(join);
    let first = rig.joined(first).unwrap();
    rig.sync(
        &first.member_id,
        first.generation,
        &[(&first.member_id, "all")],
    );
    rig.flush();
    let mut again = rig.request("");
    again.instance_id = Some("host-1".into());
    let again = rig.join_as(again);
    assert!(rig.is_open(again), "the new id is not durable");
    rig.flush();
    let again = rig.joined(again).unwrap();
    assert_eq!(again.generation, first.generation);
    assert!(again.skip_assignment && again.leader == again.member_id);
    assert_ne!(again.member_id, first.member_id);
    rig.restart();
    let part = rig.sync(&again.member_id, again.generation, &[]);
    assert_eq!(&*rig.synced(part).unwrap().assignment, b"all");
    let speaks = |rig: &mut Rig, member_id: &str, instance_id| {
        let who = Identity {
            member_id,
            instance_id,
        };
        rig.groups.heartbeat("g", &who, first.generation, rig.now)
    };
    assert_eq!(
        speaks(&mut rig, &first.member_id, Some("host-1")),
        Err(GroupError::FencedInstance)
    );
    assert_eq!(
        speaks(&mut rig, &first.member_id, Some("host-2")),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(speaks(&mut rig, &again.member_id, Some("host-1")), Ok(()));
    // An operator sends it away by its instance.
    let who = Identity {
        member_id: "",
        instance_id: Some("host-1"),
    };
    assert_eq!(rig.groups.leave("g", &who, rig.now), Ok(()));
    rig.flush();
    assert_eq!(rig.groups.describe("g").unwrap().state, GroupState::Empty);
}

#[test]
fn a_leader_that_does_not_come_back_is_replaced_by_one_that_does() {
    let mut rig = Rig::new();
    let mut join = rig.request("");
    join.instance_id = Some("host".into());
    let leader = rig.join_as(join);
    let leader = rig.joined(leader).unwrap();
    assert_eq!(leader.leader, leader.member_id);
    let second = rig.join("");
    // Its session lasts, and the rebalance does not wait for it any longer.
    for _ in 0..2 {
        let who = Identity {
            member_id: &leader.member_id,
            instance_id: Some("host"),
        };
        let told = rig.groups.heartbeat("g", &who, leader.generation, rig.now);
        assert_eq!(told, Err(GroupError::RebalanceInProgress));
        rig.later(SESSION_MS - 1);
    }
    let who = Identity {
        member_id: &leader.member_id,
        instance_id: Some("host"),
    };
    let told = rig.groups.heartbeat("g", &who, leader.generation, rig.now);
    assert_eq!(told, Err(GroupError::RebalanceInProgress));
    rig.later(2);
    let second = rig.joined(second).unwrap();
    assert_eq!(second.leader, second.member_id);
    // The static member keeps its place.
    assert_eq!(second.members.len(), 2);
}

#[test]
fn each_waits_for_its_own_entry_and_not_for_the_one_before() {
    let mut rig = Rig::new();
    let come = |rig: &mut Rig, id: &str, host: &str| {
        let mut join = rig.request(id);
        join.instance_id = Some(host.into());
        rig.join_as(join)
    };
    let first = come(&mut rig, "", "a");
    let first = rig.joined(first).unwrap().member_id;
    let second = come(&mut rig, "", "b");
    come(&mut rig, &first, "a");
    let second = rig.joined(second).unwrap();
    rig.sync(&first, second.generation, &[]);
    rig.flush();
    // Both come back under new ids: an entry for each.
    let first = come(&mut rig, "", "a");
    let again = come(&mut rig, "", "b");
    rig.flush_one();
    assert!(!rig.is_open(first) && rig.is_open(again));
    // And an assignment behind that of the second.
    let first = rig.joined(first).unwrap();
    let third = rig.join("");
    let rejoined = come(&mut rig, &first.member_id, "a");
    let newest = come(&mut rig, "", "b");
    let rejoined = rig.joined(rejoined).unwrap();
    assert_eq!(rig.joined(newest).unwrap().generation, rejoined.generation);
    assert!(!rig.is_open(third));
    let leader = rejoined.leader;
    let waiting = rig.sync(&leader, rejoined.generation, &[(&leader, "x")]);
    rig.flush_one();
    assert!(!rig.is_open(again) && rig.is_open(waiting));
    rig.flush_one();
    assert_eq!(&*rig.synced(waiting).unwrap().assignment, b"x");
}

#[test]
fn members_of_another_generation_and_strangers_are_told_so() {
    let mut rig = Rig::new();
    let (first, _, generation) = rig.two();
    for wrong in [generation - 1, generation + 1, -1] {
        let told = rig.heartbeat(&first, wrong);
        assert_eq!(told, Err(GroupError::IllegalGeneration));
        let told = rig.commit(&first, wrong, 1);
        assert_eq!(told, Err(GroupError::IllegalGeneration));
        let told = rig.sync(&first, wrong, &[]);
        assert_eq!(rig.synced(told), Err(GroupError::IllegalGeneration));
    }
    for stranger in ["", "stranger"] {
        let told = rig.commit(stranger, -1, 1);
        assert_eq!(told, Err(GroupError::UnknownMember), "{stranger:?}");
    }
    assert_eq!(rig.leave("stranger"), Err(GroupError::UnknownMember));
    let told = rig.groups.heartbeat("", &who("a"), 1, rig.now);
    assert_eq!(told, Err(GroupError::InvalidGroupId));
    let mut join = rig.request("");
    join.session_timeout_ms = 5_999;
    let told = rig.join_as(join);
    assert_eq!(rig.refusal(told), GroupError::InvalidSessionTimeout);
}

#[test]
fn a_commit_while_an_assignment_is_awaited_waits_for_the_rebalance() {
    let mut rig = Rig::new();
    let first = rig.join("");
    let first = rig.joined(first).unwrap();
    let told = rig.commit(&first.member_id, first.generation, 1);
    assert_eq!(told, Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_full_group_takes_no_more_and_lets_its_members_go_on() {
    let mut rig = Rig::new();
    let tickets: Vec<_> = (0..6).map(|_| rig.join("")).collect();
    let first = rig.joined(tickets[0]).unwrap().member_id;
    assert_eq!(rig.refusal(tickets[5]), GroupError::MaxSizeReached);
    rig.join(&first);
    assert_eq!(rig.joined(tickets[4]).unwrap().generation, 2);
}

#[test]
fn a_group_has_no_more_bytes_than_go_into_one_entry_of_the_log() {
    let mut rig = Rig::new();
    let mut large = rig.request("");
    large.protocols = vec![protocol("range", &vec![0; BYTES_PER_GROUP + 1])];
    let large = rig.join_as(large);
    assert_eq!(rig.refusal(large), GroupError::MaxSizeReached);
    let first = rig.join("");
    let first = rig.joined(first).unwrap();
    let part = "x".repeat(BYTES_PER_GROUP + 1);
    let parts = [(&*first.member_id, &*part)];
    let synced = rig.sync(&first.member_id, first.generation, &parts);
    assert_eq!(rig.synced(synced), Err(GroupError::AssignmentTooLarge));
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let delay = 3_000;
    let mut rig = Rig::with(GroupSettings {
        initial_delay_ms: delay,
        ..SETTINGS
    });
    let first = rig.join("");
    rig.later(delay - 1);
    let second = rig.join("");
    rig.later(1);
    // Somebody came: once more.
    assert!(rig.is_open(first) && rig.is_open(second));
    rig.later(delay);
    assert_eq!(rig.joined(first).unwrap().generation, 1);
    assert_eq!(rig.joined(second).unwrap().generation, 1);
}

#[test]
fn a_log_that_closes_answers_those_who_wait_for_it() {
    let mut rig = Rig::new();
    let first = rig.join("");
    let first = rig.joined(first).unwrap();
    let waiting = rig.sync(&first.member_id, first.generation, &[]);
    assert!(rig.is_open(waiting));
    rig.groups.log_closed();
    rig.take();
    assert_eq!(rig.synced(waiting), Err(GroupError::Unavailable));
}
