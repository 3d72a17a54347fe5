//! DescribeConfigs, of topics and of brokers. What a broker runs by comes from the node's
//! settings, under the names that Kafka's tools look for; it is the same for every core and
//! cannot be changed while the node runs.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{ConfigEntry, ConfigType};

use super::bounds::{Field, Shape, field};
use crate::config::Settings;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Fixed(1)),
    field(Shape::Text),
    field(Shape::Values(&Shape::Text)),
]))];

/// Types of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

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

type Refusal = (ResponseError, String);

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
            let topic = core.topics.by_name(name).ok_or_else(|| {
                (
                    ResponseError::UnknownTopicOrPartition,
                    format!("there is no topic {name:?}"),
                )
            })?;
            let entries = topic.config.entries().filter(|entry| wanted(entry.name));
            Ok(entries.map(|entry| topic_entry(&entry, detail)).collect())
        }),
        // What all brokers were given while they run: nothing can be.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            let brokers = core.topology().brokers();
            let known = brokers.iter().any(|broker| broker.id.0.to_string() == name);
            if !known {
                let message = format!("there is no broker {name:?}");
                return Err((ResponseError::InvalidRequest, message));
            }
            let entries = broker_entries(core.settings(), name);
            let entries = entries.into_iter().filter(|entry| wanted(entry.name));
            Ok(entries.map(|entry| entry.describe(detail)).collect())
        }
        other => {
            let message = format!("resources of type {other} have no configuration here");
            Err((ResponseError::InvalidRequest, message))
        }
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
        let synonym = |value, source| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(entry.name))
                .with_value(value)
                .with_source(source)
        };
        let set = (!entry.is_default).then(|| synonym(value, SET_ON_TOPIC));
        let default = synonym(Some(StrBytes::from_static_str(entry.default)), DEFAULT);
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

/// A broker's entry.
struct BrokerEntry {
    name: &'static str,
    value: String,
    config_type: ConfigType,
    documentation: &'static str,
}

impl BrokerEntry {
    fn describe(self, detail: Detail) -> DescribeConfigsResourceResult {
        let name = StrBytes::from_static_str(self.name);
        let value = Some(StrBytes::from_string(self.value));
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(name.clone())
            .with_value(value.clone())
            .with_read_only(true)
            .with_config_source(SET_AT_START);
        if detail.synonyms {
            let synonym = DescribeConfigsSynonym::default()
                .with_name(name)
                .with_value(value);
            result = result.with_synonyms(vec![synonym.with_source(SET_AT_START)]);
        }
        if detail.types {
            result = result.with_config_type(type_code(self.config_type));
        }
        let documentation = StrBytes::from_static_str(self.documentation);
        result.with_documentation(detail.documentation.then_some(documentation))
    }
}

fn broker_entries(settings: &Settings, broker: &str) -> Vec<BrokerEntry> {
    let entry = |name, config_type, value: String, documentation| BrokerEntry {
        name,
        value,
        config_type,
        documentation,
    };
    let ms = |duration: std::time::Duration| duration.as_millis().to_string();
    let bytes = |bytes: usize| bytes.to_string();
    use ConfigType::{Boolean, Int, Long, String as Text};
    vec![
        entry(
            "auto.create.topics.enable",
            Boolean,
            settings.auto_create_topics.to_string(),
            "Whether a topic is created when a client asks for one that is not there \
             (auto_create_topics).",
        ),
        entry(
            "broker.id",
            Int,
            broker.to_owned(),
            "The core that this broker is.",
        ),
        entry(
            "connections.max.idle.ms",
            Long,
            ms(settings.connection_idle),
            "A connection without a request for this long is closed (connection_idle_ms).",
        ),
        entry(
            "default.replication.factor",
            Int,
            "1".to_owned(),
            "Copies of a partition: a node keeps one.",
        ),
        entry(
            "delete.topic.enable",
            Boolean,
            "true".to_owned(),
            "Whether topics can be deleted.",
        ),
        entry(
            "log.dirs",
            Text,
            listed(&settings.data_dirs),
            "Where everything durable lies (data_dir).",
        ),
        entry(
            "log.retention.check.interval.ms",
            Long,
            ms(settings.retention_check),
            "How often retention is looked at (retention_check_ms).",
        ),
        entry(
            "log.segment.bytes",
            Long,
            settings.segment_bytes.to_string(),
            "Length of a segment file, which all partitions of a core share (segment_bytes).",
        ),
        entry(
            "max.connections",
            Int,
            bytes(settings.max_connections),
            "Connections that a core keeps (max_connections).",
        ),
        entry(
            "min.insync.replicas",
            Int,
            "1".to_owned(),
            "Copies that must have a record before it is acknowledged: the only one.",
        ),
        entry(
            "num.partitions",
            Int,
            settings.num_partitions.to_string(),
            "Partitions of a topic whose creator does not say how many (num_partitions).",
        ),
        entry(
            "producer.id.expiration.ms",
            Long,
            ms(settings.producer_expiry),
            "A producer that is silent for this long is forgotten (producer_expiry_ms).",
        ),
        entry(
            "socket.request.max.bytes",
            Int,
            bytes(settings.max_request_bytes),
            "Largest request (max_request_bytes).",
        ),
    ]
}
/// Directories as Kafka lists them.
fn listed(paths: &[std::path::PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(",")
}
