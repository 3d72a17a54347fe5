//! DeleteGroups: groups without members go, with their offsets.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::here;
use crate::kafka::bounds::{Field, Shape, field};
use crate::kafka::errors;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[field(Shape::Values(&Shape::Text))];

/// Answers a request.
///
/// Cancellation: groups whose end was logged are gone all the same.
pub async fn handle(core: &CoreHandle, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let code = delete(core, &group)
            .await
            .err()
            .map_or(0, |code| code.code());
        let result = DeletableGroupResult::default().with_error_code(code);
        results.push(result.with_group_id(group));
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete(core: &CoreHandle, group: &str) -> Result<(), ResponseError> {
    here::check(core, group)?;
    let deleted = core.decide_group(group.len(), |groups, _| groups.prepare_remove(group));
    deleted
        .await
        .map_err(|error| errors::of_group_failure(&error))?;
    tracing::info!(core = %core.id(), group, "deleted a consumer group");
    Ok(())
}
