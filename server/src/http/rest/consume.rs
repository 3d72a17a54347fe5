//! `GET /topics/{topic}/partitions/{partition}/records`: records out, from an offset or a time on,
//! waiting for them if there are none yet.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::limits::{LONGEST_WAIT, MOST_READ_BYTES, MOST_RECORDS, READ_BYTES};
use super::memory::Held;
use super::outgoing::{self, RecordOut};
use super::partitions::{At, offset_at};
use super::problem::Problem;
use super::whereabouts::find;
use crate::kafka::fetch::enough::Enough;
use crate::kafka::fetch::request::{FetchPartition, FetchRequest};
use crate::kafka::fetch::wait_and_read;
use crate::kafka::limits::STEP_BYTES;
use crate::kafka::topic_ref::TopicRef;
use crate::node::core::CoreHandle;

/// What is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// An offset, `earliest` (the default) or `latest`.
    offset: Option<String>,
    /// In place of an offset: the first record at or after this time, milliseconds since 1970.
    timestamp: Option<i64>,
    /// Bytes of record batches that are read for the answer; the first batch is read whole. At most
    /// 8 MiB, 1 MiB if it is not said.
    max_bytes: Option<u32>,
    /// Records in the answer.
    max_records: Option<usize>,
    /// How long to wait for records while there are fewer than `min_bytes` of them, milliseconds; at
    /// most 30 seconds.
    wait_ms: Option<u64>,
    /// Bytes of record batches to wait for; 1 if it is not said.
    min_bytes: Option<u32>,
}

/// Records of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Records<'a> {
    /// The topic.
    topic: &'a str,
    /// The partition.
    partition: u32,
    /// The offset with which to ask next.
    next_offset: i64,
    /// First offset of the partition.
    log_start_offset: i64,
    /// End of what can be read.
    high_watermark: i64,
    /// The records, in the order of their offsets.
    records: Vec<RecordOut<'a>>,
}

/// An answer that has its part of the budget until the last byte is sent, however slow the client
/// is.
struct HeldText {
    text: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// What the owner found.
struct Found {
    offset: i64,
    log_start_offset: i64,
    high_watermark: i64,
    batches: Vec<Vec<u8>>,
}

/// Reads records of a partition.
///
/// With `Accept: application/x-ndjson` the answer is a record a line; the headers
/// `Ringlog-Next-Offset`, `Ringlog-High-Watermark` and `Ringlog-Log-Start-Offset` say the rest in both
/// forms. Ask again with `next_offset`.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/records", tag = "records", operation_id = "readRecords",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("partition" = u32, Path, description = "Number of the partition"),
        ReadQuery,
    ),
    responses(
        (status = 200, description = "Records, perhaps none", content(
            (Records<'static> = "application/json"), (RecordOut<'static> = "application/x-ndjson"))),
        (status = 400, description = "Not a question that can be answered",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such topic or partition",
            body = Problem, content_type = "application/problem+json"),
        (status = 416, description = "The offset is not in the partition",
            body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The records at the offset are damaged, or cannot be opened",
            body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node has no room, or does not serve; see Retry-After",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn consume(
    State(face): State<Face>,
    PathOf((topic, partition)): PathOf<(String, u32)>,
    QueryOf(query): QueryOf<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let at = start(&query)?;
    let topic = find(&face, &topic).await?;
    let owner = topic.owner(partition)?;
    let most_bytes = query.max_bytes.unwrap_or(READ_BYTES).min(MOST_READ_BYTES);
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0)).min(LONGEST_WAIT);
    let request = FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: i32::try_from(query.min_bytes.unwrap_or(1)).unwrap_or(i32::MAX),
        max_bytes: i32::try_from(most_bytes).unwrap_or(i32::MAX),
        session_epoch: -1,
        topics: vec![(TopicRef::Id(topic.id.0), 1)],
        partitions: vec![FetchPartition {
            index: i32::try_from(partition).unwrap_or(-1),
            current_leader_epoch: -1,
            offset: 0,
            max_bytes: i32::try_from(most_bytes).unwrap_or(i32::MAX),
        }],
        ..FetchRequest::default()
    };
    let name = topic.name.clone();
    // First the wait, which may be long and holds no memory; then the records.
    let begun = face.ask(owner, move |core| async move {
        let (offset, _) = offset_at(&core, &name, partition, at).await?;
        let request = from(request, offset);
        if !wait.is_zero() {
            until_there(&core, &request).await?;
        }
        Ok::<_, Problem>((request, offset))
    });
    let (request, offset) = begun.await??;
    let batches = most_bytes as usize + topic.max_message_bytes;
    let copies = face.memory().take(batches)?;
    let found = face.ask(owner, move |core| async move {
        read(&core, &request, offset).await
    });
    let found = found.await??;
    let most_records = query.max_records.unwrap_or(MOST_RECORDS).min(MOST_RECORDS);
    let text = outgoing::write(partition, &found.batches, found.offset, most_records)?;
    face.figures().gave(text.record_count);
    drop((found.batches, copies));
    let as_lines = wants_lines(&headers);
    let body = match as_lines {
        true => text.lines,
        false => {
            let head = serde_json::json!({
                "topic": topic.name,
                "partition": partition,
                "next_offset": text.next_offset,
                "log_start_offset": found.log_start_offset,
                "high_watermark": found.high_watermark,
            });
            json(&head.to_string(), &text.lines)
        }
    };
    let held = face.memory().take(body.len())?;
    let body = HeldText {
        text: body,
        _held: held,
    };
    let mut response = Response::new(Body::from(Bytes::from_owner(body)));
    let kind = match as_lines {
        true => "application/x-ndjson",
        false => "application/json",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in [
        ("ringlog-next-offset", text.next_offset),
        ("ringlog-high-watermark", found.high_watermark),
        ("ringlog-log-start-offset", found.log_start_offset),
    ] {
        headers.insert(name, HeaderValue::from(value));
    }
    Ok(response)
}

fn start(query: &ReadQuery) -> Result<At, Problem> {
    match (query.offset.as_deref(), query.timestamp) {
        (Some(_), Some(_)) => Err(Problem::wrong("offset and timestamp exclude each other")),
        (None, Some(timestamp_ms)) => Ok(At::Time(timestamp_ms)),
        (None | Some("earliest"), None) => Ok(At::Earliest),
        (Some("latest"), None) => Ok(At::Latest),
        (Some(offset), None) => match offset.parse() {
            Ok(offset @ 0..) => Ok(At::Offset(offset)),
            _ => Err(Problem::wrong(format!(
                "offset is {offset:?}; a number, earliest or latest is expected"
            ))),
        },
    }
}

/// The request from an offset on.
fn from(mut request: FetchRequest, offset: i64) -> FetchRequest {
    for partition in &mut request.partitions {
        partition.offset = offset;
    }
    request
}

/// On the owner: waits until there are records, or something else to tell.
async fn until_there(core: &CoreHandle, request: &FetchRequest) -> Result<(), Problem> {
    let least = Enough::of(request);
    tokio::select! {
        biased;
        // What it finds lies in the core's memory, and is found again.
        _ = wait_and_read(core, request, &least) => Ok(()),
        // A node that stops does not make its clients wait.
        () = core.drained() => {
            let detail = "the node is stopping; ask again when it is back";
            Err(Problem::of(ResponseError::BrokerNotAvailable, detail))
        }
    }
}

/// On the owner: takes records out, in steps.
async fn read(core: &CoreHandle, request: &FetchRequest, offset: i64) -> Result<Found, Problem> {
    let at_once = FetchRequest {
        max_wait_ms: 0,
        topics: request.topics.clone(),
        partitions: request.partitions.clone(),
        forgotten: Vec::new(),
        ..*request
    };
    let reading = wait_and_read(core, &at_once, &Enough::of(&at_once)).await;
    // Until what was found is copied, which counts as memory of HTTP.
    let _memory = reading.memory;
    let metrics = core.metrics();
    metrics.bytes_out.add(reading.bytes as u64);
    metrics.batches_out.add(reading.batches as u64);
    let outcome = reading.partitions.into_iter().next();
    let outcome = outcome.map_or_else(
        || {
            let detail = "the partition was not read";
            Err(Problem::of(ResponseError::UnknownServerError, detail))
        },
        |partition| {
            partition.outcome.map_err(|refusal| {
                let bounds = refusal.bounds.map_or(String::new(), |(start, end)| {
                    format!("; the partition has offsets {start} to {end} (exclusive)")
                });
                Problem::of(refusal.code, format!("{}{bounds}", refusal.cause))
            })
        },
    )?;
    let mut batches = Vec::with_capacity(outcome.batches.len());
    let mut unpaused_bytes = 0;
    for batch in outcome.batches {
        let mut copy = Vec::with_capacity(batch.len());
        for step in batch.chunks(STEP_BYTES) {
            copy.extend_from_slice(step);
            unpaused_bytes += step.len();
            if unpaused_bytes >= STEP_BYTES {
                unpaused_bytes = 0;
                tokio::task::yield_now().await;
            }
        }
        batches.push(copy);
    }
    Ok(Found {
        offset,
        log_start_offset: outcome.log_start_offset,
        high_watermark: outcome.high_watermark,
        batches,
    })
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("ndjson") || value.contains("jsonl"))
}

/// The head with the lines as its list of records.
fn json(head: &str, lines: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(head.len() + lines.len() + 16);
    text.extend_from_slice(head.strip_suffix('}').unwrap_or(head).as_bytes());
    text.extend_from_slice(b",\"records\":[");
    // A line end within a record is escaped: each that stands here ends one.
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    text.extend(lines.iter().map(|byte| match byte {
        b'\n' => b',',
        other => *other,
    }));
    text.extend_from_slice(b"]}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_and_its_records_are_one_json_text() {
        for (lines, count) in [("", 0), ("{\"a\":1}\n", 1), ("{\"a\":\"x\\n\"}\n{}\n", 2)] {
            let text = json("{\"topic\":\"t\"}", lines.as_bytes());
            let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(parsed["records"].as_array().unwrap().len(), count);
            assert_eq!(parsed["topic"], "t");
        }
    }
}
