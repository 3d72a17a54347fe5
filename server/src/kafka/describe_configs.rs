//! DescribeConfigs, of topics and of brokers: values, where they come from and would come from
//! otherwise (synonyms), types, documentation. What a broker runs by cannot be changed while the
//! node runs.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{ConfigEntry, ConfigType};

use super::bounds::{Field, Shape, field};
use super::broker_configs::{self, BrokerEntry};
use super::config_resource::{BROKER, Refusal, TOPIC, check_broker, no_such_topic, no_such_type};
use crate::config::Settings;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Fixed(1)),
    field(Shape::Text),
    field(Shape::Values(&Shape::Text)),
]))];

/// Where a value comes from.
const SET_ON_TOPIC: i8 = 1;
const SET_AT_START: i8 = 4;
const DEFAULT: i8 = 5;

/// Versions before it do not tell types and documentation.
const TYPES_SINCE: i16 = 3;

/// Resources that one request describes: each answer has some KiB, however short the question.
const RESOURCES: usize = 1_000;

/// Where the value of a topic's entry comes from.
#[must_use]
pub fn source_of(entry: &ConfigEntry<'_>) -> i8 {
    if entry.is_default {
        DEFAULT
    } else {
        SET_ON_TOPIC
    }
}

/// What a request wants to know beside the values.
#[derive(Clone, Copy, Debug)]
struct Detail {
    synonyms: bool,
    types: bool,
    documentation: bool,
}

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let types = version >= TYPES_SINCE;
    let detail = Detail {
        synonyms: request.include_synonyms,
        types,
        documentation: types && request.include_documentation,
    };
    let mut results = Vec::with_capacity(request.resources.len());
    for (place, resource) in request.resources.iter().enumerate() {
        let described = if place < RESOURCES {
            describe(core, resource, detail)
        } else {
            let message = format!("one request describes {RESOURCES} resources; ask again");
            Err((ResponseError::InvalidRequest, message))
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        results.push(match described {
            Ok(configs) => result.with_error_message(None).with_configs(configs),
            Err((code, message)) => result
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_string(message))),
        });
        tokio::task::yield_now().await;
    }
    DescribeConfigsResponse::default().with_results(results)
}

fn describe(
    core: &CoreHandle,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let keys = resource
        .configuration_keys
        .as_deref()
        .filter(|keys| !keys.is_empty());
    let wanted = |name: &str| keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => core.with(|core| {
            let topic = core.topics.by_name(name);
            let topic = topic.ok_or_else(|| no_such_topic(name))?;
            let entries = topic.config.entries().filter(|entry| wanted(entry.name));
            Ok(entries.map(|entry| topic_entry(&entry, detail)).collect())
        }),
        // What all brokers were given while they run: nothing can be.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            check_broker(core, name)?;
            let settings = core.settings();
            let entries = broker_configs::entries(settings, name).into_iter();
            let entries = entries.filter(|entry| wanted(entry.name));
            Ok(entries
                .map(|entry| broker_entry(entry, settings, detail))
                .collect())
        }
        other => Err(no_such_type(other)),
    }
}

fn topic_entry(entry: &ConfigEntry<'_>, detail: Detail) -> DescribeConfigsResourceResult {
    let value = Some(StrBytes::from_string(entry.value.to_owned()));
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(value.clone())
        .with_read_only(entry.read_only)
        .with_config_source(source_of(entry));
    if detail.synonyms {
        let synonym = |name, value, source| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(value)
                .with_source(source)
        };
        let set = (!entry.is_default).then(|| synonym(entry.name, value, SET_ON_TOPIC));
        let default = Some(StrBytes::from_static_str(entry.default));
        let default = synonym(entry.broker_name.unwrap_or(entry.name), default, DEFAULT);
        result = result.with_synonyms(set.into_iter().chain([default]).collect());
    }
    if detail.types {
        result = result.with_config_type(type_code(entry.config_type));
    }
    let documentation = StrBytes::from_static_str(entry.documentation);
    result.with_documentation(detail.documentation.then_some(documentation))
}

fn type_code(config_type: ConfigType) -> i8 {
    match config_type {
        ConfigType::Boolean => 1,
        ConfigType::String => 2,
        ConfigType::Int => 3,
        ConfigType::Long => 5,
        ConfigType::Double => 6,
        ConfigType::List => 7,
    }
}

fn broker_entry(
    entry: BrokerEntry,
    settings: &Settings,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let source = if entry.is_set(settings) {
        SET_AT_START
    } else {
        DEFAULT
    };
    let name = StrBytes::from_static_str(entry.name);
    let value = Some(StrBytes::from_string(entry.value));
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(name.clone())
        .with_value(value.clone())
        .with_read_only(true)
        .with_config_source(source);
    if detail.synonyms {
        let synonym = DescribeConfigsSynonym::default()
            .with_name(name)
            .with_value(value);
        result = result.with_synonyms(vec![synonym.with_source(source)]);
    }
    if detail.types {
        result = result.with_config_type(type_code(entry.config_type));
    }
    let documentation = StrBytes::from_static_str(entry.documentation);
    result.with_documentation(detail.documentation.then_some(documentation))
}
