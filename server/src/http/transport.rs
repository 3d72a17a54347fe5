//! What an HTTP connection is spoken over: a socket, or TLS on one. The handshake is part of the
//! first read, so that a client that is slow at it holds nobody up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// The way to a client.
pub(super) struct Transport(State);

enum State {
    Plain(TcpStream),
    Shaking(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(super) fn plain(socket: TcpStream) -> Transport {
        Transport(State::Plain(socket))
    }

    /// The handshake begins with the first read.
    pub(super) fn handshake(acceptor: &TlsAcceptor, socket: TcpStream) -> Transport {
        Transport(State::Shaking(Box::new(acceptor.accept(socket))))
    }

    /// Ready when there is no handshake to wait for.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let State::Shaking(accept) = &mut self.0 {
            let stream = ready!(Pin::new(accept.as_mut()).poll(cx));
            let stream = stream.inspect_err(|error| {
                tracing::debug!(%error, "a TLS handshake of an HTTP client failed");
            });
            self.0 = State::Tls(Box::new(stream?));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        match &mut self.0 {
            State::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            State::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            State::Shaking(_) => unreachable!("the handshake is over"),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        match &mut self.0 {
            State::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            State::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            State::Shaking(_) => unreachable!("the handshake is over"),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Plain(socket) => Pin::new(socket).poll_flush(cx),
            State::Tls(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing was written.
            State::Shaking(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Shaking(_) => Poll::Ready(Ok(())),
        }
    }
}
