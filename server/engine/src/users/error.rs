//! Why a command about users is refused.

use super::credential::Mechanism;

/// Why it is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// A name that no user may have.
    #[error("a user's name has 1 to {limit} bytes; this one has {bytes}")]
    InvalidName {
        /// Bytes it has.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A command that sets nothing, or one mechanism twice.
    #[error("each mechanism is set once, and one at least")]
    InvalidMechanisms,
    /// Hashed less, or more often than is sensible.
    #[error("{found} iterations are not possible: {least} to {most} are")]
    InvalidIterations {
        /// What was asked for.
        found: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A salt of a length that is none.
    #[error("a salt has 1 to {limit} bytes; this one has {bytes}")]
    InvalidSalt {
        /// Bytes it has.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A key that is not of the mechanism.
    #[error("a key of {} has {} bytes; this one has {bytes}", mechanism.name(), mechanism.key_bytes())]
    InvalidKey {
        /// Of which mechanism it should be.
        mechanism: Mechanism,
        /// Bytes it has.
        bytes: usize,
    },
    /// There is nothing to remove.
    #[error("the user has no credential for {}", mechanism.name())]
    NotFound {
        /// The mechanism asked for.
        mechanism: Mechanism,
    },
    /// The node has as many users as it keeps.
    #[error("the node keeps {limit} users at most: remove some first")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Too many commands wait to become durable.
    #[error("{limit} changes of users wait to become durable: try again")]
    TooManyPending {
        /// The limit.
        limit: usize,
    },
}
