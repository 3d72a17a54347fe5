//! DescribeTopicPartitions (KIP-966): topics in the order of their names, a page of partitions
//! at a time. A cursor says where the next page begins.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{TopicCommand, TopicError, TopicId};
use ringlog_types::{LogId, TopicNumber};
use uuid::Uuid;

use super::bounds::{Field, Shape, field};
use super::endpoints::leader_of;
use super::limits::{DESCRIBED_PARTITIONS, STEP_PARTITIONS};
use crate::node::core::CoreHandle;
use crate::node::topology::Topology;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[field(Shape::Text)]))];

/// The first names in alphabetical order, from one on.
struct FirstNames {
    names: BTreeSet<String>,
    from: Option<String>,
    most: usize,
}

impl FirstNames {
    fn offer(&mut self, name: &str) {
        if self.from.as_deref().is_some_and(|from| name < from) {
            return;
        }
        let is_full = self.names.len() == self.most;
        if is_full && self.names.last().is_some_and(|last| name >= last.as_str()) {
            return;
        }
        self.names.insert(name.to_owned());
        if self.names.len() > self.most {
            self.names.pop_last();
        }
    }
}

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let cursor = request.cursor.as_ref();
    if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
        // There is no other place in the answer for it.
        let names = request.topics.into_iter().map(|topic| topic.name);
        let topics = names.map(|name| failed(name, ResponseError::InvalidRequest));
        return DescribeTopicPartitionsResponse::default().with_topics(topics.collect());
    }
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = limit.clamp(1, DESCRIBED_PARTITIONS);
    let mut names = FirstNames {
        names: BTreeSet::new(),
        from: cursor.map(|cursor| cursor.topic_name.to_string()),
        // Each counts for one partition at least; one more shows that there is more.
        most: limit + 1,
    };
    let asks_for_all = request.topics.is_empty();
    if asks_for_all {
        offer_all(core, &mut names).await;
    } else {
        for topics in request.topics.chunks(STEP_PARTITIONS) {
            topics.iter().for_each(|topic| names.offer(&topic.name));
            tokio::task::yield_now().await;
        }
    }
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut room = limit;
    for name in names.names {
        let topic_name = TopicName(StrBytes::from_string(name));
        let first = match cursor {
            Some(cursor) if cursor.topic_name == topic_name => cursor.partition_index,
            _ => 0,
        };
        if room == 0 {
            response.next_cursor = Some(cursor_at(topic_name, 0));
            break;
        }
        let (topic, next) = match Found::of(core, &topic_name) {
            Ok(found) => found.describe(core.topology(), topic_name.clone(), first, room),
            // It was deleted meanwhile.
            Err(_) if asks_for_all => continue,
            Err(code) => (failed(topic_name.clone(), code), None),
        };
        room -= topic.partitions.len().max(1);
        response.topics.push(topic);
        if let Some(next) = next {
            response.next_cursor = Some(cursor_at(topic_name, next));
            break;
        }
        tokio::task::yield_now().await;
    }
    response
}

async fn offer_all(core: &CoreHandle, names: &mut FirstNames) {
    let numbers: Vec<TopicNumber> =
        core.with(|core| core.topics.iter().map(|topic| topic.number).collect());
    for numbers in numbers.chunks(STEP_PARTITIONS) {
        core.with(|core| {
            let topics = numbers.iter();
            let topics = topics.filter_map(|number| core.topics.by_number(*number));
            topics.for_each(|topic| names.offer(&topic.name));
        });
        tokio::task::yield_now().await;
    }
}

/// A topic, as far as it is described.
struct Found {
    id: TopicId,
    owners: Vec<LogId>,
}

impl Found {
    fn of(core: &CoreHandle, name: &str) -> Result<Found, ResponseError> {
        core.with(|core| match core.topics.by_name(name) {
            Some(topic) => Ok(Found {
                id: topic.id,
                owners: topic.partitions.clone(),
            }),
            None => {
                let command = TopicCommand::Create {
                    name: name.to_owned(),
                    partitions: 1,
                    configs: Vec::new(),
                };
                Err(match core.topics.validate(&command) {
                    Err(TopicError::InvalidName { .. }) => ResponseError::InvalidTopicException,
                    _ => ResponseError::UnknownTopicOrPartition,
                })
            }
        })
    }

    /// So many partitions from one on, and the one behind them, if there is one.
    fn describe(
        &self,
        topology: &Topology,
        name: TopicName,
        first: i32,
        room: usize,
    ) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
        let owners = (0i32..).zip(&self.owners);
        let mut wanted = owners.skip_while(|(index, _)| *index < first);
        let partitions = wanted.by_ref().take(room).map(|(index, log)| {
            let leader = leader_of(topology, *log);
            let id = BrokerId(leader.id);
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(id)
                .with_leader_epoch(leader.epoch)
                .with_replica_nodes(vec![id])
                .with_isr_nodes(vec![id])
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        let partitions = partitions.collect();
        let topic = DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(name))
            .with_topic_id(Uuid::from_bytes(self.id.0))
            .with_partitions(partitions);
        (topic, wanted.next().map(|(index, _)| index))
    }
}

fn failed(name: TopicName, code: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(name))
        .with_error_code(code.code())
}

fn cursor_at(topic_name: TopicName, partition_index: i32) -> Cursor {
    Cursor::default()
        .with_topic_name(topic_name)
        .with_partition_index(partition_index)
}
