//! OffsetDelete: a group forgets offsets of topics that its members do not read.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use ringlog_engine::groups::GroupError;
use ringlog_types::PartitionId;

use super::here;
use crate::kafka::bounds::{Field, Shape, field};
use crate::kafka::errors;
use crate::kafka::limits::STEP_PARTITIONS;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Text),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Structs(&[field(Shape::Fixed(4))])),
    ])),
];

/// Answers a request.
///
/// Cancellation: what was logged is forgotten all the same.
pub async fn handle(core: &CoreHandle, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    if let Err(code) = here::check(core, &request.group_id) {
        return response.with_error_code(code.code());
    }
    // The group's own answer, also where nothing is named.
    let group_error = core.groups(|groups, _| groups.prepare_forget(&request.group_id, &[]).err());
    if let Some(error) = group_error {
        return response.with_error_code(errors::of_group(error).code());
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut results = Vec::with_capacity(topic.partitions.len());
        for step in topic.partitions.chunks(STEP_PARTITIONS) {
            let indexes: Vec<i32> = step.iter().map(|named| named.partition_index).collect();
            let codes = forget(core, &request.group_id, &topic.name, &indexes).await;
            results.extend(indexes.iter().zip(codes).map(|(index, code)| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(*index)
                    .with_error_code(code)
            }));
        }
        topics.push(
            OffsetDeleteResponseTopic::default()
                .with_partitions(results)
                .with_name(topic.name),
        );
    }
    response.with_topics(topics)
}

/// A code for each partition.
async fn forget(core: &CoreHandle, group: &str, topic: &str, indexes: &[i32]) -> Vec<i16> {
    let found: Vec<Option<PartitionId>> = core.with(|state| {
        let topic = state.topics.by_name(topic);
        let find = |index: &i32| {
            let index = u32::try_from(*index).ok()?;
            let topic = topic.filter(|topic| index < topic.partition_count())?;
            Some(PartitionId::new(topic.number, index))
        };
        indexes.iter().map(find).collect()
    });
    let named: Vec<(PartitionId, &str)> = found.iter().flatten().map(|at| (*at, topic)).collect();
    let mut outcomes: Vec<Result<(), GroupError>> = Vec::new();
    let bytes = group.len() + 16 * named.len();
    let logged = core.decide_group(bytes, |groups, _| {
        let (record, decided) = groups.prepare_forget(group, &named)?;
        outcomes = decided;
        Ok(record)
    });
    let failure = logged
        .await
        .err()
        .map(|error| errors::of_group_failure(&error).code());
    let mut outcomes = outcomes.into_iter();
    let codes = found.iter().map(|partition| match partition {
        None => ResponseError::UnknownTopicOrPartition.code(),
        Some(_) => failure.unwrap_or_else(|| match outcomes.next() {
            Some(Err(error)) => errors::of_group(error).code(),
            _ => 0,
        }),
    });
    codes.collect()
}
