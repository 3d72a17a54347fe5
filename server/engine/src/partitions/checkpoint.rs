//! Committed state of the partitions as bytes: equal states give equal bytes.
//!
//! ```text
//! checkpoint = version u16 = 3
//!              partition count u32, { partition u64, start u64, end u64, epochs }*  by partition
//!              producer count u32, { producer }*                     longest idle first
//! epochs = count u8, { epoch i32, first offset u64 }*               (not in version 1)
//! producer = partition u64, id i64, epoch i16, unbroken u64, batch count u8 (1 to 5),
//!            { first sequence i32, last sequence i32, base offset u64, maximum timestamp i64 }*
//!            (up to version 2: the last batch's maximum timestamp before the count, of others none)
//! ```

use ringlog_types::{Offset, PartitionId};

use crate::little_endian::{DecodeError, Reader, Writer};

use super::epochs::Epochs;
use super::producers::{ProducerLimits, Producers, Window, Written};

const VERSION: u16 = 3;

/// The version that has leader epochs.
const EPOCHS_SINCE: u16 = 2;

/// The version that has a timestamp with each batch.
const TIMESTAMPS_SINCE: u16 = 3;

/// The timestamp of a batch that is not known.
const NO_TIMESTAMP: i64 = -1;

/// A partition with its first and end offset, and its leader epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) partition: PartitionId,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) epochs: Epochs,
}

pub(super) fn encode(bounds: &[Bounds], producers: &Producers) -> Vec<u8> {
    let mut out = Writer::new(VERSION);
    out.count(bounds.len());
    for bounds in bounds {
        put_bounds(&mut out, bounds);
    }
    out.count(producers.length());
    for (partition, id, window) in producers.iter() {
        put_producer(&mut out, partition, id, window);
    }
    out.into_bytes()
}

/// What stands in front of the partitions.
pub(super) fn put_head(out: &mut Writer, partitions: usize) {
    out.array(&VERSION.to_le_bytes());
    out.count(partitions);
}

pub(super) fn put_bounds(out: &mut Writer, bounds: &Bounds) {
    out.u64(bounds.partition.0);
    out.u64(bounds.start.0);
    out.u64(bounds.end.0);
    let began = bounds.epochs.began();
    out.u8(u8::try_from(began.len()).expect("few epochs are kept"));
    for (epoch, first) in began {
        out.i32(*epoch);
        out.u64(first.0);
    }
}

pub(super) fn put_producer(out: &mut Writer, partition: PartitionId, id: i64, window: &Window) {
    let (epoch, unbroken) = window.parts();
    out.u64(partition.0);
    out.i64(id);
    out.i16(epoch);
    out.u64(unbroken);
    out.u8(u8::try_from(window.batches().len()).expect("a window has five batches"));
    for batch in window.batches() {
        out.i32(batch.first_sequence);
        out.i32(batch.last_sequence);
        out.u64(batch.base_offset.0);
        out.i64(batch.max_timestamp);
    }
}

pub(super) fn decode(
    bytes: &[u8],
    limits: ProducerLimits,
) -> Result<(Vec<Bounds>, Producers), DecodeError> {
    let what = "the checkpoint of the partitions";
    let (mut reader, version) = Reader::up_to(what, bytes, VERSION)?;
    let count = reader.count("the partitions", 24)?;
    let mut bounds: Vec<Bounds> = Vec::with_capacity(count);
    for _ in 0..count {
        let partition = PartitionId(reader.u64("a partition")?);
        let start = offset(&mut reader)?;
        let end = offset(&mut reader)?;
        let before = bounds.last();
        if start > end || before.is_some_and(|before| before.partition >= partition) {
            return Err(reader.invalid(format!("partition {partition} is {start} to {end}")));
        }
        let epochs = if version >= EPOCHS_SINCE {
            take_epochs(&mut reader, partition, end)?
        } else {
            Epochs::default()
        };
        bounds.push(Bounds {
            partition,
            start,
            end,
            epochs,
        });
    }
    let mut producers = Producers::new(limits);
    for _ in 0..reader.count("the producers", 35)? {
        let partition = PartitionId(reader.u64("a producer's partition")?);
        let id = reader.i64("a producer's id")?;
        let parts = (
            reader.i16("a producer's epoch")?,
            reader.u64("a producer's sequences")?,
        );
        let newest_timestamp = match version {
            TIMESTAMPS_SINCE.. => NO_TIMESTAMP,
            _ => reader.i64("a producer's timestamp")?,
        };
        let mut batches = Vec::new();
        for _ in 0..reader.u8("a producer's batches")? {
            batches.push(Written {
                first_sequence: reader.i32("a batch's first sequence")?,
                last_sequence: reader.i32("a batch's last sequence")?,
                base_offset: offset(&mut reader)?,
                max_timestamp: match version {
                    TIMESTAMPS_SINCE.. => reader.i64("a batch's timestamp")?,
                    _ => NO_TIMESTAMP,
                },
            });
        }
        if version < TIMESTAMPS_SINCE
            && let Some(newest) = batches.last_mut()
        {
            newest.max_timestamp = newest_timestamp;
        }
        let window = Window::from_parts(parts, &batches).ok_or_else(|| {
            reader.invalid(format!("producer {id} has {} batches", batches.len()))
        })?;
        if producers.find(partition, id).is_some() {
            return Err(reader.invalid(format!("producer {id} is there twice in {partition}")));
        }
        producers.restore(partition, id, window);
    }
    reader.finish()?;
    Ok((bounds, producers))
}

fn take_epochs(
    reader: &mut Reader<'_>,
    partition: PartitionId,
    end: Offset,
) -> Result<Epochs, DecodeError> {
    let mut began = Vec::new();
    for _ in 0..reader.u8("a partition's epochs")? {
        began.push((reader.i32("an epoch")?, offset(reader)?));
    }
    let within = began.iter().all(|(_, first)| *first <= end);
    Epochs::from_parts(began)
        .filter(|_| within)
        .ok_or_else(|| reader.invalid(format!("epochs of partition {partition} do not rise")))
}

fn offset(reader: &mut Reader<'_>) -> Result<Offset, DecodeError> {
    let offset = reader.u64("an offset")?;
    if offset > i64::MAX as u64 {
        return Err(reader.invalid(format!("offset {offset} is beyond those of Kafka")));
    }
    Ok(Offset(offset))
}
