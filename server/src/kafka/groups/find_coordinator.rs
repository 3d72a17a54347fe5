//! FindCoordinator: which broker has a consumer group.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::here::coordinator_of;
use crate::kafka::bounds::{Field, Shape, field_since, field_until};
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field_until(3, Shape::Text),
    field_since(1, Shape::Fixed(1)),
    field_since(4, Shape::Values(&Shape::Text)),
];

/// The version since which several are asked for at once.
const SEVERAL_SINCE: i16 = 4;
/// The type of keys that are groups.
const GROUP: i8 = 0;

/// Answers a request.
#[must_use]
pub fn handle(
    core: &CoreHandle,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = match version {
        SEVERAL_SINCE.. => request.coordinator_keys,
        _ => vec![request.key],
    };
    let found = keys
        .into_iter()
        .map(|key| find(core, request.key_type, key));
    if version >= SEVERAL_SINCE {
        return FindCoordinatorResponse::default().with_coordinators(found.collect());
    }
    let response = FindCoordinatorResponse::default();
    found.fold(response, |response, found| {
        let response = response
            .with_error_code(found.error_code)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
        match version {
            0 => response,
            _ => response.with_error_message(found.error_message),
        }
    })
}

fn find(core: &CoreHandle, key_type: i8, key: StrBytes) -> Coordinator {
    if key_type != GROUP {
        // There are no transactions and no share groups: clients give up with this code, where
        // those of a coordinator would make them ask for ever.
        let message = "only consumer groups have a coordinator here";
        return Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_error_message(Some(StrBytes::from_static_str(message)));
    }
    let broker = coordinator_of(core.topology(), &key);
    Coordinator::default()
        .with_node_id(BrokerId(i32::from(broker.id.0)))
        .with_host(StrBytes::from_string(broker.host.clone()))
        .with_port(i32::from(broker.port))
        .with_error_message(None)
        .with_key(key)
}
