//! JoinGroup: a member wants to be in the next generation of its group. Answered when that is
//! known, which may take as long as the members' rebalance timeout.

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::groups::{GroupAnswer, Join, Joined, Protocol};

use super::here;
use crate::kafka::bounds::{Field, Shape, field, field_since};
use crate::kafka::errors;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field(Shape::Text),
    field(Shape::Fixed(4)),
    field_since(1, Shape::Fixed(4)),
    field(Shape::Text),
    field_since(5, Shape::Text),
    field(Shape::Text),
    field(Shape::Structs(&[field(Shape::Text), field(Shape::Bytes)])),
];

/// Oldest version whose clients come back with the id they are given.
const MEMBER_ID_SINCE: i16 = 4;
const INSTANCE_SINCE: i16 = 5;
const PROTOCOL_TYPE_SINCE: i16 = 7;
const SKIP_SINCE: i16 = 9;

/// Answers a request. `leaving` ends the wait early.
///
/// Cancellation: the member stays until its session ends.
pub async fn handle(
    core: &CoreHandle,
    peer: SocketAddr,
    client_id: &str,
    version: i16,
    request: JoinGroupRequest,
    leaving: impl Future<Output = ()>,
) -> JoinGroupResponse {
    if let Err(code) = here::check(core, &request.group_id) {
        return refused(version, code, &request.member_id);
    }
    let join = join(peer, client_id, version, &request);
    let answer = core.ask_group(|groups, now| groups.join(&join, now));
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        () = leaving => None,
    };
    match answer {
        Some(GroupAnswer::Joined(Ok(of))) => joined(version, of),
        Some(GroupAnswer::Joined(Err(of))) => {
            refused(version, errors::of_group(of.error), &of.member_id)
        }
        // The node stops.
        _ => refused(
            version,
            ResponseError::CoordinatorNotAvailable,
            &request.member_id,
        ),
    }
}

fn join(peer: SocketAddr, client_id: &str, version: i16, request: &JoinGroupRequest) -> Join {
    // A negative timeout is no timeout of a session that is allowed.
    let session_timeout_ms = u32::try_from(request.session_timeout_ms).unwrap_or(0);
    let rebalance_timeout_ms = match version {
        // Old clients have one timeout for both.
        0 => session_timeout_ms,
        _ => u32::try_from(request.rebalance_timeout_ms).unwrap_or(session_timeout_ms),
    };
    let instance_id = request.group_instance_id.as_ref();
    let prefix = instance_id.map_or(client_id, |instance| instance);
    let protocols = request.protocols.iter().map(|protocol| Protocol {
        name: (*protocol.name).into(),
        metadata: (*protocol.metadata).into(),
    });
    Join {
        group: (**request.group_id).into(),
        member_id: (*request.member_id).into(),
        fresh_id: format!("{prefix}-{}", uuid::Uuid::new_v4()).into(),
        instance_id: instance_id.map(|instance| (**instance).into()),
        client_id: client_id.into(),
        client_host: format!("/{}", peer.ip()).into(),
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: (*request.protocol_type).into(),
        protocols: protocols.collect(),
        must_know_its_id: version >= MEMBER_ID_SINCE,
        can_skip_assignment: version >= SKIP_SINCE,
    }
}

fn joined(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        let described = JoinGroupResponseMember::default()
            .with_member_id(text(&member.id))
            .with_metadata(bytes::Bytes::copy_from_slice(&member.metadata));
        match version {
            INSTANCE_SINCE.. => {
                described.with_group_instance_id(member.instance_id.as_ref().map(text))
            }
            _ => described,
        }
    });
    let response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(text(&joined.protocol)))
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect());
    let response = match version {
        PROTOCOL_TYPE_SINCE.. => response.with_protocol_type(Some(text(&joined.protocol_type))),
        _ => response,
    };
    match version {
        SKIP_SINCE.. => response.with_skip_assignment(joined.skip_assignment),
        _ => response,
    }
}

fn refused(version: i16, code: ResponseError, member_id: &str) -> JoinGroupResponse {
    let protocol = match version {
        PROTOCOL_TYPE_SINCE.. => None,
        _ => Some(StrBytes::default()),
    };
    JoinGroupResponse::default()
        .with_error_code(code.code())
        .with_generation_id(-1)
        .with_protocol_name(protocol)
        .with_member_id(StrBytes::from_string(member_id.to_owned()))
}

fn text(text: &Arc<str>) -> StrBytes {
    StrBytes::from_string(String::from(&**text))
}
