//! PEM files into what TLS is spoken with: TLS 1.2 and 1.3, with the algorithms that rustls holds
//! to be sound.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
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

/// What a listener speaks TLS with. With authorities of clients, a client must have a certificate
/// of one of them.
pub(super) fn server_config(
    files: &Certificate,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let Certificate { chain, key } = files;
    let certificates = certificates(chain, "a certificate")?;
    let private_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file_error("a private key", key, &error))?;
    let unusable = |reason: String| CertificateError::Unusable {
        chain: chain.clone(),
        key: key.clone(),
        reason,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let what = "authorities of clients";
            let mut roots = RootCertStore::empty();
            for authority in self::certificates(path, what)? {
                let added = roots.add(authority);
                added.map_err(|error| file_error(what, path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build();
            let verifier = verifier.map_err(|error| file_error(what, path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder
        .with_single_cert(certificates, private_key)
        .map(Arc::new)
        .map_err(|error| unusable(error.to_string()))
}

fn certificates(
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
            server_config(&Certificate { chain, key }, ca).map_err(|error| error.to_string())
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
}
