//! What clients really speak: the newest versions of the APIs that a group's offsets go over, seen
//! on the wire between them and the node.

use anyhow::{Result, ensure};
use ringlog_tests::deadline::until;
use ringlog_tests::foreign::{announce, missing};
use ringlog_tests::matrix::Client;
use ringlog_tests::matrix::driver::Driver;
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::wire_tap::WireTap;
use ringlog_tests::workdir::WorkDir;

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;

/// A member of a group reads and commits, another process asks what is committed; all of it in
/// version 9.
fn commits_and_fetches_in_version_9(client: Client) -> Result<()> {
    let tap = WireTap::new()?;
    let port = tap.address()?.port();
    let advertised = [
        "--advertised-host".to_owned(),
        "127.0.0.1".to_owned(),
        "--advertised-port".to_owned(),
        port.to_string(),
    ];
    let mut node =
        Node::with(NodeOptions::new(1).arguments(advertised.iter().map(String::as_str)))?;
    tap.pass_on_to(node.kafka(0))?;
    let bootstrap = format!("127.0.0.1:{port}");
    let directory = WorkDir::new()?;
    let driver = |name: &str| Driver::start(client, &bootstrap, directory.path(), name);
    let mut member = match driver("member")? {
        Ok(driver) => driver,
        Err(absent) if absent.installable => {
            return missing(&format!("{}: {}", client.name(), absent.what));
        }
        Err(absent) => {
            announce(&format!("NOT RUN: {}: {}", client.name(), absent.what));
            return Ok(());
        }
    };
    member.must("create topic=t partitions=1")?;
    member.must("produce topic=t partitions=1 producer=p first=0 count=10")?;
    member.must("join group=g member=m topic=t")?;
    let mut operator = driver("operator")?.map_err(|absent| anyhow::anyhow!(absent.what))?;
    until("all is committed", || {
        let committed = operator.must("committed group=g topic=t partitions=1")?;
        Ok((committed == "10").then_some(()))
    })?;
    member.must("leave")?;
    let spoken = tap.spoken();
    for api in [OFFSET_COMMIT, OFFSET_FETCH] {
        let versions: Vec<i16> = spoken
            .iter()
            .filter(|(key, _)| *key == api)
            .map(|at| at.1)
            .collect();
        ensure!(
            versions == [9],
            "{} speaks API {api} in {versions:?}",
            client.name()
        );
    }
    node.check_running()
}

#[test]
fn franz_go_commits_and_fetches_offsets_in_version_9() -> Result<()> {
    commits_and_fetches_in_version_9(Client::FranzGo)
}

#[test]
fn java_commits_and_fetches_offsets_in_version_9() -> Result<()> {
    commits_and_fetches_in_version_9(Client::Java)
}
