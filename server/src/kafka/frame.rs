//! From a socket to request frames: a length of four bytes, then as many bytes.
//!
//! Invariants: a length is checked before room is made for it; a connection that waits for its
//! next request holds no buffer; a small frame is read together with what follows it, a large one
//! into memory of the pool, from where it can go to the disk as it is.

use std::io;
use std::ops::{Range, RangeInclusive};

use kafka_protocol::messages::ApiKey;
use ringlog_storage::buffer::BufMut;
use ringlog_storage::log::FRAME_HEADROOM_BYTES;
use tokio::time::Instant;

use super::limits::{
    CONTROL_REQUEST_BYTES, LARGE_FRAME_BYTES, READ_AFTER_LARGE_BYTES, READ_BUFFER_BYTES, STEP_BYTES,
};
use super::patience::Patience;
use super::stream::Stream;
use crate::node::core::CoreHandle;
use crate::node::stages::Watch;

const LENGTH_BYTES: usize = 4;

/// How a TLS record with a handshake begins: its type, and the major version that it has for ever.
const TLS_HANDSHAKE: u32 = 0x1603;

/// The shortest request: API key, version and correlation id.
pub const SHORTEST_BYTES: usize = 8;

/// A request frame, without its length.
#[derive(Debug)]
pub enum Frame {
    /// In the connection's buffer, until the next one is asked for. See [`Frames::small`].
    Small(Range<usize>),
    /// In memory of the pool, behind the log's headroom.
    Large {
        /// The memory.
        memory: BufMut,
        /// Where the frame ends.
        end: usize,
    },
}

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length that no request has.
    #[error(
        "a request of {length} bytes was announced; {least} to {most} are possible \
         (max_request_bytes)"
    )]
    Length {
        /// What was announced.
        length: i32,
        /// The least there is.
        least: usize,
        /// The most there may be.
        most: usize,
    },
    /// What a TLS client says first.
    #[error(
        "a TLS handshake came to a listener without TLS; the node's listener for it is another \
         (--kafka-tls-addr)"
    )]
    Tls,
    /// A request without records that is as long as if it had them.
    #[error("a request of {length} bytes with API key {key} was announced; {most} are possible")]
    ControlLength {
        /// What was announced.
        length: usize,
        /// Of which API.
        key: i16,
        /// The most there may be.
        most: usize,
    },
    /// The client left in the middle of a request.
    #[error("the connection ended after {found} of {wanted} bytes of a request")]
    CutOff {
        /// Bytes that came.
        found: usize,
        /// Bytes of the request.
        wanted: usize,
    },
    /// A request that has begun does not go on.
    #[error(
        "{found} of {wanted} bytes of a request came within {} ms (frame_timeout_ms)",
        timeout.as_millis()
    )]
    Stalled {
        /// Bytes that came.
        found: usize,
        /// Bytes of the request.
        wanted: usize,
        /// How long they had.
        timeout: std::time::Duration,
    },
    /// No request for a long time.
    #[error("no request came within {} ms (connection_idle_ms)", timeout.as_millis())]
    Idle {
        /// How long.
        timeout: std::time::Duration,
    },
    /// The socket failed.
    #[error("receiving failed: {0}")]
    Io(#[from] io::Error),
}

/// What a read from the socket found.
enum More {
    Bytes(usize),
    /// The client sends nothing more, or the node stops.
    End,
}

/// The frames of a connection.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where in the buffer the next frame begins.
    at: usize,
    after_large: bool,
    /// How long a frame may be.
    lengths: RangeInclusive<usize>,
    patience: Patience,
    /// Bytes taken since others could run.
    unpaused_bytes: usize,
    /// Runs since the first bytes of the newest frame were there.
    watch: Option<Watch>,
}

impl Frames {
    /// Before the first frame.
    #[must_use]
    pub fn new(core: &CoreHandle) -> Frames {
        let settings = core.settings();
        Frames {
            buffer: Vec::new(),
            at: 0,
            after_large: false,
            lengths: SHORTEST_BYTES..=settings.max_request_bytes,
            patience: Patience::new(settings.connection_idle.min(settings.frame_timeout)),
            unpaused_bytes: 0,
            watch: None,
        }
    }

    /// Takes frames of these lengths from now on.
    pub fn limit(&mut self, lengths: RangeInclusive<usize>) {
        self.lengths = lengths;
    }

    /// The watch of the frame that came last, once.
    pub fn watch(&mut self) -> Option<Watch> {
        self.watch.take()
    }

    /// The bytes of a small frame.
    pub fn small(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.buffer[range]
    }

    /// The next frame; `None` when the client has closed its side between two requests, or
    /// `stop` ended there. `is_idle` says whether the connection waits for a request, and not
    /// for an answer: only then it may be idle for too long.
    ///
    /// Cancellation: a frame that has begun is lost; the connection is of no use then.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub async fn next(
        &mut self,
        stream: &Stream,
        core: &CoreHandle,
        is_idle: impl Fn() -> bool,
        mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Frame>, FrameError> {
        self.pause().await;
        self.watch = None;
        let mut begun: Option<Instant> = None;
        loop {
            let ready = self.buffer.len() - self.at;
            if ready > 0 && self.watch.is_none() {
                self.watch = Some(core.stages().draw());
            }
            let length = match self.announced()? {
                Some(length) if ready >= LENGTH_BYTES + length => {
                    let start = self.at + LENGTH_BYTES;
                    self.at = start + length;
                    self.after_large = false;
                    self.unpaused_bytes += length;
                    return Ok(Some(Frame::Small(start..self.at)));
                }
                Some(length) if length > LARGE_FRAME_BYTES => {
                    let started = begun.unwrap_or_else(Instant::now);
                    return self.large(stream, core, length, started).await.map(Some);
                }
                length => length,
            };
            let settings = core.settings();
            let more = if ready == 0 {
                let (timeout, stop) = (settings.connection_idle, stop.as_mut());
                self.more_between(stream, timeout, &is_idle, stop).await?
            } else {
                let deadline = *begun.get_or_insert_with(Instant::now) + settings.frame_timeout;
                self.more_within(stream, deadline).await.map_err(|error| {
                    let wanted = LENGTH_BYTES + length.unwrap_or(0);
                    error.unwrap_or(FrameError::Stalled {
                        found: ready,
                        wanted,
                        timeout: settings.frame_timeout,
                    })
                })?
            };
            match more {
                More::Bytes(count) => core.metrics().received_bytes.add(count as u64),
                More::End if ready == 0 => return Ok(None),
                More::End => {
                    let wanted = LENGTH_BYTES + length.unwrap_or(0);
                    return Err(FrameError::CutOff {
                        found: ready,
                        wanted,
                    });
                }
            }
        }
    }

    /// The checked length of the frame that begins in the buffer, as soon as it and the API key
    /// behind it are there.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        announced(&self.buffer[self.at..], &self.lengths)
    }

    /// Reads what is there into the buffer; `None` when nothing is.
    fn try_more(&mut self, stream: &Stream) -> io::Result<Option<More>> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        } else if self.at > 0 {
            // Less than a small frame.
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer
            .reserve_exact(READ_BUFFER_BYTES - self.buffer.len());
        let most = if self.after_large {
            READ_AFTER_LARGE_BYTES
        } else {
            READ_BUFFER_BYTES
        };
        let room = (self.buffer.capacity() - self.buffer.len()).min(most);
        match stream.try_read_buf(&mut self.buffer, room) {
            Ok(0) => Ok(Some(More::End)),
            Ok(count) => Ok(Some(More::Bytes(count))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// More bytes, between two frames: as long as the connection may be idle.
    async fn more_between(
        &mut self,
        stream: &Stream,
        timeout: std::time::Duration,
        is_idle: impl Fn() -> bool,
        mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<More, FrameError> {
        let mut deadline = Instant::now() + timeout;
        loop {
            if let Some(more) = self.try_more(stream)? {
                return Ok(more);
            }
            self.buffer = Vec::new();
            tokio::select! {
                biased;
                readable = stream.readable() => readable?,
                () = &mut stop => return Ok(More::End),
                () = self.patience.until(deadline) => {
                    if is_idle() {
                        return Err(FrameError::Idle { timeout });
                    }
                    deadline = Instant::now() + timeout;
                }
            }
        }
    }

    /// More bytes of a frame that has begun. `Err(None)`: none came in time.
    async fn more_within(
        &mut self,
        stream: &Stream,
        deadline: Instant,
    ) -> Result<More, Option<FrameError>> {
        loop {
            if let Some(more) = self.try_more(stream).map_err(FrameError::Io)? {
                return Ok(more);
            }
            self.readable_within(stream, deadline).await?;
        }
    }

    async fn readable_within(
        &mut self,
        stream: &Stream,
        deadline: Instant,
    ) -> Result<(), Option<FrameError>> {
        tokio::select! {
            biased;
            readable = stream.readable() => Ok(readable.map_err(FrameError::Io)?),
            () = self.patience.until(deadline) => Err(None),
        }
    }

    /// A large frame, of which some bytes are in the buffer.
    async fn large(
        &mut self,
        stream: &Stream,
        core: &CoreHandle,
        length: usize,
        started: Instant,
    ) -> Result<Frame, FrameError> {
        let end = FRAME_HEADROOM_BYTES + length;
        // The time that the node itself takes is not the client's.
        let asked = Instant::now();
        let mut memory = core.frame_memory(end).await;
        let timeout = core.settings().frame_timeout;
        let deadline = started + asked.elapsed() + timeout;
        let begun = &self.buffer[self.at + LENGTH_BYTES..];
        let mut filled = FRAME_HEADROOM_BYTES + begun.len();
        memory[FRAME_HEADROOM_BYTES..filled].copy_from_slice(begun);
        self.buffer.clear();
        self.at = 0;
        self.after_large = true;
        while filled < end {
            let until = end.min(filled + STEP_BYTES);
            match stream.try_read(&mut memory[filled..until]) {
                Ok(0) => {
                    let (found, wanted) = (filled - FRAME_HEADROOM_BYTES, length);
                    return Err(FrameError::CutOff { found, wanted });
                }
                Ok(count) => {
                    filled += count;
                    core.metrics().received_bytes.add(count as u64);
                    self.unpaused_bytes += count;
                    self.pause().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let found = filled - FRAME_HEADROOM_BYTES;
                    self.readable_within(stream, deadline)
                        .await
                        .map_err(|error| {
                            error.unwrap_or(FrameError::Stalled {
                                found,
                                wanted: length,
                                timeout,
                            })
                        })?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Frame::Large { memory, end })
    }

    /// Lets others run when much was taken.
    async fn pause(&mut self) {
        if self.unpaused_bytes >= STEP_BYTES {
            self.unpaused_bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The checked length of a frame whose first bytes these are; `None` while too few are there.
fn announced(bytes: &[u8], lengths: &RangeInclusive<usize>) -> Result<Option<usize>, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let bytes = usize::try_from(length)
        .ok()
        .filter(|bytes| lengths.contains(bytes));
    let Some(bytes) = bytes else {
        if length.cast_unsigned() >> 16 == TLS_HANDSHAKE {
            return Err(FrameError::Tls);
        }
        return Err(FrameError::Length {
            length,
            least: *lengths.start(),
            most: *lengths.end(),
        });
    };
    if bytes <= CONTROL_REQUEST_BYTES {
        return Ok(Some(bytes));
    }
    let Some((key, _)) = rest.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let key = i16::from_be_bytes(*key);
    if key != ApiKey::Produce as i16 {
        return Err(FrameError::ControlLength {
            length: bytes,
            key,
            most: CONTROL_REQUEST_BYTES,
        });
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 100 << 20;
    const LENGTHS: RangeInclusive<usize> = SHORTEST_BYTES..=MOST;

    fn frame(length: i32, key: i16) -> Vec<u8> {
        [length.to_be_bytes().as_slice(), &key.to_be_bytes()].concat()
    }

    #[test]
    fn lengths_that_no_request_has_are_refused_before_anything_else_is_read() {
        for length in [0, 7, -1, i32::MIN, i32::MAX, MOST as i32 + 1] {
            let refused = announced(&length.to_be_bytes(), &LENGTHS).unwrap_err();
            assert!(matches!(refused, FrameError::Length { length: l, .. } if l == length));
        }
        assert_eq!(announced(&frame(8, 18), &LENGTHS).unwrap(), Some(8));
        assert_eq!(
            announced(&frame(MOST as i32, 0), &LENGTHS).unwrap(),
            Some(MOST)
        );
    }

    #[test]
    fn a_tls_client_at_a_plain_listener_is_told_apart_from_nonsense() {
        let hello = i32::from_be_bytes([0x16, 3, 1, 2]);
        let refused = announced(&hello.to_be_bytes(), &LENGTHS).unwrap_err();
        assert!(matches!(refused, FrameError::Tls), "{refused}");
    }

    #[test]
    fn only_produce_may_be_large() {
        let length = CONTROL_REQUEST_BYTES as i32 + 1;
        assert_eq!(
            announced(&frame(length, 0)[..5], &LENGTHS).unwrap(),
            None,
            "which API it is"
        );
        assert_eq!(
            announced(&frame(length, 0), &LENGTHS).unwrap(),
            Some(length as usize)
        );
        let refused = announced(&frame(length, 3), &LENGTHS).unwrap_err();
        assert!(refused.to_string().contains("API key 3"), "{refused}");
        assert_eq!(
            announced(&frame(length - 1, 3), &LENGTHS).unwrap(),
            Some(length as usize - 1)
        );
    }

    proptest! {
        #[test]
        fn an_announced_length_is_within_the_limits(bytes: Vec<u8>, most in 8usize..1 << 30) {
            if let Ok(Some(length)) = announced(&bytes, &(SHORTEST_BYTES..=most)) {
                prop_assert!((SHORTEST_BYTES..=most).contains(&length));
            }
        }
    }
}
