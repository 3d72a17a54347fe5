//! `POST /topics/{topic}/records`: records in, and the offset of each, once they are as durable as
//! the topic promises.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use kafka_protocol::error::ResponseError;
use serde::Serialize;
use utoipa::ToSchema;

use super::batches::{self, PRODUCE, Place};
use super::extract::{PathOf, QueryOf};
use super::face::Face;
use super::incoming::{self, Record, WriteQuery};
use super::problem::{Problem, name_of};
use super::whereabouts::find_or_create;
use crate::http::listener::Peer;
use crate::kafka::produce::response::{Refusal, Stored};
use crate::kafka::produce::{self, Produced, Received};
use crate::node::core::CoreHandle;
use crate::node::stages::Watch;

/// What became of the records of a request, in its order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    /// The topic.
    topic: String,
    /// Each record's place.
    records: Vec<RecordOutcome>,
}

/// Where a record is, or why it is nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordOutcome {
    /// Its partition.
    partition: u32,
    /// Its offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    /// Kafka's name for why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The reason, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Writes records to a topic.
///
/// Answered when they are as durable as the topic promises (`ringlog.durability`; by default on
/// stable storage). Records with a key go to the partition that Kafka's own producers choose for
/// it. A topic that is not there is made where the node allows it (`auto_create_topics`). Records of a
/// partition stay in order; a request is not atomic: where some records are refused, the problem says
/// what became of each.
#[utoipa::path(
    post, path = "/topics/{topic}/records", tag = "records", operation_id = "writeRecords",
    params(("topic" = String, Path, description = "Name of the topic"), WriteQuery),
    request_body(
        description = "Records",
        content(
            (Vec<Record<'static>> = "application/json", example = json!([{"key": "k", "value": {"n": 1}}])),
            (Record<'static> = "application/x-ndjson", example = json!({"key": "k", "value": "v"})),
            (String = "text/plain", example = "a record a line"),
            (Vec<u8> = "application/octet-stream"),
        )
    ),
    responses(
        (status = 200, description = "All records are written", body = Written),
        (status = 400, description = "The records cannot be read, or are refused",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such topic or partition",
            body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than http_max_body_bytes, or a record than the topic's max.message.bytes",
            body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not a type of body that is read",
            body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node has no room, or does not serve; see Retry-After",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn produce(
    State(face): State<Face>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    PathOf(topic): PathOf<String>,
    QueryOf(query): QueryOf<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Written>, Problem> {
    let body = face.body(&headers, body).await?;
    let records = incoming::read(&headers, &query, &body.bytes)?;
    let topic = find_or_create(&face, &topic).await?;
    let batches = batches::build(&records, &topic, face.next_keyless(), now_ms())?;
    drop(records);
    let mut outcomes: Vec<Option<Result<Stored, Refusal>>> = vec![None; batches.count];
    let mut errands = Vec::with_capacity(batches.frames.len());
    let mut of_errands = Vec::with_capacity(batches.frames.len());
    for frames in batches.frames {
        let bytes = frames.frames;
        of_errands.push(frames.batches);
        errands.push((frames.core, move |core| append(core, peer, bytes)));
    }
    let answers = face.ask_each(errands).await?;
    for (numbers, answers) in of_errands.into_iter().zip(answers) {
        for (number, outcome) in numbers.into_iter().zip(answers) {
            outcomes[number] = Some(outcome);
        }
    }
    answer(&face, topic.name, &batches.places, &outcomes).map(Json)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// On the owner: appends the frames in their order; an outcome for each batch when it is as durable
/// as the topic promises.
async fn append(
    core: CoreHandle,
    peer: SocketAddr,
    frames: Vec<Vec<u8>>,
) -> Vec<Result<Stored, Refusal>> {
    let mut appended: Vec<Result<Produced, Refusal>> = Vec::with_capacity(frames.len());
    for mut frame in frames {
        let received = Received::Small(&mut frame);
        let produced = produce::handle(&core, peer, PRODUCE, 0, received, Watch::default()).await;
        appended.push(
            produced.map_err(|error| {
                Refusal::new(ResponseError::UnknownServerError, error.to_string())
            }),
        );
    }
    let mut outcomes = Vec::new();
    for produced in appended {
        match produced {
            Ok(mut produced) => {
                match core.reached(&produced.needed).await {
                    Ok(()) => produced.count(core.metrics()),
                    Err(failure) => produced.fail(&failure.to_string()),
                }
                let partitions = produced.answer.partitions.into_iter();
                outcomes.extend(partitions.map(|partition| partition.outcome));
            }
            Err(refusal) => outcomes.push(Err(refusal)),
        }
    }
    outcomes
}

fn answer(
    face: &Face,
    topic: String,
    places: &[Place],
    outcomes: &[Option<Result<Stored, Refusal>>],
) -> Result<Written, Problem> {
    let mut first: Option<&Refusal> = None;
    let mut taken = 0;
    let missing = Refusal::new(
        ResponseError::UnknownServerError,
        "the owner did not answer",
    );
    let records: Vec<RecordOutcome> = places
        .iter()
        .map(|place| match &outcomes[place.batch] {
            Some(Ok(stored)) => {
                taken += 1;
                RecordOutcome {
                    partition: place.partition,
                    offset: Some(stored.base_offset + i64::from(place.index)),
                    error: None,
                    detail: None,
                }
            }
            refused => {
                let refusal = match refused {
                    Some(Err(refusal)) => refusal,
                    _ => &missing,
                };
                first = first.or(Some(refusal));
                RecordOutcome {
                    partition: place.partition,
                    offset: None,
                    error: Some(name_of(refusal.code)),
                    detail: Some(refusal.message.to_string()),
                }
            }
        })
        .collect();
    face.figures().took(taken);
    let Some(refusal) = first else {
        return Ok(Written { topic, records });
    };
    let detail = format!(
        "{} of {} records were not written: {}",
        records.len() - taken,
        records.len(),
        refusal.message
    );
    let problem = Problem::of(refusal.code, detail);
    let problem = match refusal.code {
        // What the client sent, here.
        ResponseError::CorruptMessage => problem.with_status(StatusCode::BAD_REQUEST),
        _ => problem,
    };
    Err(problem.with_records(serde_json::to_value(records).unwrap_or_default()))
}
