//! The HTTP listener, with TLS or without, and its limits: so many connections, and none that says nothing for long.
//! Further connections wait in the kernel's backlog until one ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

use super::transport::Transport;

/// How long to wait when the process has no file descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener that keeps at most so many connections.
pub(super) struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    open: Gauge,
    idle: Duration,
    tls: Option<TlsAcceptor>,
}

impl Limited {
    /// At most `connections`, each closed after `idle` without a byte received; a TLS handshake has
    /// as long.
    pub(super) fn new(
        listener: TcpListener,
        connections: usize,
        idle: Duration,
        tls: Option<Arc<ServerConfig>>,
    ) -> Limited {
        Limited {
            listener,
            places: Arc::new(Semaphore::new(connections)),
            open: Gauge::default(),
            idle,
            tls: tls.map(TlsAcceptor::from),
        }
    }

    /// How many connections there are.
    pub(super) fn open(&self) -> Gauge {
        self.open.clone()
    }
}

impl axum::serve::Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.unwrap_or_else(|_| unreachable!("the places are never closed"));
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    let stream = match &self.tls {
                        None => Transport::plain(socket),
                        Some(acceptor) => Transport::handshake(acceptor, socket),
                    };
                    let deadline = Box::pin(tokio::time::sleep(self.idle));
                    let idle = self.idle;
                    return (
                        Connection {
                            stream,
                            deadline,
                            idle,
                            _place: Place::new(place, &self.open),
                        },
                        peer,
                    );
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting an HTTP connection failed");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

/// A connection that holds one of the places.
pub(super) struct Connection {
    stream: Transport,
    deadline: Pin<Box<Sleep>>,
    idle: Duration,
    _place: Place,
}

/// A place, counted for as long as this lives.
struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, open: &Gauge) -> Place {
        open.inc();
        Place {
            _permit: permit,
            open: open.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                let deadline = Instant::now() + self.idle;
                self.deadline.as_mut().reset(deadline);
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
