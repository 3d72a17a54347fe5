//! A topic, and which core owns each of its partitions, as core 0 knows it.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::topics::{Topic, TopicId};
use ringlog_types::{CoreId, LogId, PartitionId, TopicNumber};

use super::face::Face;
use super::problem::Problem;
use crate::kafka::metadata;
use crate::node::core::CoreHandle;
use crate::node::topology::Topologies;

/// The core that decides about topics.
pub(super) const CONTROLLER: CoreId = CoreId(0);

/// The version of Metadata in which a topic is asked for, and made.
const METADATA: i16 = 9;

/// A topic.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub name: String,
    pub id: TopicId,
    pub number: TopicNumber,
    /// Largest batch.
    pub max_message_bytes: usize,
    owners: Vec<LogId>,
    topologies: Arc<Topologies>,
}

impl Located {
    fn of(core: &CoreHandle, topic: &Topic) -> Located {
        Located {
            name: topic.name.clone(),
            id: topic.id,
            number: topic.number,
            max_message_bytes: topic.config.max_message_bytes(),
            owners: topic.partitions.clone(),
            topologies: core.topologies(),
        }
    }

    /// How many partitions it has.
    pub(super) fn partition_count(&self) -> u32 {
        // A topic has 10,000 at the most.
        self.owners.len() as u32
    }

    /// The core that owns a partition.
    pub(super) fn owner(&self, partition: u32) -> Result<CoreId, Problem> {
        let log = self.owners.get(partition as usize).ok_or_else(|| {
            let detail = format!(
                "topic {:?} has {} partitions; there is no partition {partition}",
                self.name,
                self.owners.len()
            );
            Problem::of(ResponseError::UnknownTopicOrPartition, detail)
        })?;
        Ok(self.topologies.plain.log_owner(*log))
    }

    /// The epoch of a partition's leader.
    pub(super) fn leader_epoch(&self, partition: u32) -> i32 {
        let log = self.owners.get(partition as usize);
        log.map_or(-1, |log| self.topologies.plain.leader_epoch(*log))
    }

    /// Partitions by the core that owns them.
    pub(super) fn by_owner(
        &self,
        partitions: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<(CoreId, Vec<PartitionId>)>, Problem> {
        let mut owned: Vec<(CoreId, Vec<PartitionId>)> = Vec::new();
        for partition in partitions {
            let (owner, id) = (
                self.owner(partition)?,
                PartitionId::new(self.number, partition),
            );
            match owned.iter_mut().find(|(core, _)| *core == owner) {
                Some((_, partitions)) => partitions.push(id),
                None => owned.push((owner, vec![id])),
            }
        }
        Ok(owned)
    }
}

/// Finds a topic that must be there.
pub(super) async fn find(face: &Face, name: &str) -> Result<Located, Problem> {
    let wanted = name.to_owned();
    let found = face.ask(CONTROLLER, |core| async move { look(&core, &wanted) });
    found.await?.ok_or_else(|| unknown(name))
}

/// Finds a topic, or makes it where the node's settings allow that.
pub(super) async fn find_or_create(face: &Face, name: &str) -> Result<Located, Problem> {
    let wanted = name.to_owned();
    let found = face.ask(CONTROLLER, |core| async move {
        if let Some(found) = look(&core, &wanted) {
            return Ok(found);
        }
        let topic = MetadataRequestTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(wanted.clone()))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(true);
        let answer = metadata::handle(&core, METADATA, request).await;
        let code = answer.topics.first().map_or(0, |topic| topic.error_code);
        if let Some(error) = ResponseError::try_from_code(code) {
            return Err(error);
        }
        look(&core, &wanted).ok_or(ResponseError::UnknownTopicOrPartition)
    });
    found.await?.map_err(|error| match error {
        ResponseError::UnknownTopicOrPartition => unknown(name),
        error => Problem::of(error, format!("topic {name:?} cannot be made")),
    })
}

fn look(core: &CoreHandle, name: &str) -> Option<Located> {
    core.with(|state| {
        let topic = state.topics.by_name(name)?;
        Some(Located::of(core, topic))
    })
}

pub(super) fn unknown(name: &str) -> Problem {
    let detail = format!("there is no topic {name:?}; GET /topics lists those there are");
    Problem::of(ResponseError::UnknownTopicOrPartition, detail)
}
