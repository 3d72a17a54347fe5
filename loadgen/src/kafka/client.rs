//! A blocking connection for the slow calls: one request, one response.
//!
//! Invariant: after an error the connection is not used again (a late response would be taken
//! for the next call's). Every call has a deadline.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// The client id in every request's header.
pub const CLIENT_ID: &str = "loadgen";

/// No call waits longer than this.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// No response to a slow call is longer than this.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Opens a TCP connection without delay of small writes.
pub fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let mut last = None;
    let candidates = address
        .to_socket_addrs()
        .with_context(|| format!("resolving {address}: is it HOST:PORT?"))?;
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, Duration::from_secs(5)) {
            Ok(stream) => {
                stream.set_nodelay(true).context("setting TCP_NODELAY")?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error).with_context(|| format!("connecting to {address}")),
        None => bail!("{address} resolves to no address"),
    }
}

/// One connection to one broker, with the API versions it knows.
pub struct Client {
    stream: TcpStream,
    next_correlation: i32,
    versions: ApiVersionsResponse,
}

impl Client {
    /// Connects and asks for the API versions.
    pub fn connect(address: &str) -> anyhow::Result<Client> {
        let stream = connect(address)?;
        stream
            .set_read_timeout(Some(CALL_TIMEOUT))
            .context("setting the read timeout")?;
        stream
            .set_write_timeout(Some(CALL_TIMEOUT))
            .context("setting the write timeout")?;
        let mut client = Client {
            stream,
            next_correlation: 0,
            versions: ApiVersionsResponse::default(),
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut response = client.call_at(3, &request);
        if !response
            .as_ref()
            .is_ok_and(|response| response.error_code == 0)
        {
            // An older broker answers version 0 with UNSUPPORTED_VERSION, or hangs up.
            client.stream = connect(address)?;
            client
                .stream
                .set_read_timeout(Some(CALL_TIMEOUT))
                .context("setting a timeout")?;
            response = client.call_at(0, &ApiVersionsRequest::default());
        }
        let versions = response.with_context(|| format!("asking {address} for API versions"))?;
        check(versions.error_code, "ApiVersions")?;
        client.versions = versions;
        Ok(client)
    }

    /// The newest version of `R` that both sides know, `newest` at most.
    pub fn version_of<R: Request>(&self, newest: i16) -> anyhow::Result<i16> {
        let Some(range) = self
            .versions
            .api_keys
            .iter()
            .find(|api| api.api_key == R::KEY)
        else {
            bail!("the broker does not offer API {}", R::KEY);
        };
        let version = range.max_version.min(R::VERSIONS.max).min(newest);
        ensure!(
            version >= range.min_version && version >= R::VERSIONS.min,
            "API {}: the broker offers versions {} to {}, this generator speaks {} to {}",
            R::KEY,
            range.min_version,
            range.max_version,
            R::VERSIONS.min,
            R::VERSIONS.max.min(newest),
        );
        Ok(version)
    }

    /// Calls with the newest version both sides know.
    pub fn call<R: Request>(&mut self, request: &R) -> anyhow::Result<R::Response> {
        self.call_up_to(i16::MAX, request)
    }

    /// Calls with the newest version both sides know, `newest` at most.
    pub fn call_up_to<R: Request>(
        &mut self,
        newest: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        let version = self.version_of::<R>(newest)?;
        self.call_at(version, request)
    }

    fn call_at<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<R::Response> {
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.wrapping_add(1);
        let frame = encode_request(version, correlation, request)?;
        self.stream
            .write_all(&frame)
            .context("sending the request")?;
        let mut body = read_frame(&mut self.stream)?;
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version))
            .context("decoding a response header")?;
        ensure!(
            header.correlation_id == correlation,
            "response {} arrived where {correlation} was due",
            header.correlation_id
        );
        R::Response::decode(&mut body, version)
            .with_context(|| format!("decoding a response of API {} v{version}", R::KEY))
    }
}

/// A whole request frame, length first.
pub fn encode_request<R: Request>(
    version: i16,
    correlation: i32,
    request: &R,
) -> anyhow::Result<BytesMut> {
    let mut frame = BytesMut::zeroed(4);
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)))
        .encode(&mut frame, R::header_version(version))
        .context("encoding a request header")?;
    request
        .encode(&mut frame, version)
        .with_context(|| format!("encoding a request of API {} v{version}", R::KEY))?;
    let length = u32::try_from(frame.len() - 4).context("a request is below 4 GiB")?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn read_frame(stream: &mut TcpStream) -> anyhow::Result<Bytes> {
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .context("waiting for a response")?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(
        length <= MAX_RESPONSE_BYTES,
        "a response of {length} bytes: is this a Kafka broker?"
    );
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("reading a response")?;
    Ok(body.into())
}

/// Turns an error code into an error that names the call.
pub fn check(code: i16, call: &str) -> anyhow::Result<()> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => Err(error).with_context(|| format!("{call} was refused (code {code})")),
    }
}
