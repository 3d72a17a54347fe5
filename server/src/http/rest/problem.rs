//! What goes wrong, for HTTP: RFC 9457 (problem details) with the name and number that Kafka's
//! protocol has for it. The one table from those to statuses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kafka_protocol::error::ResponseError;
use serde::Serialize;
use utoipa::ToSchema;

/// An answer that is none.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `error` says what it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What was found and what to do, for people.
    detail: String,
    /// Kafka's name for the error, such as `UNKNOWN_TOPIC_OR_PARTITION`.
    error: String,
    /// Kafka's number for it.
    code: i16,
    /// Of a request that brought records: what became of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<serde_json::Value>,
}

impl Problem {
    /// An error of the protocol, with its reason.
    pub(crate) fn of(error: ResponseError, detail: impl Into<String>) -> Problem {
        let status = status_of(error);
        Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            error: name_of(error),
            code: error.code(),
            records: None,
        }
    }

    /// An answer of the Kafka face: `Ok` for code 0.
    pub(super) fn check(code: i16, detail: impl FnOnce() -> String) -> Result<(), Problem> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(error) => Err(Problem::of(error, detail())),
        }
    }

    /// A request that says what cannot be.
    pub(super) fn wrong(detail: impl Into<String>) -> Problem {
        Problem::of(ResponseError::InvalidRequest, detail)
    }

    /// The same error under a status that says more.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Problem {
        self.status = status.as_u16();
        self.title = status.canonical_reason().unwrap_or("Error");
        self
    }

    /// Whether it has this status.
    pub(super) fn has_status(&self, status: StatusCode) -> bool {
        self.status == status.as_u16()
    }

    /// What became of each record of the request.
    pub(super) fn with_records(mut self, records: serde_json::Value) -> Problem {
        self.records = Some(records);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&self).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, kind)], text).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, second);
        }
        response
    }
}

/// Kafka's name for an error: the words of the enum's name in capitals.
pub(super) fn name_of(error: ResponseError) -> String {
    if let ResponseError::Unknown(code) = error {
        return format!("ERROR_{code}");
    }
    let mut name = String::new();
    for letter in format!("{error:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn status_of(error: ResponseError) -> StatusCode {
    use ResponseError as E;
    match error {
        E::UnknownTopicOrPartition
        | E::UnknownTopicId
        | E::GroupIdNotFound
        | E::ResourceNotFound => StatusCode::NOT_FOUND,
        E::TopicAlreadyExists
        | E::NonEmptyGroup
        | E::GroupSubscribedToTopic
        | E::UnknownMemberId
        | E::IllegalGeneration
        | E::RebalanceInProgress => StatusCode::CONFLICT,
        E::MessageTooLarge | E::RecordListTooLarge | E::OffsetMetadataTooLarge => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        E::OffsetOutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
        E::SaslAuthenticationFailed => StatusCode::UNAUTHORIZED,
        E::PolicyViolation
        | E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed => StatusCode::FORBIDDEN,
        E::InvalidRequest
        | E::InvalidTopicException
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::InvalidGroupId
        | E::InvalidRecord
        | E::InvalidTimestamp
        | E::InvalidCommitOffsetSize
        | E::UnacceptableCredential
        | E::UnsupportedSaslMechanism
        | E::DuplicateResource
        | E::UnsupportedVersion => StatusCode::BAD_REQUEST,
        E::NotLeaderOrFollower
        | E::LeaderNotAvailable
        | E::NotCoordinator
        | E::CoordinatorNotAvailable
        | E::CoordinatorLoadInProgress
        | E::RequestTimedOut
        | E::ThrottlingQuotaExceeded
        | E::BrokerNotAvailable
        | E::KafkaStorageError => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_that_kafka_gives_them() {
        let named = |code| name_of(ResponseError::try_from_code(code).unwrap());
        assert_eq!(named(3), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(named(17), "INVALID_TOPIC_EXCEPTION");
        assert_eq!(named(56), "KAFKA_STORAGE_ERROR");
        assert_eq!(named(69), "GROUP_ID_NOT_FOUND");
        assert_eq!(named(9999), "ERROR_9999");
    }

    #[test]
    fn whoever_may_come_again_is_told_when() {
        let response = Problem::of(ResponseError::ThrottlingQuotaExceeded, "x").into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = Problem::wrong("x").into_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
