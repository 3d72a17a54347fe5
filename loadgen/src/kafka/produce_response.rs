//! The response to a one-partition Produce request, walked without allocating.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::protocol::Decodable;

use crate::kafka::frame::FLEXIBLE_PRODUCE;

/// What the broker says of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which request.
    pub correlation: i32,
    /// Which partition.
    pub partition: i32,
    /// 0, or why not.
    pub error_code: i16,
    /// Offset of the batch's first record; −1 where the broker does not say.
    pub base_offset: i64,
}

/// No response to a one-partition Produce is longer than this.
pub const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The length of the frame at the start of `bytes` with its length field, if it has wholly
/// arrived.
pub fn complete_frame(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(length) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let total = u32::from_be_bytes(*length) as usize + 4;
    ensure!(
        total <= MAX_RESPONSE_BYTES,
        "a produce response of {total} bytes: the stream is not in step with the protocol"
    );
    Ok((bytes.len() >= total).then_some(total))
}

/// Reads a response frame (behind its length field).
pub fn parse_answer(version: i16, frame: &[u8]) -> anyhow::Result<Answer> {
    read_answer(version, frame).with_context(|| {
        format!(
            "a Produce v{version} response of {} bytes is cut short",
            frame.len()
        )
    })?
}

fn read_answer(version: i16, frame: &[u8]) -> Option<anyhow::Result<Answer>> {
    let mut cursor = Cursor { bytes: frame };
    let correlation = cursor.i32()?;
    let flexible = version >= FLEXIBLE_PRODUCE;
    if flexible {
        cursor.skip_tags()?;
    }
    let topics = cursor.count(flexible)?;
    let name_bytes = if flexible {
        cursor.count(true)?
    } else {
        usize::try_from(cursor.i16()?).ok()?
    };
    cursor.take(name_bytes)?;
    let partitions = cursor.count(flexible)?;
    if topics != 1 || partitions != 1 {
        return Some(Err(anyhow::anyhow!(
            "{topics} topics and {partitions} partitions answered where one of each was asked"
        )));
    }
    let partition = cursor.i32()?;
    let error_code = cursor.i16()?;
    let base_offset = cursor.i64()?;
    Some(Ok(Answer {
        correlation,
        partition,
        error_code,
        base_offset,
    }))
}

/// The broker's own words about an error, from the whole response.
pub fn error_message(version: i16, frame: &[u8]) -> anyhow::Result<String> {
    let header_bytes = if version >= FLEXIBLE_PRODUCE { 5 } else { 4 };
    if frame.len() < header_bytes {
        bail!("a response without a header");
    }
    let mut body = Bytes::copy_from_slice(&frame[header_bytes..]);
    let response = ProduceResponse::decode(&mut body, version).context("decoding a response")?;
    let message = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .find_map(|partition| partition.error_message.as_ref())
        .map_or_else(String::new, |text| text.as_str().to_owned());
    Ok(message)
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(bytes)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
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

    /// Length of an array or string: a 32-bit integer, or a varint that is one more.
    fn count(&mut self, flexible: bool) -> Option<usize> {
        if flexible {
            self.varint()?.checked_sub(1)
        } else {
            usize::try_from(self.i32()?).ok()
        }
    }

    fn skip_tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let bytes = self.varint()?;
            self.take(bytes)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages::ResponseHeader;
    use kafka_protocol::messages::produce_response::{
        PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
    use proptest::prelude::*;

    fn encoded(version: i16, partitions: Vec<PartitionProduceResponse>) -> BytesMut {
        let mut frame = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(99)
            .encode(&mut frame, ProduceResponse::header_version(version))
            .unwrap();
        ProduceResponse::default()
            .with_responses(vec![
                TopicProduceResponse::default()
                    .with_name(crate::kafka::cluster::topic_name("orders"))
                    .with_partition_responses(partitions),
            ])
            .encode(&mut frame, version)
            .unwrap();
        frame
    }

    #[test]
    fn every_version_is_read_as_the_protocol_crate_wrote_it() {
        for version in 3..=12 {
            let frame = encoded(
                version,
                vec![
                    PartitionProduceResponse::default()
                        .with_index(6)
                        .with_error_code(10)
                        .with_base_offset(123_456_789_012),
                ],
            );
            assert_eq!(
                parse_answer(version, &frame).unwrap(),
                Answer {
                    correlation: 99,
                    partition: 6,
                    error_code: 10,
                    base_offset: 123_456_789_012
                }
            );
            for cut in 0..18.min(frame.len()) {
                assert!(parse_answer(version, &frame[..cut]).is_err());
            }
        }
    }

    #[test]
    fn the_brokers_message_is_found() {
        let partition = PartitionProduceResponse::default()
            .with_error_code(87)
            .with_error_message(Some(StrBytes::from_static_str("no such codec")));
        let frame = encoded(9, vec![partition]);
        assert_eq!(error_message(9, &frame).unwrap(), "no such codec");
    }

    #[test]
    fn an_answer_for_two_partitions_is_refused() {
        let two = vec![
            PartitionProduceResponse::default(),
            PartitionProduceResponse::default(),
        ];
        assert!(parse_answer(9, &encoded(9, two)).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in 3_i16..=12, bytes in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            let _ = parse_answer(version, &bytes);
            let _ = complete_frame(&bytes);
        }
    }
}
