//! From a password to SCRAM keys, and from a proof to a yes or no: RFC 5802, section 3, with the
//! hashes of RFC 7677 and of SCRAM-SHA-512.
//!
//! ```text
//! password ─PBKDF2─► salted password ─┬─HMAC "Client Key"─► client key ─H─► stored key
//!                    (long)           └─HMAC "Server Key"─► server key
//! ```
//!
//! Passwords are taken as the bytes they are, not prepared (SASLprep): Kafka's clients and brokers
//! do the same, and both sides have to agree.

use std::num::NonZeroU32;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use ringlog_engine::users::{Credential, Mechanism};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Iterations of the credentials that the node makes itself: what Kafka's tools take by default.
pub const ITERATIONS: u32 = 4_096;

/// Bytes of the salts that the node makes itself.
pub const SALT_BYTES: usize = 24;

/// Random bytes.
///
/// # Panics
/// When the kernel has none to give, which Linux does not do once it has started.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the kernel gives random bytes");
    bytes
}

/// The credential of a password. Takes milliseconds: not for a core.
#[must_use]
pub fn of_password(
    mechanism: Mechanism,
    password: &[u8],
    salt: Vec<u8>,
    iterations: u32,
) -> Credential {
    let salted = salted_password(mechanism, password, &salt, iterations);
    of_salted_password(mechanism, &salted, salt, iterations)
}

/// A salted password: whoever has it can log in, and learns no more of the password than by
/// guessing. Takes milliseconds: not for a core.
#[must_use]
pub fn salted_password(
    mechanism: Mechanism,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Zeroizing<Vec<u8>> {
    let algorithm = match mechanism {
        Mechanism::ScramSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Mechanism::ScramSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let mut salted = Zeroizing::new(vec![0; mechanism.key_bytes()]);
    pbkdf2::derive(algorithm, rounds, salt, password, &mut salted);
    salted
}

/// The credential of a password that was salted elsewhere, as clients of KIP-554 do. A few
/// microseconds.
#[must_use]
pub fn of_salted_password(
    mechanism: Mechanism,
    salted_password: &[u8],
    salt: Vec<u8>,
    iterations: u32,
) -> Credential {
    let key = hmac::Key::new(hmac_of(mechanism), salted_password);
    let client_key = hmac::sign(&key, b"Client Key");
    Credential {
        iterations,
        salt,
        stored_key: hash(mechanism, client_key.as_ref()),
        server_key: hmac::sign(&key, b"Server Key").as_ref().to_vec(),
    }
}

/// Whether a client that knows the password made this proof of the messages.
#[must_use]
pub fn is_proof(
    mechanism: Mechanism,
    credential: &Credential,
    messages: &[u8],
    proof: &[u8],
) -> bool {
    let signature = sign(mechanism, &credential.stored_key, messages);
    if signature.len() != proof.len() {
        return false;
    }
    let client_key: Vec<u8> = signature.iter().zip(proof).map(|(a, b)| a ^ b).collect();
    let stored_key = hash(mechanism, &client_key);
    stored_key.ct_eq(&credential.stored_key).into()
}

/// What proves to the client that the node has its credential.
#[must_use]
pub fn server_signature(mechanism: Mechanism, credential: &Credential, messages: &[u8]) -> Vec<u8> {
    sign(mechanism, &credential.server_key, messages)
}

/// A credential that nobody has, always the same for a name: who asks for a user that is not there
/// is answered as if it were.
#[must_use]
pub fn of_nobody(mechanism: Mechanism, secret: &hmac::Key, user: &str) -> Credential {
    let named = [mechanism.name().as_bytes(), b"\0", user.as_bytes()].concat();
    let salt = hmac::sign(secret, &named).as_ref()[..SALT_BYTES].to_vec();
    let key = random::<64>()[..mechanism.key_bytes()].to_vec();
    Credential {
        iterations: ITERATIONS,
        salt,
        stored_key: key.clone(),
        server_key: key,
    }
}

fn sign(mechanism: Mechanism, key: &[u8], messages: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac_of(mechanism), key);
    hmac::sign(&key, messages).as_ref().to_vec()
}

fn hash(mechanism: Mechanism, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match mechanism {
        Mechanism::ScramSha256 => &digest::SHA256,
        Mechanism::ScramSha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

fn hmac_of(mechanism: Mechanism) -> hmac::Algorithm {
    match mechanism {
        Mechanism::ScramSha256 => hmac::HMAC_SHA256,
        Mechanism::ScramSha512 => hmac::HMAC_SHA512,
    }
}
