//! Produce: appends record batches, and says which offsets they got once they are as durable as
//! their topics promise.
//!
//! ```text
//! parse in place → targets (topic, owner, rules) → checks (CRC, counts, flags)
//!     → room in the log → append (offsets, one group) … durable, or written … → answer
//! ```
//!
//! Invariants: record bytes are not copied here; a batch is appended only after all its checks;
//! nothing is acknowledged here: [`Produced::needed`] says how far the log must come first. Called
//! by the connection, which answers in the order of the requests while later ones are appended.

pub mod checks;
pub mod request;
pub mod response;
mod targets;

use std::net::SocketAddr;
use std::time::Instant;

use kafka_protocol::error::ResponseError;
use ringlog_engine::topics::Durability;
use ringlog_storage::buffer::BufMut;
use ringlog_types::batch::{self, BatchHeader};

use self::checks::Rules;
use self::request::ProduceRequest;
use self::response::{PartitionAnswer, ProduceAnswer, Refusal, Stored};
use self::targets::{Target, resolve};
use super::complaints::complain;
use super::errors;
use super::limits::{LARGE_FRAME_BYTES, STEP_BYTES, STEP_PARTITIONS};
use super::records;
use super::wire::WireError;
use crate::node::append::{Appended, BatchRange, FrameOrCopy, ProduceFailure};
use crate::node::core::CoreHandle;
use crate::node::metrics::CoreMetrics;
use crate::node::reach::Reach;
use crate::node::stages::{Stage, Watch};

/// Oldest version that carries record batches of format 2.
const OLDEST: i16 = 3;

/// A request's frame, in the memory it was received into.
#[derive(Debug)]
pub enum Received<'a> {
    /// In the connection's buffer, which the next request takes again.
    Small(&'a mut [u8]),
    /// In memory of the pool: what lies there can become part of a block.
    Large {
        /// The memory, with the log's headroom in front of the frame.
        frame: BufMut,
        /// Where the frame ends.
        end: usize,
    },
}

impl Received<'_> {
    /// The whole memory, up to the end of the frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Received::Small(bytes) => bytes,
            Received::Large { frame, end } => &frame[..*end],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Received::Small(bytes) => bytes,
            Received::Large { frame, end } => &mut frame[..*end],
        }
    }
}

/// A request whose records are in the log, or refused.
#[derive(Debug)]
pub struct Produced {
    /// Whether the client wants no answer.
    pub is_silent: bool,
    /// What is answered if the log comes as far as `needed`.
    pub answer: ProduceAnswer,
    /// How far the log must have come before the answer leaves.
    pub needed: Reach,
    /// Batches that the answer acknowledges, by the durability of their topics.
    batches: [u64; Durability::ALL.len()],
    /// Runs since its records are in the log.
    pub watch: Watch,
}

impl Produced {
    /// The answer if what was appended cannot be known to be durable.
    pub fn fail(&mut self, message: &str) {
        for partition in &mut self.answer.partitions {
            if partition.outcome.is_ok() {
                let code = ResponseError::KafkaStorageError;
                partition.outcome = Err(Refusal::new(code, message));
            }
        }
    }

    /// Counts what the answer acknowledges, as it leaves.
    pub fn count(&self, metrics: &CoreMetrics) {
        for (durability, batches) in Durability::ALL.into_iter().zip(self.batches) {
            metrics.acknowledge(durability, batches);
        }
    }

    /// The first refusal, for a log line.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.answer
            .partitions
            .iter()
            .find_map(|partition| partition.outcome.as_ref().err())
    }
}

/// A batch that passed its checks; which partition of the answer it belongs to.
#[derive(Debug)]
struct Checked {
    place: usize,
    batch: BatchRange,
}

/// Appends what a request brings. Waits while the log has no room.
///
/// Cancellation: what was appended becomes durable all the same.
///
/// # Errors
/// When the request is malformed. Nothing is appended then.
pub async fn handle(
    core: &CoreHandle,
    peer: SocketAddr,
    version: i16,
    body_at: usize,
    mut received: Received<'_>,
    mut watch: Watch,
) -> Result<Produced, WireError> {
    let request = ProduceRequest::parse(received.bytes(), body_at, version)?;
    let is_silent = request.acks == 0;
    let ProduceRequest {
        topics, partitions, ..
    } = &request;
    let mut answer = ProduceAnswer::default();
    let targets: Vec<Result<Target, Refusal>> = match refuse_whole(&request, version) {
        Some(refusal) => partitions.iter().map(|_| Err(refusal.clone())).collect(),
        None => resolve(core, topics, partitions, version, &mut answer.endpoints).await,
    };
    core.stages().lap(&mut watch, Stage::Decode);
    let mut outcomes: Vec<Result<Stored, Refusal>> = Vec::with_capacity(partitions.len());
    let mut checked = Vec::new();
    let mut unpaused_bytes = 0;
    for (partition, target) in partitions.iter().zip(targets) {
        let place = outcomes.len();
        let records = partition.records.clone();
        unpaused_bytes += records.len();
        let outcome = match target {
            Err(refusal) => Err(refusal),
            Ok(target) => {
                let bytes = &mut received.bytes_mut()[records.clone()];
                check(core, bytes, version, &target.rules)
                    .await
                    .map(|header| {
                        let batch = BatchRange {
                            partition: target.partition,
                            range: records,
                            header,
                        };
                        checked.push(Checked { place, batch });
                        NOT_APPENDED
                    })
            }
        };
        outcomes.push(outcome);
        if unpaused_bytes >= STEP_BYTES {
            unpaused_bytes = 0;
            tokio::task::yield_now().await;
        }
    }
    core.stages().lap(&mut watch, Stage::Check);
    let (needed, batches) = append(core, peer, received, checked, &mut outcomes).await;
    core.stages().lap(&mut watch, Stage::Append);
    answer.partitions = partitions
        .iter()
        .zip(outcomes)
        .map(|(partition, outcome)| PartitionAnswer {
            index: partition.index,
            outcome,
        })
        .collect();
    answer.topics = request.topics;
    complain_of_refusals(core, peer, &answer);
    Ok(Produced {
        is_silent,
        answer,
        needed,
        batches,
        watch,
    })
}

/// Stands in an outcome until the log has taken the batch.
const NOT_APPENDED: Stored = Stored {
    base_offset: -1,
    log_append_time_ms: -1,
    log_start_offset: -1,
};

/// Why a request is refused whatever it brings.
fn refuse_whole(request: &ProduceRequest, version: i16) -> Option<Refusal> {
    if version < OLDEST {
        let message =
            format!("Produce version {version} carries old formats; use {OLDEST} or later");
        return Some(Refusal::new(ResponseError::UnsupportedVersion, message));
    }
    if !matches!(request.acks, -1..=1) {
        let message = format!("acks is {}; -1, 0 and 1 are possible", request.acks);
        return Some(Refusal::new(ResponseError::InvalidRequiredAcks, message));
    }
    if request.is_transactional {
        let message = "this node has no transactions; do not set transactional.id";
        return Some(Refusal::new(ResponseError::InvalidTxnState, message));
    }
    None
}

/// All checks of a partition's records; fills in a maximum timestamp that the producer left out.
async fn check(
    core: &CoreHandle,
    bytes: &mut [u8],
    version: i16,
    rules: &Rules,
) -> Result<BatchHeader, Refusal> {
    // Small batches cost less than the clock.
    let began = (bytes.len() > LARGE_FRAME_BYTES).then(Instant::now);
    let checked = checks::check(bytes, version, rules);
    if let Some(began) = began {
        core.stepped(began.elapsed());
    }
    let mut header = checked?;
    if rules.keys {
        let keyless = records::first_without_key(core.opening_memory(), bytes)
            .await
            .map_err(|error| Refusal::new(errors::of_opening(&error), error.to_string()))?;
        if let Some(index) = keyless {
            return Err(checks::keyless(index));
        }
    }
    if rules.timestamps.is_none() {
        return Ok(header);
    }
    if header.max_timestamp < 0 {
        let latest = records::latest(core.opening_memory(), bytes)
            .await
            .map_err(|error| Refusal::new(errors::of_opening(&error), error.to_string()))?;
        if latest.timestamp_ms >= 0 {
            batch::set_max_timestamp(bytes, latest.timestamp_ms);
            header = BatchHeader::parse(bytes)
                .map_err(|error| Refusal::new(errors::of_batch(&error), error.to_string()))?;
        }
    }
    checks::check_timestamps(&header, rules, core.with(|core| core.now_ms()))?;
    Ok(header)
}

/// Appends the batches and notes what became of each. Returns how far the log must come, and how
/// many batches of each durability it took.
async fn append(
    core: &CoreHandle,
    peer: SocketAddr,
    received: Received<'_>,
    mut checked: Vec<Checked>,
    outcomes: &mut [Result<Stored, Refusal>],
) -> (Reach, [u64; Durability::ALL.len()]) {
    let mut noted = (Reach::default(), [0; Durability::ALL.len()]);
    let bytes = |checked: &[Checked]| checked.iter().map(|one| one.batch.range.len()).sum();
    match received {
        Received::Large { frame, end } if checked.len() <= STEP_PARTITIONS => {
            core.room(Some(peer), bytes(&checked)).await;
            core.with(|state| {
                drop_orphans(state, &mut checked, outcomes);
                let batches: Vec<BatchRange> =
                    checked.iter().map(|one| one.batch.clone()).collect();
                let results = state.append_records(&batches, FrameOrCopy::Frame { frame, end });
                note(core, &checked, results, outcomes, &mut noted);
            });
        }
        mut received => {
            // Many small batches: copied, and in steps.
            while !checked.is_empty() {
                let rest = checked.split_off(checked.len().min(STEP_PARTITIONS));
                let mut step = std::mem::replace(&mut checked, rest);
                core.room(Some(peer), bytes(&step)).await;
                core.with(|state| {
                    drop_orphans(state, &mut step, outcomes);
                    let batches: Vec<BatchRange> =
                        step.iter().map(|one| one.batch.clone()).collect();
                    let copied = FrameOrCopy::Copy(received.bytes_mut());
                    let results = state.append_records(&batches, copied);
                    note(core, &step, results, outcomes, &mut noted);
                });
            }
        }
    }
    noted
}

/// Topics may have been deleted since the targets were found.
fn drop_orphans(
    core: &crate::node::core::Core,
    checked: &mut Vec<Checked>,
    outcomes: &mut [Result<Stored, Refusal>],
) {
    checked.retain(|one| {
        let owned = core.owns(one.batch.partition);
        if !owned {
            outcomes[one.place] = Err(Refusal::new(
                ResponseError::UnknownTopicOrPartition,
                "the topic was deleted while the request waited",
            ));
        }
        owned
    });
}

fn note(
    core: &CoreHandle,
    checked: &[Checked],
    results: Vec<Result<Appended, ProduceFailure>>,
    outcomes: &mut [Result<Stored, Refusal>],
    (needed, batches): &mut (Reach, [u64; Durability::ALL.len()]),
) {
    let metrics = core.metrics();
    for (one, result) in checked.iter().zip(results) {
        outcomes[one.place] = match result {
            Ok(appended) => {
                needed.wait_for(appended.sequence, appended.durability);
                batches[appended.durability as usize] += 1;
                if appended.duplicate {
                    metrics.duplicate_batches.add(1);
                } else {
                    metrics.batches_in.add(1);
                    metrics
                        .records_in
                        .add(u64::from(one.batch.header.offsets()));
                    metrics.bytes_in.add(one.batch.range.len() as u64);
                }
                Ok(Stored {
                    base_offset: appended.base_offset.as_i64(),
                    log_append_time_ms: appended.log_append_time_ms.unwrap_or(-1),
                    log_start_offset: appended.log_start_offset.as_i64(),
                })
            }
            Err(failure) => Err(Refusal::new(
                errors::of_produce(&failure),
                failure.to_string(),
            )),
        };
    }
}

fn complain_of_refusals(core: &CoreHandle, peer: SocketAddr, answer: &ProduceAnswer) {
    let mut partitions = answer.partitions.iter();
    for (topic, count) in &answer.topics {
        for partition in partitions.by_ref().take(*count) {
            if let Err(refusal) = &partition.outcome {
                let kind = errors::kind_of(refusal.code);
                let PartitionAnswer { index, .. } = partition;
                let Refusal { code, message, .. } = refusal;
                complain(
                    core,
                    peer,
                    kind,
                    format_args!(
                        "Produce to topic {topic} partition {index} refused: {code:?}: {message}"
                    ),
                );
            }
        }
    }
}
