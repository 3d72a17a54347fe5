//! Users and what proves who they are: for each, salted SCRAM keys (RFC 5802). One machine for the
//! node: core 0 decides and logs, every core applies.
//!
//! ```text
//! UserCommand ─prepare─► UserRecord ─(metadata log)─► apply ─► credentials
//! ```
//!
//! Invariant: no password is here, and no key that one could log in with: what is kept verifies a
//! proof and makes none. Whoever makes a credential of a password does that elsewhere: it takes
//! longer than a step of a core may.

mod command;
mod credential;
mod error;
mod pending;
pub(crate) mod record;
mod state;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use command::UserCommand;
pub use credential::{Credential, Mechanism};
pub use error::UserError;
pub use record::UserRecord;
pub use state::Users;
