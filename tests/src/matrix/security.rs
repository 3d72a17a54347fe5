//! Records over TLS, from somebody who says who he is by SCRAM, on a node that lets nobody else in.

use anyhow::{Context, Result, bail, ensure};

use super::client::Client;
use super::driver::{Answer, Driver};
use super::outcome::{Cell, Feature};
use super::trial::Trial;
use crate::certificates::Certificates;
use crate::http;
use crate::node::{Node, NodeOptions};
use crate::wire::Connection;
use crate::workdir::WorkDir;

const USER: &str = "alice";
const PASSWORD: &str = "alices-secret";
const TOPIC: &str = "confided";
const EVENTS: usize = 300;

/// On a node of its own.
pub fn try_all(client: Client) -> (Feature, Cell) {
    (Feature::Security, Cell::of(confide(client)))
}

fn confide(client: Client) -> Result<Cell> {
    let folder = WorkDir::new()?;
    let certificates = Certificates::make(folder.path())?;
    let node = node(&folder, &certificates)?;
    // Who does not say who he is gets no answer.
    let mut stranger = Connection::open(node.kafka(0))?;
    ensure!(stranger.topics().is_err(), "a stranger is answered");
    let authority = certificates.file("authority.pem");
    let credentials = [
        ("DRIVER_USER", USER),
        ("DRIVER_PASSWORD", PASSWORD),
        ("DRIVER_CA_FILE", authority.as_str()),
    ];
    let bootstrap = node.tls_bootstrap();
    let started = Driver::start_with(client, &bootstrap, folder.path(), "secret", &credentials);
    let mut driver = match started? {
        Ok(driver) => driver,
        Err(absent) => bail!("{}", absent.what),
    };
    // A client without administration has it made by sending to it.
    let made = driver.ask(&format!("create topic={TOPIC} partitions=1"))?;
    let wanted = format!("topic={TOPIC} partitions=1");
    driver.must(&format!(
        "produce {wanted} producer={TOPIC} first=0 count={EVENTS} idempotent=yes"
    ))?;
    driver.must(&format!("consume {wanted} group=scan"))?;
    let report = Trial::new(&node, client, folder.path()).check(TOPIC, EVENTS)?;
    ensure!(report.read == EVENTS, "{report}");
    let logins = logins(&node)?;
    ensure!(logins > 0.0, "{logins} logins, {made:?}");
    if let Answer::Done(_) = made {
        let described = driver.must(&format!("describe topic={TOPIC}"))?;
        ensure!(described == "1", "described with {described} partitions");
    }
    Ok(Cell::Passed)
}

fn node(folder: &WorkDir, certificates: &Certificates) -> Result<Node> {
    let password = folder.join("password");
    std::fs::write(&password, format!("{PASSWORD}\n"))?;
    let user = format!("{USER}={}", password.display());
    let (chain, key) = (certificates.file("node.pem"), certificates.file("node.key"));
    Node::with(NodeOptions::new(2).arguments([
        "--kafka-tls-addr=127.0.0.1:0",
        "--kafka-auth=sasl",
        "--tls-cert",
        &chain,
        "--tls-key",
        &key,
        "--user",
        &user,
    ]))
}

/// How many have been let in, by the node's own count.
fn logins(node: &Node) -> Result<f64> {
    let (status, metrics) = http::get_as(node.http(), "/metrics", USER, PASSWORD)?;
    ensure!(status == 200, "metrics: {status}");
    let values = metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix("ringlog_logins_total{")?;
        labels.rsplit(' ').next()?.parse::<f64>().ok()
    });
    values
        .reduce(|one, other| one + other)
        .context("no figure of logins")
}
