//! Offsets of partitions, and the deletion of their oldest records.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ringlog_types::{CoreId, PartitionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::problem::Problem;
use super::whereabouts::find;
use crate::kafka::limits::STEP_PARTITIONS;
use crate::kafka::{delete_records, list_offsets};
use crate::node::core::CoreHandle;

/// The version of ListOffsets in which offsets are looked up.
const LIST_OFFSETS: i16 = 10;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// For DeleteRecords: up to the end.
const HIGH_WATERMARK: i64 = -1;

/// A place in a partition.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// This one.
    Offset(i64),
    /// The first record.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The first record at or after a time, milliseconds; behind the last record when there is
    /// none.
    Time(i64),
}

/// On the owner: the offset of a place, and the timestamp of the record there, if it was looked
/// for by time and found.
pub(super) async fn offset_at(
    core: &CoreHandle,
    topic: &str,
    partition: u32,
    at: At,
) -> Result<(i64, Option<i64>), Problem> {
    let wanted = match at {
        At::Offset(offset) => return Ok((offset, None)),
        At::Earliest => EARLIEST,
        At::Latest => LATEST,
        At::Time(timestamp_ms) => timestamp_ms.max(0),
    };
    let found = list(core, topic, partition, wanted).await?;
    match at {
        At::Time(_) if found.0 >= 0 => Ok((found.0, Some(found.1))),
        At::Time(_) => Ok((list(core, topic, partition, LATEST).await?.0, None)),
        _ => Ok((found.0, None)),
    }
}

async fn list(
    core: &CoreHandle,
    topic: &str,
    partition: u32,
    timestamp: i64,
) -> Result<(i64, i64), Problem> {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(i32::try_from(partition).unwrap_or(-1))
        .with_timestamp(timestamp);
    let asked = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default().with_topics(vec![asked]);
    let answer = list_offsets::handle(core, LIST_OFFSETS, request).await;
    let found = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let found = found.ok_or_else(|| {
        Problem::of(
            ResponseError::UnknownServerError,
            "the owner did not answer",
        )
    })?;
    Problem::check(found.error_code, || {
        format!("an offset of topic {topic:?} partition {partition} cannot be found")
    })?;
    Ok((found.offset, found.timestamp))
}

/// First offset and end of each partition, from their owners.
pub(super) async fn bounds(
    face: &Face,
    owned: Vec<(CoreId, Vec<PartitionId>)>,
) -> Result<HashMap<PartitionId, (i64, i64)>, Problem> {
    let errands = owned.into_iter().map(|(core, partitions)| {
        let work = move |core: CoreHandle| async move {
            let mut found = Vec::with_capacity(partitions.len());
            for step in partitions.chunks(STEP_PARTITIONS) {
                core.with(|state| {
                    found.extend(step.iter().map(|partition| {
                        let (start, end) = state.log.bounds(*partition);
                        (*partition, (start.as_i64(), end.as_i64()))
                    }));
                });
                tokio::task::yield_now().await;
            }
            found
        };
        (core, work)
    });
    let found = face.ask_each(errands.collect()).await?;
    Ok(found.into_iter().flatten().collect())
}

/// A time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TimeQuery {
    /// Also find the first record at or after this time, milliseconds since 1970.
    timestamp: Option<i64>,
}

/// Offsets of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Offsets {
    topic: String,
    partition: u32,
    /// First offset.
    start_offset: i64,
    /// Behind the last record.
    end_offset: i64,
    /// When a time was asked for: the first record at or after it; `end_offset` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    /// The timestamp of that record.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
}

/// Finds offsets of a partition: its ends, and the first at or after a time.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/offsets", tag = "topics", operation_id = "findOffsets",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("partition" = u32, Path, description = "Number of the partition"),
        TimeQuery,
    ),
    responses(
        (status = 200, description = "The offsets", body = Offsets),
        (status = 404, description = "There is no such topic or partition", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn offsets(
    State(face): State<Face>,
    PathOf((topic, partition)): PathOf<(String, u32)>,
    QueryOf(query): QueryOf<TimeQuery>,
) -> Result<Json<Offsets>, Problem> {
    let topic = find(&face, &topic).await?;
    let owner = topic.owner(partition)?;
    let (name, time) = (topic.name.clone(), query.timestamp);
    let found = face.ask(owner, move |core| async move {
        let (start, _) = offset_at(&core, &name, partition, At::Earliest).await?;
        let (end, _) = offset_at(&core, &name, partition, At::Latest).await?;
        let at = match time {
            Some(time) => Some(offset_at(&core, &name, partition, At::Time(time)).await?),
            None => None,
        };
        Ok::<_, Problem>((start, end, at))
    });
    let (start_offset, end_offset, at) = found.await??;
    Ok(Json(Offsets {
        topic: topic.name,
        partition,
        start_offset,
        end_offset,
        offset: at.map(|(offset, _)| offset),
        timestamp: at.and_then(|(_, timestamp)| timestamp),
    }))
}

/// Up to where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BeforeQuery {
    /// Records before this offset are deleted; `end`: all.
    before: String,
}

/// A partition that begins later.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trimmed {
    topic: String,
    partition: u32,
    /// First offset from now on.
    start_offset: i64,
}

/// Deletes the oldest records of a partition, for good. Answered when that is durable.
#[utoipa::path(
    delete, path = "/topics/{topic}/partitions/{partition}/records", tag = "records", operation_id = "deleteRecords",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("partition" = u32, Path, description = "Number of the partition"),
        BeforeQuery,
    ),
    responses(
        (status = 200, description = "They are deleted", body = Trimmed),
        (status = 400, description = "Not an offset", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such topic or partition", body = Problem, content_type = "application/problem+json"),
        (status = 416, description = "The offset is beyond the end", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete_records(
    State(face): State<Face>,
    PathOf((topic, partition)): PathOf<(String, u32)>,
    QueryOf(query): QueryOf<BeforeQuery>,
) -> Result<Json<Trimmed>, Problem> {
    let before = match (query.before.as_str(), query.before.parse::<i64>()) {
        ("end", _) => HIGH_WATERMARK,
        (_, Ok(before @ 0..)) => before,
        _ => {
            let detail = format!(
                "before is {:?}; an offset, or end, is expected",
                query.before
            );
            return Err(Problem::wrong(detail));
        }
    };
    let topic = find(&face, &topic).await?;
    let owner = topic.owner(partition)?;
    let wanted = DeleteRecordsPartition::default()
        .with_partition_index(i32::try_from(partition).unwrap_or(-1))
        .with_offset(before);
    let asked = DeleteRecordsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.clone())))
        .with_partitions(vec![wanted]);
    let request = DeleteRecordsRequest::default().with_topics(vec![asked]);
    let answer = face.ask(owner, |core| async move {
        delete_records::handle(&core, request).await
    });
    let answer = answer.await?;
    let result = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let (start_offset, code) = result
        .map_or((-1, ResponseError::UnknownServerError.code()), |result| {
            (result.low_watermark, result.error_code)
        });
    Problem::check(code, || {
        let name = &topic.name;
        format!("records of topic {name:?} partition {partition} were not deleted")
    })?;
    Ok(Json(Trimmed {
        topic: topic.name,
        partition,
        start_offset,
    }))
}
