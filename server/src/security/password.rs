//! What a password is: bytes that are wiped when they are let go.

use zeroize::Zeroizing;

/// A password.
pub type Password = Zeroizing<Vec<u8>>;

/// Longest password, in bytes.
pub const PASSWORD_BYTES: usize = 1_024;
