//! DeleteTopics, by name and by id.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::TopicCommand;
use uuid::Uuid;

use super::bounds::{Field, Shape, field_since, field_until};
use super::errors;
use super::topic_ref::TopicRef;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field_since(
        6,
        Shape::Structs(&[
            field_since(6, Shape::Text),
            field_since(6, Shape::Fixed(16)),
        ]),
    ),
    field_until(5, Shape::Values(&Shape::Text)),
];

const MESSAGE_SINCE: i16 = 5;
const TOPIC_ID_SINCE: i16 = 6;

/// Answers a request.
///
/// Cancellation: topics that are being deleted are deleted all the same.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| {
        DeleteTopicState::default()
            .with_name(Some(name))
            .with_topic_id(Uuid::nil())
    });
    let asked: Vec<DeleteTopicState> = by_name.chain(request.topics).collect();
    let mut seen = HashSet::new();
    let mut responses = Vec::with_capacity(asked.len());
    for topic in asked {
        let outcome = match named(&topic) {
            Err(refusal) => Err(refusal),
            Ok(topic) if seen.contains(&topic) => {
                let message = "the request names this topic more than once";
                Err((ResponseError::InvalidRequest, message.to_owned()))
            }
            Ok(topic) => {
                let outcome = delete(core, &topic).await;
                seen.insert(topic);
                outcome
            }
        };
        responses.push(result(version, topic, outcome));
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

type Refusal = (ResponseError, String);

fn named(topic: &DeleteTopicState) -> Result<TopicRef, Refusal> {
    match (&topic.name, topic.topic_id.is_nil()) {
        (Some(name), true) => Ok(TopicRef::Name(name.as_str().into())),
        (None, false) => Ok(TopicRef::Id(topic.topic_id.into_bytes())),
        (Some(_), false) => {
            let message = "a topic is named by its name or by its id, not by both";
            Err((ResponseError::InvalidRequest, message.to_owned()))
        }
        (None, true) => {
            let message = "neither a topic's name nor its id was given";
            Err((ResponseError::InvalidRequest, message.to_owned()))
        }
    }
}

/// What the topic was called, when it is gone.
async fn delete(core: &CoreHandle, topic: &TopicRef) -> Result<(String, Uuid), Refusal> {
    let found = core.with(|core| {
        let found = topic.find(&core.topics)?;
        Some((
            found.number,
            found.name.clone(),
            Uuid::from_bytes(found.id.0),
        ))
    });
    let Some((number, name, id)) = found else {
        let code = match topic {
            TopicRef::Name(_) => ResponseError::UnknownTopicOrPartition,
            TopicRef::Id(_) => ResponseError::UnknownTopicId,
        };
        return Err((code, format!("there is no topic {topic}")));
    };
    match core.control(TopicCommand::Delete { number }).await {
        Ok(_) => {
            tracing::info!(core = %core.id(), topic = %name, "deleted a topic");
            Ok((name, id))
        }
        Err(error) => Err((errors::of_control(&error), error.to_string())),
    }
}

fn result(
    version: i16,
    topic: DeleteTopicState,
    outcome: Result<(String, Uuid), Refusal>,
) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_name(topic.name);
    match outcome {
        Ok((name, id)) => {
            let result = result.with_name(Some(StrBytes::from_string(name).into()));
            if version < TOPIC_ID_SINCE {
                result
            } else {
                result.with_topic_id(id)
            }
        }
        Err((code, message)) => {
            let mut result = result.with_error_code(code.code());
            if version >= MESSAGE_SINCE {
                result = result.with_error_message(Some(StrBytes::from_string(message)));
            }
            if version < TOPIC_ID_SINCE {
                result
            } else {
                result.with_topic_id(topic.topic_id)
            }
        }
    }
}
