//! What core 0 decided about users: part of the metadata records, which carry the version.
//!
//! ```text
//! credentials set     user text, count u32, { credential }*
//! credential removed  user text, mechanism u8
//! credential = mechanism u8, iterations u32, salt, stored key, server key   (length u32, bytes)
//! ```

use crate::little_endian::{DecodeError, Reader, Writer};

use super::credential::{Credential, Mechanism};

/// A credential takes this at least.
pub(super) const CREDENTIAL_BYTES: usize = 17;

/// A decided change to the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRecord {
    /// A user has these credentials, beside those of other mechanisms.
    Set {
        /// Who.
        user: String,
        /// By mechanism.
        credentials: Vec<(Mechanism, Credential)>,
    },
    /// A user has no such credential any more.
    Removed {
        /// Who.
        user: String,
        /// Of which mechanism.
        mechanism: Mechanism,
    },
}

impl UserRecord {
    /// Whom it is about.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            UserRecord::Set { user, .. } | UserRecord::Removed { user, .. } => user,
        }
    }
}

pub(crate) fn put_set(out: &mut Writer, user: &str, credentials: &[(Mechanism, Credential)]) {
    out.text(user);
    out.count(credentials.len());
    for (mechanism, credential) in credentials {
        out.u8(*mechanism as u8);
        out.u32(credential.iterations);
        out.bytes(&credential.salt);
        out.bytes(&credential.stored_key);
        out.bytes(&credential.server_key);
    }
}

pub(crate) fn take_set(reader: &mut Reader<'_>) -> Result<UserRecord, DecodeError> {
    let user = reader.text("a user's name")?.to_owned();
    let count = reader.count("a user's credentials", CREDENTIAL_BYTES)?;
    let mut credentials = Vec::with_capacity(count);
    for _ in 0..count {
        let mechanism = take_mechanism(reader)?;
        let credential = Credential {
            iterations: reader.u32("the iterations")?,
            salt: reader.bytes("the salt")?.to_vec(),
            stored_key: reader.bytes("the stored key")?.to_vec(),
            server_key: reader.bytes("the server key")?.to_vec(),
        };
        credentials.push((mechanism, credential));
    }
    Ok(UserRecord::Set { user, credentials })
}

pub(crate) fn put_removed(out: &mut Writer, user: &str, mechanism: Mechanism) {
    out.text(user);
    out.u8(mechanism as u8);
}

pub(crate) fn take_removed(reader: &mut Reader<'_>) -> Result<UserRecord, DecodeError> {
    Ok(UserRecord::Removed {
        user: reader.text("a user's name")?.to_owned(),
        mechanism: take_mechanism(reader)?,
    })
}

fn take_mechanism(reader: &mut Reader<'_>) -> Result<Mechanism, DecodeError> {
    let number = reader.u8("a mechanism")?;
    Mechanism::from_number(number)
        .ok_or_else(|| reader.invalid(format!("no mechanism has the number {number}")))
}
