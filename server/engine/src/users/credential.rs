//! What a node keeps of a password: RFC 5802, section 3, of either hash that Kafka has
//! (KIP-84).

use std::fmt;

/// A SCRAM mechanism. The numbers are those of KIP-554, and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mechanism {
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256 = 1,
    /// SCRAM-SHA-512.
    ScramSha512 = 2,
}

impl Mechanism {
    /// Every mechanism, the one that costs less first.
    pub const ALL: [Mechanism; 2] = [Mechanism::ScramSha256, Mechanism::ScramSha512];

    /// Its name in SASL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Mechanism> {
        Mechanism::ALL
            .into_iter()
            .find(|mechanism| *mechanism as u8 == number)
    }

    /// Bytes of its hash, and so of each key.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        match self {
            Mechanism::ScramSha256 => 32,
            Mechanism::ScramSha512 => 64,
        }
    }
}

/// Verifies a password under one mechanism. What it holds is not shown by `Debug`: whoever has it
/// can guess passwords as fast as their machine allows.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// How often the password was hashed.
    pub iterations: u32,
    /// What it was hashed with.
    pub salt: Vec<u8>,
    /// H(client key): verifies a client's proof.
    pub stored_key: Vec<u8>,
    /// Proves to the client that this node knows it.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
