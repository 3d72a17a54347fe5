//! Topics: listed, made, described, given more partitions, deleted.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_types::TopicNumber;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::configs;
use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::paging;
use super::partitions::bounds;
use super::problem::Problem;
use super::whereabouts::{CONTROLLER, find, unknown};
use crate::kafka::limits::STEP_PARTITIONS;
use crate::kafka::{create_partitions, create_topics, delete_topics};
use crate::node::core::CoreHandle;

/// The version of CreateTopics with ids in its answer.
const CREATE_TOPICS: i16 = 7;
/// The version of DeleteTopics in which topics are named by id.
const DELETE_TOPICS: i16 = 6;

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Begin behind this name: the `next` of the answer before.
    after: Option<String>,
    /// How many; at most 10,000, 1,000 if it is not said.
    limit: Option<usize>,
}

/// A topic in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedTopic {
    name: String,
    /// Its id, a UUID.
    id: String,
    /// How many partitions it has.
    partitions: usize,
}

/// Topics, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicList {
    topics: Vec<ListedTopic>,
    /// There are more: ask with `after` set to this.
    next: Option<String>,
}

/// Lists topics, by name.
#[utoipa::path(
    get, path = "/topics", tag = "topics", operation_id = "listTopics", params(PageQuery),
    responses((status = 200, description = "The topics", body = TopicList))
)]
pub(super) async fn list(
    State(face): State<Face>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<TopicList>, Problem> {
    let mut topics = face
        .ask(CONTROLLER, |core| async move { all(&core).await })
        .await?;
    topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    paging::behind(&mut topics, page.after.as_deref(), |topic| &topic.name);
    let most = paging::most(page.limit);
    let next = paging::cut(&mut topics, most, |topic| &topic.name);
    Ok(Json(TopicList { topics, next }))
}

/// On core 0: every topic, in steps.
async fn all(core: &CoreHandle) -> Vec<ListedTopic> {
    let numbers: Vec<TopicNumber> =
        core.with(|state| state.topics.iter().map(|topic| topic.number).collect());
    let mut topics = Vec::with_capacity(numbers.len());
    for step in numbers.chunks(STEP_PARTITIONS) {
        tokio::task::yield_now().await;
        core.with(|state| {
            // A topic may be deleted meanwhile.
            let found = step
                .iter()
                .filter_map(|number| state.topics.by_number(*number));
            topics.extend(found.map(|topic| ListedTopic {
                name: topic.name.clone(),
                id: Uuid::from_bytes(topic.id.0).to_string(),
                partitions: topic.partitions.len(),
            }));
        });
    }
    topics
}

/// A topic to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTopic {
    /// Its name.
    name: String,
    /// How many partitions; the node's `num_partitions` if it is not said.
    partitions: Option<i32>,
    /// 1: a node keeps one copy.
    replication_factor: Option<i16>,
    /// Configuration that differs from the defaults, such as `retention.ms`.
    #[serde(default)]
    configs: BTreeMap<String, serde_json::Value>,
    /// Only check whether it could be made.
    #[serde(default)]
    validate_only: bool,
}

/// A topic that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeTopic {
    name: String,
    /// Its id, a UUID; of one that was only checked all zeros.
    id: String,
    partitions: i32,
}

/// Makes a topic. Answered when it is durable and every core knows it.
#[utoipa::path(
    post, path = "/topics", tag = "topics", operation_id = "createTopic", request_body = NewTopic,
    responses(
        (status = 201, description = "It is there", body = MadeTopic),
        (status = 200, description = "It could be made (`validate_only`)", body = MadeTopic),
        (status = 400, description = "Its name, partitions or configuration cannot be", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is one of this name", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wanted: NewTopic = face.json(&headers, body).await?;
    let configs = configs::values(wanted.configs)?
        .into_iter()
        .map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name))
                .with_value(value.map(StrBytes::from_string))
        });
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_string(wanted.name.clone())))
        .with_num_partitions(wanted.partitions.unwrap_or(-1))
        .with_replication_factor(wanted.replication_factor.unwrap_or(-1))
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_validate_only(wanted.validate_only);
    let answer = face.ask(CONTROLLER, |core| async move {
        create_topics::handle(&core, CREATE_TOPICS, request).await
    });
    let result = answer.await?.topics.into_iter().next();
    let result = result
        .ok_or_else(|| Problem::of(ResponseError::UnknownServerError, "core 0 did not answer"))?;
    Problem::check(result.error_code, || text(result.error_message.as_ref()))?;
    let made = MadeTopic {
        id: result.topic_id.to_string(),
        partitions: result.num_partitions,
        name: wanted.name,
    };
    if wanted.validate_only {
        return Ok(Json(made).into_response());
    }
    // A topic's name needs no escapes in a path.
    let place = HeaderValue::from_str(&format!("/topics/{}", made.name));
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    if let Ok(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn text(message: Option<&StrBytes>) -> String {
    message
        .map_or("the topic was refused", StrBytes::as_str)
        .to_owned()
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DescribedTopic {
    name: String,
    /// Its id, a UUID.
    id: String,
    /// Its partitions, by number.
    partitions: Vec<DescribedPartition>,
    /// Configuration that differs from the defaults.
    configs: BTreeMap<String, String>,
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DescribedPartition {
    partition: u32,
    /// The core that owns it.
    core: u16,
    leader_epoch: i32,
    /// First offset.
    start_offset: i64,
    /// Behind the last record.
    end_offset: i64,
}

/// Describes a topic: its partitions with their offsets, and its configuration.
#[utoipa::path(
    get, path = "/topics/{topic}", tag = "topics", operation_id = "describeTopic",
    params(("topic" = String, Path, description = "Name of the topic")),
    responses(
        (status = 200, description = "The topic", body = DescribedTopic),
        (status = 404, description = "There is no such topic", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn describe(
    State(face): State<Face>,
    PathOf(topic): PathOf<String>,
) -> Result<Json<DescribedTopic>, Problem> {
    let topic = find(&face, &topic).await?;
    let configs = configs::of(&face, &topic).await?;
    let configs = configs.into_iter().filter(|entry| !entry.is_default);
    let owned = topic.by_owner(0..topic.partition_count())?;
    let bounds = bounds(&face, owned.clone()).await?;
    let mut partitions = Vec::with_capacity(bounds.len());
    for (core, owned) in owned {
        for partition in owned {
            let (start_offset, end_offset) = bounds.get(&partition).copied().unwrap_or((0, 0));
            partitions.push(DescribedPartition {
                partition: partition.index(),
                core: core.0,
                leader_epoch: topic.leader_epoch(partition.index()),
                start_offset,
                end_offset,
            });
        }
    }
    partitions.sort_unstable_by_key(|partition| partition.partition);
    Ok(Json(DescribedTopic {
        id: Uuid::from_bytes(topic.id.0).to_string(),
        name: topic.name,
        partitions,
        configs: configs.map(|entry| (entry.name, entry.value)).collect(),
    }))
}

/// What a topic shall be like.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlteredTopic {
    /// How many partitions in all: more than it has.
    partitions: i32,
    /// Only check whether it could be.
    #[serde(default)]
    validate_only: bool,
}

/// Gives a topic more partitions. Records with a key may go to another partition from then on.
#[utoipa::path(
    patch, path = "/topics/{topic}", tag = "topics", operation_id = "alterTopic", request_body = AlteredTopic,
    params(("topic" = String, Path, description = "Name of the topic")),
    responses(
        (status = 204, description = "It has them"),
        (status = 400, description = "Not a number of partitions that it can have", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such topic", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn alter(
    State(face): State<Face>,
    PathOf(topic): PathOf<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let wanted: AlteredTopic = face.json(&headers, body).await?;
    let topic = CreatePartitionsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic)))
        .with_count(wanted.partitions)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_validate_only(wanted.validate_only);
    let answer = face.ask(CONTROLLER, |core| async move {
        create_partitions::handle(&core, request).await
    });
    for result in answer.await?.results {
        Problem::check(result.error_code, || text(result.error_message.as_ref()))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a topic with all its records, for good.
#[utoipa::path(
    delete, path = "/topics/{topic}", tag = "topics", operation_id = "deleteTopic",
    params(("topic" = String, Path, description = "Name of the topic")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such topic", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(face): State<Face>,
    PathOf(topic): PathOf<String>,
) -> Result<StatusCode, Problem> {
    let named = DeleteTopicState::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.clone()))));
    let request = DeleteTopicsRequest::default().with_topics(vec![named]);
    let answer = face.ask(CONTROLLER, |core| async move {
        delete_topics::handle(&core, DELETE_TOPICS, request).await
    });
    for result in answer.await?.responses {
        if result.error_code == ResponseError::UnknownTopicOrPartition.code() {
            return Err(unknown(&topic));
        }
        Problem::check(result.error_code, || text(result.error_message.as_ref()))?;
    }
    Ok(StatusCode::NO_CONTENT)
}
