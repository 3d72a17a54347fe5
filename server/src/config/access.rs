//! Who gets in and how: listeners with TLS, what each asks of its clients, and the rule that
//! nothing is open to other machines by accident.
//!
//! | listener | beyond loopback, without `--insecure` |
//! |---|---|
//! | Kafka | with SASL, and no PLAIN among its mechanisms |
//! | Kafka over TLS | with SASL, or certificates of clients |
//! | HTTP | with TLS and authentication |

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringlog_engine::users::Mechanism;

use super::address::listening_address;
use super::layers::{ConfigError, Layers};

/// A way for a client to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password itself (RFC 4616).
    Plain,
    /// A proof that the client knows it (RFC 5802).
    Scram(Mechanism),
}

impl SaslMechanism {
    /// Every mechanism there is.
    pub const ALL: [SaslMechanism; 3] = [
        SaslMechanism::Scram(Mechanism::ScramSha512),
        SaslMechanism::Scram(Mechanism::ScramSha256),
        SaslMechanism::Plain,
    ];

    /// Its name in SASL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::Scram(mechanism) => mechanism.name(),
        }
    }
}

/// Who gets in, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Whether Kafka clients must log in.
    pub kafka_sasl: bool,
    /// Where core 0 listens for Kafka over TLS; core n on port + n, or on any free port when it
    /// is 0.
    pub kafka_tls_addr: Option<SocketAddr>,
    /// Whether Kafka clients over TLS must log in.
    pub kafka_tls_sasl: bool,
    /// What a login may use.
    pub mechanisms: Vec<SaslMechanism>,
    /// Whether HTTP is spoken over TLS.
    pub http_tls: bool,
    /// Whether HTTP clients must say who they are.
    pub http_basic: bool,
    /// The certificate and its key, where there is TLS.
    pub certificate: Option<Certificate>,
    /// Authorities of the certificates that Kafka clients over TLS must have.
    pub client_ca: Option<PathBuf>,
    /// Users to begin with, each with the file that has the password.
    pub users: Vec<(String, PathBuf)>,
    /// How long a handshake may take, and then a login.
    pub login_timeout: Duration,
    /// What `--insecure` lets be, one line each; `None` when it was not given.
    pub insecure: Option<Vec<String>>,
}

/// Files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Ten minutes: whoever needs longer is not logging in.
const LONGEST_LOGIN_MS: u64 = 600_000;

impl Access {
    /// What these layers say, for listeners on these addresses.
    ///
    /// # Errors
    /// A value that cannot be, values that do not go together, and what would be open to other
    /// machines while `insecure` is not set.
    pub fn from_layers(
        layers: &Layers,
        kafka_addr: SocketAddr,
        http_addr: SocketAddr,
    ) -> Result<Access, ConfigError> {
        let kafka_tls_addr = layers.text("kafka_tls_addr").map(|_| "kafka_tls_addr");
        let kafka_tls_addr = kafka_tls_addr.map(|name| listening_address(layers, name));
        let kafka_tls_addr = kafka_tls_addr.transpose()?;
        let kafka_sasl = layers.text("kafka_auth") == Some("sasl");
        let kafka_tls_sasl = layers.text("kafka_tls_auth") == Some("sasl");
        let http_basic = layers.text("http_auth").map_or(
            kafka_sasl || (kafka_tls_addr.is_some() && kafka_tls_sasl),
            |asked| asked == "basic",
        );
        let login_ms = layers.number("login_timeout_ms", 1, LONGEST_LOGIN_MS)?;
        let mut access = Access {
            kafka_sasl,
            kafka_tls_addr,
            kafka_tls_sasl,
            mechanisms: mechanisms(layers)?,
            http_tls: layers.switch("http_tls"),
            http_basic,
            certificate: certificate(layers)?,
            client_ca: layers.text("tls_client_ca").map(PathBuf::from),
            users: users(layers)?,
            login_timeout: Duration::from_millis(login_ms.unwrap_or(LONGEST_LOGIN_MS)),
            insecure: layers.switch("insecure").then(Vec::new),
        };
        access.check_tls()?;
        for (name, address, open) in access.openings(kafka_addr, http_addr) {
            let Some(open) = open.filter(|_| !address.ip().is_loopback()) else {
                continue;
            };
            match &mut access.insecure {
                Some(lines) => lines.push(format!("{name} = {address}: {}", open.what)),
                None => {
                    let Opening { what, instead } = open;
                    let reason = format!(
                        "this address can be reached from other machines, and {what}. {instead}, \
                         listen on 127.0.0.1, or say --insecure if the network keeps others out"
                    );
                    return Err(layers.refuse(name, reason));
                }
            }
        }
        Ok(access)
    }

    /// Whether anything asks clients who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.kafka_sasl || self.http_basic || (self.kafka_tls_addr.is_some() && self.kafka_tls_sasl)
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        let needs = if self.kafka_tls_addr.is_some() {
            Some("kafka_tls_addr")
        } else {
            self.http_tls.then_some("http_tls")
        };
        match needs {
            Some(needs) if self.certificate.is_none() => Err(ConfigError::Conflict(format!(
                "{needs} is set, and TLS needs a certificate: give --tls-cert and --tls-key"
            ))),
            None if self.certificate.is_some() => Err(ConfigError::Conflict(
                "a certificate is given and nothing uses it: give --kafka-tls-addr or --http-tls"
                    .to_owned(),
            )),
            _ if self.client_ca.is_some() && self.kafka_tls_addr.is_none() => {
                Err(ConfigError::Conflict(
                    "tls_client_ca is for Kafka clients over TLS: give --kafka-tls-addr".to_owned(),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What each listener leaves open to whoever reaches it.
    fn openings(
        &self,
        kafka: SocketAddr,
        http: SocketAddr,
    ) -> Vec<(&'static str, SocketAddr, Option<Opening>)> {
        let everything = |instead| Opening {
            what: "there is no authentication on it: whoever reaches it can read and write \
                   everything",
            instead,
        };
        let passwords = |instead| Opening {
            what: "passwords would cross the network in the clear",
            instead,
        };
        let plain_kafka = if !self.kafka_sasl {
            Some(everything(
                "Ask for it (--kafka-auth sasl, or --kafka-tls-addr instead)",
            ))
        } else if self.mechanisms.contains(&SaslMechanism::Plain) {
            Some(passwords(
                "Leave PLAIN out of --sasl-mechanisms, or use --kafka-tls-addr instead",
            ))
        } else {
            None
        };
        let is_asked = self.kafka_tls_sasl || self.client_ca.is_some();
        let over_tls = (!is_asked)
            .then(|| everything("Ask for it (--kafka-tls-auth sasl, or --tls-client-ca)"));
        let http_opening = if !self.http_basic {
            Some(everything("Ask for it (--http-auth basic and --http-tls)"))
        } else if !self.http_tls {
            Some(passwords("Use TLS (--http-tls)"))
        } else {
            None
        };
        let mut openings = vec![
            ("kafka_addr", kafka, plain_kafka),
            ("http_addr", http, http_opening),
        ];
        if let Some(address) = self.kafka_tls_addr {
            openings.push(("kafka_tls_addr", address, over_tls));
        }
        openings
    }
}

/// What is open, and what to do about it.
struct Opening {
    what: &'static str,
    instead: &'static str,
}

fn certificate(layers: &Layers) -> Result<Option<Certificate>, ConfigError> {
    match (layers.text("tls_cert"), layers.text("tls_key")) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => Ok(Some(Certificate {
            chain: chain.into(),
            key: key.into(),
        })),
        _ => Err(ConfigError::Conflict(
            "tls_cert and tls_key belong together: give both, or none".to_owned(),
        )),
    }
}

fn mechanisms(layers: &Layers) -> Result<Vec<SaslMechanism>, ConfigError> {
    let text = layers.text("sasl_mechanisms").unwrap_or_default();
    let mut found = Vec::new();
    for name in text.split(',').map(str::trim) {
        let known = SaslMechanism::ALL.into_iter();
        let Some(mechanism) = known.into_iter().find(|known| known.name() == name) else {
            let names = SaslMechanism::ALL.map(SaslMechanism::name).join(", ");
            let reason = format!("there is no mechanism {name:?}; there are {names}");
            return Err(layers.refuse("sasl_mechanisms", reason));
        };
        if !found.contains(&mechanism) {
            found.push(mechanism);
        }
    }
    Ok(found)
}

fn users(layers: &Layers) -> Result<Vec<(String, PathBuf)>, ConfigError> {
    let mut users: Vec<(String, PathBuf)> = Vec::new();
    for text in layers.texts("user") {
        // The layers have checked the shape.
        let (name, file) = text.rsplit_once('=').unwrap_or((text, ""));
        if users.iter().any(|(known, _)| known == name) {
            let reason = format!("the user {name:?} is given twice");
            return Err(layers.refuse("user", reason));
        }
        users.push((name.to_owned(), file.into()));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::options::add_flags;
    use super::*;

    fn access(arguments: &str) -> Result<Access, ConfigError> {
        let command = add_flags(Command::new("serve"));
        let all = std::iter::once("serve").chain(arguments.split_whitespace());
        let flags = command.try_get_matches_from(all).unwrap();
        let layers = Layers::read(&flags, |_| None, None).unwrap();
        let kafka = listening_address(&layers, "kafka_addr")?;
        let http = listening_address(&layers, "http_addr")?;
        Access::from_layers(&layers, kafka, http)
    }

    #[test]
    fn an_address_beyond_loopback_is_refused_where_nobody_asks_who_comes() {
        for (arguments, words) in [
            ("--kafka-addr 0.0.0.0:9092", "no authentication"),
            ("--kafka-addr [::]:9092", "no authentication"),
            ("--http-addr 0.0.0.0:80", "no authentication"),
            ("--kafka-addr 0.0.0.0:1 --kafka-auth sasl", "in the clear"),
            ("--http-addr 0.0.0.0:1 --http-auth basic", "in the clear"),
            (
                "--kafka-tls-addr 0.0.0.0:1 --tls-cert c --tls-key k --kafka-tls-auth none",
                "no authentication",
            ),
        ] {
            let refused = access(arguments).unwrap_err().to_string();
            assert!(refused.contains(words), "{arguments}: {refused}");
            assert!(refused.contains("--insecure"), "{refused}");
            let taken = access(&format!("{arguments} --insecure")).unwrap();
            let lines = taken.insecure.unwrap();
            assert!(lines.len() == 1 && lines[0].contains(words), "{lines:?}");
        }
    }

    #[test]
    fn an_address_beyond_loopback_is_taken_where_clients_prove_who_they_are() {
        for arguments in [
            "",
            "--kafka-addr [::1]:9092",
            "--kafka-addr 127.0.0.1:1 --kafka-auth sasl",
            "--kafka-addr 0.0.0.0:1 --kafka-auth sasl --sasl-mechanisms SCRAM-SHA-256",
            "--kafka-tls-addr 0.0.0.0:1 --tls-cert c --tls-key k",
            "--kafka-tls-addr 0.0.0.0:1 --tls-cert c --tls-key k --tls-client-ca a \
             --kafka-tls-auth none",
            "--http-addr 0.0.0.0:1 --http-auth basic --http-tls --tls-cert c --tls-key k",
        ] {
            let taken = access(arguments).unwrap();
            assert_eq!(taken.insecure, None, "{arguments}");
        }
    }

    #[test]
    fn http_asks_when_kafka_does_unless_it_is_told_otherwise() {
        assert!(!access("").unwrap().asks());
        assert!(access("--kafka-auth sasl").unwrap().http_basic);
        let tls = "--kafka-tls-addr 127.0.0.1:1 --tls-cert c --tls-key k";
        assert!(access(tls).unwrap().http_basic);
        assert!(
            !access("--kafka-auth sasl --http-auth none")
                .unwrap()
                .http_basic
        );
        let without = access(&format!("{tls} --kafka-tls-auth none")).unwrap();
        assert!(!without.http_basic && !without.asks());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (arguments, word) in [
            ("--kafka-tls-addr 127.0.0.1:1", "--tls-cert"),
            ("--http-tls", "--tls-cert"),
            ("--tls-cert c", "belong together"),
            ("--tls-cert c --tls-key k", "nothing uses it"),
            (
                "--http-tls --tls-cert c --tls-key k --tls-client-ca a",
                "--kafka-tls-addr",
            ),
            ("--sasl-mechanisms GSSAPI", "SCRAM-SHA-256"),
            ("--user a=1 --user a=2", "twice"),
        ] {
            let refused = access(arguments).unwrap_err().to_string();
            assert!(refused.contains(word), "{arguments}: {refused}");
        }
        let users = access("--user a=/b --user c=d=/e").unwrap().users;
        let named = |name: &str, file: &str| (name.to_owned(), PathBuf::from(file));
        assert_eq!(users, [named("a", "/b"), named("c=d", "/e")]);
    }
}
