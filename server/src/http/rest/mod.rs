//! Ringlog for people without a Kafka client: records, topics, consumer groups and users over HTTP.
//!
//! | file | what |
//! |---|---|
//! | `face`, `memory` | the cores as a request reaches them; memory for what it brings and gets |
//! | `problem`, `extract` | what goes wrong, as RFC 9457 says it; paths and queries |
//! | `whereabouts` | a topic, and which core owns each of its partitions |
//! | `produce`: `incoming`, `partitioner`, `batches` | records in |
//! | `consume`: `outgoing` | records out |
//! | `topics`, `configs`, `partitions` | topics |
//! | `groups`, `group_offsets`, `assignment` | consumer groups |
//! | `users` | who may log in |
//! | `paging` | lists, a part at a time |
//!
//! A request is read, and its answer written, on the thread of the HTTP face, so that no core
//! parses JSON; what it asks of the node is asked in Kafka's terms of the core that owns the
//! partition or coordinates the group, by an errand. Invariants: the rules are those of the Kafka
//! face, whose handlers are called; nothing is answered before what it tells is as durable as the
//! topic promises; memory for bodies and answers is bounded for all requests together.

mod assignment;
mod batches;
mod configs;
mod consume;
mod extract;
mod face;
mod group_offsets;
mod groups;
mod incoming;
mod limits;
mod memory;
mod outgoing;
mod paging;
mod partitioner;
mod partitions;
mod problem;
mod produce;
mod topics;
mod users;
mod whereabouts;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use face::{Face, RequestLabels};
pub(super) use problem::Problem;

/// Every route.
pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new()
        .routes(routes!(topics::list, topics::create))
        .routes(routes!(topics::describe, topics::alter, topics::delete))
        .routes(routes!(configs::describe, configs::alter))
        .routes(routes!(produce::produce))
        .routes(routes!(consume::consume, partitions::delete_records))
        .routes(routes!(partitions::offsets))
        .routes(routes!(groups::list))
        .routes(routes!(groups::describe, groups::delete))
        .routes(routes!(group_offsets::commit, group_offsets::forget))
        .routes(routes!(users::list))
        .routes(routes!(users::set, users::delete))
}
