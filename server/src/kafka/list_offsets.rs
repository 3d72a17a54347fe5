//! ListOffsets: the ends of partitions, and the first offset at or after a time.
//!
//! A time is looked up in the index, which leads to a block; then the block's batches are opened,
//! in steps, to the exact record.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ringlog_storage::buffer::Buf;
use ringlog_storage::log::Read;
use ringlog_types::batch::{BatchHeader, TimestampType};
use ringlog_types::{Offset, PartitionId};

use super::bounds::{Field, Shape, field, field_since};
use super::limits::STEP_BYTES;
use super::locate::{NotHere, check_leader_epoch, locate};
use super::records::{self, RecordPlace};
use super::topic_ref::TopicRef;
use crate::node::core::{Core, CoreHandle};

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Fixed(4)),
    field_since(2, Shape::Fixed(1)),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Structs(&[
            field(Shape::Fixed(4)),
            field_since(4, Shape::Fixed(4)),
            field(Shape::Fixed(8)),
        ])),
    ])),
];

const LEADER_EPOCH_SINCE: i16 = 4;

/// What a negative timestamp asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// −1
    Latest,
    /// −2, and −4: nothing lies anywhere but on local disks.
    Earliest,
    /// −3: the record with the largest timestamp.
    LargestTimestamp,
    /// −5: the last that lies on remote storage. There is none.
    LatestRemote,
    /// A time.
    At(i64),
}

impl Wanted {
    /// `None`: a version does not know it.
    fn of(timestamp: i64, version: i16) -> Option<Wanted> {
        let (wanted, since) = match timestamp {
            0.. => (Wanted::At(timestamp), 1),
            -1 => (Wanted::Latest, 1),
            -2 => (Wanted::Earliest, 1),
            -3 => (Wanted::LargestTimestamp, 7),
            -4 => (Wanted::Earliest, 8),
            -5 => (Wanted::LatestRemote, 9),
            _ => return None,
        };
        (version >= since).then_some(wanted)
    }
}

/// An offset that was asked for; −1 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    offset: i64,
    timestamp_ms: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found {
    offset: -1,
    timestamp_ms: -1,
    leader_epoch: -1,
};

/// Answers a request.
///
/// Cancellation: nothing is kept.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut seen = HashSet::new();
    for topic in request.topics {
        let named = TopicRef::Name(topic.name.as_str().into());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let outcome = if seen.insert((topic.name.clone(), wanted.partition_index)) {
                find(core, &named, wanted, version).await
            } else {
                Err(ResponseError::InvalidRequest)
            };
            partitions.push(answer(wanted, version, outcome));
            tokio::task::yield_now().await;
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn answer(
    wanted: &ListOffsetsPartition,
    version: i16,
    outcome: Result<Found, ResponseError>,
) -> ListOffsetsPartitionResponse {
    let answer =
        ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
    match outcome {
        Err(code) => answer
            .with_error_code(code.code())
            .with_offset(-1)
            .with_timestamp(-1),
        Ok(found) => {
            let answer = answer
                .with_offset(found.offset)
                .with_timestamp(found.timestamp_ms);
            if version < LEADER_EPOCH_SINCE {
                return answer;
            }
            answer.with_leader_epoch(found.leader_epoch)
        }
    }
}

async fn find(
    core: &CoreHandle,
    topic: &TopicRef,
    asked: &ListOffsetsPartition,
    version: i16,
) -> Result<Found, ResponseError> {
    let wanted = Wanted::of(asked.timestamp, version).ok_or(ResponseError::UnsupportedVersion)?;
    let partition = core
        .with(|state| {
            let (partition, _) = locate(core.topology(), state, topic, asked.partition_index)?;
            check_leader_epoch(asked.current_leader_epoch, state.leader_epoch())?;
            Ok(partition)
        })
        .map_err(|not_here: NotHere| not_here.code)?;
    let ((start, end), epoch, epoch_at_start) = core.with(|state| {
        let (start, end) = state.log.bounds(partition);
        let epoch_at_start = state.partitions.epoch_at(partition, start);
        ((start, end), state.leader_epoch(), epoch_at_start)
    });
    match wanted {
        Wanted::Latest => Ok(Found {
            offset: end.as_i64(),
            leader_epoch: epoch,
            ..NOTHING
        }),
        Wanted::Earliest => Ok(Found {
            offset: start.as_i64(),
            leader_epoch: epoch_at_start.unwrap_or(NOTHING.leader_epoch),
            ..NOTHING
        }),
        Wanted::LatestRemote => Ok(NOTHING),
        Wanted::At(timestamp_ms) => {
            let near = sought(core, partition, |state| {
                state.log.seek_timestamp(partition, timestamp_ms)
            });
            let Some(near) = near.await? else {
                return Ok(NOTHING);
            };
            scan(core, partition, near, timestamp_ms, false).await
        }
        Wanted::LargestTimestamp => {
            let near = sought(core, partition, |state| {
                state.log.seek_max_timestamp(partition)
            });
            let Some((timestamp_ms, near)) = near.await? else {
                return Ok(NOTHING);
            };
            scan(core, partition, near, timestamp_ms, true).await
        }
    }
}

/// What the index says, as soon as it has been read.
async fn sought<T>(
    core: &CoreHandle,
    partition: PartitionId,
    mut ask: impl FnMut(&mut Core) -> Result<T, Read>,
) -> Result<T, ResponseError> {
    loop {
        match core.with(&mut ask) {
            Ok(found) => return Ok(found),
            Err(Read::Pending(ticket)) => core.reads_done(ticket).await,
            Err(cannot) => {
                tracing::error!(%partition, ?cannot, "looking up a timestamp failed");
                return Err(ResponseError::KafkaStorageError);
            }
        }
    }
}

/// From `at` on, the first batch whose header says that it reaches a time; in it, the first
/// record that does, or the one with the `largest` timestamp.
async fn scan(
    core: &CoreHandle,
    partition: PartitionId,
    mut at: Offset,
    timestamp_ms: i64,
    largest: bool,
) -> Result<Found, ResponseError> {
    loop {
        let (start, end) = core.with(|state| state.log.bounds(partition));
        at = at.max(start);
        if at >= end {
            return Ok(NOTHING);
        }
        let batches = match core.with(|state| state.log.read(partition, at, STEP_BYTES)) {
            Read::Batches(batches) if batches.is_empty() => return Ok(NOTHING),
            Read::Batches(batches) => batches,
            Read::Pending(ticket) => {
                core.reads_done(ticket).await;
                continue;
            }
            // Damaged records have no timestamps any more.
            Read::Damaged { end, .. } => {
                at = end;
                continue;
            }
            Read::OutOfRange => return Err(ResponseError::OffsetOutOfRange),
            Read::Failed(cause) => {
                tracing::error!(%partition, %cause, "looking up a timestamp failed");
                return Err(ResponseError::KafkaStorageError);
            }
        };
        for batch in &batches {
            let header = BatchHeader::parse(batch).map_err(|error| {
                tracing::error!(%partition, %error, "a stored batch cannot be read");
                ResponseError::CorruptMessage
            })?;
            if header.max_timestamp >= timestamp_ms
                && let Some(found) =
                    in_batch(core, &header, batch, start, timestamp_ms, largest).await
            {
                return Ok(found);
            }
            let first = Offset(u64::try_from(header.base_offset).unwrap_or(0));
            at = at.max(first.plus(header.offsets().into()));
        }
        tokio::task::yield_now().await;
    }
}

/// What is found in a batch; `None`: the records that reach the time lie before the partition's
/// start, which may be within a batch.
async fn in_batch(
    core: &CoreHandle,
    header: &BatchHeader,
    batch: &Buf,
    start: Offset,
    timestamp_ms: i64,
    largest: bool,
) -> Option<Found> {
    let leader_epoch = header.partition_leader_epoch;
    let start = start.as_i64();
    // Where the node gave the timestamps, every record has that of the batch.
    let whole = Found {
        offset: header.base_offset.max(start),
        timestamp_ms: header.max_timestamp,
        leader_epoch,
    };
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Some(whole);
    }
    let place = if largest {
        records::latest(core.opening_memory(), batch)
            .await
            .map(Some)
    } else {
        let least_delta = start - header.base_offset;
        records::first_at_or_after(core.opening_memory(), batch, timestamp_ms, least_delta).await
    };
    match place {
        Ok(Some(RecordPlace {
            offset_delta,
            timestamp_ms,
            ..
        })) => Some(Found {
            offset: (header.base_offset + i64::from(offset_delta)).max(start),
            timestamp_ms,
            leader_epoch,
        }),
        Ok(None) if header.base_offset < start => None,
        // Its header promises more than its records have: a reader that starts here misses
        // nothing.
        Ok(None) => Some(whole),
        Err(error) => {
            tracing::warn!(offset = header.base_offset, %error, "a batch could not be opened for a timestamp; answered with its first offset");
            Some(whole)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_need_the_version_that_knows_them() {
        assert_eq!(Wanted::of(5, 1), Some(Wanted::At(5)));
        assert_eq!(Wanted::of(-1, 1), Some(Wanted::Latest));
        assert_eq!(Wanted::of(-3, 6), None);
        assert_eq!(Wanted::of(-3, 7), Some(Wanted::LargestTimestamp));
        assert_eq!(Wanted::of(-4, 8), Some(Wanted::Earliest));
        assert_eq!(Wanted::of(-5, 8), None);
        assert_eq!(Wanted::of(-6, 10), None);
        assert_eq!(Wanted::of(i64::MIN, 10), None);
    }
}
