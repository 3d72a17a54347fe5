//! A Produce request as it streams through: the fields in front of the records are read, the
//! records are only summed.

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::kafka::cluster::topic_name;
use crate::kafka::frame::FLEXIBLE_PRODUCE;

/// Longest stretch in front of the records: header, client id, topic name and counts.
pub const MAX_LEAD_BYTES: usize = 1 << 10;

/// What stands in front of the records of a request for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Version of the request.
    pub version: i16,
    /// To be given back.
    pub correlation: i32,
    /// 0: no response.
    pub acks: i16,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Where the records begin, counted from the byte behind the length field.
    pub records_at: usize,
    /// Their length.
    pub records_bytes: usize,
}

/// Whether the frame (behind its length field) is a Produce request.
#[must_use]
pub fn is_produce(frame: &[u8]) -> bool {
    frame.starts_with(&[0, 0])
}

/// Reads the lead from the start of a frame of which at least [`MAX_LEAD_BYTES`], or all, is
/// there.
pub fn parse_lead(frame: &[u8]) -> anyhow::Result<Lead> {
    read_lead(frame).context("a produce request is cut short")?
}

fn read_lead(frame: &[u8]) -> Option<anyhow::Result<Lead>> {
    let mut cursor = Cursor {
        bytes: frame,
        at: 2,
    };
    let version = cursor.i16()?;
    let correlation = cursor.i32()?;
    let flexible = version >= FLEXIBLE_PRODUCE;
    let client = cursor.i16()?; // the client id's length: never a varint
    cursor.skip(usize::try_from(client).unwrap_or(0))?;
    if flexible {
        cursor.varint()?; // no tags in a generator's header
    }
    let transactional = if flexible {
        cursor.varint()?
    } else {
        (cursor.i16()? + 1) as usize
    };
    let acks = cursor.i16()?;
    cursor.i32()?; // timeout
    let topics = cursor.count(flexible)?;
    let name_bytes = match flexible {
        true => cursor.varint()?.checked_sub(1)?,
        false => usize::try_from(cursor.i16()?).ok()?,
    };
    let name = frame.get(cursor.at..cursor.at + name_bytes)?;
    let topic = String::from_utf8_lossy(name).into_owned();
    cursor.skip(name_bytes)?;
    let partitions = cursor.count(flexible)?;
    let partition = cursor.i32()?;
    let records_bytes = cursor.count(flexible)?;
    if transactional != 0 || topics != 1 || partitions != 1 {
        return Some(Err(anyhow::anyhow!(
            "the sink takes plain requests for one partition, this is for {topics} topics and \
             {partitions} partitions"
        )));
    }
    let records_at = cursor.at;
    Some(Ok(Lead {
        version,
        correlation,
        acks,
        topic,
        partition,
        records_at,
        records_bytes,
    }))
}

/// Responses of one connection: encoded once, patched per batch, because a sink that spends its
/// time on encoding is no ceiling.
#[derive(Default)]
pub struct Responses {
    template: Option<(Lead, Bytes)>,
}

impl Responses {
    /// Appends the response to `lead` with this base offset.
    pub fn append(
        &mut self,
        out: &mut Vec<u8>,
        lead: &Lead,
        base_offset: i64,
    ) -> anyhow::Result<()> {
        let fits = self.template.as_ref().is_some_and(|(made_for, _)| {
            made_for.version == lead.version && made_for.topic == lead.topic
        });
        if !fits {
            self.template = Some((lead.clone(), encode(lead)?));
        }
        let Some((made_for, bytes)) = &self.template else {
            return Ok(());
        };
        let start = out.len();
        out.extend_from_slice(bytes);
        let (partition_at, offset_at) = fields_at(made_for);
        let response = &mut out[start..];
        response[4..8].copy_from_slice(&lead.correlation.to_be_bytes());
        response[partition_at..partition_at + 4].copy_from_slice(&lead.partition.to_be_bytes());
        response[offset_at..offset_at + 8].copy_from_slice(&base_offset.to_be_bytes());
        Ok(())
    }
}

/// Where a response has the partition and the base offset: behind length, correlation id and the
/// topic.
fn fields_at(lead: &Lead) -> (usize, usize) {
    let partition_at = match lead.version >= FLEXIBLE_PRODUCE {
        // tags, topic count, name length, name, partition count
        true => 8 + 1 + 1 + 1 + lead.topic.len() + 1,
        false => 8 + 4 + 2 + lead.topic.len() + 4,
    };
    (partition_at, partition_at + 4 + 2)
}

fn encode(lead: &Lead) -> anyhow::Result<Bytes> {
    ensure!(
        lead.topic.len() < 127,
        "the sink takes topic names below 127 bytes"
    );
    let partition = PartitionProduceResponse::default()
        .with_index(0)
        .with_base_offset(0)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(0);
    let topic = TopicProduceResponse::default()
        .with_name(topic_name(&lead.topic))
        .with_partition_responses(vec![partition]);
    let mut frame = BytesMut::zeroed(4);
    ResponseHeader::default().encode(
        &mut frame,
        <ProduceRequest as kafka_protocol::protocol::Request>::Response::header_version(
            lead.version,
        ),
    )?;
    ProduceResponse::default()
        .with_responses(vec![topic])
        .encode(&mut frame, lead.version)?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let field = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(field)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self
            .at
            .checked_add(bytes)
            .filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn count(&mut self, flexible: bool) -> Option<usize> {
        if flexible {
            self.varint()?.checked_sub(1)
        } else {
            usize::try_from(self.i32()?).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::frame::{Acks, NEWEST_PRODUCE, ProduceFrame};
    use crate::kafka::produce_response::parse_answer;

    #[test]
    fn the_sink_understands_the_generator_and_the_generator_the_sink() {
        for version in 3..=NEWEST_PRODUCE {
            let batch = vec![7; 20_000];
            let frame = ProduceFrame::new(version, "ceiling", Acks::All, &batch).unwrap();
            let mut bytes = vec![0; frame.prefix_bytes()];
            frame.write_prefix(31, 6, &mut bytes);
            let lead = parse_lead(&bytes[4..]).unwrap();
            assert!(is_produce(&bytes[4..]));
            assert_eq!((lead.correlation, lead.partition, lead.acks), (31, 6, -1));
            assert_eq!(lead.topic, "ceiling");
            assert_eq!(lead.records_at + 4, frame.prefix_bytes());
            assert_eq!(lead.records_bytes, batch.len());

            let mut responses = Responses::default();
            let mut out = Vec::new();
            responses.append(&mut out, &lead, 70_000).unwrap();
            let answer = parse_answer(version, &out[4..]).unwrap();
            assert_eq!((answer.correlation, answer.partition), (31, 6));
            assert_eq!((answer.error_code, answer.base_offset), (0, 70_000));
            for cut in 0..lead.records_at {
                assert!(parse_lead(&bytes[4..4 + cut]).is_err());
            }
        }
    }
}
