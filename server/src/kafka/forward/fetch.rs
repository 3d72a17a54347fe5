//! Fetch from several cores: each is asked for its part at the same time, with a part of the bytes;
//! as soon as they have enough together, or one has something else to tell, all answer with what they
//! have. Records of other cores are copied once, since a core's memory never leaves it; the copy counts
//! as an answer of the core that it came from until the client has it.

use std::sync::Arc;

use ringlog_storage::buffer::Buf;
use ringlog_types::CoreId;
use tokio::task::JoinSet;

use super::there::{at, distinct, in_order, owners};
use crate::kafka::answer::Answer;
use crate::kafka::decode::RequestError;
use crate::kafka::fetch::enough::Tally;
use crate::kafka::fetch::read::Reading;
use crate::kafka::fetch::request::{FetchRequest, TOPIC_ID_SINCE};
use crate::kafka::fetch::response::{FetchAnswer, Found, PartitionAnswer, Refusal};
use crate::kafka::fetch::session::SessionSlot;
use crate::kafka::fetch::{read_now, wait_and_read};
use crate::kafka::limits::STEP_BYTES;
use crate::kafka::request::RequestHeader;
use crate::node::budget::Held;
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
    let (found, memory) = gather(core, turn.request(), leaving).await?;
    let answer = sessions.end(turn, found, Vec::new()).encode(header);
    Ok(memory.into_iter().fold(answer, Answer::holding))
}

/// Every partition of the request, in its order, and what the owners count for them.
async fn gather(
    core: &CoreHandle,
    request: &FetchRequest,
    leaving: impl Future<Output = ()>,
) -> Result<(Vec<PartitionAnswer>, Vec<Held>), Unanswered> {
    let topics = request.topics.iter();
    let topics = topics.flat_map(|(topic, count)| std::iter::repeat_n(topic, *count));
    let named = topics.zip(request.partitions.iter().map(|wanted| wanted.index));
    let owners = owners(core, named).await;
    let distinct = distinct(&owners);
    let tally = Tally::new(request, distinct.len());
    let mut asked = JoinSet::new();
    let parts = split(request, &owners, &distinct);
    for (place, (owner, part)) in distinct.iter().zip(parts).enumerate() {
        let (core, owner, tally) = (core.clone(), *owner, Arc::clone(&tally));
        asked.spawn_local(async move { (place, one(core, owner, part, place, tally).await) });
    }
    let mut found: Vec<Vec<PartitionAnswer>> = distinct.iter().map(|_| Vec::new()).collect();
    let mut memory = Vec::with_capacity(distinct.len());
    tokio::pin!(leaving);
    loop {
        tokio::select! {
            biased;
            ended = asked.join_next() => {
                let Some(ended) = ended else { break };
                let (place, answer) = ended.map_err(|_| Unanswered::Gone)?;
                let (partitions, held) = answer?;
                found[place] = partitions;
                memory.push(held);
            }
            () = &mut leaving, if !tally.is_said() => tally.say(),
        }
    }
    Ok((in_order(&owners, &distinct, found), memory))
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

/// One owner's part, and what that counts for it.
async fn one(
    core: CoreHandle,
    owner: CoreId,
    part: FetchRequest,
    place: usize,
    tally: Arc<Tally>,
) -> Result<(Vec<PartitionAnswer>, Held), Unanswered> {
    if owner == core.id() {
        let reading = until_said(&core, &part, place, &tally).await;
        return Ok((reading.partitions, reading.memory));
    }
    let copied = at(&core, owner, move |there| async move {
        let reading = until_said(&there, &part, place, &tally).await;
        (copy(reading.partitions).await, reading.memory)
    });
    let (copied, memory) = copied.await?;
    let partitions = copied.into_iter().map(|Copied { index, outcome }| {
        let outcome = outcome.map(|records| Found {
            high_watermark: records.high_watermark,
            log_start_offset: records.log_start_offset,
            batches: records.batches.into_iter().map(Buf::from_vec).collect(),
        });
        PartitionAnswer { index, outcome }
    });
    Ok((partitions.collect(), memory))
}

/// On the owner: until there is enough of all of them, something else to tell, or no time left.
async fn until_said(
    core: &CoreHandle,
    part: &FetchRequest,
    place: usize,
    tally: &Arc<Tally>,
) -> Reading {
    // A part of next to nothing is a batch all the same.
    let most_bytes = usize::try_from(part.max_bytes).unwrap_or(0).max(1);
    let least = tally.part(place, most_bytes);
    let reading = tokio::select! {
        biased;
        reading = wait_and_read(core, part, &least) => reading,
        () = tally.said() => read_now(core, part).await,
        () = core.drained() => read_now(core, part).await,
    };
    // It found enough, or its partitions have something else to tell.
    if reading.bytes > 0 || reading.is_refused {
        tally.say();
    }
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
