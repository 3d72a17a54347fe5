//! DescribeGroups: groups with their members, and what each reads.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::groups;

use super::here;
use crate::kafka::bounds::{Field, Shape, field};
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Values(&Shape::Text))];

const INSTANCE_SINCE: i16 = 4;
/// Oldest version in which a group that is not there is an error, and not a dead one.
const NOT_FOUND_SINCE: i16 = 6;
/// The state of a group that is not there.
const DEAD: &str = "Dead";

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut described = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let answer = match here::check(core, &group) {
            Err(code) => DescribedGroup::default().with_error_code(code.code()),
            Ok(()) => match core.with(|core| core.groups.describe(&group)) {
                Some(found) => of(version, &found),
                None => missing(version),
            },
        };
        described.push(answer.with_group_id(group));
        tokio::task::yield_now().await;
    }
    DescribeGroupsResponse::default().with_groups(described)
}

fn missing(version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str(DEAD));
    if version < NOT_FOUND_SINCE {
        return dead;
    }
    let message = StrBytes::from_static_str("there is no such group");
    dead.with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(message))
}

fn of(version: i16, group: &groups::DescribedGroup) -> DescribedGroup {
    let members = group.members.iter().map(|member| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(&member.id))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(Bytes::copy_from_slice(&member.metadata))
            .with_member_assignment(Bytes::copy_from_slice(&member.assignment));
        match version {
            INSTANCE_SINCE.. => {
                described.with_group_instance_id(member.instance_id.as_deref().map(text))
            }
            _ => described,
        }
    });
    DescribedGroup::default()
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members.collect())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
