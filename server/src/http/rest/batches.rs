//! From records to what the owners of their partitions are asked to append: record batches, in
//! frames of Kafka's Produce request. Remembers where each record went.
//!
//! Invariant: records of a partition stay in the order of the request.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::protocol::Encodable;
use ringlog_types::CoreId;
use ringlog_types::batch::Builder;
use uuid::Uuid;

use super::incoming::Incoming;
use super::limits::{BATCH_BYTES, FRAME_BYTES};
use super::partitioner;
use super::problem::Problem;
use super::whereabouts::Located;

/// The version of Produce in which topics are named by id: a topic that was made again under its
/// name is not written to.
pub(super) const PRODUCE: i16 = 13;

/// What a record costs in a batch beside its key and value, at the most, without headers.
const RECORD_OVERHEAD_BYTES: usize = 40;

/// Where a record is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub partition: u32,
    /// Which of [`Batches::count`].
    pub batch: usize,
    /// Which record of it.
    pub index: u32,
}

/// Frames for a core, in their order, and the batches in each.
#[derive(Debug)]
pub(super) struct Frames {
    pub core: CoreId,
    pub frames: Vec<Vec<u8>>,
    /// The batches of all frames, in their order.
    pub batches: Vec<usize>,
}

/// The batches of a request.
#[derive(Debug)]
pub(super) struct Batches {
    /// The place of each record, in the order of the request.
    pub places: Vec<Place>,
    /// How many batches.
    pub count: usize,
    pub frames: Vec<Frames>,
}

struct Open {
    partition: u32,
    builder: Builder,
}

struct Closed {
    partition: u32,
    batch: usize,
    bytes: Vec<u8>,
}

/// Makes batches of the records. Those without a key and partition go to partition `keyless`,
/// counted around.
pub(super) fn build(
    records: &[Incoming<'_>],
    topic: &Located,
    keyless: u32,
    now_ms: i64,
) -> Result<Batches, Problem> {
    let partitions = topic.partition_count();
    let most_bytes = BATCH_BYTES.min(topic.max_message_bytes);
    let mut open: std::collections::HashMap<u32, (usize, Open)> = std::collections::HashMap::new();
    let mut closed: Vec<Closed> = Vec::new();
    let (mut places, mut count) = (Vec::with_capacity(records.len()), 0);
    for record in records {
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partitioner::of_key(key, partitions),
            (None, None) => keyless % partitions,
        };
        topic.owner(partition)?;
        let bytes = bytes_of(record);
        let is_full = open
            .get(&partition)
            .is_some_and(|(_, open)| open.builder.total_bytes() + bytes > most_bytes);
        if is_full && let Some(full) = open.remove(&partition) {
            closed.push(close(full));
        }
        let (batch, open) = open.entry(partition).or_insert_with(|| {
            count += 1;
            let builder = Builder::new();
            (count - 1, Open { partition, builder })
        });
        let index = open.builder.record_count().unsigned_abs();
        open.builder.add(
            record.timestamp_ms.unwrap_or(now_ms),
            record.key.as_deref(),
            record.value.as_deref(),
            record
                .headers
                .iter()
                .map(|(name, value)| (&**name, value.as_deref())),
        );
        places.push(Place {
            partition,
            batch: *batch,
            index,
        });
    }
    closed.extend(open.into_values().map(close));
    // A batch is numbered when it is begun: of a partition the earlier first.
    closed.sort_unstable_by_key(|closed| closed.batch);
    Ok(Batches {
        places,
        count,
        frames: frames(topic, closed)?,
    })
}

fn close((batch, open): (usize, Open)) -> Closed {
    Closed {
        partition: open.partition,
        batch,
        bytes: open.builder.build(),
    }
}

fn bytes_of(record: &Incoming<'_>) -> usize {
    let length = |bytes: &Option<std::borrow::Cow<'_, [u8]>>| bytes.as_ref().map_or(0, |b| b.len());
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + length(value) + 10)
        .sum();
    RECORD_OVERHEAD_BYTES + length(&record.key) + length(&record.value) + headers
}

fn frames(topic: &Located, closed: Vec<Closed>) -> Result<Vec<Frames>, Problem> {
    let mut all: Vec<Frames> = Vec::new();
    let mut waiting: Vec<(CoreId, usize, Vec<PartitionProduceData>)> = Vec::new();
    for batch in closed {
        let core = topic.owner(batch.partition)?;
        let bytes = batch.bytes.len();
        let data = PartitionProduceData::default()
            // Partitions are numbered in i32: a topic has 10,000 at the most.
            .with_index(batch.partition as i32)
            .with_records(Some(Bytes::from(batch.bytes)));
        let place = match all.iter().position(|frames| frames.core == core) {
            Some(place) => place,
            None => {
                all.push(Frames {
                    core,
                    frames: Vec::new(),
                    batches: Vec::new(),
                });
                waiting.push((core, 0, Vec::new()));
                all.len() - 1
            }
        };
        let (_, waiting_bytes, partitions) = &mut waiting[place];
        if *waiting_bytes > 0 && *waiting_bytes + bytes > FRAME_BYTES {
            all[place]
                .frames
                .push(encode(topic, std::mem::take(partitions))?);
            *waiting_bytes = 0;
        }
        *waiting_bytes += bytes;
        partitions.push(data);
        all[place].batches.push(batch.batch);
    }
    for (frames, (_, _, partitions)) in all.iter_mut().zip(waiting) {
        frames.frames.push(encode(topic, partitions)?);
    }
    Ok(all)
}

fn encode(topic: &Located, partitions: Vec<PartitionProduceData>) -> Result<Vec<u8>, Problem> {
    let topic = TopicProduceData::default()
        .with_topic_id(Uuid::from_bytes(topic.id.0))
        .with_partition_data(partitions);
    let request = ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(-1)
        .with_topic_data(vec![topic]);
    let mut frame = Vec::new();
    request.encode(&mut frame, PRODUCE).map_err(|error| {
        let detail = format!("the records cannot be encoded: {error}");
        Problem::of(
            kafka_protocol::error::ResponseError::UnknownServerError,
            detail,
        )
    })?;
    Ok(frame)
}
