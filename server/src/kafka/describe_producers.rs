//! DescribeProducers (KIP-664): who writes to a partition with sequences, and how far each has
//! come. What is told is committed.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::partitions::ProducerView;

use super::bounds::{Field, Shape, field};
use super::limits::STEP_PARTITIONS;
use super::locate::{NotHere, locate};
use super::topic_ref::TopicRef;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Structs(&[
    field(Shape::Text),
    field(Shape::Values(&Shape::Fixed(4))),
]))];

/// No transaction, and no coordinator of one.
const NONE: i32 = -1;

type Refusal = (ResponseError, String);

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut seen = HashSet::new();
    for topic in request.topics {
        let named = TopicRef::Name(topic.name.as_str().into());
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let outcome = if seen.insert((topic.name.clone(), index)) {
                describe(core, &named, index).await
            } else {
                let message = "the request names this partition more than once";
                Err((ResponseError::InvalidRequest, message.to_owned()))
            };
            let answer = PartitionResponse::default().with_partition_index(index);
            partitions.push(match outcome {
                Ok(producers) => answer
                    .with_error_message(None)
                    .with_active_producers(producers),
                Err((code, message)) => answer
                    .with_error_code(code.code())
                    .with_error_message(Some(StrBytes::from_string(message))),
            });
            tokio::task::yield_now().await;
        }
        topics.push(
            TopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    DescribeProducersResponse::default().with_topics(topics)
}

async fn describe(
    core: &CoreHandle,
    topic: &TopicRef,
    index: i32,
) -> Result<Vec<ProducerState>, Refusal> {
    let found = core.with(|state| {
        let (partition, _) = locate(core.topology(), state, topic, index)?;
        Ok((partition, state.partitions.producers_of(partition)))
    });
    let (partition, places) = found.map_err(|not_here: NotHere| (not_here.code, not_here.cause))?;
    let mut producers = Vec::with_capacity(places.len());
    for places in places.chunks(STEP_PARTITIONS) {
        core.with(|state| {
            let places = places.iter();
            // One may be forgotten meanwhile.
            let views = places.filter_map(|place| state.partitions.producer_at(partition, *place));
            producers.extend(views.map(|view| state_of(&view)));
        });
        tokio::task::yield_now().await;
    }
    Ok(producers)
}

fn state_of(view: &ProducerView) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(view.id))
        .with_producer_epoch(view.epoch.into())
        .with_last_sequence(view.last_sequence)
        .with_last_timestamp(view.last_timestamp_ms)
        .with_coordinator_epoch(NONE)
        .with_current_txn_start_offset(NONE.into())
}
