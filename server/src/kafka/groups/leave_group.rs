//! LeaveGroup: members go, by their own word or that of an operator.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ringlog_engine::groups::Identity;

use super::here;
use crate::kafka::bounds::{Field, Shape, field, field_since, field_until};
use crate::kafka::errors;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Text),
    field_until(2, Shape::Text),
    field_since(
        3,
        Shape::Structs(&[
            field(Shape::Text),
            field(Shape::Text),
            field_since(5, Shape::Text),
        ]),
    ),
];

/// Oldest version in which several go at once.
const SEVERAL_SINCE: i16 = 3;

/// Answers a request.
///
/// Cancellation: members that went are gone.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    if let Err(code) = here::check(core, &request.group_id) {
        return response.with_error_code(code.code());
    }
    if request.group_id.is_empty() {
        return response.with_error_code(ResponseError::InvalidGroupId.code());
    }
    let leave = |member_id: &str, instance_id: Option<&str>| {
        let who = Identity {
            member_id,
            instance_id,
        };
        let left = core.groups(|groups, now| groups.leave(&request.group_id, &who, now));
        left.err().map_or(0, |error| errors::of_group(error).code())
    };
    if version < SEVERAL_SINCE {
        return response.with_error_code(leave(&request.member_id, None));
    }
    let mut members = Vec::with_capacity(request.members.len());
    for member in &request.members {
        let code = leave(&member.member_id, member.group_instance_id.as_deref());
        let left = MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code);
        members.push(left);
        // Each that goes may end a rebalance.
        tokio::task::yield_now().await;
    }
    response.with_members(members)
}
