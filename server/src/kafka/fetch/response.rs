//! The Fetch answer, versions 4 to 18: written by hand, so that record batches go between the
//! written bytes by reference.

use kafka_protocol::error::ResponseError;
use ringlog_storage::buffer::Buf;

use crate::kafka::answer::Answer;
use crate::kafka::endpoints::{Endpoint, Leader, write_endpoints, write_leader};
use crate::kafka::request::RequestHeader;
use crate::kafka::topic_ref::TopicRef;
use crate::kafka::wire::Writer;

const FLEXIBLE_SINCE: i16 = 12;
const ENDPOINTS_SINCE: i16 = 16;

/// What is answered.
#[derive(Debug, Default)]
pub struct FetchAnswer {
    /// Why the whole request is refused.
    pub error: Option<ResponseError>,
    /// The fetch session that the client may go on with; 0 for none.
    pub session_id: i32,
    /// Each topic, and how many of `partitions` are its.
    pub topics: Vec<(TopicRef, usize)>,
    /// The partitions of all topics, in the order of the request.
    pub partitions: Vec<PartitionAnswer>,
    /// The brokers that lead partitions which were asked of the wrong one.
    pub endpoints: Vec<Endpoint>,
}

/// What was found in a partition.
#[derive(Debug)]
pub struct PartitionAnswer {
    /// The partition's index.
    pub index: i32,
    /// Records, or why there are none.
    pub outcome: Result<Found, Refusal>,
}

/// A partition that could be read.
#[derive(Debug, Default)]
pub struct Found {
    /// End of what is committed; also the last stable offset.
    pub high_watermark: i64,
    /// First offset of the partition.
    pub log_start_offset: i64,
    /// Whole batches.
    pub batches: Vec<Buf>,
}

/// A partition that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The protocol's code.
    pub code: ResponseError,
    /// The bounds of the partition, when they are what the client needs to go on.
    pub bounds: Option<(i64, i64)>,
    /// Who leads the partition instead.
    pub leader: Option<Leader>,
    /// The reason, for the log: the protocol has no room for it.
    pub cause: Box<str>,
}

impl Refusal {
    /// A code and its reason.
    pub fn new(code: ResponseError, cause: impl Into<Box<str>>) -> Refusal {
        Refusal {
            code,
            bounds: None,
            leader: None,
            cause: cause.into(),
        }
    }
}

impl Found {
    /// Bytes of its batches.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.len()).sum()
    }
}

impl FetchAnswer {
    /// The answer to `request`. Costs a few dozen bytes written per partition; batches are moved.
    #[must_use]
    pub fn encode(self, request: &RequestHeader) -> Answer {
        let version = request.version;
        let flexible = version >= FLEXIBLE_SINCE;
        let mut answer = Answer::default();
        let begun = answer.begin(request);
        let mut writer = Writer::new(answer.body(), flexible);
        // Throttle time.
        writer.i32(0);
        if version >= 7 {
            writer.i16(self.error.map_or(0, |error| error.code()));
            writer.i32(self.session_id);
        }
        writer.count(self.topics.len());
        let mut partitions = self.partitions.into_iter();
        for (topic, count) in &self.topics {
            let mut writer = Writer::new(answer.body(), flexible);
            match topic {
                TopicRef::Name(name) => writer.text(Some(name)),
                TopicRef::Id(id) => writer.uuid(id),
            }
            writer.count(*count);
            for partition in partitions.by_ref().take(*count) {
                encode_partition(partition, &mut answer, version);
            }
            Writer::new(answer.body(), flexible).no_tags();
        }
        let mut writer = Writer::new(answer.body(), flexible);
        if version >= ENDPOINTS_SINCE {
            write_endpoints(&self.endpoints, &mut writer);
        } else {
            writer.no_tags();
        }
        answer.finish(begun);
        answer
    }
}

fn encode_partition(partition: PartitionAnswer, answer: &mut Answer, version: i16) {
    let flexible = version >= FLEXIBLE_SINCE;
    let mut writer = Writer::new(answer.body(), flexible);
    let (found, refusal) = match partition.outcome {
        Ok(found) => (found, None),
        Err(refusal) => {
            let (log_start_offset, high_watermark) = refusal.bounds.unwrap_or((-1, -1));
            (
                Found {
                    high_watermark,
                    log_start_offset,
                    batches: Vec::new(),
                },
                Some(refusal),
            )
        }
    };
    writer.i32(partition.index);
    writer.i16(refusal.as_ref().map_or(0, |refusal| refusal.code.code()));
    writer.i64(found.high_watermark);
    // Nothing here belongs to a transaction: everything committed is stable.
    writer.i64(found.high_watermark);
    if version >= 5 {
        writer.i64(found.log_start_offset);
    }
    // Aborted transactions.
    writer.null_array();
    if version >= 11 {
        // Preferred read replica.
        writer.i32(-1);
    }
    writer.count(found.bytes());
    for batch in found.batches {
        answer.insert(batch);
    }
    let mut writer = Writer::new(answer.body(), flexible);
    match refusal.and_then(|refusal| refusal.leader) {
        Some(leader) if flexible => {
            writer.varint(1);
            write_leader(1, leader, &mut writer);
        }
        _ => writer.no_tags(),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, FetchResponse, ResponseHeader};
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::kafka::answer::Outgoing;
    use crate::kafka::apis;

    fn flat(answer: Answer) -> Vec<u8> {
        let outgoing = Outgoing::new(answer);
        let mut slices = vec![std::io::IoSlice::new(&[]); 64];
        let used = outgoing.gather(&mut slices, usize::MAX);
        slices[..used]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    #[test]
    fn the_reference_decoder_reads_every_version() {
        for version in 4..=18 {
            let topic = |name: &str, id: u8| {
                if version >= 13 {
                    TopicRef::Id([id; 16])
                } else {
                    TopicRef::Name(name.into())
                }
            };
            let batches = vec![Buf::from_vec(vec![1; 300]), Buf::from_vec(vec![2; 5])];
            let found = Found {
                high_watermark: 99,
                log_start_offset: 3,
                batches,
            };
            let nothing = Found {
                high_watermark: 8,
                log_start_offset: 8,
                batches: Vec::new(),
            };
            let elsewhere = Refusal {
                leader: Some(Leader { id: 1, epoch: 6 }),
                ..Refusal::new(ResponseError::NotLeaderOrFollower, "")
            };
            let request = RequestHeader {
                api: apis::find(ApiKey::Fetch as i16).unwrap(),
                version,
                correlation_id: 4711,
                body_at: 0,
            };
            let answer = FetchAnswer {
                error: None,
                session_id: 77,
                topics: vec![(topic("first", 1), 2), (topic("second", 2), 1)],
                partitions: vec![
                    PartitionAnswer {
                        index: 0,
                        outcome: Ok(found),
                    },
                    PartitionAnswer {
                        index: 1,
                        outcome: Ok(nothing),
                    },
                    PartitionAnswer {
                        index: 2,
                        outcome: Err(elsewhere),
                    },
                ],
                endpoints: vec![Endpoint {
                    id: 1,
                    host: "there".to_owned(),
                    port: 9093,
                }],
            };
            let bytes = flat(answer.encode(&request));
            let mut rest = &bytes[..];
            let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
            assert_eq!(length as usize, bytes.len() - 4);
            rest = &rest[4..];
            let header_version = ApiKey::Fetch.response_header_version(version);
            let header = ResponseHeader::decode(&mut rest, header_version).unwrap();
            assert_eq!(header.correlation_id, 4711);
            let read = FetchResponse::decode(&mut rest, version).unwrap();
            assert!(rest.is_empty(), "version {version} has bytes left");
            assert_eq!(read.session_id, if version >= 7 { 77 } else { 0 });
            let [found, nothing] = &read.responses[0].partitions[..] else {
                panic!()
            };
            assert_eq!((found.high_watermark, found.last_stable_offset), (99, 99));
            assert_eq!(found.log_start_offset, if version >= 5 { 3 } else { -1 });
            let records = found.records.as_ref().unwrap();
            assert_eq!((records.len(), records[299], records[304]), (305, 1, 2));
            assert_eq!(found.preferred_read_replica, -1);
            assert_eq!(nothing.records.as_ref().unwrap().len(), 0);
            let elsewhere = &read.responses[1].partitions[0];
            assert_eq!((elsewhere.error_code, elsewhere.high_watermark), (6, -1));
            if version >= 12 {
                assert_eq!(elsewhere.current_leader.leader_id.0, 1);
                assert_eq!(elsewhere.current_leader.leader_epoch, 6);
            }
            if version >= 16 {
                assert_eq!(read.node_endpoints[0].host.as_str(), "there");
            }
        }
    }
}
