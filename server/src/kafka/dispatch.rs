//! From a request to its answer, for every API but Produce (whose requests are handled as they
//! arrive, see [`super::connection`]): decode → command → answer.

use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::answer::Answer;
use super::decode::{RequestError, decode};
use super::fetch::session::SessionSlot;
use super::forward::answer as forward;
use super::groups::{
    delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
use super::request::{RequestHeader, client_id};
use super::{
    api_versions, create_partitions, create_topics, delete_records, delete_topics,
    describe_cluster, describe_configs, fetch, init_producer_id, list_offsets, metadata,
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
    if forward::is_forwarded(core, header.api.key) {
        return forward::answer(core, peer, header, frame, sessions, leaving).await;
    }
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
        key => unreachable!("{key:?} is in the table of APIs and has no handler here"),
    }
}

fn of(
    header: &RequestHeader,
    body: &impl kafka_protocol::protocol::Encodable,
) -> Result<Answer, RequestError> {
    Ok(Answer::of(header, body)?)
}
