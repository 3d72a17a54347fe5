//! Produce to several cores: each gets its batches as a request of its own, copied once, and appends
//! them as if a client had sent them there. Appended on all cores before the next request of the
//! connection is read, so that its batches stay in order; waited for when the answer is due.

use std::net::SocketAddr;
use std::time::Instant;

use kafka_protocol::error::ResponseError;
use ringlog_storage::log::FRAME_HEADROOM_BYTES;
use ringlog_types::CoreId;

use super::there::{at_each, distinct, in_order, owners};
use crate::kafka::decode::RequestError;
use crate::kafka::limits::{LARGE_FRAME_BYTES, STEP_BYTES};
use crate::kafka::produce::request::ProduceRequest;
use crate::kafka::produce::response::{PartitionAnswer, ProduceAnswer, Refusal};
use crate::kafka::produce::{self, Produced, Received};
use crate::kafka::request::RequestHeader;
use crate::kafka::topic_ref::TopicRef;
use crate::kafka::wire::{WireError, Writer};
use crate::node::core::CoreHandle;
use crate::node::stages::Watch;

/// Versions whose batches this node appends.
const APPENDED_SINCE: i16 = 3;
const FLEXIBLE_SINCE: i16 = 9;

/// A request whose batches are in the logs of several cores, or refused.
#[derive(Debug)]
pub struct Forwarded {
    /// Whether the client wants no answer.
    pub is_silent: bool,
    parts: Vec<(CoreId, Produced)>,
    /// The owner and index of each partition, in the order of the request.
    owners: Vec<CoreId>,
    indexes: Vec<i32>,
    topics: Vec<(TopicRef, usize)>,
}

/// Appends what a request brings, on the cores that own its partitions; `None`: all of it belongs
/// here, or it is refused whatever it brings, which the caller does without copying.
///
/// Cancellation: what was appended becomes durable all the same.
///
/// # Errors
/// When the request is malformed, or an owner stops.
pub async fn append(
    core: &CoreHandle,
    peer: SocketAddr,
    header: &RequestHeader,
    body_at: usize,
    frame: &[u8],
) -> Result<Option<Forwarded>, RequestError> {
    let version = header.version;
    let request = ProduceRequest::parse(frame, body_at, version)?;
    let is_refused =
        version < APPENDED_SINCE || request.is_transactional || !matches!(request.acks, -1..=1);
    if is_refused {
        return Ok(None);
    }
    let topics = request.topics.iter();
    let topics = topics.flat_map(|(topic, count)| std::iter::repeat_n(topic, *count));
    let named = topics.zip(request.partitions.iter().map(|partition| partition.index));
    let owners = owners(core, named).await;
    if owners.iter().all(|owner| *owner == core.id()) {
        return Ok(None);
    }
    let distinct = distinct(&owners);
    let mut work = Vec::with_capacity(distinct.len());
    for owner in &distinct {
        let part = part(core, &request, frame, version, &owners, *owner).await;
        work.push((*owner, move |there| {
            there_append(there, peer, version, part)
        }));
    }
    let appended: Vec<Result<Produced, WireError>> = at_each(core, work).await?;
    let appended = appended.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Forwarded {
        is_silent: request.acks == 0,
        parts: distinct.into_iter().zip(appended).collect(),
        owners,
        indexes: request
            .partitions
            .iter()
            .map(|partition| partition.index)
            .collect(),
        topics: request.topics,
    }))
}

/// The body of a request with an owner's batches.
async fn part(
    core: &CoreHandle,
    request: &ProduceRequest,
    frame: &[u8],
    version: i16,
    owners: &[CoreId],
    owner: CoreId,
) -> Vec<u8> {
    let mut topics: Vec<(&TopicRef, Vec<usize>)> = Vec::new();
    let mut next = 0;
    let mut bytes = 0;
    for (topic, count) in &request.topics {
        let own = (next..next + count).filter(|place| owners[*place] == owner);
        let own: Vec<usize> = own.collect();
        next += count;
        bytes += own
            .iter()
            .map(|place| request.partitions[*place].records.len() + 16)
            .sum::<usize>();
        if !own.is_empty() {
            bytes += 300;
            topics.push((topic, own));
        }
    }
    let flexible = version >= FLEXIBLE_SINCE;
    let mut out = Vec::with_capacity(bytes + 32);
    let mut writer = Writer::new(&mut out, flexible);
    // No transaction.
    writer.text(None);
    writer.i16(request.acks);
    // The timeout, which nobody looks at.
    writer.i32(0);
    writer.count(topics.len());
    for (topic, own) in topics {
        let mut writer = Writer::new(&mut out, flexible);
        match topic {
            TopicRef::Name(name) => writer.text(Some(name)),
            TopicRef::Id(id) => writer.uuid(id),
        }
        writer.count(own.len());
        for place in own {
            let partition = &request.partitions[place];
            let mut writer = Writer::new(&mut out, flexible);
            writer.i32(partition.index);
            writer.count(partition.records.len());
            copy(core, &mut out, &frame[partition.records.clone()]).await;
            Writer::new(&mut out, flexible).no_tags();
        }
        Writer::new(&mut out, flexible).no_tags();
    }
    Writer::new(&mut out, flexible).no_tags();
    out
}

/// Copies in steps of the core.
async fn copy(core: &CoreHandle, out: &mut Vec<u8>, bytes: &[u8]) {
    let mut steps = bytes.chunks(STEP_BYTES).peekable();
    while let Some(step) = steps.next() {
        let began = Instant::now();
        out.extend_from_slice(step);
        if steps.peek().is_some() {
            core.stepped(began.elapsed());
            tokio::task::yield_now().await;
        }
    }
}

/// On the owner.
async fn there_append(
    core: CoreHandle,
    peer: SocketAddr,
    version: i16,
    mut part: Vec<u8>,
) -> Result<Produced, WireError> {
    if part.len() <= LARGE_FRAME_BYTES {
        let received = Received::Small(&mut part);
        return produce::handle(&core, peer, version, 0, received, Watch::default()).await;
    }
    let end = FRAME_HEADROOM_BYTES + part.len();
    let mut frame = core.frame_memory(end).await;
    let mut at = FRAME_HEADROOM_BYTES;
    for step in part.chunks(STEP_BYTES) {
        frame[at..at + step.len()].copy_from_slice(step);
        at += step.len();
        if at < end {
            tokio::task::yield_now().await;
        }
    }
    drop(part);
    let received = Received::Large { frame, end };
    let watch = Watch::default();
    produce::handle(&core, peer, version, FRAME_HEADROOM_BYTES, received, watch).await
}

impl Forwarded {
    /// The first refusal, for a log line.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.parts
            .iter()
            .find_map(|(_, produced)| produced.refusal())
    }

    /// Waits until all of it is as durable as its topics promise, and answers.
    ///
    /// Cancellation: what was appended becomes durable all the same.
    pub async fn settle(self, core: &CoreHandle) -> ProduceAnswer {
        let distinct: Vec<CoreId> = self.parts.iter().map(|(owner, _)| *owner).collect();
        let work = self.parts.into_iter().map(|(owner, mut produced)| {
            let work = move |there: CoreHandle| async move {
                match there.reached(&produced.needed).await {
                    Ok(()) => produced.count(there.metrics()),
                    Err(failure) => produced.fail(&failure.to_string()),
                }
                produced.answer.partitions
            };
            (owner, work)
        });
        let settled = at_each(core, work.collect()).await;
        let partitions = match settled {
            Ok(settled) => in_order(&self.owners, &distinct, settled),
            // An owner that stops does not say what became of its batches.
            Err(_) => self.indexes.iter().map(|index| unknown(*index)).collect(),
        };
        ProduceAnswer {
            topics: self.topics,
            partitions,
            endpoints: Vec::new(),
        }
    }
}

fn unknown(index: i32) -> PartitionAnswer {
    let code = ResponseError::KafkaStorageError;
    let message = "the core stopped before the records were known to be durable";
    PartitionAnswer {
        index,
        outcome: Err(Refusal::new(code, message)),
    }
}
