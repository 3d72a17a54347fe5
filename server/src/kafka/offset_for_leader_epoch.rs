//! OffsetForLeaderEpoch (KIP-101, KIP-320): where the newest leader epoch up to one ended. A
//! consumer that read beyond it read what was lost since.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use ringlog_types::Offset;

use super::bounds::{Field, Shape, field, field_since};
use super::limits::STEP_PARTITIONS;
use super::locate::{NotHere, check_leader_epoch, locate};
use super::topic_ref::TopicRef;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field_since(3, Shape::Fixed(4)),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Structs(&[
            field(Shape::Fixed(4)),
            field(Shape::Fixed(4)),
            field(Shape::Fixed(4)),
        ])),
    ])),
];

/// The epoch, and the offset, of an epoch that is still to come.
const UNDEFINED: i32 = -1;

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let (mut seen, mut looked_at) = (HashSet::new(), 0);
    for topic in request.topics {
        let named = TopicRef::Name(topic.topic.as_str().into());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let outcome = if seen.insert((topic.topic.clone(), wanted.partition)) {
                end_of(core, &named, wanted)
            } else {
                Err(ResponseError::InvalidRequest)
            };
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            partitions.push(match outcome {
                Ok(Some((epoch, end))) => answer
                    .with_leader_epoch(epoch)
                    .with_end_offset(end.as_i64()),
                Ok(None) => undefined(answer),
                Err(code) => undefined(answer).with_error_code(code.code()),
            });
            looked_at += 1;
            if looked_at % STEP_PARTITIONS == 0 {
                tokio::task::yield_now().await;
            }
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions),
        );
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

fn undefined(answer: EpochEndOffset) -> EpochEndOffset {
    answer
        .with_leader_epoch(UNDEFINED)
        .with_end_offset(UNDEFINED.into())
}

fn end_of(
    core: &CoreHandle,
    topic: &TopicRef,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(i32, Offset)>, ResponseError> {
    core.with(|state| {
        let current = state.leader_epoch();
        let (partition, _) = locate(core.topology(), state, topic, wanted.partition)?;
        check_leader_epoch(wanted.current_leader_epoch, current)?;
        Ok(state
            .partitions
            .epoch_end(partition, wanted.leader_epoch, current))
    })
    .map_err(|not_here: NotHere| not_here.code)
}
