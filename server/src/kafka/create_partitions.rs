//! CreatePartitions: more partitions for topics that exist.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::TopicCommand;

use super::bounds::{Field, Shape, field};
use super::create_topics::named_twice;
use super::errors;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Text),
    field(Shape::Fixed(4)),
    field(Shape::Structs(&[field(Shape::Values(&Shape::Fixed(4)))])),
]))];

/// Answers a request.
///
/// Cancellation: partitions that are being added are added all the same.
pub async fn handle(
    core: &CoreHandle,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let outcome = if twice.contains(topic.name.as_str()) {
            let message = "the request names this topic more than once";
            Err((ResponseError::InvalidRequest, message.to_owned()))
        } else {
            add(core, topic, request.validate_only).await
        };
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        results.push(match outcome {
            Ok(()) => result,
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_string(message))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn add(
    core: &CoreHandle,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), (ResponseError, String)> {
    if topic.assignments.is_some() {
        let message = "partitions cannot be assigned to brokers by hand: the node spreads them \
                       over its cores; leave the assignment out";
        return Err((ResponseError::InvalidReplicaAssignment, message.to_owned()));
    }
    let number = core.with(|core| core.topics.by_name(&topic.name).map(|topic| topic.number));
    let Some(number) = number else {
        let message = format!("there is no topic {:?}", topic.name.as_str());
        return Err((ResponseError::UnknownTopicOrPartition, message));
    };
    let Ok(total) = u32::try_from(topic.count) else {
        let message = format!("{} partitions are not possible", topic.count);
        return Err((ResponseError::InvalidPartitions, message));
    };
    let command = TopicCommand::AddPartitions { number, total };
    if validate_only {
        let checked = core.with(|core| core.topics.validate(&command));
        return checked.map_err(|error| (errors::of_topic(&error), error.to_string()));
    }
    match core.control(command).await {
        Ok(_) => {
            tracing::info!(core = %core.id(), topic = %topic.name.as_str(), total, "added partitions");
            Ok(())
        }
        Err(error) => Err((errors::of_control(&error), error.to_string())),
    }
}
