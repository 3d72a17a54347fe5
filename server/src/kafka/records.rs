//! Opens a batch, compressed or not, to read when and where its records are: for the last step of
//! a lookup by timestamp, for a batch whose producer left the maximum timestamp out, and whether
//! all have keys, where the topic is compacted. Nothing else on the way of a batch opens it.
//!
//! Invariants: decompressed bytes flow through a window and are never gathered; what windows of
//! decompressors take is counted, and who finds no room waits, so that bombs cost time and bounded
//! memory; the time is bounded by [`OPENED_BATCH_BYTES`] and is spent in steps, between which other tasks
//! of the core run.

use std::io::{self, Read};
use std::sync::Arc;

use ringlog_types::batch::{
    BatchError, BatchHeader, HEADER_BYTES, TOO_LARGE, decoder, decoder_bytes,
};

use super::limits::{OPENED_BATCH_BYTES, STEP_BYTES};
use crate::node::budget::Budget;

/// When and where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Counted from the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds.
    pub timestamp_ms: i64,
    /// Whether it has a key.
    pub has_key: bool,
}

/// Why a batch cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its header is not one.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The bytes are not what the codec makes.
    #[error("its records cannot be decompressed: {0}")]
    Codec(io::Error),
    /// It takes more memory than is given to it.
    #[error("its records take too much memory to be decompressed: {0}")]
    Window(io::Error),
    /// It grows beyond what is opened.
    #[error("its records have more than {limit_bytes} bytes when decompressed")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// A record is malformed.
    #[error("record {index} cannot be read")]
    Record {
        /// Which.
        index: i32,
    },
}

/// The largest timestamp of a batch's records and the first record that has it. The header's
/// own maximum is not looked at.
///
/// Cancellation: nothing is kept.
///
/// # Errors
/// See [`OpenError`].
pub async fn latest(memory: &Arc<Budget>, batch: &[u8]) -> Result<RecordPlace, OpenError> {
    let mut latest: Option<RecordPlace> = None;
    each(memory, batch, |place| {
        if latest.is_none_or(|latest| latest.timestamp_ms < place.timestamp_ms) {
            latest = Some(place);
        }
        true
    })
    .await?;
    latest.ok_or(OpenError::Record { index: 0 })
}

/// The first record at or after a time whose offset is at least so far into the batch.
///
/// Cancellation: nothing is kept.
///
/// # Errors
/// See [`OpenError`].
pub async fn first_at_or_after(
    memory: &Arc<Budget>,
    batch: &[u8],
    timestamp_ms: i64,
    least_delta: i64,
) -> Result<Option<RecordPlace>, OpenError> {
    let mut found = None;
    each(memory, batch, |place| {
        if place.timestamp_ms >= timestamp_ms && i64::from(place.offset_delta) >= least_delta {
            found = Some(place);
        }
        found.is_none()
    })
    .await?;
    Ok(found)
}

/// Place in the batch of the first record without a key.
///
/// Cancellation: nothing is kept.
///
/// # Errors
/// See [`OpenError`].
pub async fn first_without_key(
    memory: &Arc<Budget>,
    batch: &[u8],
) -> Result<Option<i32>, OpenError> {
    let (mut index, mut found) = (0, None);
    each(memory, batch, |place| {
        if !place.has_key {
            found = Some(index);
        }
        index += 1;
        found.is_none()
    })
    .await?;
    Ok(found)
}

/// Calls `visit` with each record until it says `false`.
async fn each(
    memory: &Arc<Budget>,
    batch: &[u8],
    mut visit: impl FnMut(RecordPlace) -> bool,
) -> Result<(), OpenError> {
    let header = BatchHeader::parse(batch)?;
    let (compression, payload) = (header.compression()?, &batch[HEADER_BYTES..]);
    let bytes = decoder_bytes(compression, payload) + WINDOW_BYTES;
    let _held = memory.take(bytes, bytes).await;
    let mut source = Bounded::new(
        decoder(compression, payload).map_err(of_codec)?,
        OPENED_BATCH_BYTES,
    );
    let mut next_pause = STEP_BYTES as u64;
    for index in 0..header.record_count {
        let (place, mut rest) = record(&mut source, index, &header)?;
        if !visit(place) {
            return Ok(());
        }
        while rest > 0 || source.taken >= next_pause {
            let step = rest.min(next_pause.saturating_sub(source.taken));
            source.skip(step)?;
            rest -= step;
            if source.taken >= next_pause {
                next_pause = source.taken + STEP_BYTES as u64;
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}

fn of_codec(error: io::Error) -> OpenError {
    match error.kind() {
        TOO_LARGE => OpenError::Window(error),
        _ => OpenError::Codec(error),
    }
}

/// Reads what is wanted of a record, and says how many bytes of it are left.
fn record(
    source: &mut Bounded<'_>,
    index: i32,
    header: &BatchHeader,
) -> Result<(RecordPlace, u64), OpenError> {
    let bad = || OpenError::Record { index };
    let length = source
        .varint()?
        .and_then(|length| u64::try_from(length).ok());
    let length = length.ok_or_else(bad)?;
    let start = source.taken;
    let _attributes = source.byte()?;
    let timestamp_delta = source.varint()?.ok_or_else(bad)?;
    let offset_delta = source.varint()?.and_then(|delta| i32::try_from(delta).ok());
    let offset_delta = offset_delta.ok_or_else(bad)?;
    let has_key = source.varint()?.ok_or_else(bad)? >= 0;
    let rest = length.checked_sub(source.taken - start).ok_or_else(bad)?;
    let timestamp_ms = header.base_timestamp.wrapping_add(timestamp_delta);
    Ok((
        RecordPlace {
            offset_delta,
            timestamp_ms,
            has_key,
        },
        rest,
    ))
}

/// Reads a byte stream up to a limit.
struct Bounded<'a> {
    source: Box<dyn Read + 'a>,
    window: Box<[u8]>,
    /// What of the window was read and not taken.
    ready: std::ops::Range<usize>,
    taken: u64,
    limit_bytes: u64,
}

const WINDOW_BYTES: usize = 16 << 10;

impl<'a> Bounded<'a> {
    fn new(source: Box<dyn Read + 'a>, limit_bytes: u64) -> Bounded<'a> {
        let window = vec![0; WINDOW_BYTES].into();
        Bounded {
            source,
            window,
            ready: 0..0,
            taken: 0,
            limit_bytes,
        }
    }

    /// Makes sure that a byte is ready.
    fn fill(&mut self) -> Result<(), OpenError> {
        while self.ready.is_empty() {
            if self.taken >= self.limit_bytes {
                return Err(OpenError::TooLarge {
                    limit_bytes: self.limit_bytes,
                });
            }
            let count = match self.source.read(&mut self.window) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            self.ready = 0..count.map_err(of_codec)?;
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, OpenError> {
        self.fill()?;
        let byte = self.window[self.ready.start];
        self.ready.start += 1;
        self.taken += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut count: u64) -> Result<(), OpenError> {
        while count > 0 {
            self.fill()?;
            let step = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(self.ready.len());
            self.ready.start += step;
            self.taken += step as u64;
            count -= step as u64;
        }
        Ok(())
    }

    /// A zigzag integer of up to 64 bits; `None` when it is longer.
    fn varint(&mut self) -> Result<Option<i64>, OpenError> {
        let mut value = 0u64;
        for index in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
