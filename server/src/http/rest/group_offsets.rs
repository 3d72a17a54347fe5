//! Offsets of consumer groups, committed and forgotten from outside: for groups without members,
//! as Kafka's own tools do it.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetDeleteRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::groups::coordinator_of;
use super::limits::OFFSETS_PER_REQUEST;
use super::problem::{Problem, name_of};
use super::whereabouts::find;
use crate::kafka::groups::{offset_commit, offset_delete};

/// The version of OffsetCommit.
const OFFSET_COMMIT: i16 = 8;
/// The generation of who is no member (`OffsetCommitRequest.DEFAULT_GENERATION_ID`).
const NO_GENERATION: i32 = -1;

/// An offset of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupOffset {
    topic: String,
    partition: u32,
    /// The next offset that the group wants.
    offset: i64,
    /// Kept with it.
    #[serde(default)]
    metadata: String,
}

/// Offsets of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupOffsets {
    offsets: Vec<GroupOffset>,
}

#[derive(Serialize)]
struct Refused {
    topic: String,
    partition: i32,
    error: String,
}

/// Commits offsets of a consumer group that has no members. A group that is not there is made.
/// Answered when they are durable.
#[utoipa::path(
    post, path = "/groups/{group}/offsets", tag = "groups", operation_id = "commitGroupOffsets", request_body = GroupOffsets,
    params(("group" = String, Path, description = "The group's id")),
    responses(
        (status = 204, description = "They are committed"),
        (status = 400, description = "Not offsets that can be committed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such topic or partition", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The group has members: they commit", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn commit(
    State(face): State<Face>,
    PathOf(group): PathOf<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let wanted: GroupOffsets = face.json(&headers, body).await?;
    if wanted.offsets.len() > OFFSETS_PER_REQUEST {
        let detail = format!("a request has {OFFSETS_PER_REQUEST} offsets at the most");
        return Err(Problem::wrong(detail));
    }
    let mut topics: BTreeMap<String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for offset in wanted.offsets {
        let GroupOffset {
            topic,
            partition,
            offset,
            metadata,
        } = offset;
        if offset < 0 {
            let detail = format!("offset {offset} of {topic:?} partition {partition} is below 0");
            return Err(Problem::wrong(detail));
        }
        let committed = OffsetCommitRequestPartition::default()
            .with_partition_index(i32::try_from(partition).unwrap_or(-1))
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_string(metadata)));
        topics.entry(topic).or_default().push(committed);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(StrBytes::from_string(name)))
            .with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.clone())))
        .with_generation_id_or_member_epoch(NO_GENERATION)
        .with_topics(topics.collect());
    let answer = face.ask(coordinator_of(&face, &group), |core| async move {
        offset_commit::handle(&core, OFFSET_COMMIT, request).await
    });
    let topics = answer.await?.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions =
            partitions.map(|partition| (partition.partition_index, partition.error_code));
        (topic.name.to_string(), partitions.collect())
    });
    outcome(&group, "committed", topics)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which offsets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ForgetQuery {
    /// Of this topic.
    topic: String,
    /// Of this partition only.
    partition: Option<u32>,
}

/// Forgets offsets of a consumer group, of a topic that none of its members reads.
#[utoipa::path(
    delete, path = "/groups/{group}/offsets", tag = "groups", operation_id = "forgetGroupOffsets",
    params(("group" = String, Path, description = "The group's id"), ForgetQuery),
    responses(
        (status = 204, description = "They are forgotten"),
        (status = 400, description = "No topic is named", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such group, topic or partition", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Members of the group read the topic", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn forget(
    State(face): State<Face>,
    PathOf(group): PathOf<String>,
    QueryOf(query): QueryOf<ForgetQuery>,
) -> Result<StatusCode, Problem> {
    let topic = find(&face, &query.topic).await?;
    let partitions = match query.partition {
        Some(partition) => partition..partition.saturating_add(1),
        None => 0..topic.partition_count(),
    };
    let partitions = partitions.map(|partition| {
        let index = i32::try_from(partition).unwrap_or(-1);
        OffsetDeleteRequestPartition::default().with_partition_index(index)
    });
    let of_topic = OffsetDeleteRequestTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name)))
        .with_partitions(partitions.collect());
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.clone())))
        .with_topics(vec![of_topic]);
    let answer = face.ask(coordinator_of(&face, &group), |core| async move {
        offset_delete::handle(&core, request).await
    });
    let answer = answer.await?;
    Problem::check(answer.error_code, || {
        format!("offsets of group {group:?} cannot be forgotten")
    })?;
    let topics = answer.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions =
            partitions.map(|partition| (partition.partition_index, partition.error_code));
        (topic.name.to_string(), partitions.collect())
    });
    outcome(&group, "forgotten", topics)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A problem, if any of the partitions was refused.
fn outcome(
    group: &str,
    what: &str,
    topics: impl Iterator<Item = (String, Vec<(i32, i16)>)>,
) -> Result<(), Problem> {
    let mut refused = Vec::new();
    let mut first: Option<ResponseError> = None;
    let mut count = 0;
    for (topic, partitions) in topics {
        for (partition, code) in partitions {
            count += 1;
            if let Some(error) = ResponseError::try_from_code(code) {
                first = first.or(Some(error));
                refused.push(Refused {
                    topic: topic.clone(),
                    partition,
                    error: name_of(error),
                });
            }
        }
    }
    let Some(error) = first else {
        return Ok(());
    };
    let advice = match error {
        ResponseError::UnknownMemberId => "; the group has members: stop its consumers first",
        _ => "",
    };
    let detail = format!(
        "{} of {count} offsets of group {group:?} were not {what}{advice}",
        refused.len()
    );
    let problem = Problem::of(error, detail);
    Err(problem.with_records(serde_json::to_value(refused).unwrap_or_default()))
}
