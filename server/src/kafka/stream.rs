//! What a connection is spoken over: a socket, or TLS on one. Driven alike: try, and wait for the
//! socket when that would block.
//!
//! For a plain socket each call is the socket's own behind one comparison: nothing is copied,
//! buffered or allocated.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::BufMut;
use tokio::net::TcpStream;

use crate::node::core::CoreHandle;
use crate::security::tls_stream::{HandshakeError, INCOMING_BYTES, TlsStream};

/// The way to a client.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Encrypted.
    Tls(TlsStream),
}

/// Why TLS did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It took too long.
    #[error("the TLS handshake was not complete within {} ms (login_timeout_ms)", .0.as_millis())]
    Late(Duration),
    /// The node has no certificate: no listener for TLS should be there.
    #[error("there is no certificate to shake hands with")]
    NoCertificate,
}

impl OpenError {
    /// Whether the client went away before it was done, as port scanners and health checks do.
    #[must_use]
    pub fn is_the_clients_leave(&self) -> bool {
        matches!(
            self,
            OpenError::Handshake(HandshakeError::Left | HandshakeError::Io(_))
        )
    }
}

impl Stream {
    /// Shakes hands, as long as that may take.
    ///
    /// Cancellation: the connection is of no use then.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_tls(socket: TcpStream, core: &CoreHandle) -> Result<Stream, OpenError> {
        let security = core.security();
        let config = security.kafka_tls().ok_or(OpenError::NoCertificate)?;
        let patience = core.settings().access.login_timeout;
        let accepted = TlsStream::accept(socket, config, &security.workers);
        let stream = tokio::select! {
            accepted = tokio::time::timeout(patience, accepted) => {
                accepted.map_err(|_| OpenError::Late(patience))??
            }
            () = core.drained() => return Err(HandshakeError::Left.into()),
        };
        core.metrics().tls_handshakes.add(1);
        Ok(Stream::Tls(stream))
    }

    /// Reads what there is into memory.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; the socket's failures.
    pub fn try_read(&self, memory: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_read(memory),
            Stream::Tls(stream) => stream.try_read(memory),
        }
    }

    /// Reads what there is behind what the buffer has, at most `room` bytes of it.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; the socket's failures.
    pub fn try_read_buf(&self, buffer: &mut Vec<u8>, room: usize) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_read_buf(&mut buffer.limit(room)),
            Stream::Tls(stream) => {
                let begin = buffer.len();
                buffer.resize(begin + room.min(INCOMING_BYTES), 0);
                let read = stream.try_read(&mut buffer[begin..]);
                buffer.truncate(begin + read.as_ref().copied().unwrap_or(0));
                read
            }
        }
    }

    /// Takes of the pieces what there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; the socket's failures.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_write_vectored(pieces),
            Stream::Tls(stream) => stream.try_write_vectored(pieces),
        }
    }

    /// Gives the socket what was taken and is not with it.
    ///
    /// # Errors
    /// `WouldBlock` while it does not take all; its failures.
    pub fn try_flush(&self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.try_flush(),
        }
    }

    /// Waits until a read may find something.
    ///
    /// Cancellation: nothing is lost.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket().readable().await
    }

    /// Waits until a write may find room.
    ///
    /// Cancellation: nothing is lost.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// Says farewell, where there is a way to.
    pub fn close(&self) {
        if let Stream::Tls(stream) = self {
            stream.close();
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.socket(),
        }
    }
}
