//! SyncGroup: a member asks for its part of the assignment; the leader brings all parts. Answered
//! when the assignment is durable.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::groups::{GroupAnswer, Sync};

use super::here;
use crate::kafka::bounds::{Field, Shape, field, field_since};
use crate::kafka::errors;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Text),
    field(Shape::Fixed(4)),
    field(Shape::Text),
    field_since(3, Shape::Text),
    field_since(5, Shape::Text),
    field_since(5, Shape::Text),
    field(Shape::Structs(&[field(Shape::Text), field(Shape::Bytes)])),
];

const PROTOCOL_SINCE: i16 = 5;

/// Answers a request. `leaving` ends the wait early.
///
/// Cancellation: the assignment that a leader brought becomes durable all the same.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: SyncGroupRequest,
    leaving: impl Future<Output = ()>,
) -> SyncGroupResponse {
    let refused = |code: ResponseError| SyncGroupResponse::default().with_error_code(code.code());
    if let Err(code) = here::check(core, &request.group_id) {
        return refused(code);
    }
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= PROTOCOL_SINCE && !says_protocol {
        return refused(ResponseError::InconsistentGroupProtocol);
    }
    let said = |text: &Option<StrBytes>| text.as_ref().map(|text| Arc::from(&**text));
    let parts = request.assignments.iter();
    let sync = Sync {
        group: (**request.group_id).into(),
        member_id: (*request.member_id).into(),
        instance_id: said(&request.group_instance_id),
        generation: request.generation_id,
        protocol_type: said(&request.protocol_type),
        protocol: said(&request.protocol_name),
        assignments: parts
            .map(|part| ((*part.member_id).into(), (*part.assignment).into()))
            .collect(),
    };
    let answer = core.ask_group(|groups, now| groups.sync(&sync, now));
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        () = leaving => None,
    };
    match answer {
        Some(GroupAnswer::Synced(Ok(part))) => {
            let response = SyncGroupResponse::default()
                .with_assignment(Bytes::copy_from_slice(&part.assignment));
            if version < PROTOCOL_SINCE {
                return response;
            }
            let text = |text: &Arc<str>| Some(StrBytes::from_string(String::from(&**text)));
            response
                .with_protocol_type(text(&part.protocol_type))
                .with_protocol_name(text(&part.protocol))
        }
        Some(GroupAnswer::Synced(Err(error))) => refused(errors::of_group(error)),
        // The node stops.
        _ => refused(ResponseError::CoordinatorNotAvailable),
    }
}
