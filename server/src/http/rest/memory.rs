//! Memory for what HTTP requests bring and get: one budget for all of them. A request takes its
//! part before it reads or writes, and one that finds none is told to come again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use kafka_protocol::error::ResponseError;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// What the budget is counted in.
const PIECE_BYTES: usize = 1 << 10;

/// What a byte of a body costs at the most while it becomes records, batches and frames.
const COPIES: usize = 4;

/// A body must come whole within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);

/// What is taken of a body that is too large before it is answered.
const DISCARDED_BYTES: usize = 64 << 20;

/// The budget.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pieces: Arc<Semaphore>,
    piece_count: usize,
    limit_bytes: usize,
    refused: Counter,
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _pieces: OwnedSemaphorePermit,
}

/// A body with its part of the budget.
#[derive(Debug)]
pub(super) struct HeldBody {
    pub bytes: Vec<u8>,
    _held: Held,
}

impl Memory {
    /// So much; how often there was none is counted.
    pub(super) fn new(limit_bytes: usize, refused: Counter) -> Memory {
        let piece_count = (limit_bytes / PIECE_BYTES).min(Semaphore::MAX_PERMITS);
        Memory {
            pieces: Arc::new(Semaphore::new(piece_count)),
            piece_count,
            limit_bytes,
            refused,
        }
    }

    /// What is taken.
    pub(super) fn used_bytes(&self) -> usize {
        (self.piece_count - self.pieces.available_permits()) * PIECE_BYTES
    }

    /// Takes a part; a larger one than there is at all takes all.
    pub(super) fn take(&self, bytes: usize) -> Result<Held, Problem> {
        let pieces = bytes.min(self.limit_bytes).div_ceil(PIECE_BYTES);
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        match Arc::clone(&self.pieces).try_acquire_many_owned(pieces) {
            Ok(_pieces) => Ok(Held { _pieces }),
            Err(_) => {
                self.refused.inc();
                Err(Problem::of(
                    ResponseError::ThrottlingQuotaExceeded,
                    format!(
                        "HTTP requests in progress take as much memory as they may (http_memory = {}); \
                         try again",
                        self.limit_bytes
                    ),
                ))
            }
        }
    }

    /// Reads a body of at most so many bytes.
    pub(super) async fn body(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        most_bytes: usize,
    ) -> Result<HeldBody, Problem> {
        let announced = headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > most_bytes) {
            // Who waits to be told to go on has not sent it, and does not.
            if !headers.contains_key(header::EXPECT) {
                discard(body).await;
            }
            return Err(too_large(most_bytes));
        }
        let held = self.take(announced.unwrap_or(most_bytes).saturating_mul(COPIES))?;
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
        let whole = async {
            while let Some(frame) = body.frame().await {
                let frame = frame
                    .map_err(|error| Problem::wrong(format!("the body cannot be read: {error}")))?;
                let data = frame.into_data().unwrap_or_default();
                if bytes.len() + data.len() > most_bytes {
                    return Err(too_large(most_bytes));
                }
                bytes.extend_from_slice(&data);
            }
            Ok(())
        };
        match tokio::time::timeout(BODY_TIMEOUT, whole).await {
            Ok(Ok(())) => Ok(HeldBody { bytes, _held: held }),
            Ok(Err(problem)) => {
                drop(held);
                if problem.has_status(StatusCode::PAYLOAD_TOO_LARGE) {
                    discard(body).await;
                }
                Err(problem)
            }
            Err(_) => {
                let seconds = BODY_TIMEOUT.as_secs();
                let detail = format!("the body did not come within {seconds} s");
                Err(Problem::wrong(detail).with_status(StatusCode::REQUEST_TIMEOUT))
            }
        }
    }
}

/// Takes what is left of a body that is refused, as far as that is worth it: many clients hear
/// nothing before they have sent all.
async fn discard(mut body: Body) {
    let mut left = DISCARDED_BYTES;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            let taken = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(taken);
            if left == 0 {
                return;
            }
        }
    };
    // Told either way.
    let _ = tokio::time::timeout(BODY_TIMEOUT, rest).await;
}

fn too_large(most_bytes: usize) -> Problem {
    Problem::of(
        ResponseError::MessageTooLarge,
        format!("a body has {most_bytes} bytes at the most here; send it in parts"),
    )
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_and_a_request_that_finds_none_is_refused() {
        let refused = Counter::default();
        let memory = Memory::new(10 << 10, refused.clone());
        let most = memory.take(9 << 10).unwrap();
        assert!(memory.take(2 << 10).is_err());
        let rest = memory.take(1).unwrap();
        assert!(memory.take(1).is_err());
        assert_eq!((memory.used_bytes(), refused.get()), (10 << 10, 2));
        drop((most, rest));
        assert_eq!(memory.used_bytes(), 0);
        drop(memory.take(1 << 30).unwrap());
    }
}
