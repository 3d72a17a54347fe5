//! IncrementalAlterConfigs (KIP-339): changes single entries of the configuration of topics.
//! Decided and made durable by core 0; answered when every core knows it. Brokers cannot be
//! configured while they run.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ringlog_engine::topics::{ConfigChange, TopicCommand};

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
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Fixed(1)),
        field(Shape::Text),
    ])),
]))];

/// What becomes of an entry.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Answers a request.
///
/// Cancellation: topics that are being configured are configured all the same.
pub async fn handle(
    core: &CoreHandle,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let resources = &request.resources;
    let outcomes = change_each(
        resources,
        |resource| (resource.resource_type, &*resource.resource_name),
        async |resource| alter(core, resource, request.validate_only).await,
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
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

async fn alter(
    core: &CoreHandle,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let entries = resource.configs.iter();
    check_entries(entries.map(|config| {
        let needs_none = config.config_operation == DELETE;
        (config.name.as_str(), needs_none || config.value.is_some())
    }))?;
    let changes = resource.configs.iter().map(change);
    let changes: Vec<(String, ConfigChange)> = changes.collect::<Result<_, _>>()?;
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let number = topic_number(core, name)?;
            let command = TopicCommand::AlterConfigs { number, changes };
            configure_topic(core, name, command, validate_only).await
        }
        BROKER => {
            let given = changes
                .iter()
                .filter(|(_, change)| *change != ConfigChange::Reset);
            check_broker_entries(core, name, given.map(|(name, _)| name.as_str()))
        }
        other => Err(no_such_type(other)),
    }
}

fn change(config: &AlterableConfig) -> Result<(String, ConfigChange), Refusal> {
    let value = || config.value.as_deref().unwrap_or_default().to_owned();
    let change = match config.config_operation {
        SET => ConfigChange::Set(value()),
        DELETE => ConfigChange::Reset,
        APPEND => ConfigChange::Append(value()),
        SUBTRACT => ConfigChange::Subtract(value()),
        other => {
            let message = format!("no change of a configuration has the number {other}");
            return Err((ResponseError::InvalidRequest, message));
        }
    };
    Ok((config.name.to_string(), change))
}
