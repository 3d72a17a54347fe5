//! OffsetFetch: how far groups have read.
//!
//! Version 9 says which member asks, and its epoch (KIP-848): they count in groups that the broker
//! assigns for. Of a classic group Kafka looks at neither
//! (`ClassicGroup.validateOffsetFetch`), and a group that is not there has no offsets, not an error.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::groups::CommittedOffset;
use ringlog_types::PartitionId;

use super::here;
use crate::kafka::bounds::{Field, Shape, field, field_since, field_until};
use crate::kafka::limits::STEP_PARTITIONS;
use crate::node::core::{Core, CoreHandle};

const TOPICS: Shape = Shape::Structs(&[field(Shape::Text), field(Shape::Values(&Shape::Fixed(4)))]);

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field_until(7, Shape::Text),
    field_until(7, TOPICS),
    field_since(
        8,
        Shape::Structs(&[
            field(Shape::Text),
            field_since(9, Shape::Text),
            field_since(9, Shape::Fixed(4)),
            field(TOPICS),
        ]),
    ),
];

/// Oldest version in which several groups are asked for at once.
const GROUPS_SINCE: i16 = 8;
/// Oldest version with an error of the group.
const ERROR_SINCE: i16 = 2;
const LEADER_EPOCH_SINCE: i16 = 5;

/// The offset of a partition for which nothing was committed.
const NO_OFFSET: i64 = -1;

/// Topics with partitions, as they were asked for.
type Asked = Vec<(TopicName, Vec<i32>)>;
/// The same with what was found.
type Found = Vec<(TopicName, Vec<(i32, Option<CommittedOffset>)>)>;

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if version >= GROUPS_SINCE {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let topics = group.topics.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .map(|topic| (topic.name, topic.partition_indexes))
                    .collect()
            });
            let response = match offsets(core, &group.group_id, topics).await {
                Ok(found) => OffsetFetchResponseGroup::default()
                    .with_topics(found.into_iter().map(of_group).collect()),
                Err(code) => OffsetFetchResponseGroup::default().with_error_code(code.code()),
            };
            groups.push(response.with_group_id(group.group_id));
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked: Option<Asked> = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let of_topic = |(name, partitions): (TopicName, Vec<(i32, Option<CommittedOffset>)>)| {
        let partitions = partitions.into_iter();
        let partitions = partitions.map(|(index, offset)| of_partition(version, index, offset));
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    };
    match offsets(core, &request.group_id, asked.clone()).await {
        Ok(found) => {
            let topics = found.into_iter().map(of_topic);
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(code) if version >= ERROR_SINCE => {
            OffsetFetchResponse::default().with_error_code(code.code())
        }
        Err(code) => {
            let asked = asked.unwrap_or_default().into_iter();
            let none = asked.map(|(name, indexes)| {
                let partitions = indexes.into_iter().map(|index| (index, None));
                (name, partitions.collect())
            });
            let topics = none.map(of_topic).map(|mut topic| {
                for partition in &mut topic.partitions {
                    partition.error_code = code.code();
                }
                topic
            });
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
    }
}

async fn offsets(
    core: &CoreHandle,
    group: &str,
    asked: Option<Asked>,
) -> Result<Found, ResponseError> {
    here::check(core, group)?;
    match asked {
        Some(asked) => Ok(of_asked(core, group, asked).await),
        None => Ok(all(core, group).await),
    }
}

async fn of_asked(core: &CoreHandle, group: &str, asked: Asked) -> Found {
    let mut found = Vec::with_capacity(asked.len());
    for (name, indexes) in asked {
        let mut partitions = Vec::with_capacity(indexes.len());
        for step in indexes.chunks(STEP_PARTITIONS) {
            core.with(|state| {
                for index in step {
                    partitions.push((*index, offset(state, group, &name, *index)));
                }
            });
            tokio::task::yield_now().await;
        }
        found.push((name, partitions));
    }
    found
}

fn offset(core: &Core, group: &str, topic: &str, index: i32) -> Option<CommittedOffset> {
    let topic = core.topics.by_name(topic)?;
    let partition = PartitionId::new(topic.number, u32::try_from(index).ok()?);
    core.groups.offset(group, partition).cloned()
}

async fn all(core: &CoreHandle, group: &str) -> Found {
    let mut found: Found = Vec::new();
    let mut behind: Option<PartitionId> = None;
    loop {
        let before = behind;
        core.with(|state| {
            for (partition, offset) in state.groups.offsets(group, before).take(STEP_PARTITIONS) {
                let is_same = behind.is_some_and(|last| last.topic() == partition.topic());
                behind = Some(partition);
                // Offsets of a deleted topic are nobody's, until they are forgotten.
                let Some(topic) = state.topics.by_number(partition.topic()) else {
                    continue;
                };
                let index = i32::try_from(partition.index()).unwrap_or(i32::MAX);
                let row = (index, Some(offset.clone()));
                match found.last_mut() {
                    Some((_, partitions)) if is_same => partitions.push(row),
                    _ => {
                        let name = TopicName(StrBytes::from_string(topic.name.clone()));
                        found.push((name, vec![row]));
                    }
                }
            }
        });
        if behind == before {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

fn of_partition(
    version: i16,
    index: i32,
    offset: Option<CommittedOffset>,
) -> OffsetFetchResponsePartition {
    let (offset, leader_epoch, metadata) = parts(offset);
    let partition = OffsetFetchResponsePartition::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_metadata(Some(metadata));
    match version {
        LEADER_EPOCH_SINCE.. => partition.with_committed_leader_epoch(leader_epoch),
        _ => partition,
    }
}

fn of_group(
    (name, partitions): (TopicName, Vec<(i32, Option<CommittedOffset>)>),
) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(index, offset)| {
        let (offset, leader_epoch, metadata) = parts(offset);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
    });
    OffsetFetchResponseTopics::default()
        .with_partitions(partitions.collect())
        .with_name(name)
}

fn parts(offset: Option<CommittedOffset>) -> (i64, i32, StrBytes) {
    let text = |text: &Arc<str>| StrBytes::from_string(String::from(&**text));
    offset.map_or((NO_OFFSET, -1, StrBytes::default()), |found| {
        (found.offset, found.leader_epoch, text(&found.metadata))
    })
}
