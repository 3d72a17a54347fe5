//! Requests to a node's HTTP API.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri};

use super::failure::Failure;
use super::tls::{self, Trust};

/// Longest answer that is read. The node bounds its own below this.
const MOST_BYTES: u64 = 128 << 20;

/// How long a node may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to answer: longer than any wait that is asked for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Api {
    agent: ureq::Agent,
    /// Without name and password.
    url: String,
    authorization: Option<String>,
    /// Of https.
    trust: Option<Trust>,
}

/// What a node answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What a node refuses with.
#[derive(Debug, Deserialize)]
struct Problem {
    error: String,
    detail: String,
    #[serde(default)]
    records: Option<serde_json::Value>,
}

impl Api {
    /// The node at a URL, perhaps with name and password in it; with https its certificate is
    /// checked.
    ///
    /// # Errors
    /// When it is none, or there is nothing to check its certificate against.
    pub(super) fn new(url: &str, trust: Trust) -> Result<Api, Failure> {
        let wrong = |cause: &str| {
            let what = "http://127.0.0.1:9080, or https://name:password@host:port, is expected";
            // A name and a password are for nobody who reads over a shoulder, or in a log.
            let shown = url.rsplit_once('@').map(|(_, place)| format!("…@{place}"));
            let shown = shown.as_deref().unwrap_or(url);
            Failure::WrongUse(format!("--url is {shown:?}: {cause}; {what}"))
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let scheme = uri.scheme_str().ok_or_else(|| wrong("it has no scheme"))?;
        let trust = match scheme {
            "http" => None,
            "https" => Some(trust),
            _ => return Err(wrong("only http and https are spoken")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let (who, place) = match authority.as_str().rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, authority.as_str()),
        };
        let authorization = who.map(|who| {
            let who: Vec<u8> = percent_decode_str(who).collect();
            format!("Basic {}", STANDARD.encode(who))
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT));
        let config = match &trust {
            None => config,
            Some(trust) => config.tls_config(trust.config()?),
        };
        Ok(Api {
            agent: config.build().into(),
            url: format!("{scheme}://{place}{}", uri.path().trim_end_matches('/')),
            authorization,
            trust,
        })
    }

    /// Asks for JSON.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.call(Method::GET, path, &[], None)?;
        self.parse(&answer)
    }

    /// What an answer says.
    pub(super) fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| self.strange(error.to_string()))
    }

    /// Sends JSON.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Answer, Failure> {
        let headers = [("content-type", "application/json")];
        self.call(method, path, &headers, Some(body.to_string().as_bytes()))
    }

    /// Asks for something to be gone.
    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, path, &[], None).map(|_| ())
    }

    /// Any request.
    ///
    /// # Errors
    /// When there is no answer, or a refusal.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let sent = match body {
            Some(body) => {
                let request = request.body(body);
                self.agent
                    .run(request.map_err(|error| self.strange(error.to_string()))?)
            }
            None => {
                let request = request.body(());
                self.agent
                    .run(request.map_err(|error| self.strange(error.to_string()))?)
            }
        };
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let read = response.body_mut().with_config().limit(MOST_BYTES);
        let body = read
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            let headers = response.headers().clone();
            return Ok(Answer { headers, body });
        }
        if status == StatusCode::UNAUTHORIZED {
            let url = self.url.clone();
            let cause = match self.authorization {
                None => "none was given",
                Some(_) => "it knows no such user, or the password is another",
            };
            return Err(Failure::NotLetIn { url, cause });
        }
        let refused = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Failure::Refused {
                error: problem.error,
                detail: problem.detail,
                status: status.as_u16(),
                in_part: problem.records.is_some(),
            },
            Err(_) => self.strange(format!("HTTP status {status}")),
        };
        Err(refused)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let url = self.url.clone();
        if let (Some(trust), Some(error)) = (&self.trust, tls::failed(error)) {
            let (cause, advice) = trust.explain(error);
            return Failure::Untrusted { url, cause, advice };
        }
        if self.trust.is_none() && tls::may_be_missing(error) {
            let cause = format!("what it answers is not HTTP ({error})");
            let advice = "does it speak TLS (--http-tls)? then say https:// in --url".to_owned();
            return Failure::Untrusted { url, cause, advice };
        }
        Failure::Unreachable {
            url,
            cause: error.to_string(),
        }
    }

    fn strange(&self, cause: String) -> Failure {
        let url = self.url.clone();
        Failure::Strange { url, cause }
    }
}

/// A name as it stands in a path or query.
pub(super) fn escaped(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_name_and_password_in_the_url_are_sent_and_a_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let body = r#"{"error":"GROUP_ID_NOT_FOUND","detail":"there is none"}"#;
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        let api = Api::new(&format!("http://ann:s%40y@{address}/"), Trust::System).unwrap();
        let path = format!("/groups/{}", escaped("a/b c"));
        let refused = api.get::<serde_json::Value>(&path).unwrap_err();
        assert!(refused.is_not_found());
        assert_eq!(refused.to_string(), "there is none (GROUP_ID_NOT_FOUND)");
        let head = server.join().unwrap();
        assert!(head.starts_with("get /groups/a%2fb%20c http/1.1"), "{head}");
        let credentials = STANDARD.encode("ann:s@y").to_lowercase();
        assert!(
            head.contains(&format!("authorization: basic {credentials}")),
            "{head}"
        );
        let gone = api.get::<serde_json::Value>("/topics").unwrap_err();
        assert!(gone.to_string().contains("ringlog serve"), "{gone}");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let new = |url| Api::new(url, Trust::System);
        for url in ["", "127.0.0.1:9080", "http:///x", "ftp://x"] {
            assert!(matches!(new(url), Err(Failure::WrongUse(_))), "{url}");
        }
        new("http://localhost:9080").unwrap();
        let refused = new("ftp://ann:secret@host").unwrap_err().to_string();
        assert!(refused.contains("…@host"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
}
