//! The loopback round trip: a small message to the echo and back, one at a time, blocking on both
//! sides.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Context;

use crate::clock::now_ns;
use crate::kafka::client::connect;

/// About a produce request of one event.
const MESSAGE_BYTES: usize = 256;

/// A connection to the echo.
pub struct Loopback {
    stream: TcpStream,
}

impl Loopback {
    /// Connects.
    pub fn connect(address: &str) -> anyhow::Result<Loopback> {
        Ok(Loopback {
            stream: connect(address)?,
        })
    }

    /// So many round trips: latencies in nanoseconds.
    pub fn round_trips(&mut self, count: usize) -> anyhow::Result<Vec<u64>> {
        let message = [7_u8; MESSAGE_BYTES];
        let mut back = [0_u8; MESSAGE_BYTES];
        (0..count)
            .map(|_| {
                let sent = now_ns();
                self.stream
                    .write_all(&message)
                    .context("sending to the echo")?;
                self.stream
                    .read_exact(&mut back)
                    .context("waiting for the echo")?;
                Ok(now_ns() - sent)
            })
            .collect()
    }
}
