//! The message of PLAIN (RFC 4616): whom to act as, who it is, and the password.

use std::fmt;

use zeroize::Zeroizing;

use super::password::{PASSWORD_BYTES, Password};

/// Why it is no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlainError {
    /// A message that is none.
    #[error("the client's message is malformed")]
    Malformed,
    /// The client wants to act as somebody else.
    #[error("the client asks to act as another user than it logs in as")]
    OtherIdentity,
}

/// What the message says.
#[derive(PartialEq, Eq)]
pub struct PlainLogin {
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: Password,
}

impl fmt::Debug for PlainLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainLogin").finish_non_exhaustive()
    }
}

impl PlainLogin {
    /// Reads the message.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(message: &[u8]) -> Result<PlainLogin, PlainError> {
        let parts: Vec<&[u8]> = message.split(|byte| *byte == 0).collect();
        let [authorization, user, password] = parts[..] else {
            return Err(PlainError::Malformed);
        };
        let user = str::from_utf8(user).map_err(|_| PlainError::Malformed)?;
        if user.is_empty() || !(1..=PASSWORD_BYTES).contains(&password.len()) {
            return Err(PlainError::Malformed);
        }
        if !authorization.is_empty() && authorization != user.as_bytes() {
            return Err(PlainError::OtherIdentity);
        }
        Ok(PlainLogin {
            user: user.to_owned(),
            password: Zeroizing::new(password.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_make_a_login_and_nothing_else_does() {
        let login = PlainLogin::parse(b"\0alice\0s e\xffcret").unwrap();
        assert_eq!(
            (login.user.as_str(), &login.password[..]),
            ("alice", &b"s e\xffcret"[..])
        );
        assert!(!format!("{login:?}").contains("cret"));
        PlainLogin::parse(b"alice\0alice\0x").unwrap();
        assert_eq!(
            PlainLogin::parse(b"bob\0alice\0x"),
            Err(PlainError::OtherIdentity)
        );
        let long = [b"\0a\0".as_slice(), &[b'x'; PASSWORD_BYTES + 1]].concat();
        for wrong in [
            &b""[..],
            b"a\0b",
            b"\0\0x",
            b"\0a\0",
            b"\0a\0x\0y",
            b"\0\xff\0x",
            &long,
        ] {
            assert_eq!(PlainLogin::parse(wrong), Err(PlainError::Malformed));
        }
    }
}
