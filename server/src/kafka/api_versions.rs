//! ApiVersions: what this node speaks.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;

use super::answer::Answer;
use super::apis::APIS;
use super::bounds::Field;

/// What the request looks like: no arrays.
pub const FIELDS: &[Field] = &[];

/// The version that names client software.
const CLIENT_NAMES_SINCE: i16 = 3;

/// Answers a request.
#[must_use]
pub fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let names = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if version >= CLIENT_NAMES_SINCE && !names.iter().all(|name| is_software_name(name)) {
        return ApiVersionsResponse::default()
            .with_error_code(ResponseError::InvalidRequest.code());
    }
    offered()
}

/// The answer to a version that is not offered: in version 0, which every client reads, with the
/// list, so that it can ask again (KIP-511).
#[must_use]
pub fn unsupported(correlation_id: i32) -> Answer {
    let body = offered().with_error_code(ResponseError::UnsupportedVersion.code());
    let mut answer = Answer::default();
    let begun = answer.begin_with(correlation_id, false);
    body.encode(answer.body(), 0)
        .expect("version 0 has an error code and a list of versions");
    answer.finish(begun);
    answer
}

fn offered() -> ApiVersionsResponse {
    let api_keys = APIS.iter().map(|api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.advertised_min)
            .with_max_version(api.max)
    });
    ApiVersionsResponse::default().with_api_keys(api_keys.collect())
}

/// Letters, digits, `.` and `-`; the latter two not at the ends. Kafka's broker checks the same:
/// the names go into metrics and logs.
fn is_software_name(name: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(is_end)
        && name.ends_with(is_end)
        && name.chars().all(|c| is_end(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::{Decodable, StrBytes};

    use super::*;

    #[test]
    fn every_api_of_the_table_is_told() {
        let response = handle(0, &ApiVersionsRequest::default());
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), APIS.len());
        let fetch = response
            .api_keys
            .iter()
            .find(|api| api.api_key == 1)
            .unwrap();
        assert_eq!((fetch.min_version, fetch.max_version), (4, 18));
    }

    #[test]
    fn client_names_are_checked_where_there_are_any() {
        let named = |name: &'static str| {
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(name))
                .with_client_software_version(StrBytes::from_static_str("2.4.1-rc1"))
        };
        assert_eq!(handle(3, &named("librdkafka")).error_code, 0);
        for bad in ["", "-x", "x.", "a b", "ä"] {
            assert_eq!(handle(3, &named(bad)).error_code, 42, "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_version_gets_the_list_in_version_0() {
        let outgoing = super::super::answer::Outgoing::new(unsupported(9));
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        assert_eq!(outgoing.gather(&mut slices, usize::MAX), 1);
        let mut body = &slices[0][8..];
        let response = ApiVersionsResponse::decode(&mut body, 0).unwrap();
        assert!(body.is_empty());
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), APIS.len());
    }
}
