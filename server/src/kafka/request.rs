//! The header in front of every request. Says which API is asked in which version, or why the
//! request cannot be answered; the connection acts on that.

use kafka_protocol::messages::ApiKey;

use super::apis::{self, Api};
use super::wire::{Reader, WireError};

/// Where the client id begins.
const CLIENT_ID_AT: usize = 8;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api: Api,
    /// In which version; one that the API speaks.
    pub version: i16,
    /// The client's number for the request.
    pub correlation_id: i32,
    /// Where the body begins.
    pub body_at: usize,
}

/// Why a request cannot be answered as it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is cut off or malformed.
    #[error("the request header cannot be read: {0}")]
    Malformed(#[from] WireError),
    /// The API is not there. The protocol has no answer for it.
    #[error("API key {key} (version {version}) is not offered; ApiVersions says what is")]
    UnknownApi {
        /// Which.
        key: i16,
        /// In which version.
        version: i16,
    },
    /// The version is not there. The protocol has no answer for it.
    #[error("version {version} of {key:?} is not offered, {min} to {max} are")]
    UnsupportedVersion {
        /// Which API.
        key: ApiKey,
        /// The version.
        version: i16,
        /// Oldest there is.
        min: i16,
        /// Newest there is.
        max: i16,
    },
    /// The same for `ApiVersions`, which has an answer for it: the list, in version 0 (KIP-511).
    #[error("version {version} of ApiVersions is not offered; answered in version 0")]
    UnsupportedApiVersions {
        /// The version.
        version: i16,
        /// The client's number for the request.
        correlation_id: i32,
    },
}

impl RequestHeader {
    /// Reads the header at the start of a request.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn parse(request: &[u8]) -> Result<RequestHeader, HeaderError> {
        let mut reader = Reader::new(request, 0);
        let (key, version) = (reader.i16()?, reader.i16()?);
        let correlation_id = reader.i32()?;
        let Some(api) = apis::find(key) else {
            return Err(HeaderError::UnknownApi { key, version });
        };
        if !api.speaks(version) {
            let Api { key, min, max, .. } = api;
            // What follows the correlation id is in a format nobody here knows.
            return Err(match key {
                ApiKey::ApiVersions => HeaderError::UnsupportedApiVersions {
                    version,
                    correlation_id,
                },
                _ => HeaderError::UnsupportedVersion {
                    key,
                    version,
                    min,
                    max,
                },
            });
        }
        // The client id keeps its old encoding in flexible versions too, so that a broker can
        // read headers of versions it does not know (KIP-482).
        reader.skip_text(false)?;
        reader.skip_tagged(api.is_flexible(version))?;
        Ok(RequestHeader {
            api,
            version,
            correlation_id,
            body_at: reader.position(),
        })
    }
}

/// What the client calls itself, in a request whose header was read before; empty when it does
/// not say.
#[must_use]
pub fn client_id(request: &[u8]) -> &str {
    let said = Reader::new(request, CLIENT_ID_AT).nullable_text(false);
    said.ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::RequestHeader as CrateHeader;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    fn encoded(key: i16, version: i16, header_version: i16) -> Vec<u8> {
        let header = CrateHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(77)
            .with_client_id(Some(StrBytes::from_static_str("somebody")));
        let mut bytes = Vec::new();
        header.encode(&mut bytes, header_version).unwrap();
        bytes
    }

    #[test]
    fn headers_of_every_version_offered_are_read_to_their_end() {
        for api in apis::APIS {
            for version in api.min..=api.max {
                let bytes = encoded(
                    api.key as i16,
                    version,
                    api.key.request_header_version(version),
                );
                let header = RequestHeader::parse(&bytes).unwrap();
                let body_at = bytes.len();
                assert_eq!(client_id(&bytes), "somebody");
                assert_eq!(
                    header,
                    RequestHeader {
                        api,
                        version,
                        correlation_id: 77,
                        body_at
                    }
                );
            }
        }
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let unknown = RequestHeader::parse(&encoded(999, 1, 1)).unwrap_err();
        assert_eq!(
            unknown,
            HeaderError::UnknownApi {
                key: 999,
                version: 1
            }
        );
        let newer = RequestHeader::parse(&encoded(1, 99, 2)).unwrap_err();
        assert_eq!(
            newer.to_string(),
            "version 99 of Fetch is not offered, 4 to 18 are"
        );
        let negative = RequestHeader::parse(&encoded(3, -1, 1)).unwrap_err();
        assert!(matches!(
            negative,
            HeaderError::UnsupportedVersion { version: -1, .. }
        ));
        let api_versions = RequestHeader::parse(&encoded(18, 99, 2)).unwrap_err();
        let expected = HeaderError::UnsupportedApiVersions {
            version: 99,
            correlation_id: 77,
        };
        assert_eq!(api_versions, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes: Vec<u8>) {
            if let Ok(header) = RequestHeader::parse(&bytes) {
                prop_assert!(header.body_at <= bytes.len());
            }
        }
    }
}
