//! OffsetCommit: a group, or a client that needs none, remembers how far it has read. Answered
//! when that is durable.
//!
//! In version 9 the generation may be the epoch of a member (KIP-848). STALE_MEMBER_EPOCH is for
//! groups that the broker assigns for; a classic group compares its generation as before
//! (`ClassicGroup.validateOffsetCommit`).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ringlog_engine::groups::{Commit, CommittedOffset, GroupError, Identity};
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

/// Answers a request.
///
/// Cancellation: what was logged is committed all the same.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let (outcomes, offsets) = check(core, version, &request).await;
    let is_one_too_long = outcomes.contains(&Err(ResponseError::OffsetMetadataTooLarge));
    // Kafka asks the group first: who may not commit hears that, whatever the texts are like.
    let asked = is_one_too_long.then(|| ask_group(core, version, &request));
    let refusal = asked.and_then(Result::err);
    let failure = match refusal {
        None => commit(core, version, &request, &offsets).await.err(),
        refused => refused,
    };
    let mut codes = outcomes.into_iter().map(|outcome| {
        let code = match outcome {
            Err(ResponseError::OffsetMetadataTooLarge) => refusal.or(outcome.err()),
            Err(code) => Some(code),
            Ok(()) => failure,
        };
        code.map_or(0, |code| code.code())
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

/// Looks at each partition, in the order of the request: why it is refused, or that it is part of
/// what is to be committed.
async fn check(
    core: &CoreHandle,
    version: i16,
    request: &OffsetCommitRequest,
) -> (Vec<Result<(), ResponseError>>, Commit) {
    let mut commit = Commit::of((**request.group_id).into());
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
                        (Err(code), _) | (_, Err(code)) => Err(code),
                        _ if metadata.len() > most_bytes => {
                            Err(ResponseError::OffsetMetadataTooLarge)
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
                            commit.add(id, offset);
                            if state.groups.offset(&request.group_id, id).is_some() {
                                commit.replaces();
                            }
                            Ok(())
                        }
                    });
                }
            });
            tokio::task::yield_now().await;
        }
    }
    (outcomes, commit.finish())
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

fn identity(request: &OffsetCommitRequest) -> Identity<'_> {
    Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
    }
}

/// Whether whoever asks may commit.
fn ask_group(
    core: &CoreHandle,
    version: i16,
    request: &OffsetCommitRequest,
) -> Result<(), ResponseError> {
    let (group, who) = (&request.group_id, identity(request));
    let generation = request.generation_id_or_member_epoch;
    let asked = core.groups(|groups, now| groups.check_commit(group, &who, generation, now));
    asked.map_err(|error| code_of(version, &error.into()))
}

/// All of it is committed, or nothing: one atomic group in the log.
async fn commit(
    core: &CoreHandle,
    version: i16,
    request: &OffsetCommitRequest,
    offsets: &Commit,
) -> Result<(), ResponseError> {
    if offsets.records().is_empty() {
        return Ok(());
    }
    let generation = request.generation_id_or_member_epoch;
    let committed = core
        .commit_offsets(offsets, &identity(request), generation)
        .await;
    committed.map_err(|error| code_of(version, &error))
}

fn code_of(version: i16, failure: &GroupFailure) -> ResponseError {
    match failure {
        GroupFailure::Group(GroupError::NotFound) if version < NOT_FOUND_SINCE => {
            ResponseError::IllegalGeneration
        }
        failure => errors::of_group_failure(failure),
    }
}
