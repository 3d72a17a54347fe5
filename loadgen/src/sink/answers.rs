//! The slow calls a generator makes before it sends: versions, metadata, topics, offsets,
//! producer ids. One broker, which leads every partition of every topic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Message, Request, StrBytes};

use crate::kafka::cluster::topic_name;
use crate::kafka::frame::NEWEST_PRODUCE;

/// The APIs offered, Produce apart: key, oldest and newest version.
const OFFERED: [(ApiKey, i16, i16); 6] = [
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::InitProducerId, 0, 4),
];

/// What the broker knows: topics and their partition counts.
pub struct Answers {
    address: SocketAddr,
    topics: Mutex<BTreeMap<String, i32>>,
    next_producer: AtomicI64,
}

impl Answers {
    /// A broker at this address without topics.
    #[must_use]
    pub fn new(address: SocketAddr) -> Answers {
        Answers {
            address,
            topics: Mutex::default(),
            next_producer: AtomicI64::new(1),
        }
    }

    /// Answers one request (frame without its length field); the response comes with its length.
    pub fn answer(&self, frame: Bytes) -> anyhow::Result<BytesMut> {
        let key = frame
            .first_chunk::<2>()
            .map(|field| i16::from_be_bytes(*field));
        let key = ApiKey::try_from(key.context("an empty request")?)
            .map_err(|()| anyhow::anyhow!("an API key that Kafka does not have"))?;
        match key {
            ApiKey::ApiVersions => {
                let mut body = frame;
                let header =
                    kafka_protocol::protocol::decode_request_header_from_buffer(&mut body)?;
                let version = header.request_api_version.min(3);
                respond(&header, version, &versions(), 0)
            }
            ApiKey::Metadata => self.respond_to::<MetadataRequest>(frame, Self::metadata),
            ApiKey::CreateTopics => self.respond_to::<CreateTopicsRequest>(frame, Self::create),
            ApiKey::DeleteTopics => self.respond_to::<DeleteTopicsRequest>(frame, Self::delete),
            ApiKey::ListOffsets => self.respond_to::<ListOffsetsRequest>(frame, Self::offsets),
            ApiKey::InitProducerId => self.respond_to::<InitProducerIdRequest>(frame, |sink, _| {
                InitProducerIdResponse::default()
                    .with_producer_id(sink.next_producer.fetch_add(1, Ordering::Relaxed).into())
            }),
            other => bail!("the sink has no {other:?}"),
        }
    }

    fn respond_to<R: Request>(
        &self,
        mut frame: Bytes,
        answer: impl FnOnce(&Self, R) -> R::Response,
    ) -> anyhow::Result<BytesMut> {
        let header = kafka_protocol::protocol::decode_request_header_from_buffer(&mut frame)?;
        let version = header.request_api_version;
        let request = R::decode(&mut frame, version)?;
        respond(
            &header,
            version,
            &answer(self, request),
            R::Response::header_version(version),
        )
    }

    fn topics(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i32>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let known = self.topics();
        let asked: Vec<String> = match request.topics {
            Some(topics) => topics
                .into_iter()
                .filter_map(|topic| Some(topic.name?.0.as_str().to_owned()))
                .collect(),
            None => known.keys().cloned().collect(),
        };
        let topics = asked
            .into_iter()
            .map(|name| {
                let partitions = known.get(&name).copied();
                let error = match partitions {
                    Some(_) => 0,
                    None => ResponseError::UnknownTopicOrPartition.code(),
                };
                let partitions = (0..partitions.unwrap_or(0)).map(|index| {
                    MetadataResponsePartition::default()
                        .with_partition_index(index)
                        .with_leader_id(0.into())
                        .with_replica_nodes(vec![0.into()])
                        .with_isr_nodes(vec![0.into()])
                });
                MetadataResponseTopic::default()
                    .with_error_code(error)
                    .with_partitions(partitions.collect())
                    .with_name(Some(topic_name(&name)))
            })
            .collect();
        MetadataResponse::default()
            .with_brokers(vec![
                MetadataResponseBroker::default()
                    .with_node_id(0.into())
                    .with_host(StrBytes::from_string(self.address.ip().to_string()))
                    .with_port(i32::from(self.address.port())),
            ])
            .with_controller_id(0.into())
            .with_topics(topics)
    }

    fn create(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut known = self.topics();
        let results = request.topics.into_iter().map(|topic| {
            let name = topic.name.0.as_str().to_owned();
            let error = match known.contains_key(&name) {
                true => ResponseError::TopicAlreadyExists.code(),
                false => 0,
            };
            known.entry(name).or_insert(topic.num_partitions.max(1));
            CreatableTopicResult::default()
                .with_name(topic.name)
                .with_error_code(error)
        });
        let results = results.collect();
        CreateTopicsResponse::default().with_topics(results)
    }

    fn delete(&self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let mut known = self.topics();
        let named = request.topics.into_iter().filter_map(|topic| topic.name);
        let results = named.chain(request.topic_names).map(|name| {
            let error = match known.remove(name.0.as_str()) {
                Some(_) => 0,
                None => ResponseError::UnknownTopicOrPartition.code(),
            };
            DeletableTopicResult::default()
                .with_name(Some(name))
                .with_error_code(error)
        });
        let results = results.collect();
        DeleteTopicsResponse::default().with_responses(results)
    }

    /// Nothing is stored: every partition begins and ends at 0.
    fn offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_offset(0)
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }
}

fn versions() -> ApiVersionsResponse {
    let offered = OFFERED
        .into_iter()
        .chain([(ApiKey::Produce, 3, NEWEST_PRODUCE)]);
    let offered = offered.map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(min)
            .with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(offered.collect())
}

fn respond<M: Message + Encodable>(
    header: &RequestHeader,
    version: i16,
    response: &M,
    header_version: i16,
) -> anyhow::Result<BytesMut> {
    let mut frame = BytesMut::zeroed(4);
    ResponseHeader::default()
        .with_correlation_id(header.correlation_id)
        .encode(&mut frame, header_version)?;
    response.encode(&mut frame, version)?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}
