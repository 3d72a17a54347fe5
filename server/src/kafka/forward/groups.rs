//! Requests about consumer groups, to the cores that coordinate them.

use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
};
use ringlog_types::CoreId;

use super::there::{at, at_each};
use crate::kafka::answer::Answer;
use crate::kafka::decode::{RequestError, decode};
use crate::kafka::groups::here::coordinating_core;
use crate::kafka::groups::{
    delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups, offset_commit,
    offset_delete, offset_fetch, sync_group,
};
use crate::kafka::request::{RequestHeader, client_id};
use crate::node::core::CoreHandle;

/// Oldest version of OffsetFetch in which several groups are asked for at once.
const SEVERAL_GROUPS_SINCE: i16 = 8;

/// Whether a request is one of these.
#[must_use]
pub fn is_about_groups(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::OffsetDelete
            | ApiKey::DescribeGroups
            | ApiKey::DeleteGroups
            | ApiKey::ListGroups
    )
}

/// Answers one.
///
/// # Errors
/// When it is malformed, or a coordinator stops.
///
/// # Panics
/// When it is none of these.
pub async fn answer(
    core: &CoreHandle,
    peer: SocketAddr,
    header: &RequestHeader,
    frame: &Bytes,
) -> Result<Answer, RequestError> {
    let version = header.version;
    let owner = |group: &str| coordinating_core(core.topology(), group);
    match header.api.key {
        ApiKey::JoinGroup => {
            let request: JoinGroupRequest = decode(header, frame, join_group::FIELDS)?;
            let (owner, client) = (owner(&request.group_id), client_id(frame).to_owned());
            let joined = at(core, owner, move |there| async move {
                let stopping = there.drained();
                join_group::handle(&there, peer, &client, version, request, stopping).await
            });
            Ok(Answer::of(header, &joined.await?)?)
        }
        ApiKey::SyncGroup => {
            let request: SyncGroupRequest = decode(header, frame, sync_group::FIELDS)?;
            let synced = at(core, owner(&request.group_id), move |there| async move {
                sync_group::handle(&there, version, request, there.drained()).await
            });
            Ok(Answer::of(header, &synced.await?)?)
        }
        ApiKey::Heartbeat => {
            let request: HeartbeatRequest = decode(header, frame, heartbeat::FIELDS)?;
            let heard = at(core, owner(&request.group_id), move |there| async move {
                heartbeat::handle(&there, &request)
            });
            Ok(Answer::of(header, &heard.await?)?)
        }
        ApiKey::LeaveGroup => {
            let request: LeaveGroupRequest = decode(header, frame, leave_group::FIELDS)?;
            let left = at(core, owner(&request.group_id), move |there| async move {
                leave_group::handle(&there, version, request).await
            });
            Ok(Answer::of(header, &left.await?)?)
        }
        ApiKey::OffsetCommit => {
            let request: OffsetCommitRequest = decode(header, frame, offset_commit::FIELDS)?;
            let committed = at(core, owner(&request.group_id), move |there| async move {
                offset_commit::handle(&there, version, request).await
            });
            Ok(Answer::of(header, &committed.await?)?)
        }
        ApiKey::OffsetDelete => {
            let request: OffsetDeleteRequest = decode(header, frame, offset_delete::FIELDS)?;
            let forgotten = at(core, owner(&request.group_id), move |there| async move {
                offset_delete::handle(&there, request).await
            });
            Ok(Answer::of(header, &forgotten.await?)?)
        }
        ApiKey::OffsetFetch => {
            let request = decode(header, frame, offset_fetch::FIELDS)?;
            Ok(Answer::of(header, &offsets(core, version, request).await?)?)
        }
        ApiKey::DescribeGroups => {
            let request = decode(header, frame, describe_groups::FIELDS)?;
            let described = describe(core, version, request).await?;
            Ok(Answer::of(header, &described)?)
        }
        ApiKey::DeleteGroups => {
            let request = decode(header, frame, delete_groups::FIELDS)?;
            Ok(Answer::of(header, &delete(core, request).await?)?)
        }
        ApiKey::ListGroups => {
            let request = decode(header, frame, list_groups::FIELDS)?;
            Ok(Answer::of(header, &list(core, version, request).await?)?)
        }
        key => unreachable!("{key:?} is not about groups"),
    }
}

async fn offsets(
    core: &CoreHandle,
    version: i16,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, RequestError> {
    if version < SEVERAL_GROUPS_SINCE {
        let owner = coordinating_core(core.topology(), &request.group_id);
        let found = at(core, owner, move |there| async move {
            offset_fetch::handle(&there, version, request).await
        });
        return Ok(found.await?);
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let owner = coordinating_core(core.topology(), &group.group_id);
        let request = OffsetFetchRequest::default()
            .with_groups(vec![group])
            .with_require_stable(request.require_stable);
        let found = at(core, owner, move |there| async move {
            offset_fetch::handle(&there, version, request).await
        });
        groups.extend(found.await?.groups);
    }
    Ok(OffsetFetchResponse::default().with_groups(groups))
}

async fn describe(
    core: &CoreHandle,
    version: i16,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, RequestError> {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let owner = coordinating_core(core.topology(), &group);
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group])
            .with_include_authorized_operations(request.include_authorized_operations);
        let found = at(core, owner, move |there| async move {
            describe_groups::handle(&there, version, request).await
        });
        groups.extend(found.await?.groups);
    }
    Ok(DescribeGroupsResponse::default().with_groups(groups))
}

async fn delete(
    core: &CoreHandle,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, RequestError> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let owner = coordinating_core(core.topology(), &group);
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group]);
        let deleted = at(core, owner, move |there| async move {
            delete_groups::handle(&there, request).await
        });
        results.extend(deleted.await?.results);
    }
    Ok(DeleteGroupsResponse::default().with_results(results))
}

async fn list(
    core: &CoreHandle,
    version: i16,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, RequestError> {
    let cores = (0..core.topology().cores()).map(|id| {
        let request = request.clone();
        let work = move |there: CoreHandle| async move {
            list_groups::handle(&there, version, request).await
        };
        (CoreId(id), work)
    });
    let mut groups = Vec::new();
    for found in at_each(core, cores.collect()).await? {
        groups.extend(found.groups);
    }
    Ok(ListGroupsResponse::default().with_groups(groups))
}
