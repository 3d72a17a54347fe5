//! An authority, a node's certificate and a client's, made for one test.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Where the files are.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them in a folder that is there.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn make(folder: &Path) -> Result<Certificates> {
        let made = Certificates {
            folder: folder.to_owned(),
        };
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "Ringlog test authority");
        let certificate = authority.self_signed(&authority_key)?;
        std::fs::write(made.path("authority.pem"), certificate.pem())?;
        let issuer = Issuer::new(authority, authority_key);
        for (name, names) in [("node", &["127.0.0.1", "localhost"][..]), ("client", &[])] {
            let key = KeyPair::generate()?;
            let names = names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>();
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer)?;
            std::fs::write(made.path(&format!("{name}.pem")), certificate.pem())?;
            std::fs::write(made.path(&format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(made)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file with this name: `authority.pem`, `node.pem`, `node.key`, `client.pem`,
    /// `client.key`.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}
