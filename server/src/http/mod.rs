//! The HTTP face: health, readiness and metrics. Runs on the supervisor's runtime, so that it
//! answers while cores recover and a scrape does not hold a core.
//!
//! Invariant: nothing here waits for a core without a limit.

mod health;
mod listener;
mod metrics;
mod render;
mod steps;

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use self::listener::Limited;
use crate::node::status::NodeStatus;

/// Connections kept at a time.
const CONNECTIONS: usize = 64;

/// A connection that sends nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Answers on a listener for as long as the runtime runs.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, status: NodeStatus) -> std::io::Result<()> {
    serve_limited(Limited::new(listener, CONNECTIONS, IDLE), status).await
}

async fn serve_limited(listener: Limited, status: NodeStatus) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .with_state(status);
    axum::serve(listener, router).await
}

#[cfg(test)]
mod tests;
