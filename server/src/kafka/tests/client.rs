//! A node for a test, and a blocking client that sends what the test wants, sound or not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Command;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ringlog_storage::io::uring::UringOptions;
use ringlog_storage::log::LogConfig;
use uuid::Uuid;

use crate::config::options::add_flags;
use crate::config::{Layers, Settings};
use crate::kafka::connection;
use crate::node::directory::DataDirectory;
use crate::node::supervisor::{Node, Storage};
use crate::security::Security;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` against a node of two cores with these settings, then stops it.
pub fn with_node(more: &[&str], test: impl FnOnce(&[SocketAddr]) + Send) {
    let dir = tempfile::tempdir().unwrap();
    with_node_in(dir.path(), more, test);
}

/// The same in a directory of the test's.
pub fn with_node_in(dir: &Path, more: &[&str], test: impl FnOnce(&[SocketAddr]) + Send) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut node = runtime.block_on(async {
        let settings = settings(dir, more);
        let directory = DataDirectory::take(&[dir.to_owned()], Some(2), 2).unwrap();
        let log = LogConfig {
            segment_bytes: 16 << 20,
            ..LogConfig::default()
        };
        let uring = UringOptions {
            arena_bytes: 4 << 20,
            memory_limit_bytes: settings.memory_per_core_bytes,
            allow_buffered: true,
            ..UringOptions::default()
        };
        let (storage, address) = (
            Storage {
                logs: vec![log],
                uring,
            },
            settings.kafka_addr,
        );
        let security = Arc::new(Security::open(&settings).unwrap());
        Node::launch(
            settings,
            security,
            directory,
            address,
            &storage,
            |stream, peer, core| Box::pin(connection::serve(stream, peer, core)),
        )
        .unwrap()
    });
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, node.start())
            .await
            .expect("a start in time")
            .unwrap();
    });
    let addresses = node.addresses().to_vec();
    std::thread::scope(|scope| {
        let result = scope.spawn(|| test(&addresses)).join();
        runtime.block_on(async { node.stop().await.unwrap() });
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn settings(dir: &Path, more: &[&str]) -> Arc<Settings> {
    let dir = dir.to_str().unwrap();
    let all = [
        "serve",
        "--data-dir",
        dir,
        "--kafka-addr",
        "127.0.0.1:0",
        "--allow-buffered-io",
    ];
    let flags = add_flags(Command::new("serve"))
        .try_get_matches_from(all.iter().chain(more).copied())
        .unwrap();
    Arc::new(Settings::from_layers(&Layers::read(&flags, |_| None, None).unwrap()).unwrap())
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects to a core.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            correlation_id: 0,
        }
    }

    /// A request with its length and header.
    pub fn frame(&mut self, key: ApiKey, version: i16, body: &impl Encodable) -> Vec<u8> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = vec![0; 4];
        header
            .encode(&mut frame, key.request_header_version(version))
            .unwrap();
        body.encode(&mut frame, version).unwrap();
        let length = (frame.len() as i32 - 4).to_be_bytes();
        frame[..4].copy_from_slice(&length);
        frame
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer: its correlation id and body.
    pub fn receive<T: Decodable>(&mut self, key: ApiKey, version: i16) -> (i32, T) {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).unwrap();
        let mut body = Bytes::from(body);
        let header_version = key.response_header_version(version);
        let header = ResponseHeader::decode(&mut body, header_version).unwrap();
        let response = T::decode(&mut body, version).unwrap();
        assert!(
            body.is_empty(),
            "{key:?} version {version}: {} bytes left",
            body.len()
        );
        (header.correlation_id, response)
    }

    /// The next answer without header version: its correlation id and the bytes behind it.
    pub fn receive_raw(&mut self) -> (i32, Vec<u8>) {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word).unwrap();
        let mut rest = vec![0; i32::from_be_bytes(word) as usize];
        self.stream.read_exact(&mut rest).unwrap();
        let body = rest.split_off(4);
        (i32::from_be_bytes(rest.try_into().unwrap()), body)
    }

    /// The next bytes behind a length.
    pub fn receive_token(&mut self) -> Vec<u8> {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word).unwrap();
        let mut token = vec![0; i32::from_be_bytes(word) as usize];
        self.stream.read_exact(&mut token).unwrap();
        token
    }

    /// Sends; `false` when the node has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads whatever comes until the node closes the connection.
    pub fn read_to_end(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// Asks and waits for the answer.
    pub fn call<T: Decodable>(&mut self, key: ApiKey, version: i16, body: &impl Encodable) -> T {
        let frame = self.frame(key, version, body);
        self.send(&frame);
        let (correlation_id, response) = self.receive(key, version);
        assert_eq!(correlation_id, self.correlation_id);
        response
    }

    /// Sends nothing more.
    pub fn finish_sending(&self) {
        // It fails when the node was faster.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Waits until the node closes the connection; panics when it answers instead.
    pub fn expect_closed(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "an answer came: {rest:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Creates a topic of so many partitions; its id.
    pub fn create_wide(
        &mut self,
        name: &'static str,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) -> Uuid {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(StrBytes::from_static_str(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(3)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let response: CreateTopicsResponse = self.call(ApiKey::CreateTopics, 7, &request);
        let result = &response.topics[0];
        assert_eq!(result.error_code, 0, "{:?}", result.error_message);
        result.topic_id
    }

    /// Creates a topic of one partition; its id, and the core that leads it.
    pub fn create(
        &mut self,
        name: &'static str,
        configs: &[(&'static str, &'static str)],
    ) -> Topic {
        let id = self.create_wide(name, 1, configs);
        let metadata = self.metadata(name);
        let leader = metadata.topics[0].partitions[0].leader_id.0;
        Topic {
            name,
            id,
            leader: leader as usize,
        }
    }

    pub fn metadata(&mut self, name: &'static str) -> MetadataResponse {
        use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        self.call(
            ApiKey::Metadata,
            12,
            &MetadataRequest::default().with_topics(Some(vec![topic])),
        )
    }

    /// Produces to partition 0; error code and base offset.
    pub fn produce(&mut self, version: i16, topic: &Topic, records: Vec<u8>) -> (i16, i64) {
        let request = produce_request(version, topic, -1, records);
        let response: ProduceResponse = self.call(ApiKey::Produce, version, &request);
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    /// Fetches from partition 0.
    pub fn fetch(&mut self, version: i16, topic: &Topic, from: i64) -> FetchResponse {
        self.call(
            ApiKey::Fetch,
            version,
            &fetch_request(version, topic, from, 0, 100 << 20),
        )
    }

    /// Offset and timestamp.
    pub fn list_offset(&mut self, version: i16, topic: &Topic, timestamp: i64) -> (i16, i64, i64) {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let wanted = ListOffsetsTopic::default()
            .with_name(topic_name(topic.name))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![wanted]);
        let response: ListOffsetsResponse = self.call(ApiKey::ListOffsets, version, &request);
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    }
}

/// A topic of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    pub name: &'static str,
    pub id: Uuid,
    pub leader: usize,
}

/// The wall clock, which is the node's as well.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

pub fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

pub fn produce_request(version: i16, topic: &Topic, acks: i16, records: Vec<u8>) -> ProduceRequest {
    let records = PartitionProduceData::default().with_records(Some(Bytes::from(records)));
    let data = TopicProduceData::default().with_partition_data(vec![records]);
    let data = if version >= 13 {
        data.with_topic_id(topic.id)
    } else {
        data.with_name(topic_name(topic.name))
    };
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
        .with_topic_data(vec![data])
}

pub fn fetch_request(
    version: i16,
    topic: &Topic,
    from: i64,
    max_wait_ms: i32,
    max_bytes: i32,
) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(from)
        .with_partition_max_bytes(max_bytes);
    let wanted = FetchTopic::default().with_partitions(vec![partition]);
    let wanted = if version >= 13 {
        wanted.with_topic_id(topic.id)
    } else {
        wanted.with_topic(topic_name(topic.name))
    };
    let request = FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_topics(vec![wanted]);
    if version >= 7 {
        request.with_session_epoch(-1)
    } else {
        request
    }
}
