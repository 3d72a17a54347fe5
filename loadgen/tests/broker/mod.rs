//! A broker in this process that keeps batches in memory and does wrong what a test tells it to.
//!
//! Threads and blocking sockets; every request through `kafka-protocol`. Two brokers may share
//! one store: then they are a cluster, and a partition's leader can move.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use ringlog_types::Offset;
use ringlog_types::batch::{BatchHeader, set_base_offset, validate};

/// What a broker does with one produce request instead of the right thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Answers with this error and stores nothing.
    Refuse(ResponseError),
    /// Stores, and hangs up instead of answering.
    StoreAndHangUp,
    /// Hangs up without storing.
    HangUp,
    /// Waits before it stores and answers.
    Stall(Duration),
    /// Acknowledges and stores nothing.
    Lose,
}

/// What all brokers of a cluster share.
#[derive(Default)]
pub struct Store {
    brokers: Vec<SocketAddr>,
    /// Partition counts.
    topics: BTreeMap<String, i32>,
    leaders: BTreeMap<(String, i32), usize>,
    /// Batches with their base offsets in place.
    pub logs: BTreeMap<(String, i32), Vec<Vec<u8>>>,
    /// For the n-th produce request from now, counted over all brokers.
    pub mischief: BTreeMap<u64, Mischief>,
    /// Produce requests seen.
    pub requests: u64,
    /// Connections open, to be cut.
    open: Vec<TcpStream>,
    dead: bool,
}

/// A handle on the cluster.
#[derive(Clone)]
pub struct Cluster {
    store: Arc<Mutex<Store>>,
}

impl Cluster {
    /// So many brokers on free ports.
    pub fn start(brokers: usize) -> Cluster {
        let cluster = Cluster {
            store: Arc::default(),
        };
        for _ in 0..brokers {
            cluster.add_broker();
        }
        cluster
    }

    /// The batches of a cluster that died, in new brokers.
    pub fn restart(&self) -> Cluster {
        let old = self.store();
        let store = Store {
            topics: old.topics.clone(),
            leaders: old.leaders.clone(),
            logs: old.logs.clone(),
            ..Store::default()
        };
        let brokers = old.brokers.len();
        drop(old);
        let cluster = Cluster {
            store: Arc::new(Mutex::new(store)),
        };
        for _ in 0..brokers {
            cluster.add_broker();
        }
        cluster
    }

    fn add_broker(&self) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let id = {
            let mut store = self.store();
            store.brokers.push(listener.local_addr().unwrap());
            store.brokers.len() - 1
        };
        let cluster = self.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if cluster.store().dead {
                    return;
                }
                cluster.store().open.push(stream.try_clone().unwrap());
                let cluster = cluster.clone();
                std::thread::spawn(move || cluster.serve(stream, id));
            }
        });
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    pub fn bootstrap(&self) -> String {
        self.store().brokers[0].to_string()
    }

    /// Cuts every connection and takes no more.
    pub fn die(&self) {
        let mut store = self.store();
        store.dead = true;
        for stream in &store.open {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Makes another broker the leader.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: usize) {
        self.store()
            .leaders
            .insert((topic.to_owned(), partition), broker);
    }

    /// Waits until so many batches are stored.
    pub fn wait_for_batches(&self, batches: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.store().logs.values().map(Vec::len).sum::<usize>() < batches {
            assert!(Instant::now() < deadline, "the generator sends nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn serve(&self, mut stream: TcpStream, broker: usize) {
        loop {
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                return;
            }
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            if stream.read_exact(&mut frame).is_err() {
                return;
            }
            let Some(answer) = self.answer(frame.into(), broker) else {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            };
            // Empty: nobody wants an answer.
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, mut frame: Bytes, broker: usize) -> Option<BytesMut> {
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
        let header =
            kafka_protocol::protocol::decode_request_header_from_buffer(&mut frame).unwrap();
        match key {
            ApiKey::ApiVersions => Some(respond::<ApiVersionsRequest>(&header, &versions())),
            ApiKey::Metadata => {
                Some(self.respond_to::<MetadataRequest>(&header, frame, |it, ask| it.metadata(ask)))
            }
            ApiKey::CreateTopics => Some(self.respond_to::<CreateTopicsRequest>(
                &header,
                frame,
                |it, ask| it.create(ask),
            )),
            ApiKey::DeleteTopics => Some(self.respond_to::<DeleteTopicsRequest>(
                &header,
                frame,
                |it, ask| it.delete(ask),
            )),
            ApiKey::ListOffsets => Some(self.respond_to::<ListOffsetsRequest>(
                &header,
                frame,
                |it, ask| it.offsets(ask),
            )),
            ApiKey::InitProducerId => Some(respond::<InitProducerIdRequest>(
                &header,
                &InitProducerIdResponse::default().with_producer_id(900.into()),
            )),
            ApiKey::Fetch => {
                Some(self.respond_to::<FetchRequest>(&header, frame, |it, ask| it.fetch(ask)))
            }
            ApiKey::Produce => self.produce(&header, frame, broker),
            other => panic!("{other:?} is not what a generator asks"),
        }
    }

    fn respond_to<R: Request>(
        &self,
        header: &RequestHeader,
        mut frame: Bytes,
        answer: impl FnOnce(&mut Store, R) -> R::Response,
    ) -> BytesMut {
        let request = R::decode(&mut frame, header.request_api_version).unwrap();
        let response = answer(&mut self.store(), request);
        respond::<R>(header, &response)
    }

    fn produce(&self, header: &RequestHeader, mut frame: Bytes, broker: usize) -> Option<BytesMut> {
        let request = ProduceRequest::decode(&mut frame, header.request_api_version).unwrap();
        let mischief = {
            let mut store = self.store();
            let number = store.requests;
            store.requests += 1;
            if store.dead {
                return None;
            }
            store.mischief.get(&number).copied()
        };
        match mischief {
            Some(Mischief::HangUp) => return None,
            Some(Mischief::Stall(pause)) => std::thread::sleep(pause),
            _ => {}
        }
        let topic = &request.topic_data[0];
        let data = &topic.partition_data[0];
        let name = topic.name.0.as_str().to_owned();
        let stored = match mischief {
            Some(Mischief::Refuse(error)) => Err(error),
            Some(Mischief::Lose) => Ok(self.store().end(&name, data.index)),
            _ => self
                .store()
                .append(&name, data.index, data.records.as_ref().unwrap(), broker),
        };
        if mischief == Some(Mischief::StoreAndHangUp) || self.store().dead {
            return None;
        }
        if request.acks == 0 {
            return Some(BytesMut::new());
        }
        let partition = match stored {
            Ok(offset) => PartitionProduceResponse::default().with_base_offset(offset),
            Err(error) => PartitionProduceResponse::default()
                .with_error_code(error.code())
                .with_base_offset(-1),
        };
        let response = ProduceResponse::default().with_responses(vec![
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_partition_responses(vec![partition.with_index(data.index)]),
        ]);
        Some(respond::<ProduceRequest>(header, &response))
    }
}

impl Store {
    /// As a good broker: validates, knows repeats and gaps of idempotent producers, assigns
    /// offsets.
    fn append(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &[u8],
        broker: usize,
    ) -> Result<i64, ResponseError> {
        let key = (topic.to_owned(), partition);
        if self.leaders.get(&key) != Some(&broker) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        let header = validate(batch).map_err(|_| ResponseError::CorruptMessage)?;
        let log = self.logs.entry(key).or_default();
        if header.producer_id >= 0 {
            let last: VecDeque<BatchHeader> = log
                .iter()
                .map(|batch| BatchHeader::parse(batch).unwrap())
                .filter(|other| other.producer_id == header.producer_id)
                .collect();
            if let Some(same) = last
                .iter()
                .rev()
                .take(5)
                .find(|other| other.base_sequence == header.base_sequence)
            {
                return Ok(same.base_offset);
            }
            let due = last
                .back()
                .map_or(0, |last| last.base_sequence + last.record_count);
            if header.base_sequence != due {
                return Err(ResponseError::OutOfOrderSequenceNumber);
            }
        }
        let end = end_of(log);
        let mut batch = batch.to_vec();
        set_base_offset(&mut batch, Offset(end.cast_unsigned()));
        log.push(batch);
        Ok(end)
    }

    fn metadata(&mut self, request: MetadataRequest) -> MetadataResponse {
        let brokers = self.brokers.iter().enumerate().map(|(id, address)| {
            MetadataResponseBroker::default()
                .with_node_id((id as i32).into())
                .with_host(StrBytes::from_string(address.ip().to_string()))
                .with_port(i32::from(address.port()))
        });
        let brokers = brokers.collect();
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            let name = topic.name.unwrap();
            let Some(count) = self.topics.get(name.0.as_str()) else {
                return MetadataResponseTopic::default()
                    .with_name(Some(name))
                    .with_error_code(ResponseError::UnknownTopicOrPartition.code());
            };
            let partitions = (0..*count).map(|index| {
                let leader = self.leaders[&(name.0.as_str().to_owned(), index)] as i32;
                MetadataResponsePartition::default()
                    .with_partition_index(index)
                    .with_leader_id(leader.into())
            });
            MetadataResponseTopic::default()
                .with_partitions(partitions.collect())
                .with_name(Some(name.clone()))
        });
        MetadataResponse::default()
            .with_topics(topics.collect())
            .with_brokers(brokers)
    }

    fn create(&mut self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let brokers = self.brokers.len();
        let results = request.topics.into_iter().map(|topic| {
            let name = topic.name.0.as_str().to_owned();
            let error = match self.topics.contains_key(&name) {
                true => ResponseError::TopicAlreadyExists.code(),
                false => {
                    for index in 0..topic.num_partitions {
                        let leader = index as usize % brokers;
                        self.leaders.insert((name.clone(), index), leader);
                    }
                    self.topics.insert(name, topic.num_partitions);
                    0
                }
            };
            CreatableTopicResult::default()
                .with_name(topic.name)
                .with_error_code(error)
        });
        let results = results.collect();
        CreateTopicsResponse::default().with_topics(results)
    }

    fn delete(&mut self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let results = request.topics.into_iter().map(|topic| {
            let name = topic.name.unwrap();
            let known = self.topics.remove(name.0.as_str()).is_some();
            self.leaders
                .retain(|(topic, _), _| topic != name.0.as_str());
            self.logs.retain(|(topic, _), _| topic != name.0.as_str());
            let error = match known {
                true => 0,
                false => ResponseError::UnknownTopicOrPartition.code(),
            };
            DeletableTopicResult::default()
                .with_name(Some(name))
                .with_error_code(error)
        });
        let results = results.collect();
        DeleteTopicsResponse::default().with_responses(results)
    }

    /// The offset that the next batch gets.
    fn end(&self, topic: &str, partition: i32) -> i64 {
        let log = self.logs.get(&(topic.to_owned(), partition));
        log.map_or(0, |log| end_of(log))
    }

    /// Topics that are there.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    fn offsets(&mut self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let key = (topic.name.0.as_str().to_owned(), partition.partition_index);
                let end = self.logs.get(&key).map_or(0, |log| end_of(log));
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_offset(if partition.timestamp == -2 { 0 } else { end })
            });
            ListOffsetsTopicResponse::default()
                .with_partitions(partitions.collect())
                .with_name(topic.name.clone())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    fn fetch(&mut self, request: FetchRequest) -> FetchResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let key = (topic.topic.0.as_str().to_owned(), partition.partition);
                let log = self.logs.get(&key).map_or(&[][..], Vec::as_slice);
                let mut records = Vec::new();
                for batch in log {
                    let header = BatchHeader::parse(batch).unwrap();
                    let last = header.base_offset + i64::from(header.last_offset_delta);
                    if last >= partition.fetch_offset
                        && (records.is_empty()
                            || records.len() + batch.len() < partition.partition_max_bytes as usize)
                    {
                        records.extend_from_slice(batch);
                    }
                }
                PartitionData::default()
                    .with_partition_index(partition.partition)
                    .with_high_watermark(end_of(log))
                    .with_log_start_offset(0)
                    .with_records(Some(records.into()))
            });
            FetchableTopicResponse::default()
                .with_partitions(partitions.collect())
                .with_topic(topic.topic.clone())
        });
        let topics: Vec<_> = topics.collect();
        let empty = topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .all(|partition| partition.records.as_ref().is_none_or(Bytes::is_empty));
        if empty {
            // No long poll here: a tail reader must not spin.
            std::thread::sleep(Duration::from_millis(1));
        }
        FetchResponse::default().with_responses(topics)
    }
}

fn end_of(log: &[Vec<u8>]) -> i64 {
    log.last().map_or(0, |batch| {
        let header = BatchHeader::parse(batch).unwrap();
        header.base_offset + i64::from(header.offsets())
    })
}

fn versions() -> ApiVersionsResponse {
    let offered = [
        (ApiKey::ApiVersions, 0, 3),
        (ApiKey::Metadata, 0, 12),
        (ApiKey::CreateTopics, 2, 7),
        (ApiKey::DeleteTopics, 1, 6),
        (ApiKey::ListOffsets, 1, 7),
        (ApiKey::InitProducerId, 0, 4),
        (ApiKey::Fetch, 4, 17),
        (ApiKey::Produce, 3, 13),
    ];
    let offered = offered.map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(min)
            .with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(offered.to_vec())
}

fn respond<R: Request>(header: &RequestHeader, response: &R::Response) -> BytesMut {
    let version = header.request_api_version;
    let mut frame = BytesMut::zeroed(4);
    ResponseHeader::default()
        .with_correlation_id(header.correlation_id)
        .encode(&mut frame, R::Response::header_version(version))
        .unwrap();
    response.encode(&mut frame, version).unwrap();
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}
