//! What a node has of keys, certificates and threads: made from its settings before it starts,
//! shared by its cores and the HTTP face.

use std::sync::{Arc, Mutex, PoisonError};

use ringlog_engine::users::{Credential, Mechanism};
use rustls::ServerConfig;

use super::certificates::{self, CertificateError};
use super::keys;
use super::password::Password;
use super::password_files::{self, PasswordFileError};
use super::passwords::Passwords;
use super::workers::{self, Workers};
use crate::config::Settings;

/// Why a node cannot be secured as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A certificate, its key, or the authorities.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The password of a first user.
    #[error(transparent)]
    Password(#[from] PasswordFileError),
    /// Threads.
    #[error("starting the threads that hash passwords and shake hands failed: {0}")]
    Threads(#[from] std::io::Error),
}

/// What a node has of it; shared by its cores and the HTTP face.
#[derive(Debug)]
pub struct Security {
    /// For Kafka over TLS.
    kafka_tls: Option<Arc<ServerConfig>>,
    /// For HTTP over TLS.
    http_tls: Option<Arc<ServerConfig>>,
    /// Threads for what is long.
    pub workers: Workers,
    /// Checks passwords.
    pub passwords: Passwords,
    first_users: Mutex<Vec<(String, Password)>>,
}

impl Security {
    /// Reads the files that the settings name, and starts the threads that they make necessary.
    ///
    /// # Errors
    /// The first file that is not what it should be.
    pub fn open(settings: &Settings) -> Result<Security, SecurityError> {
        let access = &settings.access;
        let config = |client_ca| {
            let files = access.certificate.as_ref();
            files.map(|files| certificates::server_config(files, client_ca))
        };
        let kafka_tls = access
            .kafka_tls_addr
            .and_then(|_| config(access.client_ca.as_deref()))
            .transpose()?;
        let http_tls = access
            .http_tls
            .then(|| config(None))
            .flatten()
            .transpose()?;
        let needed = access.asks() || kafka_tls.is_some() || !access.users.is_empty();
        Ok(Security {
            kafka_tls,
            http_tls,
            workers: Workers::start(if needed { workers::THREADS } else { 0 })?,
            passwords: Passwords::new(),
            first_users: Mutex::new(password_files::read(&access.users)?),
        })
    }

    /// How Kafka is spoken over TLS, if it is.
    #[must_use]
    pub fn kafka_tls(&self) -> Option<&Arc<ServerConfig>> {
        self.kafka_tls.as_ref()
    }

    /// How HTTP is spoken over TLS, if it is.
    #[must_use]
    pub fn http_tls(&self) -> Option<&Arc<ServerConfig>> {
        self.http_tls.as_ref()
    }

    /// The users that the node is started with, once.
    #[must_use]
    pub fn take_first_users(&self) -> Vec<(String, Password)> {
        let users = self.first_users.lock();
        std::mem::take(&mut *users.unwrap_or_else(PoisonError::into_inner))
    }

    /// Credentials of every mechanism for a password; `None`: the threads are gone.
    ///
    /// Cancellation: nothing is kept.
    pub async fn credentials_of(&self, password: Password) -> Option<Vec<(Mechanism, Credential)>> {
        let hash = move || {
            let of = |mechanism| {
                let salt = keys::random::<{ keys::SALT_BYTES }>().to_vec();
                let credential = keys::of_password(mechanism, &password, salt, keys::ITERATIONS);
                (mechanism, credential)
            };
            Mechanism::ALL.map(of).to_vec()
        };
        self.workers.run(hash).await
    }

    /// Whether this is the password of a user with these credentials; of a user without any it is
    /// not, and that takes as long.
    ///
    /// Cancellation: nothing is lost.
    pub async fn is_password(
        &self,
        credentials: Vec<(Mechanism, Credential)>,
        user: &str,
        password: Password,
    ) -> bool {
        self.passwords
            .check(&self.workers, credentials, user, password)
            .await
    }
}
