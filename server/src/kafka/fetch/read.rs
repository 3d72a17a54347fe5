//! Reads the partitions of a Fetch request once, in its order, in steps of the core.

use kafka_protocol::error::ResponseError;
use ringlog_storage::buffer::Buf;
use ringlog_storage::log::{Read, Wanted};
use ringlog_types::{Offset, PartitionId};

use super::request::{FetchPartition, FetchRequest};
use super::response::{Found, PartitionAnswer, Refusal};
use crate::kafka::endpoints::{Endpoint, add_endpoint};
use crate::kafka::limits::{FETCH_ANSWER_BYTES, STEP_PARTITIONS};
use crate::kafka::locate::{NotHere, check_leader_epoch, locate};
use crate::kafka::topic_ref::TopicRef;
use crate::node::core::{Core, CoreHandle};

/// Blocks that one partition asks for at a time.
const MOST_ROWS: usize = 64;

/// And all partitions of a request.
const WANTED_BLOCKS: usize = 1024;

/// What was found.
#[derive(Debug, Default)]
pub struct Reading {
    /// The partitions of the request, in its order.
    pub partitions: Vec<PartitionAnswer>,
    /// Who leads those that were asked of the wrong broker.
    pub endpoints: Vec<Endpoint>,
    /// Those that can be read: to wait for.
    pub readable: Vec<PartitionId>,
    /// Bytes of the batches found.
    pub bytes: usize,
    /// Batches found.
    pub batches: usize,
    /// What to wait for, if the rest comes from disk.
    pub pending: Option<u64>,
    /// What has to come from disk.
    wanted: Vec<Wanted>,
    /// Blocks of each partition that are asked for at a time.
    most_rows: usize,
    /// Whether a partition was refused, which the client is told at once.
    pub is_refused: bool,
}

/// Reads what there is.
pub async fn read(core: &CoreHandle, request: &FetchRequest) -> Reading {
    let mut reading = Reading {
        most_rows: (WANTED_BLOCKS / request.partitions.len().max(1)).clamp(1, MOST_ROWS),
        ..Reading::default()
    };
    reading.partitions.reserve_exact(request.partitions.len());
    let most_bytes = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(FETCH_ANSWER_BYTES);
    let mut wanted = named(request).peekable();
    while wanted.peek().is_some() {
        if !reading.partitions.is_empty() {
            tokio::task::yield_now().await;
        }
        core.with(|state| {
            for (topic, partition) in wanted.by_ref().take(STEP_PARTITIONS) {
                reading.add(core, state, topic, partition, most_bytes);
            }
        });
    }
    if !reading.wanted.is_empty() {
        let mut wanted = std::mem::take(&mut reading.wanted);
        let (one_done, all_done) = core.with(|state| state.log.bring(&mut wanted));
        // A reader of many partitions looks through them again: not for each block.
        let done = if request.partitions.len() > 1 {
            all_done
        } else {
            one_done
        };
        reading.wait_for(done);
    }
    reading
}

/// Each partition with its topic.
fn named(request: &FetchRequest) -> impl Iterator<Item = (&TopicRef, &FetchPartition)> {
    let topics = request.topics.iter();
    let topics = topics.flat_map(|(topic, count)| std::iter::repeat_n(topic, *count));
    topics.zip(&request.partitions)
}

impl Reading {
    fn add(
        &mut self,
        handle: &CoreHandle,
        core: &mut Core,
        topic: &TopicRef,
        wanted: &FetchPartition,
        most_bytes: usize,
    ) {
        let outcome = partition_of(handle, core, topic, wanted)
            .map_err(Refusal::from)
            .and_then(|partition| self.read(core, partition, wanted, most_bytes));
        if let Err(refusal) = &outcome {
            self.is_refused = true;
            if let Some(leader) = refusal.leader {
                add_endpoint(&mut self.endpoints, handle.topology(), leader);
            }
        }
        self.partitions.push(PartitionAnswer {
            index: wanted.index,
            outcome,
        });
    }

    fn read(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        wanted: &FetchPartition,
        most_bytes: usize,
    ) -> Result<Found, Refusal> {
        let (start, end) = core.log.bounds(partition);
        let bounds = (start.as_i64(), end.as_i64());
        let offset = Offset(u64::try_from(wanted.offset).unwrap_or(u64::MAX));
        if offset < start || offset > end {
            let code = ResponseError::OffsetOutOfRange;
            let cause = format!("offset {} is not in {start}..={end}", wanted.offset);
            return Err(Refusal {
                bounds: Some(bounds),
                ..Refusal::new(code, cause)
            });
        }
        self.readable.push(partition);
        let room = usize::try_from(wanted.max_bytes)
            .unwrap_or(0)
            .min(most_bytes.saturating_sub(self.bytes));
        let mut batches = Vec::new();
        // Something is found already: what comes now must fit.
        let must_fit = self.bytes > 0;
        if offset < end && !(must_fit && room == 0) {
            batches = self
                .batches(core, partition, offset, room)
                .map_err(|refusal| Refusal {
                    bounds: Some(bounds),
                    ..refusal
                })?;
            if must_fit && batches.first().is_some_and(|first| first.len() > room) {
                batches.clear();
            }
        }
        let found = Found {
            high_watermark: bounds.1,
            log_start_offset: bounds.0,
            batches,
        };
        self.bytes += found.bytes();
        self.batches += found.batches.len();
        Ok(found)
    }

    fn wait_for(&mut self, ticket: u64) {
        self.pending = Some(self.pending.map_or(ticket, |newest| newest.max(ticket)));
    }

    fn batches(
        &mut self,
        core: &mut Core,
        partition: PartitionId,
        offset: Offset,
        room: usize,
    ) -> Result<Vec<Buf>, Refusal> {
        let (most_rows, wanted) = (self.most_rows, &mut self.wanted);
        match core.log.look(partition, offset, room, most_rows, wanted) {
            Read::Batches(batches) => Ok(batches),
            Read::Pending(ticket) => {
                self.wait_for(ticket);
                Ok(Vec::new())
            }
            Read::OutOfRange => {
                let cause = format!("offset {offset} is not there");
                Err(Refusal::new(ResponseError::OffsetOutOfRange, cause))
            }
            // Clients stop with an error that names the offset, and can be told to go on behind.
            Read::Damaged { first, end } => {
                let cause = format!(
                    "offsets {first} to {end} (exclusive) are damaged on disk; go on at {end}"
                );
                Err(Refusal::new(ResponseError::CorruptMessage, cause))
            }
            Read::Failed(cause) => Err(Refusal::new(ResponseError::KafkaStorageError, cause)),
        }
    }
}

fn partition_of(
    handle: &CoreHandle,
    core: &Core,
    topic: &TopicRef,
    wanted: &FetchPartition,
) -> Result<PartitionId, NotHere> {
    let (partition, _) = locate(handle.topology(), core, topic, wanted.index)?;
    check_leader_epoch(wanted.current_leader_epoch, core.leader_epoch())?;
    Ok(partition)
}

impl From<NotHere> for Refusal {
    fn from(not_here: NotHere) -> Refusal {
        let NotHere {
            code,
            cause,
            leader,
        } = not_here;
        Refusal {
            leader,
            ..Refusal::new(code, cause)
        }
    }
}
