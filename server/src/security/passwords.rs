//! Checking a password against what is kept of it.
//!
//! A check hashes thousands of times, on the threads beside the cores; a yes is remembered, so that
//! an HTTP client that says its password with each request costs one hash a request. What is
//! remembered is the password under a key that dies with the process, and only as long as the
//! credential it was checked against is the user's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ring::hmac;
use ringlog_engine::users::{Credential, Mechanism};
use subtle::ConstantTimeEq;

use super::keys;
use super::password::Password;
use super::workers::Workers;

/// Users whose last good password is remembered. One more, and all are forgotten.
const REMEMBERED: usize = 1_024;

/// Checks passwords.
pub struct Passwords {
    secret: hmac::Key,
    /// By user.
    good: Mutex<HashMap<String, Good>>,
}

/// A password that was right.
struct Good {
    stored_key: Vec<u8>,
    /// The password under the secret.
    tag: Vec<u8>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    /// Nothing is remembered.
    pub(super) fn new() -> Passwords {
        Passwords {
            secret: hmac::Key::new(hmac::HMAC_SHA256, &keys::random::<32>()),
            good: Mutex::default(),
        }
    }

    /// A credential in place of that of a user who is not there.
    #[must_use]
    pub fn of_nobody(&self, mechanism: Mechanism, user: &str) -> Credential {
        keys::of_nobody(mechanism, &self.secret, user)
    }

    /// Whether this is the password of a user with these credentials.
    pub(super) async fn check(
        &self,
        workers: &Workers,
        credentials: Vec<(Mechanism, Credential)>,
        user: &str,
        password: Password,
    ) -> bool {
        // The one that costs least; both are of the same password, as far as anybody knows.
        let known = credentials.into_iter().next();
        let is_known = known.is_some();
        let nobody = Mechanism::ScramSha256;
        let (mechanism, credential) =
            known.unwrap_or_else(|| (nobody, self.of_nobody(nobody, user)));
        let tag = hmac::sign(&self.secret, &password);
        let tag = tag.as_ref();
        if is_known && self.remembers(user, &credential, tag) {
            return true;
        }
        let stored_key = credential.stored_key.clone();
        let hashed = workers.run(move || {
            let Credential {
                salt, iterations, ..
            } = credential;
            keys::of_password(mechanism, &password, salt, iterations).stored_key
        });
        let Some(hashed) = hashed.await else {
            return false;
        };
        let is_right = is_known && bool::from(hashed.ct_eq(&stored_key));
        if is_right {
            self.remember(user, stored_key, tag);
        }
        is_right
    }

    fn remembers(&self, user: &str, credential: &Credential, tag: &[u8]) -> bool {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(user).is_some_and(|good| {
            let same = good.stored_key.ct_eq(&credential.stored_key) & good.tag.ct_eq(tag);
            same.into()
        })
    }

    fn remember(&self, user: &str, stored_key: Vec<u8>, tag: &[u8]) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED && !good.contains_key(user) {
            good.clear();
        }
        let tag = tag.to_vec();
        good.insert(user.to_owned(), Good { stored_key, tag });
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn credential(password: &str) -> Vec<(Mechanism, Credential)> {
        let of = Mechanism::ScramSha512;
        let credential = keys::of_password(of, password.as_bytes(), b"salt".to_vec(), 4096);
        vec![(of, credential)]
    }

    #[test]
    fn a_password_is_right_once_and_again_until_it_is_changed() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let (passwords, workers) = (Passwords::new(), Workers::start(1).unwrap());
            let check = async |known: &[(Mechanism, Credential)], password: &str| {
                let password = Zeroizing::new(password.as_bytes().to_vec());
                passwords
                    .check(&workers, known.to_vec(), "alice", password)
                    .await
            };
            let (old, new) = (credential("old"), credential("new"));
            assert!(!check(&old, "new").await);
            assert!(check(&old, "old").await);
            assert!(check(&old, "old").await, "remembered");
            assert!(!check(&old, "olD").await, "another is not");
            assert!(!check(&new, "old").await, "nor the old one after a change");
            assert!(check(&new, "new").await);
            assert!(!check(&[], "new").await, "nor that of a user who is gone");
        });
    }

    #[test]
    fn what_is_remembered_is_used_without_a_thread_and_does_not_grow() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let (passwords, none) = (Passwords::new(), Workers::start(0).unwrap());
        let known = credential("x");
        let tag = hmac::sign(&passwords.secret, b"x");
        for number in 0..=REMEMBERED {
            let stored_key = known[0].1.stored_key.clone();
            passwords.remember(&number.to_string(), stored_key, tag.as_ref());
        }
        assert_eq!(passwords.good.lock().unwrap().len(), 1);
        let last = REMEMBERED.to_string();
        let password = || Zeroizing::new(b"x".to_vec());
        let check = |user| passwords.check(&none, known.clone(), user, password());
        assert!(runtime.block_on(check(&last)));
        assert!(
            !runtime.block_on(check("0")),
            "forgotten, and nobody hashes"
        );
    }
}
