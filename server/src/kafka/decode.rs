//! From the bytes of a request to the generated message, once its counts are known to be true.

use bytes::Bytes;
use kafka_protocol::protocol::Decodable;

use super::answer::EncodeError;
use super::bounds::{self, Field};
use super::request::RequestHeader;
use super::wire::WireError;
use crate::node::errand::Unanswered;

/// Why a request is not answered. The connection is closed then.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A field is cut off or lies about its length.
    #[error("the request cannot be read: {0}")]
    Wire(#[from] WireError),
    /// The generated decoder refuses it.
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    /// Behind a single port: the core that it needs stops.
    #[error("the request belongs to another core: {0}")]
    Elsewhere(#[from] Unanswered),
    /// The answer cannot be said in the version asked for: a defect.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Reads the body of a request. `fields` is what it looks like, up to its last array.
///
/// # Errors
/// When it is malformed.
pub fn decode<T: Decodable>(
    header: &RequestHeader,
    frame: &Bytes,
    fields: &'static [Field],
) -> Result<T, RequestError> {
    let mut body = frame.slice(header.body_at..);
    bounds::check(
        fields,
        &body,
        header.version,
        header.api.is_flexible(header.version),
    )?;
    T::decode(&mut body, header.version).map_err(|error| RequestError::Malformed(error.to_string()))
}
