//! CreateTopics: decided and made durable by core 0; answered when every core knows the topics.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{Durability, MetadataRecord, TopicCommand, TopicConfig, TopicId};
use uuid::Uuid;

use super::bounds::{Field, Shape, field};
use super::describe_configs::source_of;
use super::errors;
use crate::config::{ReplicationPolicy, Settings};
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Text),
    field(Shape::Fixed(4)),
    field(Shape::Fixed(2)),
    field(Shape::Structs(&[
        field(Shape::Fixed(4)),
        field(Shape::Values(&Shape::Fixed(4))),
    ])),
    field(Shape::Structs(&[field(Shape::Text), field(Shape::Text)])),
]))];

/// Versions before it have no room for what was created.
const RESULT_SINCE: i16 = 5;
const TOPIC_ID_SINCE: i16 = 7;

/// Why a topic is not created.
type Refusal = (ResponseError, String);

/// Answers a request.
///
/// Cancellation: topics that are being created are created all the same.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let outcome = if twice.contains(topic.name.as_str()) {
            let message = "the request names this topic more than once";
            Err((ResponseError::InvalidRequest, message.to_owned()))
        } else {
            create(core, topic, request.validate_only).await
        };
        results.push(result(version, topic, outcome));
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// Names that stand in a request more than once.
pub fn named_twice<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let mut once = HashSet::new();
    names
        .filter(|name| !once.insert(*name))
        .map(str::to_owned)
        .collect()
}

/// What was created.
struct Created {
    id: TopicId,
    partitions: u32,
    config: TopicConfig,
}

async fn create(
    core: &CoreHandle,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<Created, Refusal> {
    let partitions = partitions_wanted(topic, core.settings())?;
    let configs = topic.configs.iter().map(|config| {
        (
            config.name.to_string(),
            config.value.as_ref().map(|value| value.to_string()),
        )
    });
    let command = TopicCommand::Create {
        name: topic.name.to_string(),
        partitions,
        configs: configs.collect(),
    };
    if validate_only {
        core.with(|core| core.topics.validate(&command))
            .map_err(|error| (errors::of_topic(&error), error.to_string()))?;
        // What it would be configured like is not known without creating it.
        return Ok(Created {
            id: TopicId::default(),
            partitions,
            config: TopicConfig::default(),
        });
    }
    match core.control(command).await {
        Ok(MetadataRecord::TopicCreated {
            id,
            config,
            partitions,
            name,
            ..
        }) => {
            tracing::info!(core = %core.id(), topic = %name, partitions = partitions.len(), "created a topic");
            if config.durability() < Durability::Flushed {
                tracing::warn!(
                    core = %core.id(), topic = %name, durability = config.durability().name(),
                    "the topic acknowledges records before they are on stable storage"
                );
            }
            Ok(Created {
                id,
                partitions: partitions.len() as u32,
                config,
            })
        }
        Ok(other) => {
            let message = format!("creating a topic was answered with {other:?}: a defect");
            Err((ResponseError::UnknownServerError, message))
        }
        Err(error) => Err((errors::of_control(&error), error.to_string())),
    }
}

/// How many partitions a topic shall have. The checks are those of Kafka's controller.
fn partitions_wanted(topic: &CreatableTopic, settings: &Settings) -> Result<u32, Refusal> {
    if !topic.assignments.is_empty() {
        let message = "partitions cannot be assigned to brokers by hand: the node spreads them \
                       over its cores; leave the assignment out";
        return Err((ResponseError::InvalidReplicaAssignment, message.to_owned()));
    }
    let replicas = topic.replication_factor;
    if replicas < -1 || replicas == 0 {
        let message = format!("a replication factor of {replicas} is not possible; use 1, or -1");
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    if replicas > 1 && settings.replication_policy == ReplicationPolicy::Refuse {
        let message = format!(
            "a replication factor of {replicas} was asked for, this node keeps one copy; use 1, or \
             set replication_policy = accept"
        );
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    match topic.num_partitions {
        -1 => Ok(settings.num_partitions),
        wanted => u32::try_from(wanted)
            .ok()
            .filter(|wanted| *wanted > 0)
            .ok_or_else(|| {
                let message = format!("{wanted} partitions are not possible; use 1 or more, or -1");
                (ResponseError::InvalidPartitions, message)
            }),
    }
}

fn result(
    version: i16,
    topic: &CreatableTopic,
    outcome: Result<Created, Refusal>,
) -> CreatableTopicResult {
    let result = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_message(None);
    match outcome {
        Err((code, message)) => result
            .with_error_code(code.code())
            .with_error_message(Some(StrBytes::from_string(message))),
        Ok(_) if version < RESULT_SINCE => result,
        Ok(created) => {
            let configs = created.config.entries().map(|entry| {
                CreatableTopicConfigs::default()
                    .with_name(StrBytes::from_static_str(entry.name))
                    .with_value(Some(StrBytes::from_string(entry.value.to_owned())))
                    .with_read_only(entry.read_only)
                    .with_config_source(source_of(&entry))
            });
            let result = result
                .with_num_partitions(i32::try_from(created.partitions).unwrap_or(i32::MAX))
                .with_replication_factor(1)
                .with_configs(Some(configs.collect()));
            if version < TOPIC_ID_SINCE {
                return result;
            }
            result.with_topic_id(Uuid::from_bytes(created.id.0))
        }
    }
}
