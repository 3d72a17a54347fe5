//! The Produce answer, versions 0 to 13.

use kafka_protocol::error::ResponseError;

use crate::kafka::endpoints::{Endpoint, Leader, write_endpoints, write_leader};
use crate::kafka::topic_ref::TopicRef;
use crate::kafka::wire::Writer;

const FLEXIBLE_SINCE: i16 = 9;
/// Oldest version that says who leads a partition instead.
pub const LEADER_SINCE: i16 = 10;
const TOPIC_ID_SINCE: i16 = 13;

/// What is answered.
#[derive(Debug, Default)]
pub struct ProduceAnswer {
    /// Each topic, and how many of `partitions` are its.
    pub topics: Vec<(TopicRef, usize)>,
    /// The partitions of all topics, in the order of the request.
    pub partitions: Vec<PartitionAnswer>,
    /// The brokers that lead partitions which were asked of the wrong one.
    pub endpoints: Vec<Endpoint>,
}

/// What became of a partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// The partition's index.
    pub index: i32,
    /// Offset of the first record and what belongs to it, or why there is none.
    pub outcome: Result<Stored, Refusal>,
}

/// Records that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The broker's time, for topics that use it; -1 for others.
    pub log_append_time_ms: i64,
    /// First offset of the partition.
    pub log_start_offset: i64,
}

/// Records that were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The protocol's code.
    pub code: ResponseError,
    /// The reason, for people.
    pub message: Box<str>,
    /// The record that is wrong, when it is one.
    pub record: Option<i32>,
    /// Who leads the partition instead.
    pub leader: Option<Leader>,
}

impl Refusal {
    /// A refusal of a whole batch.
    pub fn new(code: ResponseError, message: impl Into<Box<str>>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            record: None,
            leader: None,
        }
    }
}

impl ProduceAnswer {
    /// Appends the body of the answer.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        let mut writer = Writer::new(out, version >= FLEXIBLE_SINCE);
        writer.count(self.topics.len());
        let mut partitions = self.partitions.iter();
        for (topic, count) in &self.topics {
            match topic {
                TopicRef::Name(name) => writer.text(Some(name)),
                TopicRef::Id(id) => writer.uuid(id),
            }
            debug_assert_eq!(matches!(topic, TopicRef::Id(_)), version >= TOPIC_ID_SINCE);
            writer.count(*count);
            for partition in partitions.by_ref().take(*count) {
                encode_partition(partition, &mut writer, version);
            }
            writer.no_tags();
        }
        if version >= 1 {
            // Throttle time.
            writer.i32(0);
        }
        if version >= LEADER_SINCE {
            write_endpoints(&self.endpoints, &mut writer);
        } else {
            writer.no_tags();
        }
    }
}

fn encode_partition(partition: &PartitionAnswer, writer: &mut Writer<'_>, version: i16) {
    let (stored, refusal) = match &partition.outcome {
        Ok(stored) => (*stored, None),
        Err(refusal) => (NOTHING_STORED, Some(refusal)),
    };
    writer.i32(partition.index);
    writer.i16(refusal.map_or(0, |refusal| refusal.code.code()));
    writer.i64(stored.base_offset);
    if version >= 2 {
        writer.i64(stored.log_append_time_ms);
    }
    if version >= 5 {
        writer.i64(stored.log_start_offset);
    }
    if version >= 8 {
        let message = refusal.map(|refusal| &*refusal.message);
        let record = refusal.and_then(|refusal| refusal.record);
        writer.count(usize::from(record.is_some()));
        if let Some(record) = record {
            writer.i32(record);
            writer.text(message);
            writer.no_tags();
        }
        writer.text(message);
    }
    let leader = refusal.and_then(|refusal| refusal.leader);
    match leader {
        Some(leader) if version >= LEADER_SINCE => {
            writer.varint(1);
            write_leader(0, leader, writer);
        }
        _ => writer.no_tags(),
    }
}

const NOTHING_STORED: Stored = Stored {
    base_offset: -1,
    log_append_time_ms: -1,
    log_start_offset: -1,
};

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProduceResponse;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    fn answer(version: i16) -> ProduceAnswer {
        let topic = |name: &str, id: u8| {
            if version >= TOPIC_ID_SINCE {
                TopicRef::Id([id; 16])
            } else {
                TopicRef::Name(name.into())
            }
        };
        let stored = Stored {
            base_offset: 1 << 40,
            log_append_time_ms: 1_700_000_000_000,
            log_start_offset: 7,
        };
        let invalid = Refusal {
            record: Some(3),
            ..Refusal::new(
                ResponseError::InvalidRecord,
                "record 3 of the batch is malformed",
            )
        };
        let elsewhere = Refusal {
            leader: Some(Leader { id: 1, epoch: 4 }),
            ..Refusal::new(ResponseError::NotLeaderOrFollower, "core 1 leads it")
        };
        ProduceAnswer {
            topics: vec![
                (topic("first", 1), 2),
                (topic("none", 2), 0),
                (topic("second", 3), 1),
            ],
            partitions: vec![
                PartitionAnswer {
                    index: 0,
                    outcome: Ok(stored),
                },
                PartitionAnswer {
                    index: 5,
                    outcome: Err(invalid),
                },
                PartitionAnswer {
                    index: 1,
                    outcome: Err(elsewhere),
                },
            ],
            endpoints: vec![Endpoint {
                id: 1,
                host: "there".to_owned(),
                port: 9093,
            }],
        }
    }

    #[test]
    fn the_reference_decoder_reads_every_version() {
        for version in 3..=13 {
            let mut bytes = Vec::new();
            answer(version).encode(&mut bytes, version);
            let mut rest = bytes.as_slice();
            let read = ProduceResponse::decode(&mut rest, version).unwrap();
            assert!(rest.is_empty(), "version {version} has bytes left");
            assert_eq!(read.responses.len(), 3);
            let [stored, invalid] = &read.responses[0].partition_responses[..] else {
                panic!()
            };
            assert_eq!(
                (stored.index, stored.error_code, stored.base_offset),
                (0, 0, 1 << 40)
            );
            assert_eq!(stored.log_append_time_ms, 1_700_000_000_000);
            assert_eq!(stored.log_start_offset, if version >= 5 { 7 } else { -1 });
            assert_eq!((invalid.error_code, invalid.base_offset), (87, -1));
            if version >= 8 {
                assert_eq!(invalid.record_errors[0].batch_index, 3);
                assert!(
                    invalid
                        .error_message
                        .as_ref()
                        .unwrap()
                        .starts_with("record 3")
                );
            }
            let elsewhere = &read.responses[2].partition_responses[0];
            assert_eq!(elsewhere.error_code, 6);
            if version >= 10 {
                assert_eq!(elsewhere.current_leader.leader_id.0, 1);
                assert_eq!(elsewhere.current_leader.leader_epoch, 4);
                assert_eq!(read.node_endpoints[0].port, 9093);
                assert_eq!(read.node_endpoints[0].host.as_str(), "there");
            }
            if version >= 13 {
                assert_eq!(read.responses[2].topic_id.as_bytes(), &[3; 16]);
            } else {
                assert_eq!(read.responses[2].name.as_str(), "second");
            }
        }
    }

    #[test]
    fn versions_before_the_third_leave_out_what_they_do_not_have() {
        let one = |version| {
            let mut bytes = Vec::new();
            let answer = ProduceAnswer {
                topics: vec![(TopicRef::Name("t".into()), 1)],
                partitions: vec![PartitionAnswer {
                    index: 2,
                    outcome: Err(Refusal::new(ResponseError::UnsupportedVersion, "old")),
                }],
                endpoints: Vec::new(),
            };
            answer.encode(&mut bytes, version);
            bytes
        };
        // One topic "t", one partition: index, error, base offset.
        assert_eq!(one(0).len(), 4 + 3 + 4 + 4 + 2 + 8);
        assert_eq!(one(1).len(), one(0).len() + 4);
        assert_eq!(one(2).len(), one(1).len() + 8);
    }
}
