//! OffsetCommit: a group, or a client that needs none, remembers how far it has read. Answered
//! when that is durable.
//!
//! In version 9 the generation may be the epoch of a member (KIP-848). STALE_MEMBER_EPOCH is for
//! groups that the broker assigns for; a classic group compares its generation as before
//! (`ClassicGroup.validateOffsetCommit`).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ringlog_engine::groups::{CommittedOffset, GroupError, Identity};
use ringlog_types::PartitionId;

use super::here;
use crate::kafka::bounds::{Field, Shape, field, field_since};
use crate::kafka::errors;
use crate::kafka::limits::STEP_PARTITIONS;
use crate::node::core::groups::GroupFailure;
use crate::node::core::{Core, CoreHandle};

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Text),
    field(Shape::Fixed(4)),
    field(Shape::Text),
    field_since(7, Shape::Text),
    Field {
        versions: 2..=4,
        shape: Shape::Fixed(8),
    },
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Structs(&[
            field(Shape::Fixed(4)),
            field(Shape::Fixed(8)),
            field_since(6, Shape::Fixed(4)),
            field(Shape::Text),
        ])),
    ])),
];

/// Newest version that says how long offsets are to be kept.
const RETENTION_UNTIL: i16 = 4;
const LEADER_EPOCH_SINCE: i16 = 6;
/// Oldest version in which a member of a group that is not there is told so. Before, it hears of
/// another generation (Kafka's `OffsetMetadataManager.validateOffsetCommit`).
const NOT_FOUND_SINCE: i16 = 9;

/// Offsets in one entry of the log. A request with more has them committed in several.
const OFFSETS_PER_ENTRY: usize = 1_024;

/// Answers a request.
///
/// Cancellation: what was logged is committed all the same.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut codes = check(core, version, &request).await;
    commit(core, version, &request, &mut codes).await;
    let mut codes = codes.into_iter().map(|outcome| match outcome {
        Outcome::Refused(code) => code.code(),
        Outcome::Offset(_) | Outcome::Committed => 0,
    });
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(codes.by_ref());
        let partitions = partitions.map(|(partition, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// What becomes of a partition of the request.
enum Outcome {
    /// To be committed.
    Offset((PartitionId, CommittedOffset)),
    Committed,
    Refused(ResponseError),
}

/// Looks at each partition, in the order of the request.
async fn check(core: &CoreHandle, version: i16, request: &OffsetCommitRequest) -> Vec<Outcome> {
    let here = here::check(core, &request.group_id);
    let most_bytes = core.settings().offset_metadata_bytes;
    let mut outcomes = Vec::new();
    for topic in &request.topics {
        for step in topic.partitions.chunks(STEP_PARTITIONS) {
            core.with(|state| {
                let committed_ms = state.now_ms();
                let expires_ms = match request.retention_time_ms {
                    kept_ms @ 0.. if version <= RETENTION_UNTIL => {
                        committed_ms.saturating_add(kept_ms)
                    }
                    _ => -1,
                };
                for partition in step {
                    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                    let found = find(state, &topic.name, partition.partition_index);
                    outcomes.push(match (here, found) {
                        (Err(code), _) | (_, Err(code)) => Outcome::Refused(code),
                        _ if metadata.len() > most_bytes => {
                            Outcome::Refused(ResponseError::OffsetMetadataTooLarge)
                        }
                        (_, Ok(id)) => {
                            let leader_epoch = match version {
                                LEADER_EPOCH_SINCE.. => partition.committed_leader_epoch,
                                _ => -1,
                            };
                            let offset = CommittedOffset {
                                offset: partition.committed_offset,
                                leader_epoch,
                                committed_ms,
                                expires_ms,
                                metadata: metadata.into(),
                            };
                            Outcome::Offset((id, offset))
                        }
                    });
                }
            });
            tokio::task::yield_now().await;
        }
    }
    outcomes
}

fn find(core: &Core, topic: &str, index: i32) -> Result<PartitionId, ResponseError> {
    let topic = core.topics.by_name(topic);
    let index = u32::try_from(index).ok();
    match (topic, index) {
        (Some(topic), Some(index)) if index < topic.partition_count() => {
            Ok(PartitionId::new(topic.number, index))
        }
        _ => Err(ResponseError::UnknownTopicOrPartition),
    }
}

async fn commit(
    core: &CoreHandle,
    version: i16,
    request: &OffsetCommitRequest,
    outcomes: &mut [Outcome],
) {
    let group: Arc<str> = (**request.group_id).into();
    let who = Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
    };
    let generation = request.generation_id_or_member_epoch;
    for step in outcomes.chunks_mut(OFFSETS_PER_ENTRY) {
        let offsets: Vec<(PartitionId, CommittedOffset)> = step
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Offset(offset) => Some(offset.clone()),
                _ => None,
            })
            .collect();
        if offsets.is_empty() {
            continue;
        }
        let bytes = |(_, offset): &(PartitionId, CommittedOffset)| 40 + offset.metadata.len();
        let bytes = group.len() + offsets.iter().map(bytes).sum::<usize>();
        let committed = core.decide_group(bytes, |groups, now| {
            groups.prepare_commit(&group, &who, generation, offsets.clone(), now)
        });
        let refusal = committed.await.err().map(|error| match error {
            GroupFailure::Group(GroupError::NotFound) if version < NOT_FOUND_SINCE => {
                ResponseError::IllegalGeneration
            }
            error => errors::of_group_failure(&error),
        });
        for outcome in step {
            if let Outcome::Offset(_) = outcome {
                *outcome = refusal.map_or(Outcome::Committed, Outcome::Refused);
            }
        }
    }
}
