//! ListPartitionReassignments (KIP-455): which partitions are on their way from one broker to
//! another. None ever is while a node runs.

use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::bounds::{Field, Shape, field};

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Fixed(4)),
    field(Shape::Structs(&[
        field(Shape::Text),
        field(Shape::Values(&Shape::Fixed(4))),
    ])),
];

/// Answers a request.
#[must_use]
pub fn handle(_: &ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
