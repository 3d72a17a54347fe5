//! Listens in between clients and a node of one core: passes everything on as it is, and notes
//! which API in which version each request is of. For tests of what a client really spoke.
//!
//! ```text
//!  client ──► tap (the port that the node tells clients) ──► node
//!         ◄──────────────────────────────────────────────
//! ```

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;

/// API keys with versions.
pub type Spoken = BTreeSet<(i16, i16)>;

/// Longest request that is passed on: above the node's own limit nothing comes.
const LONGEST: usize = 64 << 20;

/// A place to listen in. Its threads end with the connections that they serve.
#[derive(Debug)]
pub struct WireTap {
    listener: TcpListener,
    spoken: Arc<Mutex<Spoken>>,
}

impl WireTap {
    /// On a free port, for a node that is not there yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> Result<WireTap> {
        Ok(WireTap {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            spoken: Arc::default(),
        })
    }

    /// Where clients are to connect.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Passes connections on to a node from here on.
    ///
    /// # Errors
    /// When the listener cannot be shared.
    pub fn pass_on_to(&self, node: SocketAddr) -> Result<()> {
        let (listener, spoken) = (self.listener.try_clone()?, Arc::clone(&self.spoken));
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                // A node that is gone takes no connection: the client finds it closed.
                if let Ok(node) = TcpStream::connect(node) {
                    // As much as the client sees of a broken connection is that it ends.
                    let _ = pass_on(client, node, Arc::clone(&spoken));
                }
            }
        });
        Ok(())
    }

    /// What was spoken until now.
    ///
    /// # Panics
    /// When a thread of the tap did.
    #[must_use]
    pub fn spoken(&self) -> Spoken {
        self.spoken.lock().expect("nothing panics in it").clone()
    }
}

fn pass_on(client: TcpStream, node: TcpStream, spoken: Arc<Mutex<Spoken>>) -> Result<()> {
    client.set_nodelay(true)?;
    node.set_nodelay(true)?;
    let (mut answers, mut to_client) = (node.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let (mut client, mut node) = (client, node);
        while let Ok(frame) = request(&mut client) {
            if let Some([key, key_low, version, version_low]) = frame.get(4..8) {
                let key = i16::from_be_bytes([*key, *key_low]);
                let version = i16::from_be_bytes([*version, *version_low]);
                let mut spoken = spoken.lock().expect("nothing panics in it");
                spoken.insert((key, version));
            }
            if node.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = node.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// The next request, with its length.
fn request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let bytes = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > LONGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut frame = length.to_vec();
    frame.resize(4 + bytes, 0);
    client.read_exact(&mut frame[4..])?;
    Ok(frame)
}
