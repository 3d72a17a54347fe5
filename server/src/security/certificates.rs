//! PEM files into what TLS is spoken with: TLS 1.2 and 1.3, with the algorithms that rustls holds
//! to be sound.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::config::access::Certificate;

/// Why files make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read, or is not PEM.
    #[error("reading {what} from {path} failed: {reason}")]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Files that do not make a certificate together.
    #[error("the certificate {chain} and the key {key} cannot be used: {reason}")]
    Unusable {
        /// The chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The node's certificate. Handshakes take the one that is there when they begin, so that it can be
/// read anew while connections go on.
#[derive(Debug)]
pub struct CurrentCertificate {
    files: Certificate,
    current: RwLock<Arc<CertifiedKey>>,
}

impl CurrentCertificate {
    /// What is in the files.
    ///
    /// # Errors
    /// When that is no certificate with its key.
    pub fn read(files: &Certificate) -> Result<CurrentCertificate, CertificateError> {
        Ok(CurrentCertificate {
            files: files.clone(),
            current: RwLock::new(certified_key(files)?),
        })
    }

    /// Takes what is in the files now.
    ///
    /// # Errors
    /// When that is no certificate with its key; the one before stays.
    pub fn read_again(&self) -> Result<(), CertificateError> {
        let read = certified_key(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Where it is read from.
    #[must_use]
    pub fn files(&self) -> &Certificate {
        &self.files
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

/// What a listener speaks TLS with. With authorities of clients, a client must have a certificate
/// of one of them.
///
/// # Errors
/// When there are no authorities in the file.
pub fn server_config(
    certificate: &Arc<CurrentCertificate>,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has what the default versions need");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let what = "authorities of clients";
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, what)? {
                let added = roots.add(authority);
                added.map_err(|error| file_error(what, path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build();
            let verifier = verifier.map_err(|error| file_error(what, path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let resolver: Arc<CurrentCertificate> = Arc::clone(certificate);
    Ok(Arc::new(builder.with_cert_resolver(resolver)))
}

fn certified_key(files: &Certificate) -> Result<Arc<CertifiedKey>, CertificateError> {
    let Certificate { chain, key } = files;
    let certificates = certificates(chain, "a certificate")?;
    let private_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file_error("a private key", key, &error))?;
    let provider = rustls::crypto::ring::default_provider();
    let made = CertifiedKey::from_der(certificates, private_key, &provider);
    made.map(Arc::new)
        .map_err(|error| CertificateError::Unusable {
            chain: chain.clone(),
            key: key.clone(),
            reason: error.to_string(),
        })
}

/// The certificates in a file, one at least. `what` says what they are for.
///
/// # Errors
/// When there is none to be had.
pub fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| file_error(what, path, &error))?;
    if found.is_empty() {
        return Err(file_error(what, path, &"there is none in it"));
    }
    Ok(found)
}

fn file_error(
    what: &'static str,
    path: &Path,
    reason: &impl std::fmt::Display,
) -> CertificateError {
    CertificateError::File {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_certificate_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let chain = write("chain.pem", &own.cert.pem());
        let key = write("key.pem", &own.signing_key.serialize_pem());
        let other = write("other.pem", &other.signing_key.serialize_pem());
        let empty = write("empty.pem", "");
        let config = |chain: &PathBuf, key: &PathBuf, ca: Option<&Path>| {
            let (chain, key) = (chain.clone(), key.clone());
            let read = CurrentCertificate::read(&Certificate { chain, key });
            let config = read.and_then(|read| server_config(&Arc::new(read), ca));
            config.map_err(|error| error.to_string())
        };
        config(&chain, &key, None).unwrap();
        config(&chain, &key, Some(&chain)).unwrap();
        assert!(
            config(&chain, &other, None)
                .unwrap_err()
                .contains("other.pem")
        );
        assert!(
            config(&empty, &key, None)
                .unwrap_err()
                .contains("empty.pem")
        );
        assert!(
            config(&chain, &empty, None)
                .unwrap_err()
                .contains("private key")
        );
        assert!(
            config(&chain, &key, Some(&empty))
                .unwrap_err()
                .contains("authorities")
        );
        let missing = dir.path().join("missing.pem");
        assert!(
            config(&missing, &key, None)
                .unwrap_err()
                .contains("missing.pem")
        );
    }

    #[test]
    fn a_certificate_is_read_again_and_the_one_before_stays_when_that_fails() {
        let dir = tempfile::tempdir().unwrap();
        let files = Certificate {
            chain: dir.path().join("chain.pem"),
            key: dir.path().join("key.pem"),
        };
        let write = || {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(&files.chain, made.cert.pem()).unwrap();
            std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
            made.cert.der().to_vec()
        };
        let first = write();
        let certificate = CurrentCertificate::read(&files).unwrap();
        let current = || certificate.current.read().unwrap().cert[0].to_vec();
        assert_eq!(current(), first);
        let second = write();
        assert_eq!(current(), first);
        certificate.read_again().unwrap();
        assert_eq!(current(), second);
        std::fs::write(&files.chain, "half a fi").unwrap();
        assert!(certificate.read_again().is_err());
        assert_eq!(current(), second);
    }
}
