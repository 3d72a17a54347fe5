//! A member of a consumer group for a test: a connection to its coordinator, and what it knows.

use std::net::SocketAddr;

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
    ApiKey, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, topic_name};

/// Codes of the protocol.
pub mod code {
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub const INVALID_GROUP_ID: i16 = 24;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const INVALID_SESSION_TIMEOUT: i16 = 26;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const INVALID_REQUEST: i16 = 42;
    pub const NON_EMPTY_GROUP: i16 = 68;
    pub const GROUP_ID_NOT_FOUND: i16 = 69;
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    pub const FENCED_INSTANCE_ID: i16 = 82;
    pub const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
    pub const INVALID_COMMIT_OFFSET_SIZE: i16 = 28;
    pub const GROUP_MAX_SIZE_REACHED: i16 = 81;
}

/// Has no rebalance wait for more members.
pub const AT_ONCE: &[&str] = &["--group-initial-rebalance-delay-ms", "0"];

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// The core that has a group.
pub fn find(cores: &[SocketAddr], group: &str) -> usize {
    let mut client = Client::connect(cores[0]);
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    let response: FindCoordinatorResponse = client.call(ApiKey::FindCoordinator, 4, &request);
    let found = &response.coordinators[0];
    assert_eq!((found.error_code, &*found.key), (0, group));
    let port = u16::try_from(found.port).unwrap();
    assert_eq!(cores[found.node_id.0 as usize].port(), port);
    found.node_id.0 as usize
}

/// A member's connection to its coordinator.
pub struct Member {
    pub client: Client,
    pub group: String,
    pub id: StrBytes,
    pub instance: Option<StrBytes>,
    pub generation: i32,
    pub subscription: Bytes,
}

impl Member {
    pub fn of(cores: &[SocketAddr], group: &str) -> Member {
        Member {
            client: Client::connect(cores[find(cores, group)]),
            group: group.to_owned(),
            id: StrBytes::default(),
            instance: None,
            generation: -1,
            // Version 1, one topic "t", no user data.
            subscription: Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]),
        }
    }

    pub fn request(&self) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(self.subscription.clone());
        JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(20_000)
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    pub fn ask_to_join(&mut self, version: i16) {
        let frame = self
            .client
            .frame(ApiKey::JoinGroup, version, &self.request());
        self.client.send(&frame);
    }

    pub fn joined(&mut self, version: i16) -> JoinGroupResponse {
        let (_, joined): (_, JoinGroupResponse) = self.client.receive(ApiKey::JoinGroup, version);
        if joined.error_code == 0 || joined.error_code == code::MEMBER_ID_REQUIRED {
            self.id = joined.member_id.clone();
            self.generation = joined.generation_id;
        }
        joined
    }

    /// Joins as clients do: again with the id they are given.
    pub fn join(&mut self, version: i16) -> JoinGroupResponse {
        self.ask_to_join(version);
        let joined = self.joined(version);
        if joined.error_code != code::MEMBER_ID_REQUIRED {
            return joined;
        }
        assert!(version >= 4);
        self.ask_to_join(version);
        self.joined(version)
    }

    pub fn sync(&mut self, version: i16, parts: &[(&StrBytes, &'static str)]) -> SyncGroupResponse {
        let parts = parts.iter().map(|(id, part)| {
            SyncGroupRequestAssignment::default()
                .with_member_id((*id).clone())
                .with_assignment(Bytes::from_static(part.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(parts.collect());
        let request = match version {
            3.. => request.with_group_instance_id(self.instance.clone()),
            _ => request,
        };
        let request = match version {
            5.. => request
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text("range"))),
            _ => request,
        };
        self.client.call(ApiKey::SyncGroup, version, &request)
    }

    pub fn heartbeat(&mut self, version: i16) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let request = match version {
            3.. => request.with_group_instance_id(self.instance.clone()),
            _ => request,
        };
        let response: HeartbeatResponse = self.client.call(ApiKey::Heartbeat, version, &request);
        response.error_code
    }

    pub fn leave(&mut self, version: i16) -> i16 {
        let request = LeaveGroupRequest::default().with_group_id(group_id(&self.group));
        if version < 3 {
            let request = request.with_member_id(self.id.clone());
            let response: LeaveGroupResponse =
                self.client.call(ApiKey::LeaveGroup, version, &request);
            return response.error_code;
        }
        let who = MemberIdentity::default()
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.clone());
        let request = request.with_members(vec![who]);
        let response: LeaveGroupResponse = self.client.call(ApiKey::LeaveGroup, version, &request);
        assert_eq!(response.error_code, 0);
        response.members[0].error_code
    }

    pub fn commit(
        &mut self,
        version: i16,
        topic: &'static str,
        offset: i64,
        metadata: &str,
    ) -> i16 {
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(metadata)));
        self.commit_partitions(version, topic, vec![partition])[0]
    }

    /// Offset and metadata of a topic's partition 0.
    pub fn committed(&mut self, version: i16, topic: &'static str) -> (i64, String) {
        if version >= 8 {
            let topic = OffsetFetchRequestTopics::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(vec![0]);
            let mut group = OffsetFetchRequestGroup::default()
                .with_group_id(group_id(&self.group))
                .with_topics(Some(vec![topic]));
            let mut all = group.clone().with_topics(None);
            if version >= 9 {
                // A classic group looks at neither.
                group.member_id = Some(text("stranger"));
                group.member_epoch = 77;
                all.member_epoch = -1;
            }
            let request = OffsetFetchRequest::default().with_groups(vec![group, all]);
            let response: OffsetFetchResponse =
                self.client.call(ApiKey::OffsetFetch, version, &request);
            assert!(response.groups.iter().all(|group| group.error_code == 0));
            let found = &response.groups[0].topics[0].partitions[0];
            let all = &response.groups[1].topics;
            assert_eq!(all.is_empty(), found.committed_offset < 0, "{all:?}");
            let metadata = found.metadata.as_ref().unwrap().to_string();
            return (found.committed_offset, metadata);
        }
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(&self.group))
            .with_topics(Some(vec![topic]));
        let response: OffsetFetchResponse =
            self.client.call(ApiKey::OffsetFetch, version, &request);
        assert_eq!(response.error_code, 0);
        let found = &response.topics[0].partitions[0];
        (
            found.committed_offset,
            found.metadata.as_ref().unwrap().to_string(),
        )
    }

    /// Commits an offset of several partitions of a topic; the code of each.
    pub fn commit_all(
        &mut self,
        version: i16,
        topic: &'static str,
        indexes: std::ops::Range<i32>,
        metadata: &str,
    ) -> Vec<i16> {
        let partitions = indexes.map(|index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(i64::from(index) + 1)
                .with_committed_metadata(Some(text(metadata)))
        });
        self.commit_partitions(version, topic, partitions.collect())
    }

    /// Commits with a text each for a topic's first partitions: a code each.
    pub fn commit_texts(&mut self, version: i16, topic: &'static str, texts: &[&str]) -> Vec<i16> {
        let partitions = (0..).zip(texts).map(|(index, metadata)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(1)
                .with_committed_metadata(Some(text(metadata)))
        });
        self.commit_partitions(version, topic, partitions.collect())
    }

    fn commit_partitions(
        &mut self,
        version: i16,
        topic: &'static str,
        partitions: Vec<OffsetCommitRequestPartition>,
    ) -> Vec<i16> {
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        let request = match version {
            7.. => request.with_group_instance_id(self.instance.clone()),
            _ => request,
        };
        let response: OffsetCommitResponse =
            self.client.call(ApiKey::OffsetCommit, version, &request);
        let partitions = response.topics[0].partitions.iter();
        partitions.map(|partition| partition.error_code).collect()
    }

    /// Forgets the offset of a topic's partition 0: the group's code, or the partition's.
    pub fn forget(&mut self, topic: &'static str) -> i16 {
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(&self.group))
            .with_topics(vec![topic]);
        let response: OffsetDeleteResponse = self.client.call(ApiKey::OffsetDelete, 0, &request);
        match response.error_code {
            0 => response.topics[0].partitions[0].error_code,
            code => code,
        }
    }

    pub fn delete_group(&mut self) -> i16 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(&self.group)]);
        let response: DeleteGroupsResponse = self.client.call(ApiKey::DeleteGroups, 2, &request);
        response.results[0].error_code
    }

    pub fn state(&mut self, version: i16) -> (i16, String, usize) {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(&self.group)]);
        let response: DescribeGroupsResponse =
            self.client.call(ApiKey::DescribeGroups, version, &request);
        let group = &response.groups[0];
        (
            group.error_code,
            group.group_state.to_string(),
            group.members.len(),
        )
    }
}
