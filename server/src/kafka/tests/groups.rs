//! Consumer groups over the wire: found, joined, assigned, committed; and all of it after a
//! restart.

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ApiKey, DeleteTopicsRequest, DeleteTopicsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse, ListGroupsRequest,
    ListGroupsResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, topic_name, with_node, with_node_in};
use super::member::code::*;
use super::member::{AT_ONCE, Member, find, group_id, text};

#[test]
fn every_version_joins_syncs_beats_and_leaves() {
    with_node(AT_ONCE, |cores| {
        for version in 0..=9 {
            let mut member = Member::of(cores, &format!("group-{version}"));
            let joined = member.join(version);
            assert_eq!((joined.error_code, joined.generation_id), (0, 1));
            assert_eq!(joined.leader, joined.member_id);
            assert_eq!(joined.members.len(), 1);
            assert_eq!(joined.members[0].metadata, member.subscription);
            assert!(member.id.starts_with("test-"), "{}", member.id);
            let id = member.id.clone();
            let synced = member.sync(version.min(5), &[(&id, "part")]);
            assert_eq!((synced.error_code, &*synced.assignment), (0, &b"part"[..]));
            assert_eq!(member.heartbeat(version.min(4)), 0);
            assert_eq!(member.leave(version.min(5)), 0);
            assert_eq!(member.heartbeat(version.min(4)), UNKNOWN_MEMBER_ID);
        }
    });
}

#[test]
fn two_members_rebalance_when_the_second_comes_and_when_it_goes() {
    with_node(AT_ONCE, |cores| {
        let mut first = Member::of(cores, "g");
        let mut second = Member::of(cores, "g");
        first.join(9);
        let id = first.id.clone();
        first.sync(5, &[(&id, "all")]);
        second.ask_to_join(9);
        assert_eq!(second.joined(9).error_code, MEMBER_ID_REQUIRED);
        second.ask_to_join(9);
        while first.heartbeat(4) != REBALANCE_IN_PROGRESS {}
        let joined = first.join(9);
        assert_eq!((joined.error_code, joined.generation_id), (0, 2));
        assert_eq!(joined.members.len(), 2);
        let other = second.joined(9);
        assert_eq!((other.error_code, other.generation_id), (0, 2));
        assert!(other.members.is_empty() && other.leader == first.id);
        let (one, two) = (first.id.clone(), second.id.clone());
        let synced = first.sync(5, &[(&one, "one"), (&two, "two")]);
        assert_eq!(&*synced.assignment, b"one");
        assert_eq!(&*second.sync(5, &[]).assignment, b"two");
        assert_eq!(first.state(6), (0, "Stable".to_owned(), 2));
        assert_eq!(second.leave(5), 0);
        assert_eq!(first.heartbeat(4), REBALANCE_IN_PROGRESS);
        assert_eq!(first.state(5), (0, "PreparingRebalance".to_owned(), 1));
        assert_eq!(first.join(9).generation_id, 3);
    });
}

#[test]
fn offsets_are_committed_in_every_version_and_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let id = std::sync::Mutex::new(StrBytes::default());
    with_node_in(dir.path(), AT_ONCE, |cores| {
        Client::connect(cores[0]).create("t", &[]);
        let mut member = Member::of(cores, "g");
        for version in [8, 9] {
            assert_eq!(member.committed(version, "t"), (-1, String::new()));
        }
        // Of a group that is not there nobody is a member.
        for (version, code) in [(8, ILLEGAL_GENERATION), (9, GROUP_ID_NOT_FOUND)] {
            member.generation = 3;
            assert_eq!(member.commit(version, "t", 1, ""), code);
            member.generation = -1;
        }
        for (version, offset) in (2..=9).zip(10..) {
            // Without a member: the group is empty.
            assert_eq!(member.commit(version, "t", offset, "note"), 0);
            assert_eq!(
                member.committed(version.max(1), "t"),
                (offset, "note".to_owned())
            );
        }
        assert_eq!(member.committed(1, "t").0, 17);
        assert_eq!(member.commit(8, "none", 1, ""), UNKNOWN_TOPIC_OR_PARTITION);
        let long = "x".repeat(4097);
        assert_eq!(member.commit(8, "t", 1, &long), OFFSET_METADATA_TOO_LARGE);
        member.join(9);
        assert_eq!(member.commit(9, "t", 17, ""), REBALANCE_IN_PROGRESS);
        let own = member.id.clone();
        member.sync(5, &[(&own, "all")]);
        assert_eq!(member.commit(9, "t", 18, ""), 0);
        *id.lock().unwrap() = member.id.clone();
    });
    let generation = 1;
    with_node_in(dir.path(), AT_ONCE, |cores| {
        let mut member = Member::of(cores, "g");
        assert_eq!(member.committed(8, "t").0, 18);
        // The member goes on where it was, and strangers are refused.
        assert_eq!(member.commit(8, "t", 19, ""), UNKNOWN_MEMBER_ID);
        member.id = id.lock().unwrap().clone();
        member.generation = generation;
        assert_eq!(member.heartbeat(4), 0);
        assert_eq!(member.commit(9, "t", 20, ""), 0);
        // An older epoch of a member too: it is a generation, and not stale but illegal.
        for generation in [generation - 1, generation + 1] {
            member.generation = generation;
            assert_eq!(member.commit(9, "t", 21, ""), ILLEGAL_GENERATION);
        }
        member.generation = generation;
        assert_eq!(&*member.sync(5, &[]).assignment, b"all");
        assert_eq!(member.committed(8, "t").0, 20);
    });
}

#[test]
fn a_static_member_keeps_its_place_and_fences_who_had_it() {
    with_node(AT_ONCE, |cores| {
        let mut first = Member::of(cores, "g");
        first.instance = Some(text("host"));
        assert_eq!(first.join(9).error_code, 0);
        let id = first.id.clone();
        first.sync(5, &[(&id, "all")]);
        let mut second = Member::of(cores, "g");
        second.instance = Some(text("host"));
        let joined = second.join(9);
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert!(joined.skip_assignment);
        assert_eq!(first.heartbeat(4), FENCED_INSTANCE_ID);
        assert_eq!(second.heartbeat(4), 0);
        assert_eq!(&*second.sync(5, &[]).assignment, b"all");
    });
}

#[test]
fn what_is_asked_wrongly_is_refused_as_kafka_does() {
    with_node(AT_ONCE, |cores| {
        let mut member = Member::of(cores, "g");
        let mut ask = |change: &dyn Fn(JoinGroupRequest) -> JoinGroupRequest| {
            let request = change(member.request());
            let response: JoinGroupResponse = member.client.call(ApiKey::JoinGroup, 3, &request);
            response.error_code
        };
        let timeout = ask(&|request| request.with_session_timeout_ms(5));
        assert_eq!(timeout, INVALID_SESSION_TIMEOUT);
        let none = ask(&|request| request.with_protocols(Vec::new()));
        assert_eq!(none, INCONSISTENT_GROUP_PROTOCOL);
        let stranger = ask(&|request| request.with_member_id(text("stranger")));
        assert_eq!(stranger, UNKNOWN_MEMBER_ID);
        // A member that does not say which protocol it knows, and of a group that is not there.
        for (version, code) in [(4, UNKNOWN_MEMBER_ID), (5, INCONSISTENT_GROUP_PROTOCOL)] {
            let request = SyncGroupRequest::default().with_group_id(group_id("g"));
            let response: SyncGroupResponse =
                member.client.call(ApiKey::SyncGroup, version, &request);
            assert_eq!(response.error_code, code);
        }
        // Of an id that no client should have, on the core it belongs to.
        let mut nameless = Member::of(cores, "");
        assert_eq!(nameless.join(9).error_code, INVALID_GROUP_ID);
        // Another core.
        let other = 1 - find(cores, "g");
        let mut lost = Member::of(cores, "g");
        lost.client = Client::connect(cores[other]);
        assert_eq!(lost.join(9).error_code, NOT_COORDINATOR);
        assert_eq!(lost.heartbeat(4), NOT_COORDINATOR);
        assert_eq!(lost.commit(8, "t", 1, ""), NOT_COORDINATOR);
        assert_eq!(lost.delete_group(), NOT_COORDINATOR);
        assert_eq!(lost.state(6).0, NOT_COORDINATOR);
        // Keys of what is not here.
        for (version, key_type) in [(0, 0), (3, 0), (6, 1)] {
            let request = FindCoordinatorRequest::default();
            let request = match version {
                0..=3 => request.with_key(text("g")),
                _ => request
                    .with_key_type(key_type)
                    .with_coordinator_keys(vec![text("g")]),
            };
            let response: FindCoordinatorResponse =
                lost.client.call(ApiKey::FindCoordinator, version, &request);
            let code = match version {
                0..=3 => response.error_code,
                _ => response.coordinators[0].error_code,
            };
            let expected = if key_type == 0 { 0 } else { INVALID_REQUEST };
            assert_eq!(code, expected, "version {version}");
        }
    });
}

#[test]
fn a_join_that_waits_is_answered_when_the_node_stops() {
    let waiting = std::sync::Mutex::new(None);
    with_node(&["--group-initial-rebalance-delay-ms", "60000"], |cores| {
        let mut member = Member::of(cores, "g");
        member.ask_to_join(3);
        // Read by the node before it stops.
        let mut other = Member::of(cores, "g");
        while other.state(5).1 != "PreparingRebalance" {}
        *waiting.lock().unwrap() = Some(std::thread::spawn(move || member.joined(3)));
    });
    let waiting = waiting.into_inner().unwrap().unwrap();
    assert_eq!(
        waiting.join().unwrap().error_code,
        COORDINATOR_NOT_AVAILABLE
    );
}

#[test]
fn offsets_of_a_deleted_topic_are_not_those_of_the_next_of_its_name() {
    let sweeping = ["--offsets-retention-check-ms", "20"];
    with_node(&[AT_ONCE, &sweeping[..]].concat(), |cores| {
        let mut any = Client::connect(cores[0]);
        any.create("t", &[]);
        let mut member = Member::of(cores, "g");
        assert_eq!(member.commit(8, "t", 5, ""), 0);
        // Looked at and kept: another group of the same core is gone with the topic of its offset.
        any.create("u", &[]);
        let here = find(cores, "g");
        let mut others = (0..).map(|number| format!("other-{number}"));
        let other = others.find(|other| find(cores, other) == here);
        let mut other = Member::of(cores, &other.unwrap());
        assert_eq!(other.commit(8, "u", 5, ""), 0);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("u")]);
        let response: DeleteTopicsResponse = any.call(ApiKey::DeleteTopics, 5, &request);
        assert_eq!(response.responses[0].error_code, 0);
        while other.state(5).1 != "Dead" {}
        assert_eq!(member.committed(8, "t").0, 5);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
        let response: DeleteTopicsResponse = any.call(ApiKey::DeleteTopics, 5, &request);
        assert_eq!(response.responses[0].error_code, 0);
        any.create("t", &[]);
        assert_eq!(member.committed(8, "t").0, -1);
        // Nothing of the group is left when its offsets are forgotten.
        while member.state(5).1 != "Dead" {}
    });
}

#[test]
fn operators_list_delete_and_forget() {
    with_node(AT_ONCE, |cores| {
        let mut any = Client::connect(cores[0]);
        any.create("t", &[]);
        any.create("u", &[]);
        let mut member = Member::of(cores, "g");
        assert_eq!(member.delete_group(), GROUP_ID_NOT_FOUND);
        assert_eq!(member.state(5), (0, "Dead".to_owned(), 0));
        assert_eq!(member.state(6).0, GROUP_ID_NOT_FOUND);
        member.join(9);
        let id = member.id.clone();
        member.sync(5, &[(&id, "all")]);
        assert_eq!(member.commit(8, "t", 1, ""), 0);
        assert_eq!(member.commit(8, "u", 2, ""), 0);
        for (version, states, count) in
            [(0, None, 1), (4, Some("stable"), 1), (5, Some("Empty"), 0)]
        {
            let mut found = 0;
            for core in cores {
                let request = ListGroupsRequest::default()
                    .with_states_filter(states.map(text).into_iter().collect());
                let mut client = Client::connect(*core);
                let response: ListGroupsResponse =
                    client.call(ApiKey::ListGroups, version, &request);
                found += response.groups.len();
            }
            assert_eq!(found, count, "version {version}");
        }
        assert_eq!(member.delete_group(), NON_EMPTY_GROUP);
        let codes = ["t", "u"].map(|name| member.forget(name));
        assert_eq!(codes, [GROUP_SUBSCRIBED_TO_TOPIC, 0]);
        assert_eq!(member.committed(8, "t").0, 1);
        // Of "u" nothing is left.
        assert_eq!(member.committed(7, "u").0, -1);
        assert_eq!(member.leave(5), 0);
        assert_eq!(member.delete_group(), 0);
        assert_eq!(member.committed(8, "t").0, -1);
    });
}

#[test]
fn a_commit_of_thousands_of_partitions_is_whole_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = 3_000;
    let all = |cores: &[std::net::SocketAddr]| {
        let mut member = Member::of(cores, "g");
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(group_id("g"))
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let response: OffsetFetchResponse = member.client.call(ApiKey::OffsetFetch, 8, &request);
        let found = response.groups[0]
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions);
        let mut found: Vec<(i32, i64)> = found
            .map(|partition| (partition.partition_index, partition.committed_offset))
            .collect();
        found.sort_unstable();
        found
    };
    let wanted: Vec<(i32, i64)> = (0..partitions).map(|at| (at, i64::from(at) + 1)).collect();
    with_node_in(dir.path(), AT_ONCE, |cores| {
        Client::connect(cores[0]).create_wide("wide", partitions, &[]);
        let codes = Member::of(cores, "g").commit_all(9, "wide", 0..partitions, "");
        assert!(codes.iter().all(|code| *code == 0));
        assert_eq!(all(cores), wanted);
    });
    with_node_in(dir.path(), AT_ONCE, |cores| assert_eq!(all(cores), wanted));
}
