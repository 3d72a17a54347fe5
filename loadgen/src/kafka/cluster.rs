//! What the generator knows of a cluster: who leads which partition, and the calls that make and
//! remove topics, look up offsets and hand out producer ids.
//!
//! Invariant: produce and fetch go to the leader that the newest metadata names, and nowhere
//! else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::kafka::client::{Client, check};

/// A broker's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

/// Where a topic's partitions live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLayout {
    /// Address of each broker of the cluster.
    pub brokers: BTreeMap<BrokerId, String>,
    /// Leader of each partition, by index.
    pub leaders: Vec<BrokerId>,
}

impl TopicLayout {
    /// Brokers that lead a partition of the topic, in order.
    #[must_use]
    pub fn leading_brokers(&self) -> Vec<BrokerId> {
        let mut brokers = self.leaders.clone();
        brokers.sort_unstable();
        brokers.dedup();
        brokers
    }

    /// A broker's address.
    pub fn address(&self, broker: BrokerId) -> anyhow::Result<&str> {
        match self.brokers.get(&broker) {
            Some(address) => Ok(address),
            None => bail!(
                "metadata names broker {} as a leader but not its address",
                broker.0
            ),
        }
    }
}

/// Which end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The first offset still there.
    Earliest,
    /// The offset the next record gets.
    Latest,
}

/// A producer id and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerId {
    /// The id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// A connection to the bootstrap broker, and the slow calls.
pub struct Cluster {
    bootstrap: String,
    client: Client,
}

/// How long a topic may take to get leaders, or a broker to come back.
const SETTLE: Duration = Duration::from_secs(30);

impl Cluster {
    /// Connects to the bootstrap broker.
    pub fn connect(bootstrap: &str) -> anyhow::Result<Cluster> {
        Ok(Cluster {
            bootstrap: bootstrap.to_owned(),
            client: Client::connect(bootstrap)?,
        })
    }

    /// Connects to the bootstrap broker, which may still be starting.
    pub fn connect_patiently(bootstrap: &str) -> anyhow::Result<Cluster> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match Cluster::connect(bootstrap) {
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                outcome => return outcome,
            }
        }
    }

    /// The address this was connected with.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The connection, for calls that are not here.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Creates the topic unless it is there, waits until every partition has a leader, and
    /// returns the layout. A topic with another number of partitions is an error.
    pub fn ensure_topic(
        &mut self,
        topic: &str,
        partitions: u32,
        configs: &[(String, String)],
    ) -> anyhow::Result<TopicLayout> {
        let configs = configs
            .iter()
            .map(|(name, value)| {
                CreatableTopicConfig::default()
                    .with_name(StrBytes::from_string(name.clone()))
                    .with_value(Some(StrBytes::from_string(value.clone())))
            })
            .collect();
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(vec![
                CreatableTopic::default()
                    .with_name(topic_name(topic))
                    .with_num_partitions(i32::try_from(partitions)?)
                    .with_replication_factor(1)
                    .with_configs(configs),
            ]);
        let response = self.client.call(&request).context("creating the topic")?;
        let mut created = true;
        for result in &response.topics {
            match ResponseError::try_from_code(result.error_code) {
                None => {}
                Some(ResponseError::TopicAlreadyExists) => created = false,
                Some(error) => {
                    let reason = result
                        .error_message
                        .as_ref()
                        .map_or("", |text| text.as_str());
                    return Err(error).with_context(|| format!("creating topic {topic}: {reason}"));
                }
            }
        }
        let deadline = Instant::now() + SETTLE;
        loop {
            if let Some(layout) = self.layout_if_ready(topic)? {
                if layout.leaders.len() == partitions as usize {
                    return Ok(layout);
                }
                ensure!(
                    created && Instant::now() < deadline,
                    "topic {topic} has {} partitions, {partitions} were asked for: \
                     choose another topic or --partitions {}",
                    layout.leaders.len(),
                    layout.leaders.len(),
                );
            }
            ensure!(
                Instant::now() < deadline,
                "topic {topic} got no leaders within {SETTLE:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The topic's layout; waits while partitions have no leader. A topic that is not there is an
    /// error.
    pub fn layout(&mut self, topic: &str) -> anyhow::Result<TopicLayout> {
        let deadline = Instant::now() + SETTLE;
        loop {
            if let Some(layout) = self.layout_if_ready(topic)? {
                return Ok(layout);
            }
            ensure!(
                Instant::now() < deadline,
                "topic {topic} is not there, or has no leaders ({SETTLE:?} waited)"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One metadata call. `None`: the topic is unknown or a partition has no leader.
    pub fn layout_if_ready(&mut self, topic: &str) -> anyhow::Result<Option<TopicLayout>> {
        let request = MetadataRequest::default()
            .with_allow_auto_topic_creation(false)
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
            ]));
        let response = self.client.call(&request).context("asking for metadata")?;
        let brokers = response
            .brokers
            .iter()
            .map(|broker| {
                (
                    BrokerId(broker.node_id.0),
                    format!("{}:{}", broker.host, broker.port),
                )
            })
            .collect();
        let Some(found) = response.topics.first() else {
            return Ok(None);
        };
        match ResponseError::try_from_code(found.error_code) {
            None => {}
            Some(error) if error.is_retriable() => return Ok(None),
            Some(error) => return Err(error).with_context(|| format!("metadata of {topic}")),
        }
        let mut leaders = vec![BrokerId(-1); found.partitions.len()];
        for partition in &found.partitions {
            let index = usize::try_from(partition.partition_index)?;
            let Some(leader) = leaders.get_mut(index) else {
                bail!("metadata of {topic} has a gap before partition {index}");
            };
            *leader = BrokerId(partition.leader_id.0);
        }
        let ready = !leaders.is_empty() && leaders.iter().all(|leader| leader.0 >= 0);
        Ok(ready.then_some(TopicLayout { brokers, leaders }))
    }

    /// Removes a topic.
    pub fn delete_topic(&mut self, topic: &str) -> anyhow::Result<()> {
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let version = self.client.version_of::<DeleteTopicsRequest>(i16::MAX)?;
        let request = if version >= 6 {
            request.with_topics(vec![
                DeleteTopicState::default().with_name(Some(topic_name(topic))),
            ])
        } else {
            request.with_topic_names(vec![topic_name(topic)])
        };
        let response = self.client.call(&request).context("deleting the topic")?;
        for result in &response.responses {
            check(result.error_code, "DeleteTopics").with_context(|| format!("topic {topic}"))?;
        }
        Ok(())
    }

    /// A producer id for an idempotent producer.
    pub fn producer_id(&mut self) -> anyhow::Result<ProducerId> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let deadline = Instant::now() + SETTLE;
        loop {
            let response = self
                .client
                .call(&request)
                .context("asking for a producer id")?;
            match ResponseError::try_from_code(response.error_code) {
                None => {
                    return Ok(ProducerId {
                        id: response.producer_id.0,
                        epoch: response.producer_epoch,
                    });
                }
                Some(error) if error.is_retriable() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Some(error) => return Err(error).context("asking for a producer id"),
            }
        }
    }

    /// One edge of every partition, asked of each leader. Waits while leaders settle.
    pub fn offsets(
        &mut self,
        topic: &str,
        layout: &TopicLayout,
        edge: Edge,
    ) -> anyhow::Result<Vec<i64>> {
        let mut offsets = vec![-1; layout.leaders.len()];
        let deadline = Instant::now() + SETTLE;
        for broker in layout.leading_brokers() {
            let mut client = Client::connect(layout.address(broker)?)?;
            let led = (0_i32..)
                .zip(&layout.leaders)
                .filter(|(_, leader)| **leader == broker);
            let mut wanted: Vec<i32> = led.map(|(index, _)| index).collect();
            while !wanted.is_empty() {
                let settling = edges(&mut client, topic, &wanted, edge, &mut offsets)?;
                if let Some((partition, error)) = settling.first()
                    && Instant::now() >= deadline
                {
                    return Err(*error).with_context(|| {
                        format!("asking for the offsets of partition {partition} of {topic}")
                    });
                }
                wanted = settling
                    .into_iter()
                    .map(|(partition, _)| partition)
                    .collect();
                if !wanted.is_empty() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        ensure!(
            offsets.iter().all(|offset| *offset >= 0),
            "not every partition gave its offset"
        );
        Ok(offsets)
    }
}

/// Asks one broker for one edge of some partitions. Gives back those that must be asked again.
fn edges(
    client: &mut Client,
    topic: &str,
    wanted: &[i32],
    edge: Edge,
    offsets: &mut [i64],
) -> anyhow::Result<Vec<(i32, ResponseError)>> {
    let partitions = wanted.iter().map(|index| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_current_leader_epoch(-1)
            .with_timestamp(match edge {
                Edge::Earliest => -2,
                Edge::Latest => -1,
            })
    });
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_timeout_ms(10_000)
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions.collect()),
        ]);
    let response = client.call(&request).context("asking for offsets")?;
    let mut settling = Vec::new();
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        let index = partition.partition_index;
        match ResponseError::try_from_code(partition.error_code) {
            None => {
                let slot = offsets.get_mut(usize::try_from(index)?);
                *slot.context("an offset of an unknown partition")? = partition.offset;
            }
            Some(error) if error.is_retriable() => settling.push((index, error)),
            Some(error) => {
                return Err(error)
                    .with_context(|| format!("asking for the offsets of {index} of {topic}"));
            }
        }
    }
    Ok(settling)
}

/// The protocol's type for a topic's name.
#[must_use]
pub fn topic_name(topic: &str) -> TopicName {
    StrBytes::from_string(topic.to_owned()).into()
}
