//! The HTTP face: records, topics, groups and users for people without a Kafka client; health, readiness
//! and metrics. Runs on the supervisor's runtime, so that it answers while cores recover, and that
//! neither a scrape nor the reading of JSON holds a core.
//!
//! Invariants: nothing here waits for a core without a limit; every route is in the description
//! that `/openapi.json` gives, because it is made of them; where the node asks who comes, every
//! route but `/healthz` and `/readyz` is behind `guard`.

mod errands;
mod figures;
mod guard;
mod health;
mod listener;
mod metrics;
mod openapi;
mod origin;
mod render;
mod rest;
mod steps;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use kafka_protocol::error::ResponseError;
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::guard::Guard;
use self::listener::{Limited, Peer};
use self::openapi::Description;
use self::rest::{Face, Problem, RequestLabels};
use crate::config::Settings;
use crate::node::status::NodeStatus;
use crate::security::Security;

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
    settings: &Settings,
    security: Arc<Security>,
) -> std::io::Result<()> {
    let tls = security.http_tls().cloned();
    let asks = settings.access.http_basic;
    let guard = asks.then(|| Guard::new(status.clone(), security));
    let face = Face::new(status, settings);
    let listener = Limited::new(listener, settings.http_max_connections, IDLE, tls);
    serve_limited(listener, face, guard).await
}

async fn serve_limited(listener: Limited, face: Face, guard: Option<Guard>) -> std::io::Result<()> {
    face.figures().count_connections(listener.open());
    // Around all routes, whichever there are.
    let router = match guard {
        None => router(face),
        Some(guard) => router(face).layer(middleware::from_fn_with_state(guard, guard::require)),
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).await
}

fn router(face: Face) -> Router {
    let all = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::openapi))
        .merge(rest::routes());
    let (router, description) = all.split_for_parts();
    // It is made of constants.
    face.set_document(description.to_json().unwrap_or_default());
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(origin::refuse_other_sites))
        .layer(middleware::from_fn_with_state(face.clone(), count))
        .with_state(face)
}

async fn unknown_path(request: Request) -> Problem {
    let detail = format!(
        "there is nothing at {}; /openapi.json describes what there is",
        request.uri().path()
    );
    Problem::of(ResponseError::InvalidRequest, detail).with_status(StatusCode::NOT_FOUND)
}

async fn wrong_method(method: Method) -> Problem {
    let detail = format!("{method} means nothing here; /openapi.json describes what does");
    Problem::of(ResponseError::InvalidRequest, detail).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// Counts every request with the status it gets.
async fn count(State(face): State<Face>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    // Methods are the client's words: those that no route has are one.
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let response = next.run(request).await;
    let labels = RequestLabels {
        route,
        method: method.to_owned(),
        status: u32::from(response.status().as_u16()),
    };
    face.figures().requests.get_or_create(&labels).inc();
    response
}

#[cfg(test)]
mod tests;
