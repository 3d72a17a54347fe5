//! `/openapi.json`: the description of every route, made of the routes themselves.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::rest::Face;

/// What the description says about all routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ringlog",
        description = "Records, topics, consumer groups and users over HTTP; health and metrics. What goes wrong is \
            told as application/problem+json (RFC 9457), with Kafka's name and number for it.",
    ),
    servers((url = "/")),
    tags(
        (name = "records", description = "Records in and out"),
        (name = "topics", description = "Topics and their configuration"),
        (name = "groups", description = "Consumer groups and their offsets"),
        (name = "users", description = "Who may log in, and by what"),
        (name = "node", description = "How the node is"),
    )
)]
pub(super) struct Description;

/// This description: OpenAPI 3.1.
#[utoipa::path(
    get, path = "/openapi.json", tag = "node",
    responses((status = 200, description = "The description", body = Object))
)]
pub(super) async fn openapi(State(face): State<Face>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, face.document().to_owned()).into_response()
}
