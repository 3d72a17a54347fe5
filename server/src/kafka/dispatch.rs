//! From a request to its answer, for every API but Produce (whose requests are handled as they
//! arrive, see [`super::connection`]): decode → command → answer.

use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::answer::Answer;
use super::decode::{RequestError, decode};
use super::fetch::session::SessionSlot;
use super::groups::{
    delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
use super::request::{RequestHeader, client_id};
use super::{
    alter_configs, alter_partition_reassignments, alter_user_scram_credentials, api_versions,
    create_partitions, create_topics, delete_records, delete_topics, describe_cluster,
    describe_configs, describe_log_dirs, describe_producers, describe_topic_partitions,
    describe_user_scram_credentials, elect_leaders, fetch, incremental_alter_configs,
    init_producer_id, list_offsets, list_partition_reassignments, metadata,
    offset_for_leader_epoch, sasl_authenticate, sasl_handshake,
};
use crate::node::core::CoreHandle;

/// Answers a request. `sessions` are the connection's; `leaving` ends waits early.
///
/// Cancellation: what was asked of the node is done all the same.
///
/// # Errors
/// When the request is malformed: the connection is closed.
pub async fn answer(
    core: &CoreHandle,
    peer: SocketAddr,
    header: &RequestHeader,
    frame: &Bytes,
    sessions: &SessionSlot,
    leaving: impl Future<Output = ()>,
) -> Result<Answer, RequestError> {
    let version = header.version;
    match header.api.key {
        ApiKey::Fetch => Ok(fetch::handle(core, peer, header, frame, sessions, leaving).await?),
        ApiKey::ListOffsets => {
            let request = decode(header, frame, list_offsets::FIELDS)?;
            of(header, &list_offsets::handle(core, version, request).await)
        }
        ApiKey::Metadata => {
            let request = decode(header, frame, metadata::FIELDS)?;
            of(header, &metadata::handle(core, version, request).await)
        }
        ApiKey::ApiVersions => {
            let request = decode(header, frame, api_versions::FIELDS)?;
            of(header, &api_versions::handle(version, &request))
        }
        ApiKey::CreateTopics => {
            let request = decode(header, frame, create_topics::FIELDS)?;
            of(header, &create_topics::handle(core, version, request).await)
        }
        ApiKey::DeleteTopics => {
            let request = decode(header, frame, delete_topics::FIELDS)?;
            of(header, &delete_topics::handle(core, version, request).await)
        }
        ApiKey::DeleteRecords => {
            let request = decode(header, frame, delete_records::FIELDS)?;
            of(header, &delete_records::handle(core, request).await)
        }
        ApiKey::InitProducerId => {
            let request = decode(header, frame, init_producer_id::FIELDS)?;
            of(header, &init_producer_id::handle(core, request).await)
        }
        ApiKey::DescribeConfigs => {
            let request = decode(header, frame, describe_configs::FIELDS)?;
            of(
                header,
                &describe_configs::handle(core, version, request).await,
            )
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request = decode(header, frame, offset_for_leader_epoch::FIELDS)?;
            of(
                header,
                &offset_for_leader_epoch::handle(core, request).await,
            )
        }
        ApiKey::DescribeProducers => {
            let request = decode(header, frame, describe_producers::FIELDS)?;
            of(header, &describe_producers::handle(core, request).await)
        }
        ApiKey::AlterConfigs => {
            let request = decode(header, frame, alter_configs::FIELDS)?;
            of(header, &alter_configs::handle(core, request).await)
        }
        ApiKey::IncrementalAlterConfigs => {
            let request = decode(header, frame, incremental_alter_configs::FIELDS)?;
            of(
                header,
                &incremental_alter_configs::handle(core, request).await,
            )
        }
        ApiKey::DescribeLogDirs => {
            let request = decode(header, frame, describe_log_dirs::FIELDS)?;
            of(header, &describe_log_dirs::handle(core, request).await)
        }
        ApiKey::DescribeTopicPartitions => {
            let request = decode(header, frame, describe_topic_partitions::FIELDS)?;
            let described = describe_topic_partitions::handle(core, request);
            of(header, &described.await)
        }
        ApiKey::ElectLeaders => {
            let request = decode(header, frame, elect_leaders::FIELDS)?;
            of(header, &elect_leaders::handle(core, request).await)
        }
        ApiKey::AlterPartitionReassignments => {
            let request = decode(header, frame, alter_partition_reassignments::FIELDS)?;
            let altered = alter_partition_reassignments::handle(core, request);
            of(header, &altered.await)
        }
        ApiKey::ListPartitionReassignments => {
            let request = decode(header, frame, list_partition_reassignments::FIELDS)?;
            of(header, &list_partition_reassignments::handle(&request))
        }
        ApiKey::CreatePartitions => {
            let request = decode(header, frame, create_partitions::FIELDS)?;
            of(header, &create_partitions::handle(core, request).await)
        }
        ApiKey::DescribeCluster => {
            let request = decode(header, frame, describe_cluster::FIELDS)?;
            of(header, &describe_cluster::handle(core, &request))
        }
        ApiKey::FindCoordinator => {
            let request = decode(header, frame, find_coordinator::FIELDS)?;
            of(header, &find_coordinator::handle(core, version, request))
        }
        ApiKey::JoinGroup => {
            let request = decode(header, frame, join_group::FIELDS)?;
            let client_id = client_id(frame);
            let joined = join_group::handle(core, peer, client_id, version, request, leaving);
            of(header, &joined.await)
        }
        ApiKey::SyncGroup => {
            let request = decode(header, frame, sync_group::FIELDS)?;
            let synced = sync_group::handle(core, version, request, leaving);
            of(header, &synced.await)
        }
        ApiKey::Heartbeat => {
            let request = decode(header, frame, heartbeat::FIELDS)?;
            of(header, &heartbeat::handle(core, &request))
        }
        ApiKey::LeaveGroup => {
            let request = decode(header, frame, leave_group::FIELDS)?;
            of(header, &leave_group::handle(core, version, request).await)
        }
        ApiKey::OffsetCommit => {
            let request = decode(header, frame, offset_commit::FIELDS)?;
            of(header, &offset_commit::handle(core, version, request).await)
        }
        ApiKey::OffsetFetch => {
            let request = decode(header, frame, offset_fetch::FIELDS)?;
            of(header, &offset_fetch::handle(core, version, request).await)
        }
        ApiKey::OffsetDelete => {
            let request = decode(header, frame, offset_delete::FIELDS)?;
            of(header, &offset_delete::handle(core, request).await)
        }
        ApiKey::DeleteGroups => {
            let request = decode(header, frame, delete_groups::FIELDS)?;
            of(header, &delete_groups::handle(core, request).await)
        }
        ApiKey::ListGroups => {
            let request = decode(header, frame, list_groups::FIELDS)?;
            of(header, &list_groups::handle(core, version, request).await)
        }
        ApiKey::DescribeGroups => {
            let request = decode(header, frame, describe_groups::FIELDS)?;
            of(
                header,
                &describe_groups::handle(core, version, request).await,
            )
        }
        ApiKey::SaslHandshake => {
            let request = decode(header, frame, sasl_handshake::FIELDS)?;
            of(header, &sasl_handshake::out_of_turn(core, &request))
        }
        ApiKey::SaslAuthenticate => {
            let request = decode(header, frame, sasl_authenticate::FIELDS)?;
            of(header, &sasl_authenticate::out_of_turn(&request))
        }
        ApiKey::DescribeUserScramCredentials => {
            let request = decode(header, frame, describe_user_scram_credentials::FIELDS)?;
            let described = describe_user_scram_credentials::handle(core, request);
            of(header, &described.await)
        }
        ApiKey::AlterUserScramCredentials => {
            let request = decode(header, frame, alter_user_scram_credentials::FIELDS)?;
            let altered = alter_user_scram_credentials::handle(core, peer, request);
            of(header, &altered.await)
        }
        key => unreachable!("{key:?} is in the table of APIs and has no handler here"),
    }
}

fn of(
    header: &RequestHeader,
    body: &impl kafka_protocol::protocol::Encodable,
) -> Result<Answer, RequestError> {
    Ok(Answer::of(header, body)?)
}
