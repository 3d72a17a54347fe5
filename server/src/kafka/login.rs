//! Who a client is, on a listener that asks: SASL in Kafka's requests (KIP-43, KIP-152).
//!
//! ```text
//! ApiVersions* ─► SaslHandshake (mechanism) ─► SaslAuthenticate (token)* ─► anything
//! ```
//! After version 0 of SaslHandshake tokens come, and go, as bytes behind their length alone; what
//! is refused then has no answer.
//!
//! Invariants: until it is done nothing else is answered, nothing else is even received: a request
//! is short, their number is bounded, and all of it has a deadline. A client that fails is answered
//! late, so that guessing is slow, and then let go. What is logged names the peer and the reason,
//! a user only where there is one of this name, and never a password.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, SaslAuthenticateRequest};
use ringlog_engine::users::{Credential, Mechanism};
use zeroize::Zeroizing;

use super::answer::{Answer, EncodeError};
use super::decode::{RequestError, decode};
use super::frame::{Frame, FrameError, Frames, SHORTEST_BYTES};
use super::limits::{LOGIN_REQUEST_BYTES, LOGIN_REQUESTS};
use super::patience::Patience;
use super::request::{HeaderError, RequestHeader};
use super::send::{SendError, send};
use super::stream::Stream;
use super::{api_versions, sasl_authenticate, sasl_handshake};
use crate::config::SaslMechanism;
use crate::node::core::CoreHandle;
use crate::node::metrics::ErrorKind;
use crate::node::topology::Listener;
use crate::security::keys;
use crate::security::plain::{PlainError, PlainLogin};
use crate::security::scram::{Challenge, ClientFirst, ScramError};

/// How late a failure is answered at least, and how much later at most.
const FAILURE_DELAY_MS: (u64, u64) = (100, 127);

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Its bytes are no request.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its request has a header that is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its request cannot be read.
    #[error("{key:?}: {error}")]
    Request {
        /// Which API.
        key: ApiKey,
        /// What is wrong.
        error: RequestError,
    },
    /// It did not take an answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It asks for something else first.
    #[error("{key:?} was asked before a login, which this listener wants first (SASL)")]
    NotLoggedIn {
        /// For what.
        key: ApiKey,
    },
    /// It speaks no mechanism of this node.
    #[error("the SASL mechanism {asked} is not offered; {offered} are")]
    Mechanism {
        /// What it speaks, shortened.
        asked: String,
        /// What there is.
        offered: String,
    },
    /// It is not who it says it is.
    #[error("a login by {} failed{who}: {reason}", mechanism.name())]
    Failed {
        /// How it tried.
        mechanism: SaslMechanism,
        /// Whom it named.
        who: Who,
        /// What was wrong.
        reason: Failure,
    },
    /// It needs more requests than a login has.
    #[error("a login was not complete after {LOGIN_REQUESTS} requests")]
    TooMany,
    /// It took too long.
    #[error("a login was not complete within {} ms (login_timeout_ms)", .0.as_millis())]
    Late(Duration),
}

/// Whom a failed login named, as far as a log may say it: people type passwords into the wrong
/// field.
#[derive(Clone, Debug)]
pub enum Who {
    /// The message did not say.
    Unsaid,
    /// A user that there is.
    Known(String),
    /// A user that there is not.
    Unknown,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Unsaid => Ok(()),
            Who::Known(user) => write!(f, " for user {user:?}"),
            Who::Unknown => f.write_str(" for a user that does not exist"),
        }
    }
}

/// What was wrong with a login.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Of SCRAM.
    #[error(transparent)]
    Scram(#[from] ScramError),
    /// Of PLAIN.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// The password.
    #[error("the password is wrong")]
    WrongPassword,
}

impl LoginError {
    /// Where it is counted.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            LoginError::Frame(FrameError::Tls) => ErrorKind::TlsHandshake,
            LoginError::Frame(FrameError::Length { .. } | FrameError::ControlLength { .. }) => {
                ErrorKind::FrameLength
            }
            LoginError::Frame(FrameError::CutOff { .. } | FrameError::Io(_))
            | LoginError::Send(SendError::Io(_)) => ErrorKind::Disconnected,
            LoginError::Frame(FrameError::Stalled { .. } | FrameError::Idle { .. })
            | LoginError::Send(SendError::SlowReader(_) | SendError::Crowded { .. })
            | LoginError::Late(_) => ErrorKind::Timeout,
            LoginError::Header(HeaderError::Malformed(_)) | LoginError::Request { .. } => {
                ErrorKind::Malformed
            }
            LoginError::Header(_) => ErrorKind::UnsupportedApi,
            LoginError::NotLoggedIn { .. }
            | LoginError::Mechanism { .. }
            | LoginError::Failed { .. }
            | LoginError::TooMany => ErrorKind::Authentication,
        }
    }
}

/// Whether clients of this listener have to log in.
#[must_use]
pub fn is_asked_for(core: &CoreHandle) -> bool {
    let access = &core.settings().access;
    match core.listener() {
        Listener::Plain => access.kafka_sasl,
        Listener::Tls => access.kafka_tls_sasl,
    }
}

/// Has the client log in. Whether it did: it may also leave.
///
/// Cancellation: the connection is of no use then.
///
/// # Errors
/// See [`LoginError`]. The client has its answer by then, if it gets one.
pub async fn log_in(
    stream: &Stream,
    peer: SocketAddr,
    core: &CoreHandle,
    frames: &mut Frames,
) -> Result<bool, LoginError> {
    let patience = core.settings().access.login_timeout;
    frames.limit(SHORTEST_BYTES..=LOGIN_REQUEST_BYTES);
    let mut login = Login {
        stream,
        core,
        patience: Patience::new(core.settings().frame_timeout),
        state: State::Begun,
        is_raw: false,
    };
    let outcome = tokio::time::timeout(patience, login.run(frames)).await;
    let outcome = outcome.map_err(|_| LoginError::Late(patience))?;
    let Some((mechanism, user)) = outcome? else {
        return Ok(false);
    };
    frames.limit(SHORTEST_BYTES..=core.settings().max_request_bytes);
    core.metrics().logins.add(1);
    tracing::debug!(core = %core.id(), %peer, user, mechanism = mechanism.name(), "logged in");
    Ok(true)
}

/// How far a login is.
#[derive(Debug)]
enum State {
    /// No mechanism is agreed on.
    Begun,
    /// The client's first token is due.
    Agreed(SaslMechanism),
    /// The client has a challenge to answer.
    Challenged {
        user: String,
        mechanism: Mechanism,
        challenge: Box<Challenge>,
        exists: bool,
    },
}

/// What a token led to.
enum Step {
    /// The client has to answer this.
    Challenge(Vec<u8>),
    /// It is in; the last token for it.
    Done(SaslMechanism, String, Vec<u8>),
}

struct Login<'a> {
    stream: &'a Stream,
    core: &'a CoreHandle,
    patience: Patience,
    state: State,
    /// Tokens come without a request around them.
    is_raw: bool,
}

impl Login<'_> {
    /// Answers requests until the client is in, has left, or fails.
    async fn run(
        &mut self,
        frames: &mut Frames,
    ) -> Result<Option<(SaslMechanism, String)>, LoginError> {
        let core = self.core;
        let mut drained = pin!(core.drained());
        for _ in 0..LOGIN_REQUESTS {
            let next = frames.next(self.stream, core, || true, drained.as_mut());
            let Some(frame) = next.await? else {
                return Ok(None);
            };
            let frame = match frame {
                Frame::Small(range) => Zeroizing::new(frames.small(range).to_vec()),
                Frame::Large { .. } => {
                    unreachable!("{LOGIN_REQUEST_BYTES} bytes are no large frame")
                }
            };
            if self.is_raw {
                match self.raw_token(&frame).await? {
                    Some(done) => return Ok(Some(done)),
                    None => continue,
                }
            }
            let header = match RequestHeader::parse(&frame) {
                Ok(header) => header,
                Err(HeaderError::UnsupportedApiVersions { correlation_id, .. }) => {
                    self.send(api_versions::unsupported(correlation_id)).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            core.metrics().request(header.api.key as i16);
            match header.api.key {
                ApiKey::ApiVersions => {
                    let request = of_frame(&header, &frame, api_versions::FIELDS)?;
                    let response = api_versions::handle(header.version, &request);
                    self.send(encoded(&header, Answer::of(&header, &response))?)
                        .await?;
                }
                ApiKey::SaslHandshake => {
                    self.handshake(&header, &frame).await?;
                    if self.is_raw {
                        frames.limit(0..=LOGIN_REQUEST_BYTES);
                    }
                }
                ApiKey::SaslAuthenticate => {
                    if let Some(done) = self.authenticate(&header, &frame).await? {
                        return Ok(Some(done));
                    }
                }
                key => return Err(LoginError::NotLoggedIn { key }),
            }
        }
        Err(LoginError::TooMany)
    }

    async fn handshake(&mut self, header: &RequestHeader, frame: &[u8]) -> Result<(), LoginError> {
        let request = of_frame(header, frame, sasl_handshake::FIELDS)?;
        if !matches!(self.state, State::Begun) {
            let response = sasl_handshake::out_of_turn(self.core, &request);
            return self
                .send(encoded(header, Answer::of(header, &response))?)
                .await;
        }
        let offered = &self.core.settings().access.mechanisms;
        let (response, agreed) = sasl_handshake::handle(offered, &request);
        self.send(encoded(header, Answer::of(header, &response))?)
            .await?;
        match agreed {
            Some(mechanism) => {
                self.state = State::Agreed(mechanism);
                self.is_raw = header.version == 0;
                Ok(())
            }
            None => {
                let names: Vec<&str> = offered.iter().map(|offered| offered.name()).collect();
                let asked: String = request.mechanism.chars().take(32).collect();
                Err(LoginError::Mechanism {
                    asked: format!("{asked:?}"),
                    offered: names.join(", "),
                })
            }
        }
    }

    async fn authenticate(
        &mut self,
        header: &RequestHeader,
        frame: &[u8],
    ) -> Result<Option<(SaslMechanism, String)>, LoginError> {
        let request: SaslAuthenticateRequest = of_frame(header, frame, sasl_authenticate::FIELDS)?;
        let Some(step) = self.advance(&request.auth_bytes).await else {
            let response = sasl_authenticate::out_of_turn(&request);
            self.send(encoded(header, Answer::of(header, &response))?)
                .await?;
            let key = ApiKey::SaslAuthenticate;
            return Err(LoginError::NotLoggedIn { key });
        };
        let (response, outcome) = match step {
            Ok(Step::Challenge(token)) => (sasl_authenticate::accepted(token), Ok(None)),
            Ok(Step::Done(mechanism, user, token)) => {
                let response = sasl_authenticate::accepted(token);
                (response, Ok(Some((mechanism, user))))
            }
            Err(refused) => {
                let response = sasl_authenticate::failed(refused.0);
                (response, Err(delayed(refused).await))
            }
        };
        self.send(encoded(header, Answer::of(header, &response))?)
            .await?;
        outcome
    }

    /// A token by itself.
    async fn raw_token(
        &mut self,
        token: &[u8],
    ) -> Result<Option<(SaslMechanism, String)>, LoginError> {
        let key = ApiKey::SaslAuthenticate;
        let step = self.advance(token).await;
        let (token, done) = match step.ok_or(LoginError::NotLoggedIn { key })? {
            Ok(Step::Challenge(token)) => (token, None),
            Ok(Step::Done(mechanism, user, token)) => (token, Some((mechanism, user))),
            Err(refused) => return Err(delayed(refused).await),
        };
        self.send(Answer::of_token(&token)).await?;
        Ok(done)
    }

    /// What a token leads to; `None` where none is due.
    async fn advance(&mut self, token: &[u8]) -> Option<Result<Step, Refused>> {
        let state = std::mem::replace(&mut self.state, State::Begun);
        Some(match state {
            State::Begun => return None,
            State::Agreed(SaslMechanism::Plain) => self.plain(token).await,
            State::Agreed(SaslMechanism::Scram(of)) => self.challenge(of, token),
            State::Challenged {
                user,
                mechanism,
                challenge,
                exists,
            } => verified(user, mechanism, &challenge, exists, token),
        })
    }

    async fn plain(&self, token: &[u8]) -> Result<Step, Refused> {
        let mechanism = SaslMechanism::Plain;
        let login = PlainLogin::parse(token);
        let PlainLogin { user, password } =
            login.map_err(|error| Refused(mechanism, Who::Unsaid, error.into()))?;
        let credentials: Vec<(Mechanism, Credential)> = self.core.with(|core| {
            let of_user = core.users.credentials(&user);
            of_user.map(|(of, one)| (of, one.clone())).collect()
        });
        let who = who(&user, !credentials.is_empty());
        let security = self.core.security();
        if security.is_password(credentials, &user, password).await {
            Ok(Step::Done(mechanism, user, Vec::new()))
        } else {
            Err(Refused(mechanism, who, Failure::WrongPassword))
        }
    }

    fn challenge(&mut self, mechanism: Mechanism, token: &[u8]) -> Result<Step, Refused> {
        let refused =
            |error: ScramError| Refused(SaslMechanism::Scram(mechanism), Who::Unsaid, error.into());
        let first = ClientFirst::parse(token).map_err(refused)?;
        let user = first.user.clone();
        let known = |name: &str| {
            let find =
                |core: &crate::node::core::Core| core.users.credential(name, mechanism).cloned();
            self.core.with(|core| find(core))
        };
        let credential = known(&user);
        let exists = credential.is_some();
        // Who is not there is asked all the same: nobody learns who is.
        let passwords = &self.core.security().passwords;
        let credential = credential.unwrap_or_else(|| passwords.of_nobody(mechanism, &user));
        let challenge = Box::new(Challenge::new(first, mechanism, credential));
        let token = challenge.message().as_bytes().to_vec();
        self.state = State::Challenged {
            user,
            mechanism,
            challenge,
            exists,
        };
        Ok(Step::Challenge(token))
    }

    async fn send(&mut self, answer: Answer) -> Result<(), LoginError> {
        Ok(send(self.stream, self.core, answer, &mut self.patience).await?)
    }
}

/// A token that lets nobody in.
struct Refused(SaslMechanism, Who, Failure);

/// Waits, so that guessing is slow.
async fn delayed(refused: Refused) -> LoginError {
    let [more] = keys::random::<1>();
    let (least, most) = FAILURE_DELAY_MS;
    let delay = least + u64::from(more) % (most - least + 1);
    tokio::time::sleep(Duration::from_millis(delay)).await;
    let Refused(mechanism, who, reason) = refused;
    LoginError::Failed {
        mechanism,
        who,
        reason,
    }
}

fn verified(
    user: String,
    mechanism: Mechanism,
    challenge: &Challenge,
    exists: bool,
    token: &[u8],
) -> Result<Step, Refused> {
    let by = SaslMechanism::Scram(mechanism);
    match challenge.answer(token) {
        Ok(answer) if exists => Ok(Step::Done(by, user, answer.into_bytes())),
        Ok(_) => Err(Refused(by, Who::Unknown, Failure::WrongPassword)),
        Err(error) => Err(Refused(by, who(&user, exists), error.into())),
    }
}

fn who(user: &str, exists: bool) -> Who {
    if exists {
        Who::Known(user.to_owned())
    } else {
        Who::Unknown
    }
}

fn of_frame<T: kafka_protocol::protocol::Decodable>(
    header: &RequestHeader,
    frame: &[u8],
    fields: &'static [super::bounds::Field],
) -> Result<T, LoginError> {
    let frame = Bytes::copy_from_slice(frame);
    let key = header.api.key;
    decode(header, &frame, fields).map_err(|error| LoginError::Request { key, error })
}

fn encoded(
    header: &RequestHeader,
    answer: Result<Answer, EncodeError>,
) -> Result<Answer, LoginError> {
    let key = header.api.key;
    answer.map_err(|error| LoginError::Request {
        key,
        error: error.into(),
    })
}
