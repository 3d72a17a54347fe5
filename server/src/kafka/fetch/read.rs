//! Reads the partitions of a Fetch request once, in its order, in steps of the core.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kafka_protocol::error::ResponseError;
use ringlog_engine::topics::Topic;
use ringlog_storage::buffer::Buf;
use ringlog_storage::log::{Read, Wanted};
use ringlog_types::{Offset, PartitionId};

use super::request::{FetchPartition, FetchRequest};
use super::response::{Found, PartitionAnswer, Refusal};
use crate::kafka::endpoints::{Endpoint, add_endpoint};
use crate::kafka::limits::STEP_PARTITIONS;
use crate::kafka::locate::{NotHere, check_leader_epoch, find, locate_in};
use crate::kafka::topic_ref::TopicRef;
use crate::node::budget::Held;
use crate::node::core::{CoreHandle, CoreLog};

/// Blocks that one partition asks for at a time.
const MOST_ROWS: usize = 64;

/// And all partitions of a request.
const WANTED_BLOCKS: usize = 1024;

/// Of what has to come from disk, an answer has this much if it is there: a request of many
/// partitions costs more than the bytes of a small answer.
pub const COLD_ANSWER_BYTES: usize = 4 << 20;

/// Partitions for which something is asked at a time, at the most.
const COLD_AT_A_TIME: usize = 1024;

/// What was found.
#[derive(Debug)]
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
    /// What to wait for before [`resume`], if something has to come from disk.
    pub pending: Option<u64>,
    /// Whether a partition was refused, which the client is told at once.
    pub is_refused: bool,
    /// Whether a batch was there for which the answer has no room.
    is_full: bool,
    /// What it holds of the memory for answers.
    pub memory: Held,
    /// Partitions that found nothing in memory.
    cold: BinaryHeap<Reverse<Cold>>,
    /// Those of them for which something was asked, in the order of what they want.
    asked: Vec<Cold>,
    /// What has to come from disk.
    wanted: Vec<Wanted>,
    /// What is not under way yet begins here, in the order of the log.
    next: Option<Wanted>,
    /// Blocks of each partition that are asked for at a time.
    most_rows: usize,
    /// The most that the client takes.
    most_bytes: usize,
}

/// A partition of which nothing is in memory. Ordered by what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cold {
    /// What it wants first, if the index is in memory to say.
    wanted: Option<Wanted>,
    /// Its place in the request.
    place: usize,
    partition: PartitionId,
}

/// Reads what there is, as much as there is memory for, and starts to bring what has to come from disk.
/// Without memory the partitions' bounds are read, and no records.
pub async fn read(core: &CoreHandle, request: &FetchRequest, memory: Held) -> Reading {
    let most_rows = (WANTED_BLOCKS / request.partitions.len().max(1)).clamp(1, MOST_ROWS);
    let mut reading = Reading::new(memory, most_rows);
    reading.partitions.reserve_exact(request.partitions.len());
    let mut named = named(request);
    while reading.partitions.len() < request.partitions.len() {
        if !reading.partitions.is_empty() {
            tokio::task::yield_now().await;
        }
        core.with(|state| {
            let leader_epoch = state.leader_epoch();
            // The same topic for many partitions: found once.
            let mut topic: Option<(&TopicRef, Result<&Topic, NotHere>)> = None;
            for (name, wanted) in named.by_ref().take(STEP_PARTITIONS) {
                let found = match topic.take() {
                    Some((same, found)) if std::ptr::eq(same, name) => found,
                    _ => find(&state.topics, name),
                };
                let partition = found.clone().and_then(|topic| {
                    let (topology, here) = (core.topology(), state.log_id);
                    let partition = locate_in(topology, here, topic, wanted.index)?;
                    check_leader_epoch(wanted.current_leader_epoch, leader_epoch)?;
                    Ok(partition)
                });
                topic = Some((name, found));
                reading.add(core, &mut state.log, partition, wanted);
            }
        });
    }
    reading.bring(core);
    reading
}

/// Reads what has come from disk since, and starts to bring more unless there is enough.
pub async fn resume(
    core: &CoreHandle,
    request: &FetchRequest,
    reading: &mut Reading,
    enough: usize,
) {
    reading.pending = None;
    let come = match reading.next.take() {
        Some(next) => {
            let has_come = |cold: &Cold| cold.wanted.is_none_or(|wanted| wanted < next);
            reading.asked.partition_point(has_come)
        }
        None => reading.asked.len(),
    };
    let come: Vec<Cold> = reading.asked.drain(..come).collect();
    reading.cold.extend(reading.asked.drain(..).map(Reverse));
    for step in come.chunks(STEP_PARTITIONS) {
        tokio::task::yield_now().await;
        core.with(|state| {
            for cold in step {
                let wanted = &request.partitions[cold.place];
                reading.partitions[cold.place].outcome =
                    reading.read(&mut state.log, cold.partition, cold.place, wanted);
            }
        });
    }
    let refused = |cold: &Cold| reading.partitions[cold.place].outcome.is_err();
    reading.is_refused |= come.iter().any(refused);
    // What this answer does not take would push out of memory what others wait for.
    if !reading.is_done(enough) {
        reading.bring(core);
    }
}

/// Each partition with its topic.
fn named(request: &FetchRequest) -> impl Iterator<Item = (&TopicRef, &FetchPartition)> {
    let topics = request.topics.iter();
    let topics = topics.flat_map(|(topic, count)| std::iter::repeat_n(topic, *count));
    topics.zip(&request.partitions)
}

impl Reading {
    fn new(memory: Held, most_rows: usize) -> Reading {
        Reading {
            partitions: Vec::new(),
            endpoints: Vec::new(),
            readable: Vec::new(),
            bytes: 0,
            batches: 0,
            pending: None,
            is_refused: false,
            is_full: false,
            most_bytes: memory.bytes(),
            memory,
            cold: BinaryHeap::new(),
            asked: Vec::new(),
            wanted: Vec::new(),
            next: None,
            most_rows,
        }
    }

    /// What has to come from disk is less than what was to be had. Twice [`COLD_ANSWER_BYTES`], so that
    /// it takes all that came with the last block: the rest would be the next answer, a short one.
    pub fn narrow(&mut self) {
        self.most_bytes = self.most_bytes.min(self.bytes + 2 * COLD_ANSWER_BYTES);
        self.memory.resize(self.most_bytes);
    }

    /// Nothing more is read: it holds as much as it found. A batch that is larger than what was to be
    /// had is served all the same.
    pub fn settle(&mut self) {
        self.memory.resize(self.bytes);
    }

    /// Whether there is nothing to wait for: enough is found, or all that the answer has room for,
    /// something is to be told, or none of the partitions can be read.
    pub fn is_done(&self, enough: usize) -> bool {
        self.is_refused || self.is_full || self.bytes >= enough || self.readable.is_empty()
    }

    fn add(
        &mut self,
        handle: &CoreHandle,
        log: &mut CoreLog,
        partition: Result<PartitionId, NotHere>,
        wanted: &FetchPartition,
    ) {
        let place = self.partitions.len();
        let outcome = partition.map_err(Refusal::from).and_then(|partition| {
            let found = self.read(log, partition, place, wanted);
            if found.is_ok() {
                self.readable.push(partition);
            }
            found
        });
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
        log: &mut CoreLog,
        partition: PartitionId,
        place: usize,
        wanted: &FetchPartition,
    ) -> Result<Found, Refusal> {
        let (start, end) = log.bounds(partition);
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
        let left = self.most_bytes.saturating_sub(self.bytes);
        let room = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        let mut batches = Vec::new();
        // Something is found already, or there is no memory: what comes now must fit.
        let must_fit = self.bytes > 0 || self.most_bytes == 0;
        if offset < end && !(must_fit && room == 0) {
            let before = self.wanted.len();
            batches = self
                .batches(log, partition, offset, room)
                .map_err(|refusal| Refusal {
                    bounds: Some(bounds),
                    ..refusal
                })?;
            if batches.is_empty() {
                self.cold.push(Reverse(Cold {
                    wanted: self.wanted.get(before).copied(),
                    place,
                    partition,
                }));
            } else if must_fit && batches[0].len() > room {
                // However much more is read, nothing that is as long has room.
                self.is_full |= batches[0].len() > left;
                batches.clear();
            }
        } else if offset < end && left == 0 && self.bytes > 0 {
            self.is_full = true;
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

    /// Starts to bring what is wanted: as much, in the order of the log, as may be read now.
    fn bring(&mut self, core: &CoreHandle) {
        if self.cold.is_empty() && self.wanted.is_empty() {
            return;
        }
        let (room, done) = core.with(|state| (state.log.cold_room(), state.log.reads_done()));
        let Some(room) = room else {
            self.wait_for(done);
            return;
        };
        let left = COLD_ANSWER_BYTES.saturating_sub(self.bytes) as u64;
        let room = room.min(left);
        let mut bytes = 0;
        let mut last: Option<Wanted> = None;
        while self.asked.len() < COLD_AT_A_TIME
            && let Some(Reverse(next)) = self.cold.peek()
        {
            // All that is wanted of a block is asked for together.
            let shares_block = match (last, next.wanted) {
                (Some(last), Some(next)) => last.shares_block(&next),
                _ => next.wanted.is_none(),
            };
            if !shares_block {
                if bytes >= room {
                    break;
                }
                bytes += next.wanted.map_or(0, |wanted| wanted.block_bytes());
            }
            last = next.wanted.or(last);
            self.asked.extend(self.cold.pop().map(|cold| cold.0));
        }
        let behind = self.cold.peek().and_then(|cold| cold.0.wanted);
        if behind.is_some() {
            self.wanted.clear();
        }
        let first = self.asked.iter().filter_map(|cold| cold.wanted);
        self.wanted.extend(first);
        self.wanted.sort_unstable();
        self.wanted.dedup();
        if self.wanted.is_empty() {
            return;
        }
        let brought = core.with(|state| state.log.bring(&mut self.wanted));
        self.wanted.clear();
        self.next = brought.next.or(behind);
        // Many partitions look again together, not for each read that comes back.
        let is_one = self.partitions.len() == 1;
        self.wait_for(if is_one {
            brought.one_done
        } else {
            brought.all_done
        });
    }

    fn wait_for(&mut self, ticket: u64) {
        self.pending = Some(self.pending.map_or(ticket, |newest| newest.max(ticket)));
    }

    fn batches(
        &mut self,
        log: &mut CoreLog,
        partition: PartitionId,
        offset: Offset,
        room: usize,
    ) -> Result<Vec<Buf>, Refusal> {
        let (most_rows, wanted) = (self.most_rows, &mut self.wanted);
        match log.look(partition, offset, room, most_rows, wanted) {
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
