//! The Fetch request. Versions 4 to 18; sessions from 7, flexible from 12, topic ids from 13.
//! What only followers of a replicated partition say (last fetched epoch, log start offset,
//! replica state) is stepped over.

use crate::kafka::limits::NAMED_PER_REQUEST;
use crate::kafka::topic_ref::TopicRef;
use crate::kafka::wire::{Reader, WireError};

const FLEXIBLE_SINCE: i16 = 12;
/// Since this version topics are named by id.
pub const TOPIC_ID_SINCE: i16 = 13;

/// A request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Enough to answer with.
    pub min_bytes: i32,
    /// The most of all partitions together.
    pub max_bytes: i32,
    /// The client's fetch session; 0 for none. See [`super::session`].
    pub session_id: i32,
    /// 0 or -1: a full fetch; else the next of a session.
    pub session_epoch: i32,
    /// Each topic, and how many of `partitions` are its.
    pub topics: Vec<(TopicRef, usize)>,
    /// The partitions of all topics, in the order of the request.
    pub partitions: Vec<FetchPartition>,
    /// Partitions that leave the session, by topic.
    pub forgotten: Vec<(TopicRef, Vec<i32>)>,
}

/// What is wanted of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's index.
    pub index: i32,
    /// The leader epoch that the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// From where.
    pub offset: i64,
    /// How much.
    pub max_bytes: i32,
}

impl FetchRequest {
    /// Reads the body at `body_at`.
    ///
    /// # Errors
    /// When it is cut off, malformed, or names more than a request may.
    pub fn parse(frame: &[u8], body_at: usize, version: i16) -> Result<FetchRequest, WireError> {
        let mut reader = Reader::new(frame, body_at);
        let flexible = version >= FLEXIBLE_SINCE;
        if version <= 14 {
            let _replica_id = reader.i32()?;
        }
        let mut request = FetchRequest {
            max_wait_ms: reader.i32()?,
            min_bytes: reader.i32()?,
            max_bytes: reader.i32()?,
            session_epoch: -1,
            ..FetchRequest::default()
        };
        // Nothing here belongs to a transaction: both levels see the same.
        let _isolation_level = reader.i8()?;
        if version >= 7 {
            request.session_id = reader.i32()?;
            request.session_epoch = reader.i32()?;
        }
        let topics = reader.count_up_to(NAMED_PER_REQUEST, flexible, 3)?;
        request.topics.reserve_exact(topics);
        for _ in 0..topics {
            let topic = topic_ref(&mut reader, version)?;
            let most = NAMED_PER_REQUEST - request.partitions.len();
            let partitions = reader.count_up_to(most, flexible, 16)?;
            request.partitions.reserve(partitions);
            for _ in 0..partitions {
                request.partitions.push(partition(&mut reader, version)?);
            }
            reader.skip_tagged(flexible)?;
            request.topics.push((topic, partitions));
        }
        if version >= 7 {
            request.forgotten = forgotten(&mut reader, version)?;
        }
        if version >= 11 {
            // The client's rack: one node has one.
            reader.skip_text(flexible)?;
        }
        reader.skip_tagged(flexible)?;
        Ok(request)
    }

    /// Whether it asks for everything it names, and not for the next of a session.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.session_epoch, -1 | 0)
    }
}

fn topic_ref(reader: &mut Reader<'_>, version: i16) -> Result<TopicRef, WireError> {
    if version >= TOPIC_ID_SINCE {
        Ok(TopicRef::Id(reader.uuid()?))
    } else {
        Ok(TopicRef::Name(
            reader.text(version >= FLEXIBLE_SINCE)?.into(),
        ))
    }
}

fn partition(reader: &mut Reader<'_>, version: i16) -> Result<FetchPartition, WireError> {
    let index = reader.i32()?;
    let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
    let offset = reader.i64()?;
    if version >= 12 {
        let _last_fetched_epoch = reader.i32()?;
    }
    if version >= 5 {
        let _log_start_offset = reader.i64()?;
    }
    let max_bytes = reader.i32()?;
    reader.skip_tagged(version >= FLEXIBLE_SINCE)?;
    Ok(FetchPartition {
        index,
        current_leader_epoch,
        offset,
        max_bytes,
    })
}

fn forgotten(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<Vec<(TopicRef, Vec<i32>)>, WireError> {
    let flexible = version >= FLEXIBLE_SINCE;
    let topics = reader.count_up_to(NAMED_PER_REQUEST, flexible, 3)?;
    let mut forgotten = Vec::with_capacity(topics);
    let mut most = NAMED_PER_REQUEST;
    for _ in 0..topics {
        let topic = topic_ref(reader, version)?;
        let count = reader.count_up_to(most, flexible, 4)?;
        most -= count;
        let partitions = (0..count).map(|_| reader.i32());
        forgotten.push((topic, partitions.collect::<Result<_, _>>()?));
        reader.skip_tagged(flexible)?;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::{
        FetchPartition as CratePartition, FetchTopic, ForgottenTopic, ReplicaState,
    };
    use kafka_protocol::messages::{BrokerId, FetchRequest as CrateRequest, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName(StrBytes::from_string(text.to_owned()))
    }

    fn encoded(version: i16, topics: &[(String, Vec<FetchPartition>)]) -> Vec<u8> {
        let by_id = version >= TOPIC_ID_SINCE;
        let id = |number: usize| Uuid::from_u128(number as u128 + 1);
        let wanted = topics
            .iter()
            .enumerate()
            .map(|(number, (topic, partitions))| {
                let partitions = partitions.iter().map(|p| {
                    let partition = CratePartition::default()
                        .with_partition(p.index)
                        .with_fetch_offset(p.offset)
                        .with_partition_max_bytes(p.max_bytes);
                    let partition = if version >= 9 {
                        partition.with_current_leader_epoch(p.current_leader_epoch)
                    } else {
                        partition
                    };
                    if version >= 18 {
                        partition.with_high_watermark(12)
                    } else {
                        partition
                    }
                });
                let wanted = FetchTopic::default().with_partitions(partitions.collect());
                if by_id {
                    wanted.with_topic_id(id(number))
                } else {
                    wanted.with_topic(name(topic))
                }
            });
        let mut request = CrateRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_topics(wanted.collect());
        if version >= 7 {
            let forgotten = ForgottenTopic::default().with_partitions(vec![1, 2, 3]);
            let forgotten = if by_id {
                forgotten.with_topic_id(id(9))
            } else {
                forgotten.with_topic(name("forgotten"))
            };
            request = request.with_session_id(44).with_session_epoch(3);
            request = request.with_forgotten_topics_data(vec![forgotten]);
        }
        if version >= 11 {
            request = request.with_rack_id(StrBytes::from_static_str("rack"));
        }
        if version >= 15 {
            let state = ReplicaState::default().with_replica_id(BrokerId(7));
            request = request.with_replica_state(state);
        }
        if version >= 12 {
            request = request.with_cluster_id(Some(StrBytes::from_static_str("cluster")));
        }
        let mut bytes = vec![0xee; 7];
        request.encode(&mut bytes, version).unwrap();
        bytes
    }

    fn topics() -> impl Strategy<Value = Vec<(String, Vec<FetchPartition>)>> {
        let partition = (any::<i32>(), any::<i32>(), any::<i64>(), any::<i32>()).prop_map(
            |(index, current_leader_epoch, offset, max_bytes)| FetchPartition {
                index,
                current_leader_epoch,
                offset,
                max_bytes,
            },
        );
        let partitions = proptest::collection::vec(partition, 0..5);
        proptest::collection::vec(("[a-z.]{1,20}", partitions), 0..4)
    }

    proptest! {
        #[test]
        fn requests_of_the_reference_encoder_are_read_in_every_version(
            topics in topics(), version in 4i16..=18,
        ) {
            let frame = encoded(version, &topics);
            let request = FetchRequest::parse(&frame, 7, version).unwrap();
            prop_assert_eq!(
                (request.max_wait_ms, request.min_bytes, request.max_bytes), (500, 1, 1 << 20));
            let session = if version >= 7 { (44, 3) } else { (0, -1) };
            prop_assert_eq!((request.session_id, request.session_epoch), session);
            prop_assert_eq!(request.is_full(), version < 7);
            let left = match version {
                ..7 => vec![],
                7..13 => vec![(TopicRef::Name("forgotten".into()), vec![1, 2, 3])],
                _ => vec![(TopicRef::Id(10_u128.to_be_bytes()), vec![1, 2, 3])],
            };
            prop_assert_eq!(&request.forgotten, &left);
            let expected: Vec<FetchPartition> = topics
                .iter()
                .flat_map(|(_, partitions)| partitions)
                .map(|p| FetchPartition {
                    current_leader_epoch: if version >= 9 { p.current_leader_epoch } else { -1 },
                    ..*p
                })
                .collect();
            prop_assert_eq!(request.partitions, expected);
            for (number, ((topic, partitions), (found, count))) in
                topics.iter().zip(&request.topics).enumerate()
            {
                let wanted = if version >= 13 {
                    TopicRef::Id((number as u128 + 1).to_be_bytes())
                } else {
                    TopicRef::Name(topic.as_str().into())
                };
                prop_assert_eq!((found, *count), (&wanted, partitions.len()));
            }
        }

        #[test]
        fn cut_off_and_damaged_requests_do_no_harm(
            topics in topics(), version in 4i16..=18, cut: proptest::sample::Index,
            damage: proptest::sample::Index, by: u8,
        ) {
            let mut frame = encoded(version, &topics);
            let at = damage.index(frame.len());
            frame[at] ^= by;
            frame.truncate(cut.index(frame.len() + 1));
            if let Ok(request) = FetchRequest::parse(&frame, 7, version) {
                prop_assert!(request.partitions.len() * 16 <= frame.len());
            }
        }

        #[test]
        fn any_bytes_do_no_harm(frame: Vec<u8>, version in 4i16..=18) {
            let _ = FetchRequest::parse(&frame, 0, version);
        }
    }
}
