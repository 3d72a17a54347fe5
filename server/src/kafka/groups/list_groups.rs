//! ListGroups: the groups that this core coordinates. Clients ask every broker.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use ringlog_engine::groups;

use crate::kafka::bounds::{Field, Shape, field_since};
use crate::kafka::limits::STEP_PARTITIONS;
use crate::node::core::CoreHandle;

/// What the request looks like, up to its last array.
pub const FIELDS: &[Field] = &[
    field_since(4, Shape::Values(&Shape::Text)),
    field_since(5, Shape::Values(&Shape::Text)),
];

const STATE_SINCE: i16 = 4;
const TYPE_SINCE: i16 = 5;
/// The one type of groups there is.
const CLASSIC: &str = "classic";

/// Answers a request.
pub async fn handle(
    core: &CoreHandle,
    version: i16,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let wants = |filter: &[StrBytes], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let mut listed = Vec::new();
    if !wants(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let mut behind: Option<std::sync::Arc<str>> = None;
    loop {
        let step = core.with(|core| core.groups.list(behind.as_deref(), STEP_PARTITIONS));
        let Some(last) = step.last() else {
            return ListGroupsResponse::default().with_groups(listed);
        };
        behind = Some(last.id.clone());
        let wanted = step
            .iter()
            .filter(|group| wants(&request.states_filter, group.state.name()));
        listed.extend(wanted.map(|group| of(version, group)));
        tokio::task::yield_now().await;
    }
}

fn of(version: i16, group: &groups::ListedGroup) -> ListedGroup {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let listed = ListedGroup::default()
        .with_group_id(GroupId(text(&group.id)))
        .with_protocol_type(text(&group.protocol_type));
    let listed = match version {
        STATE_SINCE.. => listed.with_group_state(text(group.state.name())),
        _ => listed,
    };
    match version {
        TYPE_SINCE.. => listed.with_group_type(text(CLASSIC)),
        _ => listed,
    }
}
