//! Produce requests of one batch for one partition, as bytes around the batch.
//!
//! ```text
//!  prefix (per run; correlation id and partition patched)  | batch head | batch tail | suffix
//!  length, header, acks, timeout, topic, partition, length |  patched   |  template  | tags
//! ```
//!
//! Versions up to 12 carry the topic's name; the encoding of everything but the batch is taken
//! from `kafka-protocol`, so that this file knows no field that is not patched.

use anyhow::{Context, ensure};
use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

use crate::kafka::client::encode_request;
use crate::kafka::cluster::topic_name;

/// The newest version of Produce that names topics instead of giving their id.
pub const NEWEST_PRODUCE: i16 = 12;

/// From this version on, lengths are varints and tag sections follow.
pub const FLEXIBLE_PRODUCE: i16 = 9;

/// Which acknowledgement a produce request asks for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
pub enum Acks {
    /// No response at all.
    #[value(name = "0")]
    None,
    /// From the leader.
    #[value(name = "1")]
    Leader,
    /// From all in-sync replicas.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

const CORRELATION_AT: usize = 8; // length (4), API key (2), API version (2)

/// The bytes before and behind the batch.
#[derive(Clone, Debug)]
pub struct ProduceFrame {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    partition_at: usize,
}

impl ProduceFrame {
    /// Encodes a request around `batch` and keeps what lies around it.
    pub fn new(
        version: i16,
        topic: &str,
        acks: Acks,
        batch: &[u8],
    ) -> anyhow::Result<ProduceFrame> {
        ensure!(
            version <= NEWEST_PRODUCE,
            "Produce v{version} names no topics"
        );
        let partition = PartitionProduceData::default()
            .with_index(0)
            .with_records(Some(Bytes::copy_from_slice(batch)));
        let topic = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(acks.code())
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let frame = encode_request(version, 0, &request)?;
        let flexible = version >= FLEXIBLE_PRODUCE;
        let suffix_bytes = if flexible { 3 } else { 0 }; // empty tags: partition, topic, request
        let length_bytes = if flexible {
            varint_bytes(batch.len() + 1)
        } else {
            4
        };
        let prefix_bytes = frame.len() - suffix_bytes - batch.len();
        let (prefix, rest) = frame.split_at(prefix_bytes);
        ensure!(
            rest.starts_with(batch) && rest[batch.len()..].iter().all(|byte| *byte == 0),
            "the encoded request does not hold the batch where it must"
        );
        let partition_at = prefix_bytes
            .checked_sub(length_bytes + 4)
            .context("a request has a partition before its records")?;
        Ok(ProduceFrame {
            prefix: prefix.to_vec(),
            suffix: rest[batch.len()..].to_vec(),
            partition_at,
        })
    }

    /// Bytes in front of the batch.
    #[must_use]
    pub fn prefix_bytes(&self) -> usize {
        self.prefix.len()
    }

    /// Bytes behind the batch.
    #[must_use]
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// Writes the prefix for one request into `out` (exactly [`Self::prefix_bytes`] long).
    pub fn write_prefix(&self, correlation: i32, partition: u32, out: &mut [u8]) {
        out.copy_from_slice(&self.prefix);
        out[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        out[self.partition_at..self.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
    }
}

fn varint_bytes(value: usize) -> usize {
    (value.max(1).ilog2() as usize / 7) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::{Decodable, HeaderVersion};

    #[test]
    fn a_framed_batch_decodes_to_the_request_it_stands_for() {
        for version in 3..=NEWEST_PRODUCE {
            for batch_bytes in [61, 126, 127, 128, 16_383, 20_000] {
                let batch: Vec<u8> = (0..batch_bytes).map(|at| at as u8 | 1).collect();
                let frame = ProduceFrame::new(version, "orders", Acks::All, &batch).unwrap();
                let mut bytes = vec![0; frame.prefix_bytes()];
                frame.write_prefix(77, 300, &mut bytes);
                bytes.extend_from_slice(&batch);
                bytes.extend_from_slice(frame.suffix());
                let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
                assert_eq!(length, bytes.len() - 4);
                let mut body = Bytes::from(bytes).slice(4..);
                let header =
                    RequestHeader::decode(&mut body, ProduceRequest::header_version(version))
                        .unwrap();
                assert_eq!(header.correlation_id, 77);
                let request = ProduceRequest::decode(&mut body, version).unwrap();
                assert!(body.is_empty());
                assert_eq!(request.acks, -1);
                assert_eq!(request.topic_data[0].name.0.as_str(), "orders");
                let data = &request.topic_data[0].partition_data[0];
                assert_eq!(data.index, 300);
                assert_eq!(data.records.as_deref(), Some(batch.as_slice()));
            }
        }
    }
}
