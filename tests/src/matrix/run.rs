//! One client through all features, against a node of its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::client::{Absent, Client};
use super::driver::Driver;
use super::outcome::{Cell, Feature};
use super::trial::Trial;
use super::{admin, groups, records, security};
use crate::node::{Node, NodeOptions, free_ports};

/// What came of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// Which client.
    pub client: Client,
    /// The version that was driven.
    pub version: String,
    /// What came of each feature.
    pub cells: BTreeMap<Feature, Cell>,
}

/// Tries everything with a client. Takes some 15 seconds, most of them waiting for a session to end.
///
/// # Errors
/// When node or driver do not start. Inside: what the client needs and is not here.
pub fn run(client: Client) -> Result<Result<Results, Absent>> {
    // Three members come one after the other; nothing is won by waiting for more of them.
    let options = NodeOptions::new(2)
        .environment("RINGLOG_GROUP_INITIAL_REBALANCE_DELAY_MS", "500")
        // Where clients find it again when it was killed.
        .port(free_ports(2)?);
    let mut node = Node::with(options)?;
    let directory = node.scratch("histories");
    std::fs::create_dir(&directory)?;
    let started = Driver::start(client, &node.bootstrap(), &directory, "main")?;
    let mut main = match started {
        Ok(driver) => driver,
        Err(absent) => return Ok(Err(absent)),
    };
    let mut cells = BTreeMap::new();
    let trial = Trial::new(&node, client, &directory);
    // A killed member's session takes seconds to end: meanwhile the rest is tried.
    std::thread::scope(|scope| -> Result<()> {
        let group = scope.spawn(|| groups::try_group(&trial));
        let security = scope.spawn(|| security::try_all(client));
        cells.extend(records::try_all(&trial, &mut main));
        cells.extend([groups::try_resume(&trial, &mut main)]);
        cells.extend(admin::try_all(&trial, &mut main));
        let group = group.join().ok().context("trying the group panicked")?;
        cells.extend(group);
        cells.extend([security
            .join()
            .ok()
            .context("trying TLS and SCRAM panicked")?]);
        Ok(())
    })?;
    cells.extend([groups::try_restart(
        &mut node, client, &directory, &mut main,
    )]);
    let version = main.version().to_owned();
    drop(main);
    node.check_running()?;
    Ok(Ok(Results {
        client,
        version,
        cells,
    }))
}
