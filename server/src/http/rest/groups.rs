//! Consumer groups: listed, described with the lag of each partition, deleted.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::groups::coordinator;
use ringlog_types::{CoreId, PartitionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::assignment;
use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::paging;
use super::partitions::bounds;
use super::problem::Problem;
use super::whereabouts::{Located, find};
use crate::kafka::groups::{delete_groups, describe_groups, list_groups, offset_fetch};
use crate::node::core::CoreHandle;

/// The version of DescribeGroups in which a group that is not there is an error.
const DESCRIBE_GROUPS: i16 = 6;
/// The version of ListGroups with states and types.
const LIST_GROUPS: i16 = 5;
/// The version of OffsetFetch in which all offsets of a group are asked for.
const OFFSET_FETCH: i16 = 8;

/// Memory for a partition's line in the answer about a group.
const LINE_BYTES: usize = 512;

/// The core that coordinates a group.
pub(super) fn coordinator_of(face: &Face, group: &str) -> CoreId {
    let cores: Vec<CoreId> = face.core_ids().collect();
    cores[coordinator(group, cores.len())]
}

/// Which groups.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupsQuery {
    /// Only those in this state: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    state: Option<String>,
    /// Begin behind this id: the `next` of the answer before.
    after: Option<String>,
    /// How many; at most 10,000, 1,000 if it is not said.
    limit: Option<usize>,
}

/// A group in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedGroup {
    group: String,
    state: String,
    /// `consumer` for groups of consumers; empty for one that only has offsets.
    protocol_type: String,
}

/// Groups, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupList {
    groups: Vec<ListedGroup>,
    /// There are more: ask with `after` set to this.
    next: Option<String>,
}

/// Lists consumer groups, by id.
#[utoipa::path(
    get, path = "/groups", tag = "groups", operation_id = "listGroups", params(GroupsQuery),
    responses((status = 200, description = "The groups", body = GroupList))
)]
pub(super) async fn list(
    State(face): State<Face>,
    QueryOf(query): QueryOf<GroupsQuery>,
) -> Result<Json<GroupList>, Problem> {
    let states: Vec<StrBytes> = query.state.into_iter().map(StrBytes::from_string).collect();
    let errands = face.core_ids().map(|core| {
        let request = ListGroupsRequest::default().with_states_filter(states.clone());
        let work = |core: CoreHandle| async move {
            list_groups::handle(&core, LIST_GROUPS, request).await
        };
        (core, work)
    });
    let mut groups = Vec::new();
    for answer in face.ask_each(errands.collect()).await? {
        Problem::check(answer.error_code, || {
            "the groups cannot be listed".to_owned()
        })?;
        groups.extend(answer.groups.into_iter().map(|group| ListedGroup {
            group: group.group_id.to_string(),
            state: group.group_state.to_string(),
            protocol_type: group.protocol_type.to_string(),
        }));
    }
    groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    paging::behind(&mut groups, query.after.as_deref(), |group| &group.group);
    let most = paging::most(query.limit);
    let next = paging::cut(&mut groups, most, |group| &group.group);
    Ok(Json(GroupList { groups, next }))
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DescribedGroup {
    group: String,
    state: String,
    protocol_type: String,
    /// The way of assigning that its members agreed on.
    protocol: String,
    /// The core that coordinates it.
    coordinator: u16,
    members: Vec<Member>,
    /// Its partitions: those it has committed offsets of, and those its members are assigned.
    partitions: Vec<GroupPartition>,
    /// What all of these have that was not committed.
    lag: i64,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Member {
    member_id: String,
    /// Of a static member.
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
}

/// How far a group has come in a partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupPartition {
    topic: String,
    partition: u32,
    /// The next offset that the group wants; null if it never committed one.
    committed_offset: Option<i64>,
    /// What was committed with it.
    metadata: String,
    /// Behind the last record; null if the partition is gone.
    end_offset: Option<i64>,
    /// Records that the group has not committed: from its offset, or the partition's first, to the
    /// end.
    lag: Option<i64>,
    /// The member that reads it.
    member_id: Option<String>,
}

/// Describes a consumer group: its members, and how far it is behind in each partition.
#[utoipa::path(
    get, path = "/groups/{group}", tag = "groups", operation_id = "describeGroup",
    params(("group" = String, Path, description = "The group's id")),
    responses(
        (status = 200, description = "The group", body = DescribedGroup),
        (status = 404, description = "There is no such group", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn describe(
    State(face): State<Face>,
    PathOf(group): PathOf<String>,
) -> Result<Json<DescribedGroup>, Problem> {
    let core = coordinator_of(&face, &group);
    let id = GroupId(StrBytes::from_string(group.clone()));
    let asked = DescribeGroupsRequest::default().with_groups(vec![id.clone()]);
    let of_group = OffsetFetchRequestGroup::default()
        .with_group_id(id)
        .with_topics(None);
    let offsets = OffsetFetchRequest::default().with_groups(vec![of_group]);
    let found = face.ask(core, |core| async move {
        let described = describe_groups::handle(&core, DESCRIBE_GROUPS, asked).await;
        let offsets = offset_fetch::handle(&core, OFFSET_FETCH, offsets).await;
        (
            described.groups.into_iter().next(),
            offsets.groups.into_iter().next(),
        )
    });
    let (Some(described), Some(offsets)) = found.await? else {
        let detail = "the coordinator did not answer";
        return Err(Problem::of(ResponseError::UnknownServerError, detail));
    };
    Problem::check(described.error_code, || {
        format!("there is no consumer group {group:?}; GET /groups lists those there are")
    })?;
    Problem::check(offsets.error_code, || {
        format!("offsets of group {group:?} cannot be read")
    })?;
    let mut lines: BTreeMap<(String, u32), Line> = BTreeMap::new();
    for topic in offsets.topics {
        for partition in topic.partitions {
            let Ok(index) = u32::try_from(partition.partition_index) else {
                continue;
            };
            let line = lines.entry((topic.name.to_string(), index)).or_default();
            line.committed = Some(partition.committed_offset).filter(|offset| *offset >= 0);
            line.metadata = partition
                .metadata
                .map_or(String::new(), |text| text.to_string());
        }
    }
    let mut members = Vec::with_capacity(described.members.len());
    for member in described.members {
        for place in assignment::partitions(&member.member_assignment) {
            lines.entry(place).or_default().member = Some(member.member_id.to_string());
        }
        members.push(Member {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
        });
    }
    let _held = face.memory().take(LINE_BYTES * lines.len())?;
    let partitions = measured(&face, lines).await?;
    Ok(Json(DescribedGroup {
        group,
        state: described.group_state.to_string(),
        protocol_type: described.protocol_type.to_string(),
        protocol: described.protocol_data.to_string(),
        coordinator: core.0,
        members,
        lag: partitions
            .iter()
            .filter_map(|partition| partition.lag)
            .sum(),
        partitions,
    }))
}

/// What is known of a partition of a group.
#[derive(Default)]
struct Line {
    committed: Option<i64>,
    metadata: String,
    member: Option<String>,
}

/// Sets the ends of the partitions beside what was committed.
async fn measured(
    face: &Face,
    lines: BTreeMap<(String, u32), Line>,
) -> Result<Vec<GroupPartition>, Problem> {
    let mut topics: HashMap<&str, Option<Located>> = HashMap::new();
    let mut owned: BTreeMap<CoreId, Vec<PartitionId>> = BTreeMap::new();
    for (name, partition) in lines.keys() {
        if !topics.contains_key(name.as_str()) {
            topics.insert(name, find(face, name).await.ok());
        }
        // A topic, or a partition, may be gone.
        if let Some(Some(topic)) = topics.get(name.as_str())
            && let Ok(owner) = topic.owner(*partition)
        {
            let id = PartitionId::new(topic.number, *partition);
            owned.entry(owner).or_default().push(id);
        }
    }
    let bounds = bounds(face, owned.into_iter().collect()).await?;
    let numbers: HashMap<String, _> = topics
        .into_iter()
        .filter_map(|(name, topic)| Some((name.to_owned(), topic?.number)))
        .collect();
    let measured = lines.into_iter().map(|((topic, partition), line)| {
        let id = numbers
            .get(&topic)
            .map(|number| PartitionId::new(*number, partition));
        let found = id.and_then(|id| bounds.get(&id)).copied();
        let lag =
            found.map(|(start, end)| (end - line.committed.unwrap_or(start).max(start)).max(0));
        GroupPartition {
            topic,
            partition,
            committed_offset: line.committed,
            metadata: line.metadata,
            end_offset: found.map(|(_, end)| end),
            lag,
            member_id: line.member,
        }
    });
    Ok(measured.collect())
}

/// Deletes a consumer group without members, with its offsets.
#[utoipa::path(
    delete, path = "/groups/{group}", tag = "groups", operation_id = "deleteGroup",
    params(("group" = String, Path, description = "The group's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such group", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has members", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(face): State<Face>,
    PathOf(group): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let core = coordinator_of(&face, &group);
    let id = GroupId(StrBytes::from_string(group.clone()));
    let request = DeleteGroupsRequest::default().with_groups_names(vec![id]);
    let answer = face.ask(core, |core| async move {
        delete_groups::handle(&core, request).await
    });
    for result in answer.await?.results {
        Problem::check(result.error_code, || {
            match ResponseError::try_from_code(result.error_code) {
                Some(ResponseError::NonEmptyGroup) => {
                    format!("group {group:?} has members; stop its consumers first")
                }
                _ => format!("group {group:?} was not deleted"),
            }
        })?;
    }
    Ok(StatusCode::NO_CONTENT)
}
