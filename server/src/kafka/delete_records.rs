//! DeleteRecords: moves the start of partitions up to an offset, for good.
//!
//! Invariant: an answer leaves after the new start is durable, so that what is told to be deleted
//! is not served after a restart either. All partitions of a request share their blocks.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ringlog_storage::log::{EntryKind, EntryMeta};
use ringlog_types::{Offset, PartitionId, Sequence};

use super::bounds::{Field, Shape, field};
use super::errors;
use super::limits::STEP_PARTITIONS;
use super::locate::locate;
use super::topic_ref::TopicRef;
use crate::node::core::{Core, CoreHandle};
use crate::node::message::StorageFailed;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Text),
    field(Shape::Structs(&[
        field(Shape::Fixed(4)),
        field(Shape::Fixed(8)),
    ])),
]))];

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// The low watermark of a partition that was refused.
const NO_OFFSET: i64 = -1;

/// Answers a request.
///
/// Cancellation: records whose deletion was logged are deleted all the same.
pub async fn handle(core: &CoreHandle, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut outcomes = Vec::new();
    let mut logged = Sequence::NONE;
    let mut seen = HashSet::new();
    for topic in &request.topics {
        let named = TopicRef::Name(topic.name.as_str().into());
        for wanted in &topic.partitions {
            let index = wanted.partition_index;
            let outcome = if seen.insert((topic.name.as_str(), index)) {
                delete(core, &named, index, wanted.offset, &mut logged)
            } else {
                Err(ResponseError::InvalidRequest)
            };
            outcomes.push(outcome);
            if outcomes.len() % STEP_PARTITIONS == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    let durable = core.durable(logged).await;
    let mut outcomes = outcomes.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(outcomes.by_ref());
        let results = partitions.map(|(wanted, outcome)| {
            let start = outcome.and_then(|partition| start_of(core, partition, &durable));
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index);
            match start {
                Ok(start) => result.with_low_watermark(start.as_i64()),
                Err(code) => result
                    .with_low_watermark(NO_OFFSET)
                    .with_error_code(code.code()),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_partitions(results.collect())
            .with_name(topic.name.clone())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

/// Logs the partition's new start. `logged` becomes the last block that has to be durable.
fn delete(
    core: &CoreHandle,
    topic: &TopicRef,
    index: i32,
    offset: i64,
    logged: &mut Sequence,
) -> Result<PartitionId, ResponseError> {
    core.with(|state| {
        let found = locate(core.topology(), state, topic, index);
        let (partition, _) = found.map_err(|not_here| not_here.code)?;
        *logged = (*logged).max(move_start(state, partition, offset)?);
        Ok(partition)
    })
}

/// The block with the new start; none of its own where the partition starts there already.
fn move_start(
    core: &mut Core,
    partition: PartitionId,
    offset: i64,
) -> Result<Sequence, ResponseError> {
    let (start, end) = core.log.bounds(partition);
    let wanted = match offset {
        HIGH_WATERMARK => end,
        _ => Offset(u64::try_from(offset).map_err(|_| ResponseError::OffsetOutOfRange)?),
    };
    if wanted > end {
        return Err(ResponseError::OffsetOutOfRange);
    }
    if wanted <= start {
        return Ok(Sequence::NONE);
    }
    let meta = EntryMeta {
        partition,
        kind: EntryKind::StartOffset,
        machine: 0,
        base_offset: wanted,
        count: 0,
        max_timestamp: -1,
    };
    let logged = core.log.append(&[(meta, &[])]);
    let sequence = logged.map_err(|error| errors::of_append(&error))?;
    tracing::info!(core = %core.id, %partition, from = %start, to = %wanted, "deletes records");
    Ok(sequence)
}

fn start_of(
    core: &CoreHandle,
    partition: PartitionId,
    durable: &Result<(), StorageFailed>,
) -> Result<Offset, ResponseError> {
    if durable.is_err() {
        return Err(ResponseError::KafkaStorageError);
    }
    core.with(|state| {
        if state.owns(partition) {
            Ok(state.log.bounds(partition).0)
        } else {
            Err(ResponseError::UnknownTopicOrPartition)
        }
    })
}
