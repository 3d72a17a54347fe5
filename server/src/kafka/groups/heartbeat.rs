//! Heartbeat: a member says that it is there, and hears whether it has to join again.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ringlog_engine::groups::Identity;

use super::here;
use crate::kafka::bounds::Field;
use crate::kafka::errors;
use crate::node::core::CoreHandle;

/// What the request looks like: no arrays.
pub const FIELDS: &[Field] = &[];

/// Answers a request.
#[must_use]
pub fn handle(core: &CoreHandle, request: &HeartbeatRequest) -> HeartbeatResponse {
    let code = heard(core, request).err().map_or(0, |code| code.code());
    HeartbeatResponse::default().with_error_code(code)
}

fn heard(core: &CoreHandle, request: &HeartbeatRequest) -> Result<(), ResponseError> {
    here::check(core, &request.group_id)?;
    let who = Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
    };
    let generation = request.generation_id;
    let heard = core.with(|state| {
        let now = state.group_time();
        let group = &request.group_id;
        state.groups.heartbeat(group, &who, generation, now)
    });
    heard.map_err(errors::of_group)
}
