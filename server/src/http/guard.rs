//! Who may ask, where the node wants to know: HTTP Basic (RFC 7617) by the users that Kafka clients
//! log in as. A layer around all routes; only those that a load balancer asks are open.
//!
//! Invariant: what is asked of a core to find a user has a limit of time; a wrong password is
//! answered late, as it is for Kafka clients, and a flood of them is not a flood of log lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::listener::Peer;
use crate::node::message::Message;
use crate::node::status::{NodeStatus, Phase};
use crate::security::{Password, Security};

/// What a browser is told to ask its user for.
const CHALLENGE: &str = "Basic realm=\"ringlog\", charset=\"UTF-8\"";

/// Routes that anybody may ask.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// How late a failure is answered.
const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// How long a core may take to say what it knows of a user.
const PATIENCE: Duration = Duration::from_secs(5);

/// Log lines about failures: one in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// What is needed to know who asks.
#[derive(Clone)]
pub(super) struct Guard {
    node: NodeStatus,
    security: Arc<Security>,
    complaints: Arc<Mutex<Complaints>>,
}

#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    left_out: u64,
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It does not say who asks, or in another way than by Basic.
    Unsaid,
    /// The password is wrong, or there is no such user.
    Wrong,
    /// Nobody can tell at present.
    Unavailable,
}

impl Guard {
    pub(super) fn new(node: NodeStatus, security: Arc<Security>) -> Guard {
        Guard {
            node,
            security,
            complaints: Arc::default(),
        }
    }

    async fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let said = headers.get(header::AUTHORIZATION).ok_or(Refusal::Unsaid)?;
        let (user, password) = credentials(said.as_bytes()).ok_or(Refusal::Unsaid)?;
        let core = self
            .node
            .cores
            .iter()
            .find(|core| core.phase() == Phase::Serving);
        let core = core.ok_or(Refusal::Unavailable)?;
        let (reply, answer) = oneshot::channel();
        let message = Message::Credentials {
            user: user.clone(),
            reply,
        };
        core.mailbox
            .try_post(message)
            .map_err(|_| Refusal::Unavailable)?;
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let known = answer
            .ok()
            .and_then(Result::ok)
            .ok_or(Refusal::Unavailable)?;
        if self.security.is_password(known, &user, password).await {
            Ok(())
        } else {
            tokio::time::sleep(FAILURE_DELAY).await;
            Err(Refusal::Wrong)
        }
    }

    /// A line, if there is room for one.
    fn complain(&self, peer: Peer) {
        let complaints = self.complaints.lock();
        let mut complaints = complaints.unwrap_or_else(PoisonError::into_inner);
        if complaints
            .last
            .is_some_and(|last| last.elapsed() < COMPLAIN_EVERY)
        {
            complaints.left_out += 1;
            return;
        }
        complaints.last = Some(Instant::now());
        let left_out = std::mem::take(&mut complaints.left_out);
        tracing::warn!(
            peer = %peer.0, left_out,
            "an HTTP request was refused: the user does not exist, or the password is wrong"
        );
    }
}

/// Lets a request through if the client says who it is, and proves it.
pub(super) async fn require(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match guard.check(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(Refusal::Unavailable) => {
            let text = "no core can say who you are at present; /readyz says why\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(refusal) => {
            if refusal == Refusal::Wrong {
                guard.complain(peer);
            }
            let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
            let text = "say who you are: a user of this node, by HTTP Basic\n";
            (StatusCode::UNAUTHORIZED, challenge, text).into_response()
        }
    }
}

/// User and password of an `Authorization` header.
fn credentials(header: &[u8]) -> Option<(String, Password)> {
    let (scheme, token) = header.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(token.trim_ascii()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = str::from_utf8(&decoded[..colon]).ok()?;
    let password = Zeroizing::new(decoded[colon + 1..].to_vec());
    (!user.is_empty()).then(|| (user.to_owned(), password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_user_and_a_password_or_nothing() {
        let read = |text: &str| {
            let read = credentials(text.as_bytes());
            read.map(|(user, password)| (user, String::from_utf8(password.to_vec()).unwrap()))
        };
        // RFC 7617, section 2.
        let expected = ("Aladdin".to_owned(), "open sesame".to_owned());
        assert_eq!(
            read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            Some(expected.clone())
        );
        assert_eq!(read("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Some(expected));
        let colons = format!("Basic {}", BASE64.encode("a:b:c"));
        assert_eq!(read(&colons), Some(("a".to_owned(), "b:c".to_owned())));
        for wrong in [
            "",
            "Basic",
            "Basic !",
            "Bearer QTpi",
            "Basic QQ==",
            "Basic OmI=",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
