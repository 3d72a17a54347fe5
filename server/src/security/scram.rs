//! The messages of SCRAM, as a server reads and writes them: RFC 5802, sections 5 and 7, without
//! channel binding.
//!
//! ```text
//! client                                    server
//! n,,n=user,r=NONCE            ───────────►              ClientFirst::parse
//!                              ◄───────────  r=NONCE+,s=SALT,i=4096     Challenge::message
//! c=biws,r=NONCE+,p=PROOF      ───────────►              Challenge::answer
//!                              ◄───────────  v=SIGNATURE
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ringlog_engine::users::{Credential, Mechanism};

use super::keys;

/// Bytes of the server's part of the nonce, before they become text.
const NONCE_BYTES: usize = 18;

/// Why an exchange ends without a login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is none.
    #[error("the client's message is malformed: {0}")]
    Malformed(&'static str),
    /// The client wants to act as somebody else.
    #[error("the client asks to act as another user than it logs in as")]
    OtherIdentity,
    /// The proof is not that of the password.
    #[error("the password is wrong")]
    WrongProof,
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// Who logs in.
    pub user: String,
    /// What stands in front, which the client has to repeat.
    gs2_header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none, or asks for what there is not.
    pub fn parse(message: &[u8]) -> Result<ClientFirst, ScramError> {
        let malformed = ScramError::Malformed;
        let text = str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))?;
        let (binding, rest) = text.split_once(',').ok_or(malformed("no GS2 header"))?;
        if !matches!(binding, "n" | "y") {
            return Err(malformed("channel binding is not offered"));
        }
        let (authorization, bare) = rest.split_once(',').ok_or(malformed("no GS2 header"))?;
        let mut attributes = bare.split(',');
        let mut next = |name| attributes.next().and_then(|text| text.strip_prefix(name));
        let user = next("n=").ok_or(malformed("no user name"))?;
        let nonce = next("r=").ok_or(malformed("no nonce"))?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
            return Err(malformed("a nonce of other than printable characters"));
        }
        let user = decoded_name(user).ok_or(malformed("a user name that is none"))?;
        if !authorization.is_empty() {
            let other = authorization.strip_prefix("a=").and_then(decoded_name);
            let other = other.ok_or(malformed("an authorization identity that is none"))?;
            if other != user {
                return Err(ScramError::OtherIdentity);
            }
        }
        Ok(ClientFirst {
            user,
            gs2_header: text[..text.len() - bare.len()].to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }
}

/// What a client has to answer.
pub struct Challenge {
    mechanism: Mechanism,
    credential: Credential,
    gs2_header: String,
    client_first: String,
    /// The server's part of the nonce.
    own_nonce: String,
    message: String,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

impl Challenge {
    /// For a client that is to have this credential.
    #[must_use]
    pub fn new(first: ClientFirst, mechanism: Mechanism, credential: Credential) -> Challenge {
        let own = BASE64.encode(keys::random::<NONCE_BYTES>());
        Challenge::with_nonce(first, mechanism, credential, &own)
    }

    fn with_nonce(
        first: ClientFirst,
        mechanism: Mechanism,
        credential: Credential,
        own: &str,
    ) -> Challenge {
        let nonce = format!("{}{own}", first.nonce);
        let salt = BASE64.encode(&credential.salt);
        let message = format!("r={nonce},s={salt},i={}", credential.iterations);
        Challenge {
            mechanism,
            credential,
            gs2_header: first.gs2_header,
            client_first: first.bare,
            own_nonce: own.to_owned(),
            message,
        }
    }

    /// The server's first message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The server's last message, for a client that answered well.
    ///
    /// # Errors
    /// When it did not.
    pub fn answer(&self, message: &[u8]) -> Result<String, ScramError> {
        let malformed = ScramError::Malformed;
        let text = str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed("no proof"))?;
        let mut attributes = without_proof.split(',');
        let mut next = |name| attributes.next().and_then(|text| text.strip_prefix(name));
        let binding = next("c=").ok_or(malformed("no channel binding"))?;
        let nonce = next("r=").ok_or(malformed("no nonce"))?;
        if BASE64.decode(binding).ok().as_deref() != Some(self.gs2_header.as_bytes()) {
            return Err(malformed("another GS2 header than before"));
        }
        // As Kafka checks it: librdkafka before 2.6.1 repeats its own part once more. The part that
        // makes an exchange new is the server's.
        if !nonce.ends_with(&self.own_nonce) {
            return Err(malformed("another nonce than it was given"));
        }
        let proof = BASE64
            .decode(proof)
            .map_err(|_| malformed("the proof is not base64"))?;
        let messages = format!("{},{},{without_proof}", self.client_first, self.message);
        let messages = messages.as_bytes();
        if !keys::is_proof(self.mechanism, &self.credential, messages, &proof) {
            return Err(ScramError::WrongProof);
        }
        let signature = keys::server_signature(self.mechanism, &self.credential, messages);
        Ok(format!("v={}", BASE64.encode(signature)))
    }
}

/// A name as SCRAM writes it: `=2C` for a comma, `=3D` for an equals sign.
fn decoded_name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut parts = text.split('=');
    name.push_str(parts.next()?);
    for part in parts {
        let (sign, rest) = [("2C", ','), ("3D", '=')]
            .into_iter()
            .find_map(|(code, sign)| Some((sign, part.strip_prefix(code)?)))?;
        name.push(sign);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        BASE64.decode(text).unwrap()
    }

    /// RFC 7677, section 3.
    fn example() -> Challenge {
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let salt = decoded("W22ZaJ0SNY7soEsUEjb6gQ==");
        let credential = keys::of_password(Mechanism::ScramSha256, b"pencil", salt, 4096);
        let own = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        Challenge::with_nonce(first, Mechanism::ScramSha256, credential, own)
    }

    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_of_rfc_7677_is_the_one_that_it_shows() {
        let challenge = example();
        assert_eq!(
            challenge.message(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let answer = challenge.answer(FINAL.as_bytes()).unwrap();
        assert_eq!(answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_proof_of_another_password_and_a_changed_message_are_refused() {
        let challenge = example();
        let wrong = FINAL.replace("dHzb", "dHzc");
        assert_eq!(
            challenge.answer(wrong.as_bytes()),
            Err(ScramError::WrongProof)
        );
        let short = FINAL.replace("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "AAAA");
        assert_eq!(
            challenge.answer(short.as_bytes()),
            Err(ScramError::WrongProof)
        );
        for (from, to) in [
            ("biws", "eSws"),
            ("EkqO%", "EkqO&"),
            (",p=", ",q="),
            ("p=dH", "p=!!"),
        ] {
            let changed = FINAL.replace(from, to);
            let refused = challenge.answer(changed.as_bytes()).unwrap_err();
            assert!(
                matches!(refused, ScramError::Malformed(_)),
                "{changed}: {refused}"
            );
        }
        let extended = FINAL.replace(",p=", ",x=1,p=");
        let refused = challenge.answer(extended.as_bytes());
        assert_eq!(
            refused,
            Err(ScramError::WrongProof),
            "what is proved is all of it"
        );
    }

    #[test]
    fn names_are_decoded_and_acting_as_others_is_refused() {
        let parse = |text: &str| ClientFirst::parse(text.as_bytes());
        assert_eq!(parse("n,,n=a=2Cb=3D,r=x").unwrap().user, "a,b=");
        assert_eq!(parse("y,a=a,n=a,r=x,ext=1").unwrap().user, "a");
        assert_eq!(parse("n,a=b,n=a,r=x"), Err(ScramError::OtherIdentity));
        for wrong in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=,r=x",
            "n,,n=a=2D,r=x",
            "n,,n=a",
            "n,,n=a,r=",
            "n,,m=x,n=a,r=x",
            "p=tls-unique,,n=a,r=x",
        ] {
            assert!(
                matches!(parse(wrong), Err(ScramError::Malformed(_))),
                "{wrong}"
            );
        }
        assert!(ClientFirst::parse(&[0xff]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>, text in "[nyr=,a23CDvpc]{0,40}") {
            let _ = ClientFirst::parse(&bytes);
            let _ = ClientFirst::parse(text.as_bytes());
            let challenge = Challenge::with_nonce(
                ClientFirst::parse(b"n,,n=user,r=x").unwrap(),
                Mechanism::ScramSha512,
                keys::of_salted_password(Mechanism::ScramSha512, b"x", vec![1], 4096),
                "y",
            );
            prop_assert!(challenge.answer(&bytes).is_err());
            prop_assert!(challenge.answer(text.as_bytes()).is_err());
        }
    }
}
