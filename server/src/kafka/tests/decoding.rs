//! The shapes by which counts are checked agree with the generated decoder, in every version.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, ApiKey, ApiVersionsRequest, BrokerId,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    alter_configs_request, describe_producers_request, incremental_alter_configs_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::client::topic_name;
use crate::kafka::bounds::Field;
use crate::kafka::decode::decode;
use crate::kafka::request::RequestHeader;
use crate::kafka::{
    alter_configs, alter_partition_reassignments, describe_log_dirs, describe_producers,
    describe_topic_partitions, elect_leaders, incremental_alter_configs,
    list_partition_reassignments, offset_for_leader_epoch,
};
use crate::kafka::{
    api_versions, apis, create_partitions, create_topics, delete_records, delete_topics,
    describe_cluster, describe_configs, init_producer_id, list_offsets, metadata,
};

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Every version of a request is read as it was written, and damaged ones are refused or read.
pub fn agree<T>(key: ApiKey, fields: &'static [Field], make: impl Fn(i16) -> T)
where
    T: Encodable + Decodable + PartialEq + Debug,
{
    let api = apis::find(key as i16).unwrap();
    for version in api.min..=api.max {
        let header = RequestHeader {
            api,
            version,
            correlation_id: 1,
            body_at: 3,
        };
        let request = make(version);
        let mut frame = vec![9; 3];
        request.encode(&mut frame, version).unwrap();
        let read: T = decode(&header, &Bytes::from(frame.clone()), fields).unwrap();
        assert_eq!(read, request, "{key:?} version {version}");
        for cut in 3..frame.len() {
            assert!(decode::<T>(&header, &Bytes::copy_from_slice(&frame[..cut]), fields).is_err());
        }
        proptest!(ProptestConfig::with_cases(64), |(at: prop::sample::Index, by: u8)| {
            let mut damaged = frame.clone();
            if damaged.len() > 3 {
                let at = 3 + at.index(damaged.len() - 3);
                damaged[at] ^= by;
            }
            let _ = decode::<T>(&header, &Bytes::from(damaged), fields);
        });
        proptest!(ProptestConfig::with_cases(64), |(body: Vec<u8>)| {
            let frame = [&[9; 3][..], &body].concat();
            let _ = decode::<T>(&header, &Bytes::from(frame), fields);
        });
    }
}

#[test]
fn requests_about_topics_are_walked_as_they_are_decoded() {
    agree(ApiKey::CreateTopics, create_topics::FIELDS, |_| {
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(1)
            .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let config = CreatableTopicConfig::default()
            .with_name(text("a"))
            .with_value(None);
        let topic = CreatableTopic::default()
            .with_name(topic_name("topic"))
            .with_num_partitions(5)
            .with_replication_factor(1)
            .with_assignments(vec![assignment.clone(), assignment])
            .with_configs(vec![config.clone(), config.with_value(Some(text("value")))]);
        let topics = vec![topic.clone(), CreatableTopic::default(), topic];
        CreateTopicsRequest::default()
            .with_topics(topics)
            .with_validate_only(true)
    });
    agree(ApiKey::DeleteTopics, delete_topics::FIELDS, |version| {
        if version <= 5 {
            let names = vec![topic_name("a"), topic_name("topic")];
            return DeleteTopicsRequest::default().with_topic_names(names);
        }
        let topic = DeleteTopicState::default()
            .with_topic_id(Uuid::from_u128(3))
            .with_name(None);
        let named = topic.clone().with_name(Some(topic_name("topic")));
        DeleteTopicsRequest::default().with_topics(vec![topic, named])
    });
    agree(ApiKey::CreatePartitions, create_partitions::FIELDS, |_| {
        let assignment =
            CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name("topic"))
            .with_count(5)
            .with_assignments(Some(vec![assignment.clone(), assignment]));
        let plain = topic.clone().with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic, plain])
    });
    agree(ApiKey::Metadata, metadata::FIELDS, |version| {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name("topic")));
        let topic = if version >= 10 {
            topic.with_topic_id(Uuid::from_u128(5))
        } else {
            topic
        };
        MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic]))
    });
}

#[test]
fn requests_about_offsets_and_configurations_are_walked_as_they_are_decoded() {
    agree(ApiKey::ListOffsets, list_offsets::FIELDS, |version| {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(4)
            .with_timestamp(1 << 40);
        let partition = if version >= 4 {
            partition.with_current_leader_epoch(7)
        } else {
            partition
        };
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name("topic"))
            .with_partitions(vec![partition.clone(), partition]);
        ListOffsetsRequest::default().with_topics(vec![topic.clone(), topic])
    });
    agree(ApiKey::DeleteRecords, delete_records::FIELDS, |_| {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(4)
            .with_offset(1 << 40);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name("topic"))
            .with_partitions(vec![partition.clone(), partition]);
        DeleteRecordsRequest::default()
            .with_topics(vec![topic.clone(), topic])
            .with_timeout_ms(7)
    });
    agree(ApiKey::DescribeConfigs, describe_configs::FIELDS, |_| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("topic"))
            .with_configuration_keys(Some(vec![text("a"), text("b")]));
        let all = resource.clone().with_configuration_keys(None);
        DescribeConfigsRequest::default().with_resources(vec![resource, all])
    });
}

#[test]
fn requests_of_administrators_are_walked_as_they_are_decoded() {
    agree(ApiKey::AlterConfigs, alter_configs::FIELDS, |_| {
        let config = alter_configs_request::AlterableConfig::default()
            .with_name(text("a"))
            .with_value(None);
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("topic"))
            .with_configs(vec![config.clone(), config.with_value(Some(text("b")))]);
        AlterConfigsRequest::default()
            .with_resources(vec![resource.clone(), resource])
            .with_validate_only(true)
    });
    let key = ApiKey::IncrementalAlterConfigs;
    agree(key, incremental_alter_configs::FIELDS, |_| {
        let config = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text("a"))
            .with_config_operation(3)
            .with_value(None);
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("topic"))
            .with_configs(vec![config.clone(), config.with_value(Some(text("b")))]);
        IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource.clone(), resource])
            .with_validate_only(true)
    });
    let key = ApiKey::OffsetForLeaderEpoch;
    agree(key, offset_for_leader_epoch::FIELDS, |version| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(4)
            .with_current_leader_epoch(7)
            .with_leader_epoch(6);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic_name("topic"))
            .with_partitions(vec![partition.clone(), partition]);
        let request =
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic.clone(), topic]);
        if version >= 3 {
            return request.with_replica_id(BrokerId(-1));
        }
        request
    });
    agree(
        ApiKey::DescribeProducers,
        describe_producers::FIELDS,
        |_| {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(topic_name("topic"))
                .with_partition_indexes(vec![1, 2]);
            DescribeProducersRequest::default().with_topics(vec![topic.clone(), topic])
        },
    );
    agree(ApiKey::DescribeLogDirs, describe_log_dirs::FIELDS, |_| {
        let topic = DescribableLogDirTopic::default()
            .with_topic(topic_name("topic"))
            .with_partitions(vec![1, 2]);
        DescribeLogDirsRequest::default().with_topics(Some(vec![topic.clone(), topic]))
    });
    let key = ApiKey::DescribeTopicPartitions;
    agree(key, describe_topic_partitions::FIELDS, |_| {
        let topic = TopicRequest::default().with_name(topic_name("topic"));
        let cursor = Cursor::default()
            .with_topic_name(topic_name("topic"))
            .with_partition_index(7);
        DescribeTopicPartitionsRequest::default()
            .with_topics(vec![topic.clone(), topic])
            .with_response_partition_limit(9)
            .with_cursor(Some(cursor))
    });
    agree(ApiKey::ElectLeaders, elect_leaders::FIELDS, |_| {
        let topic = TopicPartitions::default()
            .with_topic(topic_name("topic"))
            .with_partitions(vec![1, 2]);
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic.clone(), topic]))
    });
    let key = ApiKey::AlterPartitionReassignments;
    agree(key, alter_partition_reassignments::FIELDS, |_| {
        let partition = ReassignablePartition::default()
            .with_partition_index(4)
            .with_replicas(Some(vec![BrokerId(1), BrokerId(2)]));
        let cancelled = partition.clone().with_replicas(None);
        let topic = ReassignableTopic::default()
            .with_name(topic_name("topic"))
            .with_partitions(vec![partition, cancelled]);
        AlterPartitionReassignmentsRequest::default().with_topics(vec![topic.clone(), topic])
    });
    let key = ApiKey::ListPartitionReassignments;
    agree(key, list_partition_reassignments::FIELDS, |_| {
        let topic = ListPartitionReassignmentsTopics::default()
            .with_name(topic_name("topic"))
            .with_partition_indexes(vec![1, 2]);
        ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic.clone(), topic]))
    });
}

#[test]
fn requests_without_arrays_are_read_too() {
    agree(ApiKey::ApiVersions, api_versions::FIELDS, |_| {
        ApiVersionsRequest::default()
    });
    agree(ApiKey::DescribeCluster, describe_cluster::FIELDS, |_| {
        DescribeClusterRequest::default()
    });
    agree(ApiKey::InitProducerId, init_producer_id::FIELDS, |_| {
        InitProducerIdRequest::default().with_transactional_id(None)
    });
}
