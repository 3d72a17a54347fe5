//! Each error of consumer groups with the code that Kafka gives it, for each request that meets it.
//!
//! | what | code | asked by |
//! |---|---|---|
//! | the group's id is empty | INVALID_GROUP_ID | JoinGroup, SyncGroup, Heartbeat, LeaveGroup |
//! | nobody of this id is a member | UNKNOWN_MEMBER_ID | the same, OffsetCommit |
//! | another generation | ILLEGAL_GENERATION | SyncGroup, Heartbeat, OffsetCommit |
//! | another process has the instance id | FENCED_INSTANCE_ID | SyncGroup, Heartbeat, LeaveGroup, OffsetCommit |
//! | no protocol that all speak | INCONSISTENT_GROUP_PROTOCOL | JoinGroup, SyncGroup |
//! | members are to join again | REBALANCE_IN_PROGRESS | SyncGroup, Heartbeat, OffsetCommit |
//! | a timeout out of bounds | INVALID_SESSION_TIMEOUT | JoinGroup |
//! | the id is told first | MEMBER_ID_REQUIRED | JoinGroup |
//! | too many members | GROUP_MAX_SIZE_REACHED | JoinGroup |
//! | too much metadata with an offset | OFFSET_METADATA_TOO_LARGE | OffsetCommit |
//! | a commit that the log does not take at once | INVALID_COMMIT_OFFSET_SIZE | OffsetCommit |
//! | no such topic or partition | UNKNOWN_TOPIC_OR_PARTITION | OffsetCommit, OffsetDelete |
//! | the group has members | NON_EMPTY_GROUP | DeleteGroups, OffsetDelete |
//! | there is no such group | GROUP_ID_NOT_FOUND | DeleteGroups, OffsetDelete, OffsetCommit, DescribeGroups |
//! | members read the topic | GROUP_SUBSCRIBED_TO_TOPIC | OffsetDelete |
//! | another core has the group | NOT_COORDINATOR | all |
//! | the node stops, its log is closed | COORDINATOR_NOT_AVAILABLE | all that wait |

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, JoinGroupRequest, JoinGroupResponse};
use ringlog_engine::groups::GroupError;

use super::client::{Client, with_node};
use super::member::code::*;
use super::member::{Member, find, text};
use crate::kafka::errors;

const TWO_AT_MOST: &[&str] = &[
    "--group-initial-rebalance-delay-ms",
    "0",
    "--group-max-size",
    "2",
];

/// A join in a version in which ids need not be told first, changed.
fn join(member: &mut Member, change: impl Fn(JoinGroupRequest) -> JoinGroupRequest) -> i16 {
    let request = change(member.request());
    let response: JoinGroupResponse = member.client.call(ApiKey::JoinGroup, 3, &request);
    response.error_code
}

/// A stable group of one.
fn alone(cores: &[std::net::SocketAddr], group: &str) -> Member {
    let mut member = Member::of(cores, group);
    member.join(9);
    let id = member.id.clone();
    assert_eq!(member.sync(5, &[(&id, "all")]).error_code, 0);
    member
}

/// How a member that says something of itself is answered: to SyncGroup, Heartbeat, OffsetCommit.
fn answers(member: &mut Member) -> [i16; 3] {
    let synced = member.sync(5, &[]).error_code;
    let heard = member.heartbeat(4);
    [synced, heard, member.commit(9, "t", 1, "")]
}

#[test]
fn members_are_refused_with_kafkas_codes() {
    with_node(TWO_AT_MOST, |cores| {
        Client::connect(cores[0]).create("t", &[]);
        let mut nameless = Member::of(cores, "");
        assert_eq!(nameless.join(9).error_code, INVALID_GROUP_ID);
        assert_eq!(nameless.sync(5, &[]).error_code, INVALID_GROUP_ID);
        assert_eq!(nameless.heartbeat(4), INVALID_GROUP_ID);
        assert_eq!(nameless.leave(2), INVALID_GROUP_ID);

        let mut first = alone(cores, "g");
        let mut stranger = Member::of(cores, "g");
        stranger.generation = first.generation;
        for id in ["", "stranger"] {
            stranger.id = text(id);
            assert_eq!(answers(&mut stranger), [UNKNOWN_MEMBER_ID; 3], "{id:?}");
        }
        assert_eq!(stranger.leave(5), UNKNOWN_MEMBER_ID);
        assert_eq!(stranger.join(9).error_code, UNKNOWN_MEMBER_ID);

        for generation in [first.generation - 1, first.generation + 1] {
            let known = std::mem::replace(&mut first.generation, generation);
            assert_eq!(answers(&mut first), [ILLEGAL_GENERATION; 3]);
            first.generation = known;
        }
        assert_eq!(answers(&mut first), [0; 3]);

        let mut other = Member::of(cores, "g");
        for timeout_ms in [5_999, 1_800_001, -1] {
            let told = join(&mut other, |ask| ask.with_session_timeout_ms(timeout_ms));
            assert_eq!(told, INVALID_SESSION_TIMEOUT, "{timeout_ms} ms");
        }
        let connect = join(&mut other, |ask| ask.with_protocol_type(text("connect")));
        assert_eq!(connect, INCONSISTENT_GROUP_PROTOCOL);
        let sticky = join(&mut other, |mut ask| {
            ask.protocols[0].name = text("sticky");
            ask
        });
        assert_eq!(sticky, INCONSISTENT_GROUP_PROTOCOL);
        other.ask_to_join(9);
        assert_eq!(other.joined(9).error_code, MEMBER_ID_REQUIRED);

        // The second comes, and the first is to join again.
        other.ask_to_join(9);
        while first.heartbeat(4) != REBALANCE_IN_PROGRESS {}
        assert_eq!(first.sync(5, &[]).error_code, REBALANCE_IN_PROGRESS);
        // Kafka takes what was read in the generation before.
        assert_eq!(first.commit(9, "t", 2, ""), 0);
        assert_eq!(first.join(9).error_code, 0);
        assert_eq!(other.joined(9).error_code, 0);
        assert_eq!(first.commit(9, "t", 3, ""), REBALANCE_IN_PROGRESS);
        let mut third = Member::of(cores, "g");
        assert_eq!(third.join(9).error_code, GROUP_MAX_SIZE_REACHED);
        assert_eq!(third.join(3).error_code, GROUP_MAX_SIZE_REACHED);
    });
}

#[test]
fn who_lost_its_instance_id_is_fenced_whatever_it_asks() {
    with_node(TWO_AT_MOST, |cores| {
        Client::connect(cores[0]).create("t", &[]);
        let mut first = Member::of(cores, "g");
        first.instance = Some(text("host"));
        first.join(9);
        let id = first.id.clone();
        first.sync(5, &[(&id, "all")]);
        let mut second = Member::of(cores, "g");
        second.instance = Some(text("host"));
        assert_eq!(second.join(9).error_code, 0);
        assert_eq!(answers(&mut first), [FENCED_INSTANCE_ID; 3]);
        assert_eq!(first.leave(5), FENCED_INSTANCE_ID);
        assert_eq!(first.join(9).error_code, FENCED_INSTANCE_ID);
        assert_eq!(answers(&mut second), [0; 3]);
    });
}

#[test]
fn commits_and_operators_are_refused_with_kafkas_codes() {
    with_node(TWO_AT_MOST, |cores| {
        let partitions = 300;
        Client::connect(cores[0]).create_wide("t", partitions, &[]);

        let mut member = Member::of(cores, "g");
        assert_eq!(member.delete_group(), GROUP_ID_NOT_FOUND);
        assert_eq!(member.forget("t"), GROUP_ID_NOT_FOUND);
        assert_eq!(member.state(6).0, GROUP_ID_NOT_FOUND);
        member.generation = 1;
        assert_eq!(member.commit(9, "t", 1, ""), GROUP_ID_NOT_FOUND);

        let mut member = alone(cores, "g");
        assert_eq!(member.commit(9, "none", 1, ""), UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(member.forget("none"), UNKNOWN_TOPIC_OR_PARTITION);
        // Each partition has its own answer.
        let codes = member.commit_all(9, "t", partitions - 1..partitions + 1, "");
        assert_eq!(codes, [0, UNKNOWN_TOPIC_OR_PARTITION]);
        let long = "x".repeat(4_097);
        assert_eq!(member.commit(9, "t", 1, &long), OFFSET_METADATA_TOO_LARGE);
        // More than a MiB together: nothing of it is committed.
        let codes = member.commit_all(9, "t", 0..partitions, &long[..4_096]);
        assert_eq!(codes, vec![INVALID_COMMIT_OFFSET_SIZE; partitions as usize]);
        assert_eq!(member.committed(7, "t"), (-1, String::new()));
        let codes = member.commit_all(9, "t", 0..partitions, &long[..2_048]);
        assert_eq!(codes, vec![0; partitions as usize]);

        assert_eq!(member.delete_group(), NON_EMPTY_GROUP);
        assert_eq!(member.forget("t"), GROUP_SUBSCRIBED_TO_TOPIC);
        let mut connect = Member::of(cores, "connectors");
        assert_eq!(
            join(&mut connect, |ask| ask.with_protocol_type(text("connect"))),
            0
        );
        assert_eq!(connect.forget("t"), NON_EMPTY_GROUP);

        let mut lost = Member::of(cores, "g");
        lost.client = Client::connect(cores[1 - find(cores, "g")]);
        assert_eq!(answers(&mut lost), [NOT_COORDINATOR; 3]);
        assert_eq!(lost.join(9).error_code, NOT_COORDINATOR);
        assert_eq!(lost.leave(2), NOT_COORDINATOR);
        assert_eq!(lost.forget("t"), NOT_COORDINATOR);
        assert_eq!(lost.delete_group(), NOT_COORDINATOR);
        assert_eq!(lost.state(6).0, NOT_COORDINATOR);
    });
}

#[test]
fn who_may_not_commit_hears_that_before_how_long_its_texts_are() {
    with_node(TWO_AT_MOST, |cores| {
        // Its last partition is not there.
        Client::connect(cores[0]).create_wide("t", 2, &[]);
        let long = "x".repeat(4_097);
        let texts = ["short", &long, &long];
        let gone = UNKNOWN_TOPIC_OR_PARTITION;

        let mut member = Member::of(cores, "g");
        member.generation = 1;
        for (version, code) in [(8, ILLEGAL_GENERATION), (9, GROUP_ID_NOT_FOUND)] {
            let codes = member.commit_texts(version, "t", &texts);
            assert_eq!(codes, [code, code, gone]);
        }

        let mut first = Member::of(cores, "g");
        first.instance = Some(text("host"));
        first.join(9);
        let id = first.id.clone();
        let codes = first.commit_texts(9, "t", &texts);
        assert_eq!(codes, [REBALANCE_IN_PROGRESS, REBALANCE_IN_PROGRESS, gone]);
        first.sync(5, &[(&id, "all")]);

        let mut stranger = Member::of(cores, "g");
        stranger.generation = first.generation;
        stranger.id = text("stranger");
        // Also where nothing is left that could be committed.
        for texts in [&texts[..], &texts[1..2]] {
            let expected = [UNKNOWN_MEMBER_ID, UNKNOWN_MEMBER_ID, gone];
            let codes = stranger.commit_texts(9, "t", texts);
            assert_eq!(codes, expected[..texts.len()]);
        }
        first.generation += 1;
        let codes = first.commit_texts(9, "t", &texts);
        assert_eq!(codes, [ILLEGAL_GENERATION, ILLEGAL_GENERATION, gone]);
        first.generation -= 1;

        // Who may commit hears of each text, and the rest is committed.
        let codes = first.commit_texts(9, "t", &texts);
        assert_eq!(codes, [0, OFFSET_METADATA_TOO_LARGE, gone]);
        assert_eq!(first.committed(8, "t"), (1, "short".to_owned()));
        let mut second = Member::of(cores, "g");
        second.instance = Some(text("host"));
        assert_eq!(second.join(9).error_code, 0);
        let codes = first.commit_texts(9, "t", &texts);
        assert_eq!(codes, [FENCED_INSTANCE_ID, FENCED_INSTANCE_ID, gone]);
    });
}

#[test]
fn every_refusal_of_a_group_has_its_code() {
    use GroupError as E;
    use ResponseError as R;
    let table = [
        (E::InvalidGroupId, R::InvalidGroupId),
        (E::InvalidSessionTimeout, R::InvalidSessionTimeout),
        (E::UnknownMember, R::UnknownMemberId),
        (E::MemberIdRequired, R::MemberIdRequired),
        (E::FencedInstance, R::FencedInstanceId),
        (E::IllegalGeneration, R::IllegalGeneration),
        (E::RebalanceInProgress, R::RebalanceInProgress),
        (E::InconsistentProtocol, R::InconsistentGroupProtocol),
        (E::MaxSizeReached, R::GroupMaxSizeReached),
        (E::AssignmentTooLarge, R::UnknownServerError),
        (E::CommitTooLarge, R::InvalidCommitOffsetSize),
        (E::TooManyOffsets, R::InvalidCommitOffsetSize),
        (E::Unavailable, R::CoordinatorNotAvailable),
        (E::NotFound, R::GroupIdNotFound),
        (E::NotEmpty, R::NonEmptyGroup),
        (E::Subscribed, R::GroupSubscribedToTopic),
    ];
    for (error, code) in table {
        assert_eq!(errors::of_group(error), code, "{error:?}");
    }
}
