//! SaslAuthenticate: the tokens of a mechanism. Asked in a login (see [`super::login`]); anywhere
//! else it is out of turn: sessions have no end, so that nobody has to log in again (KIP-368).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use super::bounds::Field;
use crate::config::SaslMechanism;

/// What the request looks like: no arrays.
pub const FIELDS: &[Field] = &[];

/// A token that is good so far, with what the client gets for it.
#[must_use]
pub fn accepted(token: Vec<u8>) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_message(None)
        .with_auth_bytes(token.into())
}

/// A token that is not: what Kafka says, whatever was wrong.
#[must_use]
pub fn failed(mechanism: SaslMechanism) -> SaslAuthenticateResponse {
    let message = format!(
        "Authentication failed during authentication due to invalid credentials with SASL \
         mechanism {}",
        mechanism.name()
    );
    refused(ResponseError::SaslAuthenticationFailed, message)
}

/// The answer where no token is due.
#[must_use]
pub fn out_of_turn(_: &SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    let message = "no SASL token is expected here: it follows a SaslHandshake, on a listener that \
                   asks for a login, and ends with it";
    refused(ResponseError::IllegalSaslState, message.to_owned())
}

fn refused(code: ResponseError, message: String) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_code(code.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}
