//! The configuration of topics.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use kafka_protocol::error::ResponseError;
use ringlog_engine::topics::{ConfigChange, ConfigType, TopicCommand};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::problem::Problem;
use super::whereabouts::{CONTROLLER, Located, find, unknown};
use crate::kafka::errors;

/// Entries as JSON has them: text, numbers, true or false; null for the default.
pub(super) type Wanted = BTreeMap<String, serde_json::Value>;

/// The entries as a configuration has them.
///
/// # Errors
/// When one is a list or an object.
pub(super) fn values(wanted: Wanted) -> Result<Vec<(String, Option<String>)>, Problem> {
    let values = wanted.into_iter().map(|(name, value)| {
        let text = match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(value) => Some(value.to_string()),
            _ => {
                let detail = format!("configuration {name:?} is neither text nor a number");
                return Err(Problem::of(ResponseError::InvalidConfig, detail));
            }
        };
        Ok((name, text))
    });
    values.collect()
}

/// An entry.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigEntry {
    pub name: String,
    pub value: String,
    /// Whether nobody has set it.
    pub is_default: bool,
    /// Whether no other value can be set.
    read_only: bool,
    /// The type of its value.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What it does.
    documentation: &'static str,
}

/// A topic's configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Configs {
    topic: String,
    /// Every entry, by name.
    configs: Vec<ConfigEntry>,
}

/// Shows a topic's configuration: every entry, set or not.
#[utoipa::path(
    get, path = "/topics/{topic}/configs", tag = "topics", operation_id = "describeTopicConfigs",
    params(("topic" = String, Path, description = "Name of the topic")),
    responses(
        (status = 200, description = "The configuration", body = Configs),
        (status = 404, description = "There is no such topic", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn describe(
    State(face): State<Face>,
    PathOf(topic): PathOf<String>,
) -> Result<Json<Configs>, Problem> {
    let topic = find(&face, &topic).await?;
    let configs = of(&face, &topic).await?;
    let topic = topic.name;
    Ok(Json(Configs { topic, configs }))
}

/// Every entry of a topic's configuration.
pub(super) async fn of(face: &Face, topic: &Located) -> Result<Vec<ConfigEntry>, Problem> {
    let number = topic.number;
    let found = face.ask(CONTROLLER, move |core| async move {
        core.with(|state| {
            let topic = state.topics.by_number(number)?;
            let entries = topic.config.entries().map(|entry| ConfigEntry {
                name: entry.name.to_owned(),
                value: entry.value.to_owned(),
                is_default: entry.is_default,
                read_only: entry.read_only,
                kind: kind_of(entry.config_type),
                documentation: entry.documentation,
            });
            Some(entries.collect())
        })
    });
    found.await?.ok_or_else(|| unknown(&topic.name))
}

fn kind_of(config_type: ConfigType) -> &'static str {
    match config_type {
        ConfigType::Boolean => "boolean",
        ConfigType::String => "string",
        ConfigType::Int => "int",
        ConfigType::Long => "long",
        ConfigType::Double => "double",
        ConfigType::List => "list",
    }
}

/// How.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlterQuery {
    /// Only check whether the values could be set.
    #[serde(default)]
    validate_only: bool,
}

/// Changes a topic's configuration. Entries that are not named stay as they are; `null` brings one back
/// to its default.
#[utoipa::path(
    patch, path = "/topics/{topic}/configs", tag = "topics", operation_id = "alterTopicConfigs",
    params(("topic" = String, Path, description = "Name of the topic"), AlterQuery),
    request_body(
        content = BTreeMap<String, serde_json::Value>,
        example = json!({"retention.ms": "3600000", "cleanup.policy": null})
    ),
    responses(
        (status = 204, description = "It is changed, durably"),
        (status = 400, description = "An entry or value that cannot be", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such topic", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn alter(
    State(face): State<Face>,
    PathOf(topic): PathOf<String>,
    QueryOf(query): QueryOf<AlterQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let wanted: Wanted = face.json(&headers, body).await?;
    let topic = find(&face, &topic).await?;
    let changes = values(wanted)?.into_iter().map(|(name, value)| {
        let change = value.map_or(ConfigChange::Reset, ConfigChange::Set);
        (name, change)
    });
    let command = TopicCommand::AlterConfigs {
        number: topic.number,
        changes: changes.collect(),
    };
    let changed = face.ask(CONTROLLER, move |core| async move {
        if query.validate_only {
            let checked = core.with(|state| state.topics.validate(&command));
            return checked.map_err(|error| (errors::of_topic(&error), error.to_string()));
        }
        let changed = core.control(command).await.map(|_| ());
        changed.map_err(|error| (errors::of_control(&error), error.to_string()))
    });
    changed
        .await?
        .map_err(|(code, detail)| Problem::of(code, detail))?;
    if !query.validate_only {
        tracing::info!(topic = %topic.name, "changed the configuration of a topic over HTTP");
    }
    Ok(StatusCode::NO_CONTENT)
}
