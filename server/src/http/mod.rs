//! The HTTP face: health, readiness and metrics. Runs on the supervisor's runtime, so that it
//! answers while cores recover and a scrape does not hold a core.
//!
//! Invariants: nothing here waits for a core without a limit; where the node asks who comes, every
//! route but `/healthz` and `/readyz` is behind `guard`.

mod guard;
mod health;
mod listener;
mod metrics;
mod render;
mod steps;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use tokio::net::TcpListener;

use self::guard::Guard;
use self::listener::{Limited, Peer};
use crate::node::status::NodeStatus;
use crate::security::Security;

/// Connections kept at a time.
const CONNECTIONS: usize = 64;

/// A connection that sends nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Answers on a listener for as long as the runtime runs; over TLS where `security` has a
/// certificate for it, and, with `asks`, those only who say who they are.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    status: NodeStatus,
    security: Arc<Security>,
    asks: bool,
) -> std::io::Result<()> {
    let tls = security.http_tls().cloned();
    let guard = asks.then(|| Guard::new(status.clone(), security));
    serve_limited(
        Limited::new(listener, CONNECTIONS, IDLE, tls),
        status,
        guard,
    )
    .await
}

async fn serve_limited(
    listener: Limited,
    status: NodeStatus,
    guard: Option<Guard>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .with_state(status);
    // Around all routes, whichever there are.
    let router = match guard {
        None => router,
        Some(guard) => router.layer(middleware::from_fn_with_state(guard, guard::require)),
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).await
}

#[cfg(test)]
mod tests;
