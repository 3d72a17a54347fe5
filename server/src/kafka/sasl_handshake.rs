//! SaslHandshake: which mechanism a client logs in by. Asked in a login (see [`super::login`]);
//! anywhere else it is out of turn.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use super::bounds::Field;
use crate::config::SaslMechanism;
use crate::node::core::CoreHandle;

/// What the request looks like: no arrays.
pub const FIELDS: &[Field] = &[];

/// Answers a request, and says which mechanism is agreed on, if one is.
#[must_use]
pub fn handle(
    offered: &[SaslMechanism],
    request: &SaslHandshakeRequest,
) -> (SaslHandshakeResponse, Option<SaslMechanism>) {
    let asked = request.mechanism.as_str();
    let agreed = offered.iter().find(|offered| offered.name() == asked);
    let response = with_names(offered);
    match agreed {
        Some(agreed) => (response, Some(*agreed)),
        None => {
            let code = ResponseError::UnsupportedSaslMechanism.code();
            (response.with_error_code(code), None)
        }
    }
}

/// The answer where no login is due: there was one, or the listener asks for none.
#[must_use]
pub fn out_of_turn(core: &CoreHandle, _: &SaslHandshakeRequest) -> SaslHandshakeResponse {
    let response = with_names(&core.settings().access.mechanisms);
    response.with_error_code(ResponseError::IllegalSaslState.code())
}

fn with_names(offered: &[SaslMechanism]) -> SaslHandshakeResponse {
    let names = offered
        .iter()
        .map(|offered| StrBytes::from_static_str(offered.name()));
    SaslHandshakeResponse::default().with_mechanisms(names.collect())
}
