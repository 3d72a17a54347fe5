//! One connection: requests in, answers out, in the same order.
//!
//! ```text
//!            receive                       queue                     respond
//! socket ──► frames ─ Produce: append ──► [ … answers … ] ──► reached? ─ handle ──► socket
//!                   ─ others ───────────►
//! ```
//!
//! Before that comes what its listener asks for: a TLS handshake, a login.
//!
//! Two halves of one task. `receive` reads requests and appends what Produce brings at once, so
//! that the next is read while the first is being written; everything else waits in the queue
//! until the answers before it are sent. Invariants: answers leave in the order of their
//! requests; none leaves before what it acknowledges is as durable as its topics promise; the queue is bounded, and when
//! it is full nothing more is read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use ringlog_storage::log::FRAME_HEADROOM_BYTES;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::answer::Answer;
use super::complaints::complain;
use super::decode::RequestError;
use super::fetch::session::SessionSlot;
use super::forward::produce::{self as forward, Forwarded};
use super::frame::{Frame, FrameError, Frames};
use super::limits::{PENDING_ANSWERS, PENDING_REQUEST_BYTES, STEP_BYTES, UNCOUNTED_REQUEST_BYTES};
use super::login::{self, LoginError};
use super::patience::Patience;
use super::produce::{self, Produced, Received};
use super::request::{HeaderError, RequestHeader};
use super::send::{SendError, send};
use super::stream::{OpenError, Stream};
use super::{api_versions, dispatch};
use crate::node::budget::Held;
use crate::node::core::CoreHandle;
use crate::node::metrics::ErrorKind;
use crate::node::reach::Reach;
use crate::node::stages::{Stage, Watch};
use crate::node::topology::Listener;
use crate::node::waiters::Signal;

/// Serves a connection until it ends.
///
/// Cancellation: what was appended becomes durable all the same; answers are lost.
pub async fn serve(socket: TcpStream, peer: SocketAddr, core: CoreHandle) {
    let stream = match open(socket, &core).await {
        Ok(stream) => stream,
        Err(error) => return report(&core, peer, &error),
    };
    let connection = Connection {
        stream,
        peer,
        core,
        sessions: SessionSlot::default(),
        queue: RefCell::default(),
        pushed: Signal::default(),
        popped: Signal::default(),
        left: Cell::new(false),
        leaving: Notify::new(),
    };
    let error = connection.run().await.err();
    connection.stream.close();
    if let Some(error) = error {
        report(&connection.core, peer, &error);
    }
}

/// What the listener asks for before anything is said: nothing, or a TLS handshake. Boxed: only
/// while it is shaken it takes the memory.
async fn open(socket: TcpStream, core: &CoreHandle) -> Result<Stream, ConnectionError> {
    match core.listener() {
        Listener::Plain => Ok(Stream::Plain(socket)),
        Listener::Tls => Ok(Box::pin(Stream::open_tls(socket, core)).await?),
    }
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("closing: {0}")]
    Frame(#[from] FrameError),
    #[error("closing: {0}")]
    Header(#[from] HeaderError),
    #[error("closing: {key:?} version {version}: {error}")]
    Request {
        key: ApiKey,
        version: i16,
        error: RequestError,
    },
    /// Kafka's way to tell a producer that asked for no answers.
    #[error("closing: a Produce request with acks=0 was refused: {0}")]
    SilentRefusal(String),
    #[error("closing: {0}")]
    Send(#[from] SendError),
    #[error("closing: {0}")]
    Open(#[from] OpenError),
    #[error("closing: {0}")]
    Login(#[from] LoginError),
}

/// Counts a request from its arrival until its answer is made, however that ends.
struct InProgress(CoreHandle);

impl InProgress {
    fn new(core: &CoreHandle) -> InProgress {
        core.metrics().requests_in_progress.add(1);
        InProgress(core.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.metrics().requests_in_progress.sub(1);
    }
}

/// A request whose answer is due.
enum Pending {
    /// Its records are in the log.
    Produced(RequestHeader, Box<Produced>),
    /// Its records are in the logs of several cores.
    Forwarded(RequestHeader, Box<Forwarded>),
    /// Handled when its turn comes. With what it holds of the memory for requests.
    Request(RequestHeader, Bytes, Option<Held>),
    /// Answered.
    Ready(Answer),
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<(Pending, InProgress)>,
    /// Bytes of the requests in it.
    request_bytes: usize,
    /// Nothing is added any more.
    is_finished: bool,
}

/// What the head of the queue waits for.
enum Head {
    /// A request.
    Nothing,
    /// The log to come so far.
    Reach(Reach),
    /// Its turn.
    Turn,
    /// No request comes any more.
    End,
}

struct Connection {
    stream: Stream,
    peer: SocketAddr,
    core: CoreHandle,
    sessions: SessionSlot,
    queue: RefCell<Queue>,
    /// To `respond`: something is in the queue.
    pushed: Signal,
    /// To `receive`: something left it.
    popped: Signal,
    /// The client sends nothing more.
    left: Cell<bool>,
    leaving: Notify,
}

impl Connection {
    async fn run(&self) -> Result<(), ConnectionError> {
        let mut frames = Frames::new(&self.core);
        if login::is_asked_for(&self.core) {
            let (stream, core) = (&self.stream, &self.core);
            if !Box::pin(login::log_in(stream, self.peer, core, &mut frames)).await? {
                return Ok(());
            }
        }
        let mut receive = pin!(self.receive(frames));
        let mut respond = pin!(self.respond());
        let mut received: Option<Result<(), ConnectionError>> = None;
        loop {
            tokio::select! {
                biased;
                responded = &mut respond => {
                    return match received {
                        Some(Err(error)) => Err(error),
                        _ => responded,
                    };
                }
                result = &mut receive, if received.is_none() => {
                    // What was asked before is answered still, unless nobody can hear it.
                    if let Err(error @ ConnectionError::Frame(FrameError::Io(_))) = result {
                        return Err(error);
                    }
                    received = Some(result);
                    self.finish();
                }
            }
        }
    }

    /// Reads requests until the client has no more, or one is bad.
    async fn receive(&self, mut frames: Frames) -> Result<(), ConnectionError> {
        let mut drained = pin!(self.core.drained());
        loop {
            self.room().await;
            let is_idle = || self.queue.borrow().pending.is_empty();
            let next = frames.next(&self.stream, &self.core, is_idle, drained.as_mut());
            let Some(frame) = next.await? else {
                return Ok(());
            };
            match frame {
                Frame::Small(range) => {
                    let watch = frames.watch();
                    let bytes = frames.small(range);
                    if let Some(header) = self.header(bytes)? {
                        if header.api.key == ApiKey::Produce {
                            self.produce(header, header.body_at, Received::Small(bytes), watch)
                                .await?;
                        } else {
                            self.push_request(header, bytes).await;
                        }
                    }
                }
                Frame::Large { memory, end } => {
                    let watch = frames.watch();
                    let bytes = &memory[FRAME_HEADROOM_BYTES..end];
                    if let Some(header) = self.header(bytes)? {
                        if header.api.key == ApiKey::Produce {
                            let body_at = FRAME_HEADROOM_BYTES + header.body_at;
                            let received = Received::Large { frame: memory, end };
                            self.produce(header, body_at, received, watch).await?;
                        } else {
                            self.push_request(header, bytes).await;
                        }
                    }
                }
            }
            if self.core.is_draining() {
                return Ok(());
            }
        }
    }

    /// Reads a request's header; answers here what has an answer without more of it.
    fn header(&self, bytes: &[u8]) -> Result<Option<RequestHeader>, ConnectionError> {
        match RequestHeader::parse(bytes) {
            Ok(header) => {
                self.core.metrics().request(header.api.key as i16);
                Ok(Some(header))
            }
            Err(error @ HeaderError::UnsupportedApiVersions { correlation_id, .. }) => {
                self.core.metrics().request(ApiKey::ApiVersions as i16);
                // How a newer client learns what is spoken here, and no mistake of its own.
                tracing::debug!(core = %self.core.id(), peer = %self.peer, %error, "a newer client");
                self.push(Pending::Ready(api_versions::unsupported(correlation_id)));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn produce(
        &self,
        header: RequestHeader,
        body_at: usize,
        received: Received<'_>,
        watch: Option<Watch>,
    ) -> Result<(), ConnectionError> {
        let mut watch = watch.unwrap_or_default();
        self.core.stages().lap(&mut watch, Stage::Receive);
        let (core, version) = (&self.core, header.version);
        if core.topology().is_single_port() {
            let frame = received.bytes();
            let forwarded = forward::append(core, self.peer, &header, body_at, frame).await;
            let forwarded = forwarded.map_err(|error| ConnectionError::Request {
                key: header.api.key,
                version,
                error,
            })?;
            if let Some(forwarded) = forwarded {
                if !forwarded.is_silent {
                    self.push(Pending::Forwarded(header, Box::new(forwarded)));
                    return Ok(());
                }
                return match forwarded.refusal() {
                    None => Ok(()),
                    Some(refusal) => {
                        Err(ConnectionError::SilentRefusal(refusal.message.to_string()))
                    }
                };
            }
        }
        let produced = produce::handle(core, self.peer, version, body_at, received, watch).await;
        let produced = produced.map_err(|error| ConnectionError::Request {
            key: header.api.key,
            version: header.version,
            error: error.into(),
        })?;
        if !produced.is_silent {
            self.push(Pending::Produced(header, Box::new(produced)));
            return Ok(());
        }
        match produced.refusal() {
            None => Ok(()),
            Some(refusal) => Err(ConnectionError::SilentRefusal(refusal.message.to_string())),
        }
    }

    /// Waits until the queue has room for another request.
    async fn room(&self) {
        std::future::poll_fn(|cx| {
            if self.queue.borrow().has_room() {
                return std::task::Poll::Ready(());
            }
            // Raised before it was looked at: look again.
            match self.popped.poll_raised(cx) {
                std::task::Poll::Ready(()) => {
                    cx.waker().wake_by_ref();
                    std::task::Poll::Pending
                }
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })
        .await;
    }

    /// Puts a request into the queue, once there is memory for it.
    async fn push_request(&self, header: RequestHeader, bytes: &[u8]) {
        let queued = self.queue.borrow().request_bytes + bytes.len();
        let memory = match queued <= UNCOUNTED_REQUEST_BYTES {
            true => None,
            false => Some(
                self.core
                    .request_memory()
                    .take(bytes.len(), bytes.len())
                    .await,
            ),
        };
        self.push(Pending::Request(
            header,
            Bytes::copy_from_slice(bytes),
            memory,
        ));
    }

    fn push(&self, pending: Pending) {
        let mut queue = self.queue.borrow_mut();
        queue.request_bytes += pending.request_bytes();
        queue
            .pending
            .push_back((pending, InProgress::new(&self.core)));
        drop(queue);
        self.pushed.raise();
    }

    fn pop(&self) -> Option<(Pending, InProgress)> {
        let mut queue = self.queue.borrow_mut();
        let pending = queue.pending.pop_front()?;
        queue.request_bytes -= pending.0.request_bytes();
        if queue.pending.is_empty() {
            // An idle connection holds no buffer.
            queue.pending = VecDeque::new();
        }
        drop(queue);
        self.popped.raise();
        Some(pending)
    }

    /// Nothing more is received.
    fn finish(&self) {
        self.queue.borrow_mut().is_finished = true;
        self.left.set(true);
        self.leaving.notify_waiters();
        self.pushed.raise();
    }

    /// Waits until the client sends nothing more, or the node stops.
    async fn leaving(&self) {
        let notified = self.leaving.notified();
        if self.left.get() {
            return;
        }
        tokio::select! {
            () = notified => {}
            () = self.core.drained() => {}
        }
    }

    /// Sends answers until no request is left.
    async fn respond(&self) -> Result<(), ConnectionError> {
        let timeout = self.core.settings().frame_timeout;
        let mut patience = Patience::new(timeout);
        let mut reached = Reach::default();
        let mut out = Answer::default();
        // Of the answers in `out`.
        let mut watches = Vec::new();
        loop {
            let head = self.queue.borrow().head();
            let is_ready = matches!(&head, Head::Reach(needed) if reached.covers(needed));
            if !out.is_empty() && (!is_ready || out.len() >= STEP_BYTES) {
                let answer = std::mem::take(&mut out);
                send(&self.stream, &self.core, answer, &mut patience).await?;
                for mut watch in watches.drain(..) {
                    self.core.stages().lap(&mut watch, Stage::Answer);
                }
                continue;
            }
            match head {
                Head::End => return Ok(()),
                Head::Nothing => std::future::poll_fn(|cx| self.pushed.poll_raised(cx)).await,
                Head::Reach(needed) if reached.covers(&needed) => {
                    if let Some((Pending::Produced(header, mut produced), _)) = self.pop() {
                        produced.count(self.core.metrics());
                        self.core.stages().lap(&mut produced.watch, Stage::Commit);
                        encode(&header, &produced, &mut out);
                        watches.extend(produced.watch.running());
                    }
                }
                Head::Reach(needed) => match self.core.reached(&needed).await {
                    // The log may have come further by now: those answers leave together.
                    Ok(()) => reached = self.core.reach(),
                    Err(failure) => {
                        if let Some((Pending::Produced(header, mut produced), _)) = self.pop() {
                            produced.fail(&failure.to_string());
                            encode(&header, &produced, &mut out);
                        }
                    }
                },
                Head::Turn => out = self.turn().await?,
            }
        }
    }

    /// Handles the request at the head of the queue.
    async fn turn(&self) -> Result<Answer, ConnectionError> {
        match self.pop() {
            Some((Pending::Ready(answer), _)) => Ok(answer),
            Some((Pending::Forwarded(header, forwarded), _in_progress)) => {
                let produced = Box::pin(forwarded.settle(&self.core)).await;
                let mut answer = Answer::default();
                let begun = answer.begin(&header);
                produced.encode(answer.body(), header.version);
                answer.finish(begun);
                Ok(answer)
            }
            Some((Pending::Request(header, frame, _memory), _in_progress)) => {
                if may_be_long(header.api.key) {
                    self.core.answer_memory().room().await;
                }
                // Boxed: only what is handled takes memory, not every connection.
                let answer = {
                    let (core, sessions) = (&self.core, &self.sessions);
                    dispatch::answer(core, self.peer, &header, &frame, sessions, self.leaving())
                };
                let answer = Box::pin(answer).await;
                let (key, version) = (header.api.key, header.version);
                answer.map_err(|error| ConnectionError::Request {
                    key,
                    version,
                    error,
                })
            }
            Some((Pending::Produced(..), _)) | None => Ok(Answer::default()),
        }
    }
}

/// Says why a connection is closed.
fn report(core: &CoreHandle, peer: SocketAddr, error: &ConnectionError) {
    let note = |kind: ErrorKind| {
        core.metrics().error(kind);
        tracing::debug!(core = %core.id(), %peer, kind = kind.label(), "{error}");
    };
    let kind = match error {
        ConnectionError::Frame(FrameError::Tls) => ErrorKind::TlsHandshake,
        ConnectionError::Frame(FrameError::Length { .. } | FrameError::ControlLength { .. }) => {
            ErrorKind::FrameLength
        }
        ConnectionError::Frame(FrameError::CutOff { .. }) => ErrorKind::Disconnected,
        ConnectionError::Frame(FrameError::Stalled { .. })
        | ConnectionError::Send(SendError::SlowReader(_) | SendError::Crowded { .. }) => {
            ErrorKind::Timeout
        }
        // A core that it needs stops.
        ConnectionError::Request {
            error: RequestError::Elsewhere(_),
            ..
        } => return note(ErrorKind::Refused),
        ConnectionError::Header(HeaderError::Malformed(_)) | ConnectionError::Request { .. } => {
            ErrorKind::Malformed
        }
        ConnectionError::Header(_) => ErrorKind::UnsupportedApi,
        ConnectionError::SilentRefusal(_) => ErrorKind::InvalidBatch,
        ConnectionError::Open(OpenError::Late(_)) => ErrorKind::Timeout,
        ConnectionError::Open(error) if !error.is_the_clients_leave() => ErrorKind::TlsHandshake,
        ConnectionError::Login(error) => match error.kind() {
            ErrorKind::Disconnected => return note(ErrorKind::Disconnected),
            kind => kind,
        },
        // Clients come and go: counted, and a line only for who looks for it.
        ConnectionError::Frame(FrameError::Idle { .. }) => return note(ErrorKind::Timeout),
        ConnectionError::Frame(FrameError::Io(_))
        | ConnectionError::Send(SendError::Io(_))
        | ConnectionError::Open(_) => return note(ErrorKind::Disconnected),
    };
    complain(core, peer, kind, error);
}

impl Pending {
    fn request_bytes(&self) -> usize {
        match self {
            Pending::Request(_, frame, _) => frame.len(),
            Pending::Produced(..) | Pending::Forwarded(..) | Pending::Ready(_) => 0,
        }
    }
}

impl Queue {
    fn has_room(&self) -> bool {
        self.pending.len() < PENDING_ANSWERS && self.request_bytes < PENDING_REQUEST_BYTES
    }

    fn head(&self) -> Head {
        match self.pending.front() {
            None if self.is_finished => Head::End,
            None => Head::Nothing,
            Some((Pending::Produced(_, produced), _)) => Head::Reach(produced.needed),
            Some((Pending::Request(..) | Pending::Forwarded(..) | Pending::Ready(_), _)) => {
                Head::Turn
            }
        }
    }
}

/// Whether an answer may be long, and is not made while answers take all the memory they may. A Fetch
/// sees to that itself; what members of groups are told is short, and must not wait.
fn may_be_long(key: ApiKey) -> bool {
    !matches!(
        key,
        ApiKey::Fetch
            | ApiKey::ApiVersions
            | ApiKey::FindCoordinator
            | ApiKey::InitProducerId
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::OffsetCommit
    )
}

fn encode(header: &RequestHeader, produced: &Produced, out: &mut Answer) {
    let begun = out.begin(header);
    produced.answer.encode(out.body(), header.version);
    out.finish(begun);
}
