//! Metadata: the brokers, one per core; the topics; who leads each partition. Creates topics that
//! are asked for and are not there, when the settings and the client allow it.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{Topic, TopicCommand, TopicError, TopicId};
use ringlog_types::{LogId, TopicNumber};
use uuid::Uuid;

use super::bounds::{Field, Shape, field, field_since};
use super::endpoints::leader_of;
use super::errors;
use super::limits::STEP_PARTITIONS;
use super::topic_ref::TopicRef;
use crate::node::core::CoreHandle;
use crate::node::message::ControlError;
use crate::node::topology::Topology;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field_since(10, Shape::Fixed(16)),
    field(Shape::Text),
]))];

/// Oldest version in which a topic is asked for by id alone.
const TOPIC_ID_SINCE: i16 = 12;

/// The core that decides about topics.
pub const CONTROLLER: BrokerId = BrokerId(0);

/// The node's name for itself.
#[must_use]
pub fn cluster_id(core: &CoreHandle) -> Option<StrBytes> {
    let id = core.with(|core| core.topics.cluster_id().map(str::to_owned));
    id.map(StrBytes::from_string)
}

/// Answers a request.
///
/// Cancellation: topics that are being created are created all the same.
pub async fn handle(core: &CoreHandle, version: i16, request: MetadataRequest) -> MetadataResponse {
    let brokers = core.topology().brokers().iter().map(|broker| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(i32::from(broker.id.0)))
            .with_host(StrBytes::from_string(broker.host.clone()))
            .with_port(i32::from(broker.port))
    });
    let may_create = request.allow_auto_topic_creation && core.settings().auto_create_topics;
    let topics = match request.topics {
        None => all(core).await,
        // In version 0 an empty list means all of them.
        Some(named) if named.is_empty() && version == 0 => all(core).await,
        Some(named) => by_name(core, version, named, may_create).await,
    };
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(cluster_id(core))
        .with_controller_id(CONTROLLER)
        .with_topics(topics)
}

async fn all(core: &CoreHandle) -> Vec<MetadataResponseTopic> {
    let mut numbers: Vec<TopicNumber> =
        core.with(|core| core.topics.iter().map(|topic| topic.number).collect());
    numbers.sort_unstable();
    let (mut described, mut unpaused) = (Vec::with_capacity(numbers.len()), 0);
    for number in numbers {
        // A topic may be deleted meanwhile.
        let found = core.with(|state| state.topics.by_number(number).map(Found::of));
        if let Some(topic) = found {
            described.push(describe(core.topology(), topic, &mut unpaused).await);
        }
    }
    described
}

async fn by_name(
    core: &CoreHandle,
    version: i16,
    named: Vec<MetadataRequestTopic>,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let (mut described, mut unpaused) = (Vec::with_capacity(named.len()), 0);
    // Each topic once: a request of a few bytes must not make an answer of many.
    let mut seen = HashSet::with_capacity(named.len());
    for asked in named {
        let topic = match asked.name {
            Some(name) => TopicRef::Name(name.as_str().into()),
            None if version >= TOPIC_ID_SINCE => TopicRef::Id(asked.topic_id.into_bytes()),
            // No topic has this name.
            None => TopicRef::Name("".into()),
        };
        if seen.contains(&topic) {
            continue;
        }
        let answer = match one(core, &topic, may_create).await {
            Ok(found) => describe(core.topology(), found, &mut unpaused).await,
            Err(code) => failed(&topic, code),
        };
        described.push(answer);
        seen.insert(topic);
    }
    described
}

/// Lets others run after every few hundred partitions.
async fn pause(unpaused: &mut usize, partitions: usize) {
    *unpaused += 1 + partitions;
    if *unpaused >= STEP_PARTITIONS {
        *unpaused = 0;
        tokio::task::yield_now().await;
    }
}

/// A topic, as far as it is described.
struct Found {
    name: String,
    id: TopicId,
    owners: Vec<LogId>,
}

impl Found {
    fn of(topic: &Topic) -> Found {
        Found {
            name: topic.name.clone(),
            id: topic.id,
            owners: topic.partitions.clone(),
        }
    }
}

async fn one(
    core: &CoreHandle,
    topic: &TopicRef,
    may_create: bool,
) -> Result<Found, ResponseError> {
    let look = || core.with(|state| topic.find(&state.topics).map(Found::of));
    if let Some(found) = look() {
        return Ok(found);
    }
    let TopicRef::Name(name) = topic else {
        return Err(ResponseError::UnknownTopicId);
    };
    let command = TopicCommand::Create {
        name: String::from(&**name),
        partitions: core.settings().num_partitions,
        configs: Vec::new(),
    };
    if !may_create {
        let checked = core.with(|core| core.topics.validate(&command));
        return Err(match checked {
            Err(error @ TopicError::InvalidName { .. }) => errors::of_topic(&error),
            _ => ResponseError::UnknownTopicOrPartition,
        });
    }
    match core.control(command).await {
        Ok(_) => {
            tracing::info!(core = %core.id(), topic = %name, "created a topic that a client asked for")
        }
        // Another client was faster.
        Err(ControlError::Topic(TopicError::Exists { .. })) => {}
        Err(error) => {
            tracing::debug!(core = %core.id(), topic = %name, %error, "a topic was not created");
            return Err(errors::of_control(&error));
        }
    }
    look().ok_or(ResponseError::LeaderNotAvailable)
}

fn failed(topic: &TopicRef, code: ResponseError) -> MetadataResponseTopic {
    let answer = MetadataResponseTopic::default().with_error_code(code.code());
    match topic {
        TopicRef::Name(name) => answer.with_name(Some(TopicName(StrBytes::from_string(
            String::from(&**name),
        )))),
        TopicRef::Id(id) => answer.with_name(None).with_topic_id(Uuid::from_bytes(*id)),
    }
}

/// Describes a topic, some of its partitions in a step.
async fn describe(
    topology: &Topology,
    topic: Found,
    unpaused: &mut usize,
) -> MetadataResponseTopic {
    let mut partitions = Vec::with_capacity(topic.owners.len());
    for owners in topic.owners.chunks(STEP_PARTITIONS) {
        partitions.extend((partitions.len()..).zip(owners).map(|(index, log)| {
            let leader = leader_of(topology, *log);
            let id = BrokerId(leader.id);
            MetadataResponsePartition::default()
                .with_partition_index(i32::try_from(index).expect("a topic's partitions fit i32"))
                .with_leader_id(id)
                .with_leader_epoch(leader.epoch)
                .with_replica_nodes(vec![id])
                .with_isr_nodes(vec![id])
        }));
        pause(unpaused, owners.len()).await;
    }
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name))))
        .with_topic_id(Uuid::from_bytes(topic.id.0))
        .with_partitions(partitions)
}
