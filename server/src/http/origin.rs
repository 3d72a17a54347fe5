//! Refuses what a web page of another site has a browser send: whoever opens such a page would
//! write to a node on his own machine without knowing. Browsers name the page's origin with every
//! request that changes something (Fetch standard, "Origin header"); programs name none.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kafka_protocol::error::ResponseError;

use super::rest::Problem;

/// Lets requests through that change nothing, or come from the node's own pages or from no page.
pub(super) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && is_of_another_site(request.headers()) {
        let detail = "a web page of another site may not change anything here";
        return Problem::of(ResponseError::InvalidRequest, detail)
            .with_status(StatusCode::FORBIDDEN)
            .into_response();
    }
    next.run(request).await
}

fn is_of_another_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(Uri::authority);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    match (origin, host) {
        (Some(origin), Some(host)) => !origin.as_str().eq_ignore_ascii_case(host),
        // `null`: a page that hides where it is from.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_pages_of_the_node_itself_may_change_something() {
        let of = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:9080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            is_of_another_site(&headers)
        };
        assert!(!of(None) && !of(Some("http://127.0.0.1:9080")));
        for origin in ["http://evil.example", "http://127.0.0.1:8000", "null", ""] {
            assert!(of(Some(origin)), "{origin}");
        }
    }
}
