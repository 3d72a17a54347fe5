//! What can be configured: how requests name it, and what all requests about configurations
//! check alike.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{Durability, MetadataRecord, TopicCommand};
use ringlog_types::TopicNumber;

use super::broker_configs::{self, Basis};
use super::errors;
use crate::node::core::CoreHandle;

/// A topic, by its name.
pub const TOPIC: i8 = 2;

/// A broker, by its id; without one: all brokers, where they are given a value while they run.
pub const BROKER: i8 = 4;

/// Why something is not described or changed.
pub type Refusal = (ResponseError, String);

/// Resources that a request names more than once: which of them counts cannot be said.
pub fn named_twice<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> HashSet<(i8, &'a str)> {
    let mut once = HashSet::new();
    resources
        .filter(|resource| !once.insert(*resource))
        .collect()
}

/// The answer to such a resource.
#[must_use]
pub fn twice() -> Refusal {
    let message = "the request names this resource more than once";
    (ResponseError::InvalidRequest, message.to_owned())
}

/// Changes what a request names, one resource after the other, and says of each what became of it, in the
/// order of the request. `name` gives type and name of a resource, `change` is called for those that are
/// named once.
pub async fn change_each<T>(
    resources: &[T],
    name: impl Fn(&T) -> (i8, &str),
    change: impl AsyncFn(&T) -> Result<(), Refusal>,
) -> Vec<Result<(), Refusal>> {
    let mut outcomes = Vec::with_capacity(resources.len());
    let doubles = named_twice(resources.iter().map(&name));
    for resource in resources {
        outcomes.push(match doubles.contains(&name(resource)) {
            true => Err(twice()),
            false => change(resource).await,
        });
        tokio::task::yield_now().await;
    }
    outcomes
}

/// What an answer says of an outcome: the code, and the reason for people.
#[must_use]
pub fn said(outcome: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(()) => (0, None),
        Err((code, message)) => (code.code(), Some(StrBytes::from_string(message))),
    }
}

/// The answer to resources that have no configuration here.
#[must_use]
pub fn no_such_type(resource_type: i8) -> Refusal {
    let message = format!("resources of type {resource_type} have no configuration here");
    (ResponseError::InvalidRequest, message)
}

/// That a broker is one of this node.
///
/// # Errors
/// When it is not.
pub fn check_broker(core: &CoreHandle, name: &str) -> Result<(), Refusal> {
    let mut brokers = core.topology().brokers().iter();
    if brokers.any(|broker| broker.id.0.to_string() == name) {
        return Ok(());
    }
    let message = format!("there is no broker {name:?}");
    Err((ResponseError::InvalidRequest, message))
}

/// That none of these entries, each with its value, is named twice or has none.
///
/// # Errors
/// Which.
pub fn check_entries<'a>(entries: impl Iterator<Item = (&'a str, bool)>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for (name, has_value) in entries {
        let message = if !has_value {
            format!("{name:?} is to get a value, and the request has none")
        } else if !seen.insert(name) {
            format!("the request names {name:?} more than once for this resource")
        } else {
            continue;
        };
        return Err((ResponseError::InvalidRequest, message));
    }
    Ok(())
}

/// What becomes of entries that a broker is to be given while it runs: none can be. Entries that
/// go back to what they were at the start are that already.
///
/// # Errors
/// Why the first is refused.
pub fn check_broker_entries<'a>(
    core: &CoreHandle,
    broker: &str,
    mut given: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    if !broker.is_empty() {
        check_broker(core, broker)?;
    }
    match given.next() {
        None => Ok(()),
        Some(name) => Err(refuse_broker_entry(name)),
    }
}

fn refuse_broker_entry(name: &str) -> Refusal {
    let why = match broker_configs::basis(name) {
        None => {
            let message = format!("no broker configuration has the name {name:?}");
            return (ResponseError::InvalidConfig, message);
        }
        Some(Basis::Setting(setting)) => {
            format!("set {setting} for the node and start it again")
        }
        Some(Basis::Start) => "the start of the node decides it".to_owned(),
        Some(Basis::Fixed) => "it has no other value here".to_owned(),
        Some(Basis::Topics(topic_config)) => {
            format!("it is the default of topics; set {topic_config} of the topic")
        }
    };
    let message = format!("{name} cannot be changed while the node runs: {why}");
    (ResponseError::InvalidRequest, message)
}

/// The number of a topic that is to be configured.
///
/// # Errors
/// When there is no such topic.
pub fn topic_number(core: &CoreHandle, name: &str) -> Result<TopicNumber, Refusal> {
    if name.is_empty() {
        let message = "topics have no common configuration that could be changed; name a topic";
        return Err((ResponseError::InvalidRequest, message.to_owned()));
    }
    let number = core.with(|core| core.topics.by_name(name).map(|topic| topic.number));
    number.ok_or_else(|| no_such_topic(name))
}

/// The answer to a topic that is not there.
#[must_use]
pub fn no_such_topic(name: &str) -> Refusal {
    let message = format!("there is no topic {name:?}");
    (ResponseError::UnknownTopicOrPartition, message)
}

/// Configures a topic, or says whether it would be configured.
///
/// Cancellation: the topic is configured all the same.
///
/// # Errors
/// Why it is refused.
pub async fn configure_topic(
    core: &CoreHandle,
    name: &str,
    command: TopicCommand,
    validate_only: bool,
) -> Result<(), Refusal> {
    if validate_only {
        let checked = core.with(|core| core.topics.validate(&command));
        return checked.map_err(|error| (errors::of_topic(&error), error.to_string()));
    }
    let done = core.control(command).await;
    let record = done.map_err(|error| (errors::of_control(&error), error.to_string()))?;
    tracing::info!(core = %core.id(), topic = %name, "configured a topic");
    if let MetadataRecord::ConfigsSet { config, .. } = record
        && config.durability() < Durability::Flushed
    {
        tracing::warn!(
            core = %core.id(), topic = %name, durability = config.durability().name(),
            "the topic acknowledges records before they are on stable storage"
        );
    }
    Ok(())
}
