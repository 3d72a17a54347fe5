//! A TLS connection that is driven like a non-blocking socket: try, and wait until the socket is
//! ready when that would block. So a connection task drives both alike.
//!
//! ```text
//! socket ──ciphertext──► rustls ──plaintext──► caller's memory        (decrypted, then copied once)
//! socket ◄─ciphertext── rustls ◄──plaintext── caller's slices         (encrypted into its own memory)
//! ```
//!
//! Invariants: of what the caller wrote at most [`OUTGOING_BYTES`] wait encrypted, and nothing more
//! is taken before they are with the socket; the arithmetic of a handshake is not done on a core
//! (an RSA signature takes longer than a step may).

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::workers::Workers;

/// Most plaintext that one write takes.
pub const OUTGOING_BYTES: usize = 64 << 10;

/// Most plaintext that one read gives: that of a record.
pub const INCOMING_BYTES: usize = 16 << 10;

/// Reads of the socket in one try: a record comes in a few, and one without content is no reason
/// to go on for ever.
const READS: usize = 16;

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Bytes that are not TLS, or a client that cannot agree with this node.
    #[error("the TLS handshake failed: {error}{}", hint(error))]
    Tls {
        /// What rustls says.
        #[from]
        error: rustls::Error,
    },
    /// The client left.
    #[error("the connection ended in its TLS handshake")]
    Left,
    /// The socket failed.
    #[error("the connection failed in its TLS handshake: {0}")]
    Io(#[from] io::Error),
    /// Nobody there to do the arithmetic.
    #[error("no thread is there to do the TLS handshake")]
    NoWorker,
}

fn hint(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidMessage(_) => {
            "; does the client speak TLS at all? This is the port for it (security.protocol)"
        }
        _ => "",
    }
}

/// A TLS connection whose handshake is done.
pub struct TlsStream {
    socket: TcpStream,
    tls: RefCell<Box<ServerConnection>>,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl TlsStream {
    /// Shakes hands. How long that may take is the caller's to say.
    ///
    /// Cancellation: the connection is of no use then.
    ///
    /// # Errors
    /// See [`HandshakeError`]. The client is told in TLS, as far as the socket takes it.
    pub async fn accept(
        socket: TcpStream,
        config: &Arc<ServerConfig>,
        workers: &Workers,
    ) -> Result<TlsStream, HandshakeError> {
        let mut tls = Box::new(ServerConnection::new(Arc::clone(config))?);
        tls.set_buffer_limit(Some(OUTGOING_BYTES));
        loop {
            while tls.wants_write() {
                if would_block(tls.write_tls(&mut Socket(&socket)))?.is_none() {
                    socket.writable().await?;
                }
            }
            if !tls.is_handshaking() {
                let tls = RefCell::new(tls);
                return Ok(TlsStream { socket, tls });
            }
            match would_block(tls.read_tls(&mut Socket(&socket)))? {
                None => socket.readable().await?,
                Some(0) => return Err(HandshakeError::Left),
                Some(_) => {
                    let step = move || {
                        let result = tls.process_new_packets().map(|_| ());
                        (tls, result)
                    };
                    let (back, result) = workers.run(step).await.ok_or(HandshakeError::NoWorker)?;
                    tls = back;
                    if let Err(error) = result {
                        // The alert. The connection ends whether it is heard or not.
                        let _ = tls.write_tls(&mut Socket(&socket));
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// Reads what there is, at most [`INCOMING_BYTES`]; 0 at the end, whether the client said
    /// farewell or not: frames have lengths, so a cut is seen without it.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; the socket's failures; what is no TLS.
    pub fn try_read(&self, memory: &mut [u8]) -> io::Result<usize> {
        let tls = &mut *self.tls.borrow_mut();
        for _ in 0..READS {
            match tls.reader().read(memory) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            tls.read_tls(&mut Socket(&self.socket))?;
            tls.process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        // The socket is not known to be empty: who waits for it is woken at once.
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes of the pieces what there is room for. What it took is on its way when
    /// [`TlsStream::try_flush`] says so.
    ///
    /// # Errors
    /// `WouldBlock` while the socket does not take what was encrypted before; its failures.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let tls = &mut *self.tls.borrow_mut();
        self.push(tls)?;
        let taken = tls.writer().write_vectored(pieces)?;
        would_block(self.push(tls))?;
        Ok(taken)
    }

    /// Gives the socket what is encrypted.
    ///
    /// # Errors
    /// `WouldBlock` while it does not take all of it; its failures.
    pub fn try_flush(&self) -> io::Result<()> {
        self.push(&mut self.tls.borrow_mut())
    }

    /// Says farewell, as far as the socket takes it.
    pub fn close(&self) {
        let tls = &mut *self.tls.borrow_mut();
        tls.send_close_notify();
        let _ = self.push(tls);
    }

    /// The socket, to wait for.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn push(&self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            if tls.write_tls(&mut Socket(&self.socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// `None` where it would block.
fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket as rustls wants it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(memory)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
