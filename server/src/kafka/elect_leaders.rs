//! ElectLeaders: another replica is to lead. A partition has one replica, which leads it: no
//! election is ever needed.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_protocol::protocol::StrBytes;

use super::bounds::{Field, Shape, field, field_since};
use super::limits::STEP_PARTITIONS;
use super::locate::has_partition;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field_since(1, Shape::Fixed(1)),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Values(&Shape::Fixed(4))),
    ])),
];

/// Kinds of elections (KIP-460): the preferred replica, or any that is left.
const ELECTIONS: [i8; 2] = [0, 1];

/// Answers a request.
pub async fn handle(core: &CoreHandle, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    if !ELECTIONS.contains(&request.election_type) {
        return response.with_error_code(ResponseError::InvalidRequest.code());
    }
    // Asked for all partitions, Kafka leaves out those that need no election.
    let topics = request.topic_partitions.unwrap_or_default();
    let (mut results, mut looked_at) = (Vec::with_capacity(topics.len()), 0);
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for index in topic.partitions {
            let found = core.with(|core| has_partition(&core.topics, &topic.topic, index));
            let (code, message) = match found {
                Ok(()) => (
                    ResponseError::ElectionNotNeeded,
                    "the partition has one replica, and it leads".to_owned(),
                ),
                Err(not_here) => (not_here.code, not_here.cause),
            };
            partitions.push(
                PartitionResult::default()
                    .with_partition_id(index)
                    .with_error_code(code.code())
                    .with_error_message(Some(StrBytes::from_string(message))),
            );
            looked_at += 1;
            if looked_at % STEP_PARTITIONS == 0 {
                tokio::task::yield_now().await;
            }
        }
        results.push(
            ReplicaElectionResult::default()
                .with_topic(topic.topic)
                .with_partition_result(partitions),
        );
    }
    response.with_replica_election_results(results)
}
