//! `/metrics`: asks every core how it is, and renders the answers for Prometheus.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::registry::Registry;

use super::render::NodeFigures;
use super::rest::Face;
use crate::node::status::NodeStatus;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The figures of every core. A core that does not answer in time is shown with
/// `ringlog_core_answers 0` and its counters.
#[utoipa::path(
    get, path = "/metrics", tag = "node",
    responses((status = 200, description = "Figures, for Prometheus", body = String))
)]
pub(super) async fn metrics(State(node): State<NodeStatus>, State(face): State<Face>) -> Response {
    let mut snapshots = Vec::with_capacity(node.cores.len());
    for core in node.cores.iter() {
        snapshots.push(core.snapshot().await);
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(NodeFigures::new(node, snapshots)));
    face.register(&mut registry);
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "rendering the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
