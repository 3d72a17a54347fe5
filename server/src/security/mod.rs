//! TLS and passwords: what stands between a socket and whoever may use it.
//!
//! | file | what |
//! |---|---|
//! | `certificates` | PEM files into what TLS is spoken with |
//! | `tls_stream` | a TLS connection that is driven like a socket; its handshake |
//! | `keys` | from a password to SCRAM keys (RFC 5802), and back to a yes or no |
//! | `scram`, `plain` | the messages of the mechanisms |
//! | `passwords` | checking a password, off the core and remembered |
//! | `password`, `password_files` | what one is; those that a node is started with |
//! | `open` | all of it together, from the settings |
//! | `workers` | threads for what takes longer than a step of a core may |
//!
//! Invariants: no password and no key is logged, kept in the clear longer than it is needed, or
//! compared in a time that depends on it; nothing here knows a core.

pub mod certificates;
pub mod keys;
pub mod open;
pub mod password;
pub mod password_files;
pub mod passwords;
pub mod plain;
pub mod scram;
pub mod tls_stream;
pub mod workers;

pub use open::{Security, SecurityError};
pub use password::Password;
