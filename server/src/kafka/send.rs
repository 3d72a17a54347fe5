//! An answer on its way into the stream, in steps of the core.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Outgoing};
use super::limits::{LEAST_SENT_BYTES, STEP_BYTES};
use super::patience::Patience;
use super::stream::Stream;
use crate::node::core::CoreHandle;

/// Pieces of an answer that leave with one system call.
const PIECES: usize = 64;

/// Why an answer did not reach its client.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The client does not take it.
    #[error(
        "the client took less than {LEAST_SENT_BYTES} bytes of an answer within {} ms \
         (frame_timeout_ms)",
        .0.as_millis()
    )]
    SlowReader(Duration),
    /// The socket failed.
    #[error("sending failed: {0}")]
    Io(io::Error),
}

/// Sends an answer, until the socket has all of it. A client that does not take it in time is
/// given up.
///
/// Cancellation: the rest is lost; the connection is of no use then.
///
/// # Errors
/// See [`SendError`].
pub async fn send(
    stream: &Stream,
    core: &CoreHandle,
    answer: Answer,
    patience: &mut Patience,
) -> Result<(), SendError> {
    let timeout = core.settings().frame_timeout;
    let mut outgoing = Outgoing::new(answer);
    let mut deadline = Instant::now() + timeout;
    let mut left_before = outgoing.left();
    let mut unpaused_bytes = 0;
    loop {
        let result = if outgoing.left() > 0 {
            try_send(stream, &outgoing)
        } else {
            match stream.try_flush() {
                Ok(()) => return Ok(()),
                Err(error) => Err(error),
            }
        };
        match result {
            Ok(0) => return Err(SendError::Io(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                outgoing.sent(count);
                core.metrics().sent_bytes.add(count as u64);
                unpaused_bytes += count;
                if unpaused_bytes >= STEP_BYTES && outgoing.left() > 0 {
                    unpaused_bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::select! {
                    biased;
                    writable = stream.writable() => writable.map_err(SendError::Io)?,
                    () = patience.until(deadline) => {
                        if left_before - outgoing.left() < LEAST_SENT_BYTES {
                            return Err(SendError::SlowReader(timeout));
                        }
                        left_before = outgoing.left();
                        deadline = Instant::now() + timeout;
                    }
                }
            }
            Err(error) => return Err(SendError::Io(error)),
        }
    }
}

fn try_send(stream: &Stream, outgoing: &Outgoing) -> io::Result<usize> {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let used = outgoing.gather(&mut pieces, STEP_BYTES);
    stream.try_write_vectored(&pieces[..used])
}
