//! The same of requests about consumer groups.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::topic_name;
use super::decoding::agree;
use crate::kafka::groups::{
    delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn group() -> GroupId {
    GroupId(text("group"))
}

#[test]
fn requests_of_members_are_walked_as_they_are_decoded() {
    agree(ApiKey::JoinGroup, join_group::FIELDS, |version| {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"topics"));
        let mut request = JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(9)
            .with_member_id(text("m"))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol.clone(), protocol]);
        if version >= 1 {
            request.rebalance_timeout_ms = 7;
        }
        if version >= 5 {
            request.group_instance_id = Some(text("host"));
        }
        if version >= 8 {
            request.reason = Some(text("why not"));
        }
        request
    });
    agree(ApiKey::SyncGroup, sync_group::FIELDS, |version| {
        let part = SyncGroupRequestAssignment::default()
            .with_member_id(text("m"))
            .with_assignment(Bytes::from_static(b"part"));
        let mut request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(3)
            .with_member_id(text("m"))
            .with_assignments(vec![part.clone(), part]);
        if version >= 3 {
            request.group_instance_id = Some(text("host"));
        }
        if version >= 5 {
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        request
    });
    agree(ApiKey::Heartbeat, heartbeat::FIELDS, |_| {
        HeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text("m"))
    });
    agree(ApiKey::LeaveGroup, leave_group::FIELDS, |version| {
        let request = LeaveGroupRequest::default().with_group_id(group());
        if version < 3 {
            return request.with_member_id(text("m"));
        }
        let mut who = MemberIdentity::default()
            .with_member_id(text("m"))
            .with_group_instance_id(Some(text("host")));
        if version >= 5 {
            who.reason = Some(text("enough"));
        }
        request.with_members(vec![who.clone(), who])
    });
    agree(
        ApiKey::FindCoordinator,
        find_coordinator::FIELDS,
        |version| {
            let request = FindCoordinatorRequest::default();
            match version {
                0 => request.with_key(text("group")),
                1..=3 => request.with_key(text("group")).with_key_type(1),
                _ => request.with_coordinator_keys(vec![text("a"), text("b")]),
            }
        },
    );
}

#[test]
fn requests_about_committed_offsets_are_walked_as_they_are_decoded() {
    agree(ApiKey::OffsetCommit, offset_commit::FIELDS, |version| {
        let mut partition = OffsetCommitRequestPartition::default()
            .with_partition_index(1)
            .with_committed_offset(2)
            .with_committed_metadata(Some(text("note")));
        if version >= 6 {
            partition.committed_leader_epoch = 5;
        }
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("topic"))
            .with_partitions(vec![partition.clone(), partition]);
        let mut request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(4)
            .with_member_id(text("m"))
            .with_topics(vec![topic.clone(), topic]);
        if version <= 4 {
            request.retention_time_ms = 77;
        }
        if version >= 7 {
            request.group_instance_id = Some(text("host"));
        }
        request
    });
    agree(ApiKey::OffsetFetch, offset_fetch::FIELDS, |version| {
        if version < 8 {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(topic_name("topic"))
                .with_partition_indexes(vec![1, 2]);
            return OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic.clone(), topic]));
        }
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name("topic"))
            .with_partition_indexes(vec![1, 2]);
        let mut one = OffsetFetchRequestGroup::default().with_group_id(group());
        if version >= 9 {
            one.member_id = Some(text("m"));
            one.member_epoch = 4;
        }
        let all = one.clone().with_topics(None);
        let one = one.with_topics(Some(vec![topic.clone(), topic]));
        OffsetFetchRequest::default()
            .with_groups(vec![one, all])
            .with_require_stable(true)
    });
    agree(ApiKey::OffsetDelete, offset_delete::FIELDS, |_| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name("topic"))
            .with_partitions(vec![partition.clone(), partition]);
        OffsetDeleteRequest::default()
            .with_group_id(group())
            .with_topics(vec![topic.clone(), topic])
    });
}

#[test]
fn requests_of_operators_are_walked_as_they_are_decoded() {
    let several = || vec![group(), GroupId(text("other"))];
    agree(ApiKey::DeleteGroups, delete_groups::FIELDS, |_| {
        DeleteGroupsRequest::default().with_groups_names(several())
    });
    agree(ApiKey::DescribeGroups, describe_groups::FIELDS, |_| {
        DescribeGroupsRequest::default().with_groups(several())
    });
    agree(ApiKey::ListGroups, list_groups::FIELDS, |version| {
        let mut request = ListGroupsRequest::default();
        if version >= 4 {
            request.states_filter = vec![text("Stable"), text("Empty")];
        }
        if version >= 5 {
            request.types_filter = vec![text("classic")];
        }
        request
    });
}
