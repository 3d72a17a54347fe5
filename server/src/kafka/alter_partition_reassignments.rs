//! AlterPartitionReassignments (KIP-455): other brokers are to have a partition. A node keeps one
//! copy of each, on the core that leads it, and does not move it while it runs: what a partition
//! has already is taken, anything else refused.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
};
use kafka_protocol::protocol::StrBytes;

use super::bounds::{Field, Shape, field, field_since};
use super::endpoints::leader_of;
use super::limits::STEP_PARTITIONS;
use super::locate::has_partition;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Fixed(4)),
    field_since(1, Shape::Fixed(1)),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Structs(&[
            field(Shape::Fixed(4)),
            field(Shape::Values(&Shape::Fixed(4))),
        ])),
    ])),
];

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let (mut responses, mut looked_at) = (Vec::with_capacity(request.topics.len()), 0);
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let response = ReassignablePartitionResponse::default()
                .with_partition_index(wanted.partition_index);
            partitions.push(match reassign(core, &topic.name, wanted) {
                Ok(()) => response.with_error_message(None),
                Err((code, message)) => response
                    .with_error_code(code.code())
                    .with_error_message(Some(StrBytes::from_string(message))),
            });
            looked_at += 1;
            if looked_at % STEP_PARTITIONS == 0 {
                tokio::task::yield_now().await;
            }
        }
        responses.push(
            ReassignableTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(responses)
}

fn reassign(
    core: &CoreHandle,
    topic: &str,
    wanted: &ReassignablePartition,
) -> Result<(), (ResponseError, String)> {
    let index = wanted.partition_index;
    let log = core.with(|core| {
        has_partition(&core.topics, topic, index)?;
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let topic = core.topics.by_name(topic);
        Ok(topic.and_then(|topic| topic.partitions.get(place).copied()))
    });
    let log = log.map_err(|not_here: super::locate::NotHere| (not_here.code, not_here.cause))?;
    let leader = log.map(|log| BrokerId(leader_of(core.topology(), log).id));
    let refused =
        |message: &str| Err((ResponseError::InvalidReplicaAssignment, message.to_owned()));
    match wanted.replicas.as_deref() {
        None => {
            let message = "partitions are never on their way from one broker to another";
            Err((ResponseError::NoReassignmentInProgress, message.to_owned()))
        }
        Some([]) => refused("a partition needs a replica"),
        Some([one]) if Some(*one) == leader => Ok(()),
        Some([one]) if !is_broker(core, *one) => refused("there is no such broker"),
        Some([_]) => refused(
            "a partition stays with its core while the node runs; a start with another number of \
             cores spreads partitions anew",
        ),
        Some(_) => refused("a node keeps one copy of a partition: name one broker"),
    }
}

fn is_broker(core: &CoreHandle, id: BrokerId) -> bool {
    let mut brokers = core.topology().brokers().iter();
    brokers.any(|broker| i32::from(broker.id.0) == id.0)
}
