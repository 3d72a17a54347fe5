//! Fetch: record batches by reference, from memory or from disk; waits until there are enough.
//!
//! Invariants: only what is durable is served; the first batch found is served even when it is
//! larger than the client allows, so that every consumer gets on; an answer holds about
//! [`limits::FETCH_ANSWER_BYTES`] at most, and all answers of a core together `answer_memory`: a Fetch
//! takes its part before it reads, none while it waits for records.
//!
//! [`limits::FETCH_ANSWER_BYTES`]: super::limits::FETCH_ANSWER_BYTES

pub mod enough;
pub mod read;
pub mod request;
pub mod response;
pub mod session;

use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use ringlog_types::PartitionId;
use tokio::time::Instant;

use self::enough::Enough;
use self::read::{COLD_ANSWER_BYTES, Reading, read, resume};
use self::request::FetchRequest;
use self::response::FetchAnswer;
use self::session::SessionSlot;
use super::answer::Answer;
use super::complaints::complain;
use super::errors;
use super::limits::{FETCH_ANSWER_BYTES, FETCH_MEMORY_WAIT, FETCH_PART_BYTES};
use super::request::RequestHeader;
use super::wire::WireError;
use crate::node::budget::Held;
use crate::node::core::CoreHandle;
use crate::node::metrics::ErrorKind;

/// Longest wait, whatever the client asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Answers a request. Ends its wait when `leaving` does: the client has left, or the node stops.
///
/// Cancellation: nothing is kept, no session either.
///
/// # Errors
/// When the request is malformed.
pub async fn handle(
    core: &CoreHandle,
    peer: SocketAddr,
    header: &RequestHeader,
    frame: &[u8],
    sessions: &SessionSlot,
    leaving: impl Future<Output = ()>,
) -> Result<Answer, WireError> {
    let request = FetchRequest::parse(frame, header.body_at, header.version)?;
    let by_id = header.version >= request::TOPIC_ID_SINCE;
    let most = core.settings().fetch_session_partitions;
    let turn = match sessions.begin(core.metrics(), most, by_id, request).await {
        Ok(turn) => turn,
        Err(error) => {
            let answer = FetchAnswer {
                error: Some(error),
                ..FetchAnswer::default()
            };
            return Ok(answer.encode(header));
        }
    };
    let request = turn.request();
    let least = Enough::of(request);
    let reading = tokio::select! {
        biased;
        reading = wait_and_read(core, request, &least) => reading,
        () = leaving => read_now(core, request).await,
    };
    let metrics = core.metrics();
    metrics.bytes_out.add(reading.bytes as u64);
    metrics.batches_out.add(reading.batches as u64);
    complain_of_refusals(core, peer, request, &reading);
    let Reading {
        partitions,
        endpoints,
        memory,
        ..
    } = reading;
    let answer = sessions.end(turn, partitions, endpoints);
    Ok(answer.encode(header).holding(memory))
}

/// Reads until there is enough, something to tell at once, or no time left.
///
/// Cancellation: nothing is kept.
pub async fn wait_and_read(core: &CoreHandle, request: &FetchRequest, least: &Enough) -> Reading {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let began = Instant::now();
    let deadline = began + wait.min(LONGEST_WAIT);
    let mut watched: Option<Vec<PartitionId>> = None;
    loop {
        // Registered before the partitions are read, so that nothing moves unseen in between.
        let progress = watched
            .as_deref()
            .map(|partitions| core.progress(partitions));
        let memory = memory(core, request, deadline.max(began + FETCH_MEMORY_WAIT)).await;
        let (has_memory, is_short) = (memory.bytes() > 0, memory.bytes() < most_bytes(request));
        let mut reading = read(core, request, memory).await;
        let mut enough = least.bytes();
        let enough_cold = if reading.bytes == 0 {
            let most = usize::try_from(request.max_bytes).unwrap_or(0);
            enough.max(most.min(COLD_ANSWER_BYTES))
        } else {
            enough
        };
        if reading.pending.is_some() {
            reading.narrow();
        }
        // The records are there, only not in memory: the client's time does not count.
        while !reading.is_done(enough_cold)
            && let Some(ticket) = reading.pending
            && (reading.bytes == 0 || Instant::now() < deadline)
        {
            core.reads_done(ticket).await;
            resume(core, request, &mut reading, enough_cold).await;
        }
        least.note(reading.bytes);
        enough = enough.min(least.bytes());
        // Without the memory for all that is wanted there is no point in waiting for more.
        let is_cut = !has_memory || (is_short && reading.bytes > 0);
        if reading.is_done(enough) || is_cut || Instant::now() >= deadline {
            reading.settle();
            return reading;
        }
        // What it holds would keep others waiting.
        reading.partitions = Vec::new();
        reading.memory.release(usize::MAX);
        match progress {
            None => watched = Some(reading.readable),
            Some(progress) => {
                // Late or not, what is there then is read once more.
                let _ = tokio::time::timeout_at(deadline, progress).await;
            }
        }
    }
}

/// What there is at this moment.
///
/// Cancellation: nothing is kept.
pub async fn read_now(core: &CoreHandle, request: &FetchRequest) -> Reading {
    let memory = memory(core, request, Instant::now()).await;
    let mut reading = read(core, request, memory).await;
    reading.settle();
    reading
}

/// Bytes that a request wants. One that wants nothing gets its first batch all the same.
fn most_bytes(request: &FetchRequest) -> usize {
    let most = usize::try_from(request.max_bytes).unwrap_or(0);
    most.clamp(1, FETCH_ANSWER_BYTES)
}

/// Memory for what a request wants; none, if there is none until the deadline.
async fn memory(core: &CoreHandle, request: &FetchRequest, deadline: Instant) -> Held {
    let budget = core.answer_memory();
    let most = most_bytes(request);
    let least = most.min(FETCH_PART_BYTES);
    if let Some(held) = budget.try_take(least, most) {
        return held;
    }
    match tokio::time::timeout_at(deadline, budget.take(least, most)).await {
        Ok(held) => held,
        Err(_) => {
            budget.give_up();
            budget.count(0)
        }
    }
}

fn complain_of_refusals(
    core: &CoreHandle,
    peer: SocketAddr,
    request: &FetchRequest,
    reading: &Reading,
) {
    if !reading.is_refused {
        return;
    }
    let mut partitions = reading.partitions.iter();
    for (topic, count) in &request.topics {
        for partition in partitions.by_ref().take(*count) {
            let Err(refusal) = &partition.outcome else {
                continue;
            };
            match errors::kind_of(refusal.code) {
                // How clients find the leader and the bounds of a partition: nothing is wrong.
                kind @ ErrorKind::NotLeader => core.metrics().error(kind),
                _ if refusal.code == ResponseError::OffsetOutOfRange => {}
                kind => {
                    let (index, code, cause) = (partition.index, refusal.code, &refusal.cause);
                    complain(
                        core,
                        peer,
                        kind,
                        format_args!(
                            "Fetch of topic {topic} partition {index} refused: {code:?}: {cause}"
                        ),
                    );
                }
            }
        }
    }
}
