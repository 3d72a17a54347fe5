//! AlterConfigs, the older way: the configuration of a topic becomes what the request says, and
//! entries that it does not name go back to their defaults. Decided and made durable by core 0;
//! answered when every core knows it. Brokers cannot be configured while they run.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use ringlog_engine::topics::TopicCommand;

use super::bounds::{Field, Shape, field};
use super::config_resource::{
    BROKER, Refusal, TOPIC, change_each, check_broker_entries, check_entries, configure_topic,
    no_such_type, said, topic_number,
};
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Fixed(1)),
    field(Shape::Text),
    field(Shape::Structs(&[field(Shape::Text), field(Shape::Text)])),
]))];

/// Answers a request.
///
/// Cancellation: topics that are being configured are configured all the same.
pub async fn handle(core: &CoreHandle, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let resources = &request.resources;
    let outcomes = change_each(
        resources,
        |resource| (resource.resource_type, &*resource.resource_name),
        async |resource| replace(core, resource, request.validate_only).await,
    );
    let outcomes = resources.iter().zip(outcomes.await);
    let responses = outcomes.map(|(resource, outcome)| {
        let (code, message) = said(outcome);
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_code(code)
            .with_error_message(message)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

async fn replace(
    core: &CoreHandle,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let entries = resource.configs.iter();
    check_entries(entries.map(|config| (config.name.as_str(), config.value.is_some())))?;
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let number = topic_number(core, name)?;
            let configs = resource.configs.iter().map(|config| {
                let value = config.value.as_ref().map(|value| value.to_string());
                (config.name.to_string(), value)
            });
            let configs = configs.collect();
            let command = TopicCommand::ReplaceConfigs { number, configs };
            configure_topic(core, name, command, validate_only).await
        }
        BROKER => {
            let given = resource.configs.iter().map(|config| config.name.as_str());
            check_broker_entries(core, name, given)
        }
        other => Err(no_such_type(other)),
    }
}
