//! What can be asked of the users.

use super::credential::{Credential, Mechanism};

/// A change to the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCommand {
    /// Credentials of a user, who may be new; those of other mechanisms stay.
    Set {
        /// Who.
        user: String,
        /// Each mechanism once, one at least.
        credentials: Vec<(Mechanism, Credential)>,
    },
    /// A user's credential goes; without any, the user is gone.
    Remove {
        /// Who.
        user: String,
        /// Of which mechanism.
        mechanism: Mechanism,
    },
}
