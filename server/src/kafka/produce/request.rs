//! The Produce request, read in place: where each partition's records lie, without touching them.
//! Versions 0 to 13; flexible from 9, topic ids from 13.

use std::ops::Range;

use crate::kafka::limits::NAMED_PER_REQUEST;
use crate::kafka::topic_ref::TopicRef;
use crate::kafka::wire::{Reader, WireError};

/// Oldest version with topic ids instead of names.
const TOPIC_ID_SINCE: i16 = 13;
const FLEXIBLE_SINCE: i16 = 9;
const TRANSACTIONAL_ID_SINCE: i16 = 3;

/// A request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProduceRequest {
    /// Whether it names a transaction.
    pub is_transactional: bool,
    /// When to answer: 0 never, 1 and -1 when durable.
    pub acks: i16,
    /// Each topic, and how many of `partitions` are its.
    pub topics: Vec<(TopicRef, usize)>,
    /// The partitions of all topics, in the order of the request.
    pub partitions: Vec<PartitionRecords>,
}

/// What is to be appended to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecords {
    /// The partition's index.
    pub index: i32,
    /// Where the records lie; empty when there are none.
    pub records: Range<usize>,
}

impl ProduceRequest {
    /// Reads the body at `body_at`. Ranges count from the start of `frame`.
    ///
    /// # Errors
    /// When it is cut off, malformed, or names more than a request may.
    pub fn parse(frame: &[u8], body_at: usize, version: i16) -> Result<ProduceRequest, WireError> {
        let mut reader = Reader::new(frame, body_at);
        let flexible = version >= FLEXIBLE_SINCE;
        let mut request = ProduceRequest::default();
        if version >= TRANSACTIONAL_ID_SINCE {
            request.is_transactional = reader.nullable_text(flexible)?.is_some();
        }
        request.acks = reader.i16()?;
        let _timeout_ms = reader.i32()?;
        let topics = reader.count_up_to(NAMED_PER_REQUEST, flexible, 3)?;
        request.topics.reserve_exact(topics);
        for _ in 0..topics {
            let topic = if version >= TOPIC_ID_SINCE {
                TopicRef::Id(reader.uuid()?)
            } else {
                TopicRef::Name(reader.text(flexible)?.into())
            };
            let most = NAMED_PER_REQUEST - request.partitions.len();
            let partitions = reader.count_up_to(most, flexible, 5)?;
            request.partitions.reserve(partitions);
            for _ in 0..partitions {
                let index = reader.i32()?;
                let records = reader.bytes_range(flexible)?.unwrap_or(0..0);
                reader.skip_tagged(flexible)?;
                request.partitions.push(PartitionRecords { index, records });
            }
            reader.skip_tagged(flexible)?;
            request.topics.push((topic, partitions));
        }
        reader.skip_tagged(flexible)?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ProduceRequest as CrateRequest, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// Topics, and of each the partitions with their records.
    type Topics = Vec<(String, Vec<Wanted>)>;
    type Wanted = (i32, Option<Vec<u8>>);

    fn encoded(version: i16, topics: &[(String, Vec<Wanted>)]) -> Vec<u8> {
        let topic_data = topics
            .iter()
            .enumerate()
            .map(|(number, (name, partitions))| {
                let partitions = partitions.iter().map(|(index, records)| {
                    PartitionProduceData::default()
                        .with_index(*index)
                        .with_records(records.clone().map(Bytes::from))
                });
                let topic = TopicProduceData::default().with_partition_data(partitions.collect());
                if version >= TOPIC_ID_SINCE {
                    topic.with_topic_id(Uuid::from_u128(number as u128 + 1))
                } else {
                    topic.with_name(TopicName(StrBytes::from_string(name.clone())))
                }
            });
        let request = CrateRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(1500)
            .with_topic_data(topic_data.collect());
        let mut bytes = vec![0xee; 11];
        request.encode(&mut bytes, version).unwrap();
        bytes
    }

    fn topics() -> impl Strategy<Value = Topics> {
        let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
        let partitions = proptest::collection::vec((any::<i32>(), records), 0..4);
        proptest::collection::vec(("[a-z.]{1,20}", partitions), 0..4)
    }

    proptest! {
        #[test]
        fn requests_of_the_reference_encoder_are_read_in_every_version(
            topics in topics(), version in 3i16..=13,
        ) {
            let frame = encoded(version, &topics);
            let request = ProduceRequest::parse(&frame, 11, version).unwrap();
            prop_assert_eq!(request.acks, -1);
            prop_assert!(!request.is_transactional);
            let mut partitions = request.partitions.iter();
            for (number, ((name, expected), (topic, count))) in
                topics.iter().zip(&request.topics).enumerate()
            {
                let wanted = if version >= 13 {
                    TopicRef::Id((number as u128 + 1).to_be_bytes())
                } else {
                    TopicRef::Name(name.as_str().into())
                };
                prop_assert_eq!(topic, &wanted);
                prop_assert_eq!(*count, expected.len());
                for (index, records) in expected {
                    let found = partitions.next().unwrap();
                    prop_assert_eq!(found.index, *index);
                    let bytes = records.as_deref().unwrap_or_default();
                    prop_assert_eq!(&frame[found.records.clone()], bytes);
                }
            }
            prop_assert_eq!(request.topics.len(), topics.len());
        }

        #[test]
        fn cut_off_and_damaged_requests_are_refused_or_read_within_the_frame(
            topics in topics(), version in 0i16..=13, cut: proptest::sample::Index,
            damage: proptest::sample::Index, by: u8,
        ) {
            let mut frame = encoded(version.max(3), &topics);
            let at = damage.index(frame.len());
            frame[at] ^= by;
            frame.truncate(cut.index(frame.len() + 1));
            if let Ok(request) = ProduceRequest::parse(&frame, 11, version) {
                prop_assert!(request.partitions.iter().all(|p| p.records.end <= frame.len()));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read_within_the_frame(
            frame: Vec<u8>, version in 0i16..=13,
        ) {
            if let Ok(request) = ProduceRequest::parse(&frame, 0, version) {
                prop_assert!(request.partitions.capacity() <= frame.len() * 2);
            }
        }
    }

    #[test]
    fn a_lying_count_makes_no_room() {
        // acks, timeout, two thousand million topics.
        let mut frame = vec![0xff, 0xff, 0, 0, 0, 0];
        frame.extend_from_slice(&i32::MAX.to_be_bytes());
        let refused = ProduceRequest::parse(&frame, 0, 2).unwrap_err();
        assert!(matches!(refused, WireError::TooMany { .. }));
    }

    #[test]
    fn a_request_that_names_too_many_partitions_is_refused() {
        let partitions = vec![(0, None); NAMED_PER_REQUEST + 1];
        let frame = encoded(9, &[("t".to_owned(), partitions)]);
        assert!(matches!(
            ProduceRequest::parse(&frame, 11, 9),
            Err(WireError::TooMany { .. })
        ));
    }
}
