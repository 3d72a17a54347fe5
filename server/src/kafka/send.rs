//! An answer on its way into the stream, in steps of the core.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Outgoing};
use super::limits::{LEAST_SENT_BYTES, SLOW_AFTER, SLOW_PART};
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
    /// The client is slow, and others wait for the memory of its answer.
    #[error(
        "the client takes an answer slowly ({left} bytes of it are left) while other answers wait for \
         memory (answer_memory)"
    )]
    Crowded {
        /// What it did not take.
        left: usize,
    },
    /// The socket failed.
    #[error("sending failed: {0}")]
    Io(io::Error),
}

/// Sends an answer, until the socket has all of it. A client that does not take it in time is
/// given up; while others wait for memory of answers, it has less time.
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
    let mut slow: Option<Look> = None;
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
                if unpaused_bytes >= stream.step_bytes() && outgoing.left() > 0 {
                    unpaused_bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let look = slow.get_or_insert_with(|| {
                    outgoing.count(core.answer_memory());
                    Look::new(outgoing.left())
                });
                tokio::select! {
                    biased;
                    writable = stream.writable() => writable.map_err(SendError::Io)?,
                    () = patience.until(deadline.min(look.at)) => {
                        if Instant::now() >= look.at {
                            outgoing.detach(|took| core.stepped(took)).await;
                            look.again(core, outgoing.left())?;
                        }
                        if Instant::now() < deadline {
                            continue;
                        }
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

/// When a slow client is looked at, and what it had to take then.
struct Look {
    at: Instant,
    whole: usize,
    left: usize,
}

impl Look {
    fn new(left: usize) -> Look {
        Look {
            at: Instant::now() + SLOW_AFTER,
            whole: left,
            left,
        }
    }

    /// That it took enough since the last time, if others wait.
    fn again(&mut self, core: &CoreHandle, left: usize) -> Result<(), SendError> {
        let least = (self.whole / SLOW_PART).max(LEAST_SENT_BYTES);
        let memory = core.answer_memory();
        if memory.is_wanted() && self.left - left < least {
            memory.give_up();
            return Err(SendError::Crowded { left });
        }
        self.left = left;
        self.at = Instant::now() + SLOW_AFTER;
        Ok(())
    }
}

fn try_send(stream: &Stream, outgoing: &Outgoing) -> io::Result<usize> {
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let used = outgoing.gather(&mut pieces, stream.step_bytes());
    stream.try_write_vectored(&pieces[..used])
}
