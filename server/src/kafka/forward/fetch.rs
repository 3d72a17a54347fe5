//! Fetch from several cores: each is asked for its part at the same time, with a part of the bytes;
//! as soon as one has something the others answer with what they have. Records of other cores are
//! copied once, since a core's memory never leaves it. `min_bytes` counts at each core.

use ringlog_storage::buffer::Buf;
use ringlog_types::CoreId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::there::{at, distinct, in_order, owners};
use crate::kafka::answer::Answer;
use crate::kafka::decode::RequestError;
use crate::kafka::fetch::read::{Reading, read};
use crate::kafka::fetch::request::{FetchRequest, TOPIC_ID_SINCE};
use crate::kafka::fetch::response::{FetchAnswer, Found, PartitionAnswer, Refusal};
use crate::kafka::fetch::session::SessionSlot;
use crate::kafka::fetch::wait_and_read;
use crate::kafka::limits::STEP_BYTES;
use crate::kafka::request::RequestHeader;
use crate::node::core::CoreHandle;
use crate::node::errand::Unanswered;

/// What a core found of a partition, on its way to another thread.
struct Copied {
    index: i32,
    outcome: Result<CopiedRecords, Refusal>,
}

struct CopiedRecords {
    high_watermark: i64,
    log_start_offset: i64,
    batches: Vec<Vec<u8>>,
}

/// Answers a request.
///
/// Cancellation: nothing is kept, no session either.
///
/// # Errors
/// When it is malformed, or an owner stops.
pub async fn answer(
    core: &CoreHandle,
    header: &RequestHeader,
    frame: &[u8],
    sessions: &SessionSlot,
    leaving: impl Future<Output = ()>,
) -> Result<Answer, RequestError> {
    let request = FetchRequest::parse(frame, header.body_at, header.version)?;
    let by_id = header.version >= TOPIC_ID_SINCE;
    let turn = match sessions.begin(core.metrics(), by_id, request).await {
        Ok(turn) => turn,
        Err(error) => {
            let answer = FetchAnswer {
                error: Some(error),
                ..FetchAnswer::default()
            };
            return Ok(answer.encode(header));
        }
    };
    let found = gather(core, turn.request(), leaving).await?;
    Ok(sessions.end(turn, found, Vec::new()).encode(header))
}

/// Every partition of the request, in its order.
async fn gather(
    core: &CoreHandle,
    request: &FetchRequest,
    leaving: impl Future<Output = ()>,
) -> Result<Vec<PartitionAnswer>, Unanswered> {
    let topics = request.topics.iter();
    let topics = topics.flat_map(|(topic, count)| std::iter::repeat_n(topic, *count));
    let named = topics.zip(request.partitions.iter().map(|wanted| wanted.index));
    let owners = owners(core, named).await;
    let distinct = distinct(&owners);
    let parts = split(request, &owners, &distinct);
    let (enough, stop) = watch::channel(false);
    if distinct.len() <= 1 {
        return match (distinct.first(), parts.into_iter().next()) {
            (Some(owner), Some(part)) => {
                let asked = one(core.clone(), *owner, part, stop);
                tokio::pin!(asked, leaving);
                tokio::select! {
                    biased;
                    found = &mut asked => return found.map(|(found, _)| found),
                    () = leaving => {}
                }
                enough.send_replace(true);
                asked.await.map(|(found, _)| found)
            }
            // Nothing is named, so there is nothing to wait for.
            _ => Ok(Vec::new()),
        };
    }
    let mut asked = JoinSet::new();
    for (place, (owner, part)) in distinct.iter().zip(parts).enumerate() {
        let (core, owner, stop) = (core.clone(), *owner, stop.clone());
        asked.spawn_local(async move { (place, one(core, owner, part, stop).await) });
    }
    let mut found: Vec<Vec<PartitionAnswer>> = distinct.iter().map(|_| Vec::new()).collect();
    tokio::pin!(leaving);
    loop {
        tokio::select! {
            biased;
            ended = asked.join_next() => {
                let Some(ended) = ended else { break };
                let (place, answer) = ended.map_err(|_| Unanswered::Gone)?;
                let (partitions, has_something) = answer?;
                found[place] = partitions;
                if has_something {
                    enough.send_replace(true);
                }
            }
            () = &mut leaving, if !*enough.borrow() => {
                enough.send_replace(true);
            }
        }
    }
    Ok(in_order(&owners, &distinct, found))
}

/// What is asked of each owner.
fn split(request: &FetchRequest, owners: &[CoreId], distinct: &[CoreId]) -> Vec<FetchRequest> {
    let count = i32::try_from(distinct.len().max(1)).unwrap_or(i32::MAX);
    let mut parts: Vec<FetchRequest> = distinct
        .iter()
        .map(|_| FetchRequest {
            max_wait_ms: request.max_wait_ms,
            min_bytes: request.min_bytes,
            max_bytes: request.max_bytes / count,
            session_epoch: -1,
            ..FetchRequest::default()
        })
        .collect();
    let mut next = request.partitions.iter().zip(owners);
    for (topic, count) in &request.topics {
        let begun: Vec<usize> = parts.iter().map(|part| part.topics.len()).collect();
        for (partition, owner) in next.by_ref().take(*count) {
            let place = distinct.iter().position(|known| known == owner);
            let place = place.expect("each owner is among the distinct ones");
            let part = &mut parts[place];
            if part.topics.len() == begun[place] {
                part.topics.push((topic.clone(), 0));
            }
            if let Some((_, partitions)) = part.topics.last_mut() {
                *partitions += 1;
            }
            part.partitions.push(*partition);
        }
    }
    parts
}

/// One owner's part, and whether it is worth ending the others' wait.
async fn one(
    core: CoreHandle,
    owner: CoreId,
    part: FetchRequest,
    mut stop: watch::Receiver<bool>,
) -> Result<(Vec<PartitionAnswer>, bool), Unanswered> {
    if owner == core.id() {
        let reading = until_stopped(&core, &part, &mut stop).await;
        let has_something = reading.bytes > 0 || reading.is_refused;
        return Ok((reading.partitions, has_something));
    }
    let copied = at(&core, owner, move |there| async move {
        let reading = until_stopped(&there, &part, &mut stop).await;
        let has_something = reading.bytes > 0 || reading.is_refused;
        (copy(reading.partitions).await, has_something)
    });
    let (copied, has_something) = copied.await?;
    let partitions = copied.into_iter().map(|Copied { index, outcome }| {
        let outcome = outcome.map(|records| Found {
            high_watermark: records.high_watermark,
            log_start_offset: records.log_start_offset,
            batches: records.batches.into_iter().map(Buf::from_vec).collect(),
        });
        PartitionAnswer { index, outcome }
    });
    Ok((partitions.collect(), has_something))
}

/// On the owner.
async fn until_stopped(
    core: &CoreHandle,
    part: &FetchRequest,
    stop: &mut watch::Receiver<bool>,
) -> Reading {
    let reading = tokio::select! {
        biased;
        reading = wait_and_read(core, part) => reading,
        // Also when the asker is gone.
        _ = stop.wait_for(|stopped| *stopped) => read(core, part).await,
        () = core.drained() => read(core, part).await,
    };
    let metrics = core.metrics();
    metrics.bytes_out.add(reading.bytes as u64);
    metrics.batches_out.add(reading.batches as u64);
    reading
}

/// On the owner: takes the records out of the core's memory, in steps.
async fn copy(partitions: Vec<PartitionAnswer>) -> Vec<Copied> {
    let mut copied = Vec::with_capacity(partitions.len());
    let mut unpaused_bytes = 0;
    for PartitionAnswer { index, outcome } in partitions {
        let outcome = match outcome {
            Err(refusal) => Err(refusal),
            Ok(found) => {
                let mut batches = Vec::with_capacity(found.batches.len());
                for batch in &found.batches {
                    let mut bytes = Vec::with_capacity(batch.len());
                    for step in batch.chunks(STEP_BYTES) {
                        bytes.extend_from_slice(step);
                        unpaused_bytes += step.len();
                        if unpaused_bytes >= STEP_BYTES {
                            unpaused_bytes = 0;
                            tokio::task::yield_now().await;
                        }
                    }
                    batches.push(bytes);
                }
                Ok(CopiedRecords {
                    high_watermark: found.high_watermark,
                    log_start_offset: found.log_start_offset,
                    batches,
                })
            }
        };
        copied.push(Copied { index, outcome });
    }
    copied
}
