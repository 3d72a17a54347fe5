//! Fetch: requests for any number of partitions of one topic, and responses whose records are
//! walked where they lie in the receive buffer.
//!
//! Spoken up to version 11: the newest layout without varints and topic ids, known to every
//! broker since 2019 and to Kafka 4.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, ensure};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::StrBytes;
use ringlog_types::batch::{BatchHeader, HEADER_BYTES};

use crate::kafka::client::{CALL_TIMEOUT, Client, connect, encode_request};
use crate::kafka::cluster::topic_name;

/// The newest version spoken.
pub const NEWEST_FETCH: i16 = 11;
const OLDEST_FETCH: i16 = 4;
const SESSIONS_SINCE: i16 = 7;

/// No response is longer than this: above any `max_bytes` asked for, plus one oversized batch.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// How much to ask for and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// The broker answers at once with this much.
    pub min_bytes: i32,
    /// The broker waits this long for it.
    pub max_wait: Duration,
    /// Bytes of a whole response.
    pub max_bytes: i32,
    /// Bytes of each partition.
    pub partition_max_bytes: i32,
}

impl FetchLimits {
    /// For reading back as fast as possible: large responses, short waits.
    pub const BULK: FetchLimits = FetchLimits {
        min_bytes: 1,
        max_wait: Duration::from_millis(200),
        max_bytes: 8 << 20,
        partition_max_bytes: 2 << 20,
    };
}

/// What a response says of one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Which.
    pub partition: u32,
    /// 0, or why not.
    pub error_code: i16,
    /// The offset up to which records can be read.
    pub high_watermark: i64,
    /// The partition's first offset; −1 where the version does not tell.
    pub log_start_offset: i64,
    /// Where the batches lie in the response.
    pub records: Range<usize>,
}

/// A connection that fetches.
pub struct Fetcher {
    stream: TcpStream,
    version: i16,
    topic: String,
    limits: FetchLimits,
    correlation: i32,
    response: Vec<u8>,
    session: Session,
}

/// What the broker remembers of what is wanted (KIP-227).
#[derive(Default)]
struct Session {
    /// 0: none.
    id: i32,
    /// Of the next request: 0 begins a session.
    epoch: i32,
    /// Where each partition was asked for last.
    asked: HashMap<u32, i64>,
}

impl Session {
    /// What a request has to say: partitions that moved or are new, and those that are not
    /// wanted any more.
    fn changes(&mut self, positions: &[(u32, i64)]) -> (Vec<(u32, i64)>, Vec<i32>) {
        if self.epoch == 0 {
            self.asked = positions.iter().copied().collect();
            return (positions.to_vec(), Vec::new());
        }
        let mut changed = Vec::new();
        for (partition, offset) in positions {
            if self.asked.insert(*partition, *offset) != Some(*offset) {
                changed.push((*partition, *offset));
            }
        }
        let mut forgotten = Vec::new();
        if self.asked.len() > positions.len() {
            let wanted: HashSet<u32> = positions.iter().map(|(partition, _)| *partition).collect();
            self.asked.retain(|partition, _| {
                let is_wanted = wanted.contains(partition);
                if !is_wanted {
                    forgotten.extend(i32::try_from(*partition));
                }
                is_wanted
            });
        }
        (changed, forgotten)
    }

    /// The broker answered with this session.
    fn goes_on(&mut self, id: i32) {
        self.id = id;
        self.epoch = match id {
            0 => 0,
            _ => self.epoch.checked_add(1).unwrap_or(1),
        };
    }
}

impl Fetcher {
    /// Connects to a broker.
    pub fn connect(address: &str, topic: &str, limits: FetchLimits) -> anyhow::Result<Fetcher> {
        let version = Client::connect(address)?.version_of::<FetchRequest>(NEWEST_FETCH)?;
        ensure!(
            version >= OLDEST_FETCH,
            "Fetch v{version} carries no v2 batches"
        );
        let stream = connect(address)?;
        stream
            .set_read_timeout(Some(CALL_TIMEOUT + limits.max_wait))
            .context("setting the read timeout")?;
        Ok(Fetcher {
            stream,
            version,
            topic: topic.to_owned(),
            limits,
            correlation: 0,
            response: Vec::new(),
            session: Session::default(),
        })
    }

    /// Fetches from these positions and waits for the response, whose records lie in
    /// [`Self::bytes`] until the next call.
    pub fn fetch(&mut self, positions: &[(u32, i64)]) -> anyhow::Result<Vec<Fetched>> {
        self.submit(positions)?;
        self.receive()
    }

    /// Sends a request; [`Self::receive`] takes its response.
    pub fn submit(&mut self, positions: &[(u32, i64)]) -> anyhow::Result<()> {
        let (changed, forgotten) = self.session.changes(positions);
        let partitions = changed
            .iter()
            .map(|(partition, offset)| {
                Ok(FetchPartition::default()
                    .with_partition(i32::try_from(*partition)?)
                    .with_current_leader_epoch(-1)
                    .with_fetch_offset(*offset)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(self.limits.partition_max_bytes))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(i32::try_from(self.limits.max_wait.as_millis())?)
            .with_min_bytes(self.limits.min_bytes)
            .with_max_bytes(self.limits.max_bytes)
            .with_session_id(self.session.id)
            .with_session_epoch(self.session.epoch)
            .with_rack_id(StrBytes::from_static_str(""));
        let request = match (self.version >= SESSIONS_SINCE, partitions.is_empty()) {
            (true, true) => request,
            _ => request.with_topics(vec![
                FetchTopic::default()
                    .with_topic(topic_name(&self.topic))
                    .with_partitions(partitions),
            ]),
        };
        let request = match forgotten.is_empty() {
            true => request,
            false => request.with_forgotten_topics_data(vec![
                ForgottenTopic::default()
                    .with_topic(topic_name(&self.topic))
                    .with_partitions(forgotten),
            ]),
        };
        self.correlation = self.correlation.wrapping_add(1);
        let frame = encode_request(self.version, self.correlation, &request)?;
        self.stream
            .write_all(&frame)
            .context("sending a fetch request")
    }

    /// Waits for the response to the last request.
    pub fn receive(&mut self) -> anyhow::Result<Vec<Fetched>> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .context("waiting for a fetch response")?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(
            length <= MAX_RESPONSE_BYTES,
            "a fetch response of {length} bytes"
        );
        // Never shrunk: clearing and growing would zero the same memory for every response.
        if self.response.len() < length {
            self.response.resize(length, 0);
        }
        self.stream
            .read_exact(&mut self.response[..length])
            .context("reading a fetch response")?;
        let response = &self.response[..length];
        let (session, fetched) = parse(self.version, response, self.correlation)?;
        self.session.goes_on(session);
        Ok(fetched)
    }

    /// The last response's bytes, to which [`Fetched::records`] points.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.response
    }

    /// Exchanges the buffer of the last response for another, so that the bytes can be looked at
    /// while the next response arrives.
    pub fn swap_buffer(&mut self, other: &mut Vec<u8>) {
        std::mem::swap(&mut self.response, other);
    }
}

/// The session to go on with, and what was fetched.
fn parse(version: i16, bytes: &[u8], correlation: i32) -> anyhow::Result<(i32, Vec<Fetched>)> {
    let mut cursor = Cursor { bytes, at: 0 };
    read(version, &mut cursor, correlation).with_context(|| {
        format!(
            "reading a Fetch v{version} response of {} bytes at {}",
            bytes.len(),
            cursor.at
        )
    })
}

fn read(
    version: i16,
    cursor: &mut Cursor<'_>,
    correlation: i32,
) -> anyhow::Result<(i32, Vec<Fetched>)> {
    let found = cursor.i32()?;
    ensure!(
        found == correlation,
        "response {found} arrived where {correlation} was due"
    );
    cursor.i32()?; // throttle time
    let mut session = 0;
    if version >= SESSIONS_SINCE {
        let code = cursor.i16()?;
        let error = ResponseError::try_from_code(code);
        if let Some(
            ResponseError::FetchSessionIdNotFound | ResponseError::InvalidFetchSessionEpoch,
        ) = error
        {
            // The broker let go of the session: the next request begins another.
            return Ok((0, Vec::new()));
        }
        crate::kafka::client::check(code, "Fetch")?;
        session = cursor.i32()?;
    }
    let mut fetched = Vec::new();
    for _ in 0..cursor.count()? {
        let name_bytes = usize::try_from(cursor.i16()?)?;
        cursor.skip(name_bytes)?;
        for _ in 0..cursor.count()? {
            let partition = u32::try_from(cursor.i32()?)?;
            let error_code = cursor.i16()?;
            let high_watermark = cursor.i64()?;
            cursor.i64()?; // last stable offset
            let log_start_offset = if version >= 5 { cursor.i64()? } else { -1 };
            for _ in 0..cursor.count()? {
                cursor.skip(16)?; // an aborted transaction
            }
            if version >= 11 {
                cursor.i32()?; // preferred read replica
            }
            let records_bytes = cursor.count()?;
            let from = cursor.at;
            cursor.skip(records_bytes)?;
            let records = from..cursor.at;
            fetched.push(Fetched {
                partition,
                error_code,
                high_watermark,
                log_start_offset,
                records,
            });
        }
    }
    Ok((session, fetched))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn skip(&mut self, bytes: usize) -> anyhow::Result<()> {
        let end = self
            .at
            .checked_add(bytes)
            .filter(|end| *end <= self.bytes.len());
        self.at = end.context("the response is cut short")?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let field = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>());
        let field = *field.context("the response is cut short")?;
        self.at += N;
        Ok(field)
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> anyhow::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// An array's or a byte string's length; null (−1) counts as empty.
    fn count(&mut self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }
}

/// Whole batches in a partition's records, in order. A last one that is cut short (brokers may
/// send one) ends the walk; a header that makes no sense is an error and ends it too.
pub struct Batches<'a> {
    rest: &'a [u8],
}

/// Walks the batches in `records`.
#[must_use]
pub fn batches(records: &[u8]) -> Batches<'_> {
    Batches { rest: records }
}

impl<'a> Iterator for Batches<'a> {
    type Item = anyhow::Result<(BatchHeader, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < HEADER_BYTES {
            return None;
        }
        let header = match BatchHeader::parse(self.rest) {
            Ok(header) => header,
            Err(error) => {
                self.rest = &[];
                return Some(Err(error).context("reading a batch header in a fetch response"));
            }
        };
        let (batch, rest) = self.rest.split_at_checked(header.total_bytes())?;
        self.rest = rest;
        Some(Ok((header, batch)))
    }
}
