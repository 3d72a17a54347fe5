//! Takes connections of one core, over whichever listener, and gives each to the face that speaks
//! its protocol.
//!
//! Invariants: a core never keeps more connections than its limit, of all or of one address (more are
//! closed at once, and counted); a connection whose task panics is closed and counted, and the core goes on.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};

use super::addresses::{Addresses, Counted};
use super::core::CoreHandle;
use super::metrics::ErrorKind;
use super::topology::Listener;

/// Speaks a protocol on one connection until it ends.
pub type ConnectionHandler =
    fn(TcpStream, SocketAddr, CoreHandle) -> Pin<Box<dyn Future<Output = ()>>>;

/// How long to wait when the process has no file descriptor left for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Log lines about refused connections, at most one in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(5);

/// The sockets on which a core listens.
#[derive(Debug)]
pub struct Listening {
    /// Bytes as they are.
    pub plain: TcpListener,
    /// TLS.
    pub tls: Option<TcpListener>,
}

impl Listening {
    /// The next connection, and how it came.
    ///
    /// Cancellation: no connection is lost.
    async fn next(&self) -> (Listener, std::io::Result<(TcpStream, SocketAddr)>) {
        let Some(tls) = &self.tls else {
            return (Listener::Plain, self.plain.accept().await);
        };
        tokio::select! {
            accepted = self.plain.accept() => (Listener::Plain, accepted),
            accepted = tls.accept() => (Listener::Tls, accepted),
        }
    }
}

/// Takes connections until the node stops; the tasks of those that are open are in
/// `connections` then.
pub async fn accept(
    listening: Listening,
    core: &CoreHandle,
    handler: ConnectionHandler,
    connections: &mut JoinSet<()>,
) {
    let (addresses, mut complaints) = (Addresses::default(), Complaints::default());
    loop {
        tokio::select! {
            () = core.drained() => return,
            Some(ended) = connections.join_next() => note_end(core, ended),
            (listener, accepted) = listening.next() => match accepted {
                Ok((stream, peer)) => {
                    let core = core.over(listener);
                    let place = place_for(&core, peer, connections.len(), &addresses, &mut complaints);
                    if let Some(place) = place {
                        take(place, stream, peer, handler, connections);
                    }
                }
                Err(error) => {
                    complaints.complain(|| {
                        tracing::warn!(
                            core = %core.id(), %error,
                            "accepting a connection failed; if descriptors ran out, raise ulimit -n"
                        );
                    });
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
}

/// Waits for open connections to end, at most for `patience`, then ends them.
pub async fn finish(core: &CoreHandle, connections: &mut JoinSet<()>, patience: Duration) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            note_end(core, ended);
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        let left = connections.len();
        tracing::warn!(core = %core.id(), left, "connections did not finish in time; closing them");
        connections.shutdown().await;
    }
}

/// A place for a connection where there are `open`, unless it is one too many.
fn place_for(
    core: &CoreHandle,
    peer: SocketAddr,
    open: usize,
    addresses: &Addresses,
    complaints: &mut Complaints,
) -> Option<OpenConnection> {
    let metrics = core.metrics();
    let limit = core.settings().max_connections;
    if open >= limit {
        metrics.error(ErrorKind::TooManyConnections);
        complaints.complain(|| {
            tracing::warn!(
                core = %core.id(), %peer, limit,
                "a connection was refused: the core has as many as it keeps (max_connections)"
            );
        });
        return None;
    }
    let limit = core.settings().max_connections_per_address;
    let Some(counted) = addresses.count(peer.ip(), limit) else {
        metrics.error(ErrorKind::TooManyOfAddress);
        complaints.complain(|| {
            tracing::warn!(
                core = %core.id(), %peer, limit,
                "a connection was refused: the core has as many as it keeps of one address \
                 (max_connections_per_address)"
            );
        });
        return None;
    };
    metrics.connections_accepted.add(1);
    metrics.connections.add(1);
    Some(OpenConnection(core.clone(), counted))
}

fn take(
    place: OpenConnection,
    stream: TcpStream,
    peer: SocketAddr,
    handler: ConnectionHandler,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let serving = handler(stream, peer, place.0.clone());
    connections.spawn_local(async move {
        let _place = place;
        serving.await;
    });
}

/// Counts a connection as long as its task lives, however it ends.
struct OpenConnection(
    CoreHandle,
    #[expect(dead_code, reason = "counts until it is dropped")] Counted,
);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.metrics().connections.sub(1);
    }
}

fn note_end(core: &CoreHandle, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        core.metrics().error(ErrorKind::Panic);
        tracing::error!(core = %core.id(), %error, "a connection's task panicked and was closed");
    }
}

/// Keeps a storm of refusals from becoming a storm of log lines.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn complain(&mut self, line: impl FnOnce()) {
        if self
            .last
            .is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY)
        {
            self.last = Some(Instant::now());
            line();
        }
    }
}
