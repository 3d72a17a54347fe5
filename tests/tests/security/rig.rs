//! A node that asks who comes, on listeners with TLS and without, and clients that say who they
//! are.

use anyhow::Result;
use ringlog_tests::certificates::Certificates;
use ringlog_tests::foreign::{self, Outcome};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::workdir::WorkDir;

/// The password of alice, who is there from the start.
pub const PASSWORD: &str = "alice's sécret";

/// A node, with the files that it and its clients need.
pub struct Rig {
    pub node: Node,
    pub certificates: Certificates,
    folder: WorkDir,
}

/// What a client connects with; librdkafka's names.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

impl Rig {
    /// A node of two cores that wants SASL on both of its Kafka listeners.
    pub fn new(more: &[&str]) -> Result<Rig> {
        let folder = WorkDir::new()?;
        let certificates = Certificates::make(folder.path())?;
        let options = Rig::options(&folder, &certificates, more)?;
        let node = Node::with(options)?;
        Ok(Rig {
            node,
            certificates,
            folder,
        })
    }

    fn options(
        folder: &WorkDir,
        certificates: &Certificates,
        more: &[&str],
    ) -> Result<NodeOptions> {
        let password = folder.join("alice");
        std::fs::write(&password, format!("{PASSWORD}\n"))?;
        let user = format!("alice={}", password.display());
        let (chain, key) = (certificates.file("node.pem"), certificates.file("node.key"));
        let arguments = [
            "--kafka-tls-addr=127.0.0.1:0",
            "--kafka-auth=sasl",
            "--tls-cert",
            &chain,
            "--tls-key",
            &key,
            "--user",
            &user,
        ];
        Ok(NodeOptions::new(2)
            .arguments(arguments)
            .arguments(more.iter().copied()))
    }

    /// Other certificates, of another authority, in the same files.
    pub fn renew_certificates(&mut self) -> Result<()> {
        self.certificates = Certificates::make(self.folder.path())?;
        Ok(())
    }

    /// Starts the node again, with these arguments in place of those before.
    pub fn restart(&mut self, more: &[&str]) -> Result<()> {
        let options = Rig::options(&self.folder, &self.certificates, more)?;
        self.node.restart_with(options)
    }

    /// Runs a feature of a Python script over TLS, as somebody.
    pub fn over_tls(
        &self,
        script: &str,
        feature: &str,
        mechanism: &str,
        user: (&str, &str),
    ) -> Result<Outcome> {
        let settings = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", mechanism),
            ("sasl.username", user.0),
            ("sasl.password", user.1),
        ];
        self.with(script, feature, &self.node.tls_bootstrap(), &settings)
    }

    /// Runs a feature with whatever settings.
    pub fn with(
        &self,
        script: &str,
        feature: &str,
        bootstrap: &str,
        settings: Settings<'_>,
    ) -> Result<Outcome> {
        let authority = self.certificates.file("authority.pem");
        let all = [("ssl.ca.location", authority.as_str())];
        let all = all.iter().chain(settings);
        let all = all.map(|(name, value)| ((*name).to_owned(), (*value).into()));
        let all: serde_json::Map<String, serde_json::Value> = all.collect();
        let all = serde_json::Value::Object(all).to_string();
        foreign::python_feature_with(script, bootstrap, feature, &[("KAFKA_CLIENT", &all)])
    }
}
