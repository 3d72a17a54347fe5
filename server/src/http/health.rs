//! `/healthz`: the process answers. `/readyz`: every core serves and no log has failed.

use axum::extract::State;
use axum::http::StatusCode;

use crate::node::status::NodeStatus;

/// Whoever reads this answer knows that the process runs; nothing more.
#[utoipa::path(
    get, path = "/healthz", tag = "node",
    responses((status = 200, description = "The process runs", body = String))
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 when the node can be used, else 503 with one reason a line.
#[utoipa::path(
    get, path = "/readyz", tag = "node",
    responses(
        (status = 200, description = "The node can be used", body = String),
        (status = 503, description = "It cannot: a reason a line", body = String),
    )
)]
pub(super) async fn readyz(State(node): State<NodeStatus>) -> (StatusCode, String) {
    let obstacles = node.obstacles();
    if obstacles.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n")
    }
}
