//! TLS to a node: which authorities are trusted, and what a handshake that failed means for people.
//!
//! A certificate is always checked. `--ca-cert` takes that of an authority, or one that signed
//! itself, so that nobody needs a switch for trusting everybody.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::failure::Failure;
use crate::security::certificates::certificates;

/// What a node's certificate is checked against.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// The authorities in a file, and no others.
    File(PathBuf),
    /// Those that the system trusts.
    System,
}

impl Trust {
    /// How TLS is spoken by whoever trusts so.
    ///
    /// # Errors
    /// When there are no authorities to be had.
    pub(super) fn config(&self) -> Result<TlsConfig, Failure> {
        let authorities = match self {
            Trust::File(path) => of_file(path)?,
            Trust::System => of_system()?,
        };
        let authorities = authorities
            .iter()
            .map(|one| Certificate::from_der(one).to_owned());
        let provider = rustls::crypto::ring::default_provider();
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(authorities.collect())))
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .build())
    }

    /// What a failed handshake means, and what to do about it.
    pub(super) fn explain(&self, error: &Error) -> (String, String) {
        let say = |cause: &str, advice: &str| (cause.to_owned(), advice.to_owned());
        let renew = "give the node another one, and SIGHUP to read it";
        match error {
            Error::InvalidCertificate(wrong) => match wrong {
                // A wrong signature: there is an authority of the same name, with another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => match self {
                    Trust::File(path) => (
                        format!(
                            "its certificate is not of an authority in {}",
                            path.display()
                        ),
                        "name the file with the certificate of its authority with --ca-cert"
                            .to_owned(),
                    ),
                    Trust::System => say(
                        "its certificate is of an authority that this system does not trust",
                        "name a file with the authority's certificate with --ca-cert",
                    ),
                },
                CertificateError::NotValidForNameContext {
                    expected,
                    presented,
                } => (
                    format!(
                        "its certificate is for {}, not for {}",
                        listed(presented),
                        expected.to_str()
                    ),
                    "name it in --url as its certificate does".to_owned(),
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    say("its certificate has expired", renew)
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => say(
                    "its certificate is not valid yet",
                    "compare the clocks of both machines",
                ),
                CertificateError::Other(other) if is_authority(other) => say(
                    "its certificate is that of an authority (CA:TRUE)",
                    "give the node one with basicConstraints=CA:FALSE",
                ),
                other => (format!("its certificate is unsound: {other}"), renew.into()),
            },
            Error::InvalidMessage(_) => say(
                "what it answers is not TLS",
                "say http:// in --url, or start the node with --http-tls",
            ),
            other => (
                other.to_string(),
                "is it the HTTP address of a Ringlog node?".to_owned(),
            ),
        }
    }
}

/// What TLS failed of, where a request failed of that.
pub(super) fn failed(error: &ureq::Error) -> Option<&Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Whether a request without TLS may have failed because TLS is spoken where it went: what came was
/// no HTTP, or nothing.
pub(super) fn may_be_missing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Protocol(_) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ),
        _ => false,
    }
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |error: &dyn fmt::Display| {
        Failure::WrongUse(format!(
            "--ca-cert cannot be used: {error}; a PEM file with the certificate of the authority \
             that signed the node's is expected"
        ))
    };
    let found = certificates(path, "authorities").map_err(|error| wrong(&error))?;
    for one in &found {
        let added = RootCertStore::empty().add(one.clone());
        added.map_err(|error| wrong(&format!("{}: {error}", path.display())))?;
    }
    Ok(found)
}

fn of_system() -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(Failure::WrongUse(format!(
            "this system has no authorities to check the node's certificate against ({}); name a \
             file with the authority's certificate with --ca-cert",
            reasons.join(", ")
        )));
    }
    // Some may be damaged: those that are sound are trusted.
    Ok(found.certs)
}

/// The names in a certificate, of `DnsName("a")` and `IpAddress(…)`.
fn listed(presented: &[String]) -> String {
    let name = |text: &String| {
        let inside = text.split_once('(').map_or(text.as_str(), |(_, rest)| rest);
        inside.trim_end_matches(')').trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name at all".to_owned(),
        some => some.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// Whether a certificate was refused because it may sign others: rustls has no variant for that.
fn is_authority(error: &OtherError) -> bool {
    error.to_string().contains("CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, Stream};

    use super::super::api::Api;
    use super::*;

    /// A server with a certificate for these names, changed so; its address, and the certificate in
    /// a file.
    fn server(
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (SocketAddr, tempfile::NamedTempFile) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(made.pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = Stream::new(&mut tls, &mut socket);
            // Whoever does not trust goes away in the middle of it.
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        });
        (address, file)
    }

    /// What comes of asking it while its own certificate is trusted.
    fn asked(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Result<(), String> {
        let (address, file) = server(names, change);
        let trust = Trust::File(file.path().to_owned());
        let api = Api::new(&format!("https://{address}"), trust).unwrap();
        let answer = api.get::<serde_json::Value>("/topics");
        answer.map(|_| ()).map_err(|failure| {
            assert!(matches!(failure, Failure::Untrusted { .. }), "{failure}");
            failure.to_string()
        })
    }

    #[test]
    fn a_certificate_that_signed_itself_is_trusted_where_it_is_named() {
        asked(&["127.0.0.1"], |_| {}).unwrap();
    }

    #[test]
    fn an_authority_that_is_not_in_the_file_is_none_though_its_name_were() {
        for name in ["of another name", "rcgen self signed cert"] {
            let (address, _) = server(&["127.0.0.1"], |_| {});
            let (_, file) = server(&["127.0.0.1"], |params| {
                params.distinguished_name.push(DnType::CommonName, name);
            });
            let trust = Trust::File(file.path().to_owned());
            let api = Api::new(&format!("https://{address}"), trust).unwrap();
            let refused = api.get::<serde_json::Value>("/topics").unwrap_err();
            assert!(matches!(refused, Failure::Untrusted { .. }));
            let told = refused.to_string();
            assert!(told.contains("not of an authority in"), "{name}: {told}");
        }
    }

    #[test]
    fn why_a_certificate_is_not_trusted_is_told_with_what_to_do() {
        let told = |refused: Result<(), String>, words: [&str; 2]| {
            let told = refused.unwrap_err();
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        };
        told(
            asked(&["example.org", "127.0.0.2"], |_| {}),
            ["is for example.org, 127.0.0.2, not for 127.0.0.1", "--url"],
        );
        told(
            asked(&["127.0.0.1"], |params| {
                params.not_after = date_time_ymd(2001, 2, 3);
            }),
            ["has expired", "another one"],
        );
        told(
            asked(&["127.0.0.1"], |params| {
                params.not_before = date_time_ymd(3001, 2, 3);
                params.not_after = date_time_ymd(3002, 2, 3);
            }),
            ["not valid yet", "clocks"],
        );
        told(
            asked(&["127.0.0.1"], |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
            ["(CA:TRUE)", "CA:FALSE"],
        );
    }

    #[test]
    fn a_file_of_authorities_in_which_one_is_damaged_is_refused() {
        let (_, mut file) = server(&["127.0.0.1"], |_| {});
        file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        let refused = Trust::File(file.path().to_owned()).config().unwrap_err();
        assert!(matches!(refused, Failure::WrongUse(_)));
        let name = file.path().display().to_string();
        assert!(refused.to_string().contains(&name), "{refused}");
    }
}
