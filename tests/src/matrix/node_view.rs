//! What the node itself says of a topic, asked without any of the clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::record_batch::RECORDS_AT;
use crate::wire::{Connection, api, error};

/// Where a batch's length is, which counts what is behind it.
const LENGTH_AT: usize = 8;
const LENGTH_END: usize = 12;
/// The byte of a batch's attributes that names the codec, in its lowest bits.
const CODEC_AT: usize = 22;
const CODEC_BITS: u8 = 0b111;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_ID_END: usize = 51;

/// A connection to each core.
#[derive(Debug)]
pub struct NodeView {
    cores: Vec<Connection>,
}

/// What a stored batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// The number of its codec.
    pub codec: u8,
    /// Who sent it, -1 without idempotence.
    pub producer_id: i64,
}

impl NodeView {
    /// Connects to every core.
    ///
    /// # Errors
    /// When one does not listen.
    pub fn open(addresses: &[SocketAddr]) -> Result<NodeView> {
        let cores = addresses.iter().copied().map(Connection::open);
        Ok(NodeView {
            cores: cores.collect::<Result<_>>()?,
        })
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When refused.
    pub fn create(&mut self, topic: &str, partitions: i32) -> Result<()> {
        self.cores[0].create_topic(topic, partitions, &[])
    }

    /// How many partitions a topic has, when it is there.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn partitions(&mut self, topic: &str) -> Result<Option<i32>> {
        let topics = self.cores[0].topics()?;
        let found = topics.into_iter().find(|found| found.name == topic);
        Ok(found.map(|found| found.partitions))
    }

    /// The offset behind the last event of each partition.
    ///
    /// # Errors
    /// When there is no answer, or no leader.
    pub fn ends(&mut self, topic: &str, partitions: i32) -> Result<BTreeMap<i32, i64>> {
        let latest = -1;
        let mut ends = BTreeMap::new();
        for partition in 0..partitions {
            let end = self.of_leader(|core| match core.list_offset(topic, partition, latest)? {
                (error::NONE, end) => Ok(Some(end)),
                _ => Ok(None),
            });
            let end = end?.with_context(|| format!("nobody leads {topic}[{partition}]"))?;
            ends.insert(partition, end);
        }
        Ok(ends)
    }

    /// What the first batches of a partition say of themselves.
    ///
    /// # Errors
    /// When there is no answer, no leader, or no batch.
    pub fn batches(&mut self, topic: &str, partition: i32) -> Result<Vec<StoredBatch>> {
        let bytes = self.of_leader(|core| match core.fetch(topic, partition, 0)? {
            (error::NONE, _, bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        });
        let bytes = bytes?.with_context(|| format!("nobody leads {topic}[{partition}]"))?;
        let mut batches = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= RECORDS_AT {
            let length = i32::from_be_bytes(rest[LENGTH_AT..LENGTH_END].try_into()?);
            let id = rest[PRODUCER_ID_AT..PRODUCER_ID_END].try_into()?;
            batches.push(StoredBatch {
                codec: rest[CODEC_AT] & CODEC_BITS,
                producer_id: i64::from_be_bytes(id),
            });
            let whole = LENGTH_END + usize::try_from(length)?;
            rest = rest.get(whole..).unwrap_or_default();
        }
        ensure!(!batches.is_empty(), "no batch in {topic}[{partition}]");
        Ok(batches)
    }

    /// Whether the node answers requests of a kind.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn speaks(&mut self, key: i16) -> Result<bool> {
        let mut answer = self.cores[0].request(api::API_VERSIONS, 0, &[])?;
        let code = answer.i16()?;
        ensure!(code == error::NONE, "ApiVersions: error {code}");
        for _api in 0..answer.i32()? {
            let (found, _min, _max) = (answer.i16()?, answer.i16()?, answer.i16()?);
            if found == key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks one core after the other, until one has an answer.
    fn of_leader<T>(
        &mut self,
        mut ask: impl FnMut(&mut Connection) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        for core in &mut self.cores {
            if let Some(found) = ask(core)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
