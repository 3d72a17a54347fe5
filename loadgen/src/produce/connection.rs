//! One connection: frames out, answers in, both without blocking.
//!
//! Invariant: a frame's bytes are its own small lead (request prefix and patched batch head),
//! the template's tail where it always lies, and the shared suffix; they leave in one vectored
//! write with as many other frames as are waiting. Nothing of a batch is copied but its lead.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};

use crate::kafka::client::connect;
use crate::kafka::cluster::BrokerId;
use crate::kafka::produce_response::{Answer, complete_frame, parse_answer};
use crate::produce::partition::Pending;
use crate::produce::schedule::Schedule;

/// Frames given to one write.
const FRAMES_PER_WRITE: usize = 8;

/// The parts of a frame that all frames of a run share.
#[derive(Clone, Copy)]
pub struct SharedBytes<'a> {
    /// Behind the lead.
    pub tail: &'a [u8],
    /// Behind the tail.
    pub suffix: &'a [u8],
}

impl SharedBytes<'_> {
    fn bytes(&self) -> usize {
        self.tail.len() + self.suffix.len()
    }
}

/// What a non-blocking call left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Everything is done.
    Done,
    /// The socket takes or gives no more at the moment.
    Blocked,
    /// The other side is gone.
    Closed,
}

/// A connection to one broker.
pub struct Connection {
    /// Which broker.
    pub broker: BrokerId,
    /// Its address.
    pub address: String,
    /// Number within the run.
    pub id: u32,
    /// Places of its partitions in the worker's list.
    pub partitions: Vec<usize>,
    /// The partition to be served next, as a place in `partitions`.
    pub turn: usize,
    /// When its next batch is due.
    pub schedule: Schedule,
    /// The socket takes no more at the moment.
    pub blocked: bool,
    stream: TcpStream,
    /// Leads of frames not wholly written, oldest first.
    unsent: VecDeque<Vec<u8>>,
    /// Bytes of the oldest that are written.
    sent_of_first: usize,
    /// Requests without an answer, oldest first: correlation id and batch.
    pending: VecDeque<(i32, Pending)>,
    next_correlation: i32,
    spare_leads: Vec<Vec<u8>>,
    received: Vec<u8>,
    received_bytes: usize,
}

impl Connection {
    /// Connects.
    pub fn open(
        broker: BrokerId,
        address: &str,
        id: u32,
        schedule: Schedule,
    ) -> anyhow::Result<Self> {
        Ok(Connection {
            broker,
            address: address.to_owned(),
            id,
            partitions: Vec::new(),
            turn: 0,
            schedule,
            blocked: false,
            stream: open_stream(address)?,
            unsent: VecDeque::new(),
            sent_of_first: 0,
            pending: VecDeque::new(),
            next_correlation: 0,
            spare_leads: Vec::new(),
            received: vec![0; 64 << 10],
            received_bytes: 0,
        })
    }

    /// Connects again, to `address`. What was pending must have been taken before.
    pub fn reopen(&mut self, address: &str) -> anyhow::Result<()> {
        debug_assert!(
            self.pending.is_empty(),
            "pending batches are taken before a reconnect"
        );
        self.stream = open_stream(address)?;
        address.clone_into(&mut self.address);
        self.received_bytes = 0;
        self.blocked = false;
        Ok(())
    }

    /// The socket, to be polled.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Requests on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether bytes wait to be written.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Frames waiting to be written.
    #[must_use]
    pub fn unsent_frames(&self) -> usize {
        self.unsent.len()
    }

    /// Queues a frame. `lead_bytes` long, filled by `fill`, which is given the correlation id.
    /// With `answered` the request counts as on its way until its answer.
    pub fn queue(
        &mut self,
        lead_bytes: usize,
        pending: Pending,
        answered: bool,
        fill: impl FnOnce(i32, &mut [u8]),
    ) {
        let mut lead = self.spare_leads.pop().unwrap_or_default();
        lead.resize(lead_bytes, 0);
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        fill(correlation, &mut lead);
        self.unsent.push_back(lead);
        if answered {
            self.pending.push_back((correlation, pending));
        }
    }

    /// Writes what waits.
    pub fn write(&mut self, shared: SharedBytes<'_>) -> anyhow::Result<Flow> {
        while !self.unsent.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3 * FRAMES_PER_WRITE];
            let mut used = 0;
            let mut skip = self.sent_of_first;
            let mut asked = 0;
            for lead in self.unsent.iter().take(FRAMES_PER_WRITE) {
                for whole in [lead.as_slice(), shared.tail, shared.suffix] {
                    let from = skip.min(whole.len());
                    skip -= from;
                    if from < whole.len() {
                        slices[used] = IoSlice::new(&whole[from..]);
                        used += 1;
                        asked += whole.len() - from;
                    }
                }
            }
            match self.stream.write_vectored(&slices[..used]) {
                Ok(written) => {
                    self.retire(written, shared);
                    if written < asked {
                        self.blocked = true;
                        return Ok(Flow::Blocked);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(Flow::Blocked);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_disconnect(&error) => return Ok(Flow::Closed),
                Err(error) => {
                    return Err(error).with_context(|| format!("writing to {}", self.address));
                }
            }
        }
        Ok(Flow::Done)
    }

    fn retire(&mut self, written: usize, shared: SharedBytes<'_>) {
        self.sent_of_first += written;
        while let Some(lead) = self.unsent.front() {
            let whole = lead.len() + shared.bytes();
            if self.sent_of_first < whole {
                break;
            }
            self.sent_of_first -= whole;
            self.spare_leads.extend(self.unsent.pop_front());
        }
    }

    /// Reads what has arrived and hands each answer to `each`, with the batch it is for. The
    /// frame itself comes along, for its error message.
    pub fn read(
        &mut self,
        version: i16,
        mut each: impl FnMut(Answer, Pending, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Flow> {
        loop {
            if self.received_bytes == self.received.len() {
                let doubled = self.received.len() * 2;
                self.received.resize(doubled, 0);
            }
            let offered = self.received.len() - self.received_bytes;
            let read = match self.stream.read(&mut self.received[self.received_bytes..]) {
                Ok(0) => return Ok(Flow::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flow::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_disconnect(&error) => return Ok(Flow::Closed),
                Err(error) => {
                    return Err(error).with_context(|| format!("reading from {}", self.address));
                }
            };
            self.received_bytes += read;
            let mut at = 0;
            while let Some(total) = complete_frame(&self.received[at..self.received_bytes])? {
                let frame = &self.received[at + 4..at + total];
                let answer = parse_answer(version, frame)?;
                let (correlation, pending) = self
                    .pending
                    .pop_front()
                    .context("an answer to nothing that was asked")?;
                ensure!(
                    answer.correlation == correlation,
                    "answer {} arrived where {correlation} was due",
                    answer.correlation
                );
                each(answer, pending, frame)?;
                at += total;
            }
            self.received.copy_within(at..self.received_bytes, 0);
            self.received_bytes -= at;
            // A short read emptied the socket: asking again would only cost a call.
            if read < offered {
                return Ok(Flow::Done);
            }
        }
    }

    /// Gives up the connection's requests: those without an answer, in order. Frames not wholly
    /// written are dropped.
    pub fn take_pending(&mut self) -> Vec<Pending> {
        self.unsent.clear();
        self.sent_of_first = 0;
        self.pending.drain(..).map(|(_, pending)| pending).collect()
    }
}

fn open_stream(address: &str) -> anyhow::Result<TcpStream> {
    let stream = connect(address)?;
    stream
        .set_nonblocking(true)
        .context("making a socket non-blocking")?;
    Ok(stream)
}

fn is_disconnect(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
    )
}
