//! One client on trial: the node, the directory in which the histories of its processes gather, and
//! what can be asked of both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::client::Client;
use super::driver::Driver;
use super::node_view::NodeView;
use crate::deadline::until;
use crate::history::record::{Recorder, now};
use crate::history::{Event, Follower, Report, check};
use crate::node::Node;

/// A client, and a node that only it talks to.
pub struct Trial<'a> {
    client: Client,
    node: &'a Node,
    directory: &'a Path,
}

impl<'a> Trial<'a> {
    /// Of a client against a node, with histories in a directory.
    pub fn new(node: &'a Node, client: Client, directory: &'a Path) -> Trial<'a> {
        Trial {
            client,
            node,
            directory,
        }
    }

    /// One more process with the client.
    pub fn driver(&self, name: &str) -> Result<Driver> {
        let started = Driver::start(self.client, &self.node.bootstrap(), self.directory, name);
        match started? {
            Ok(driver) => Ok(driver),
            Err(absent) => bail!("{}", absent.what),
        }
    }

    /// The node without a client.
    pub fn view(&self) -> Result<NodeView> {
        let cores = self.node.bootstrap();
        let addresses = cores
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<_>, _>>();
        NodeView::open(&addresses.context("addresses of the node")?)
    }

    /// What clients have done with a topic until now.
    pub fn progress(&self, topic: &str, group: &str) -> Result<Progress> {
        let mut follower = Follower::new(self.directory);
        follower.look(|_| {})?;
        let mut progress = Progress::default();
        for entry in follower.history().of_topic(topic).entries() {
            progress.add(&entry.event, group);
        }
        Ok(progress)
    }

    /// Waits until a group has come somewhere.
    pub fn wait_for(
        &self,
        (topic, group): (&str, &str),
        what: &str,
        reached: impl Fn(&Progress) -> bool,
    ) -> Result<Progress> {
        let mut last = Progress::default();
        let found = until(what, || {
            // Each look reads everything: often enough for people, seldom enough for the clients.
            std::thread::sleep(std::time::Duration::from_millis(50));
            last = self.progress(topic, group)?;
            Ok(reached(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("{last:?}"))
    }

    /// Notes that a group has read a topic up to where it ends now.
    pub fn write_ended(&self, group: &str, topic: &str, partitions: i32) -> Result<()> {
        let since = now();
        let ends = self.view()?.ends(topic, partitions)?;
        let mut recorder = Recorder::open(&self.directory.join("test.jsonl"))?;
        recorder.write_ended(group, topic, &ends, since)
    }

    /// Checks all that was done with a topic: nothing may be wrong, and so much has to have been sent,
    /// all of it acknowledged.
    pub fn check(&self, topic: &str, sent: usize) -> Result<Report> {
        let mut follower = Follower::new(self.directory);
        follower.look(|_| {})?;
        let report = check(&follower.history().of_topic(topic));
        ensure!(report.faults.is_empty(), "{report}");
        ensure!(
            (report.sent, report.acknowledged) == (sent, sent),
            "{sent} were to be sent and acknowledged: {report}"
        );
        Ok(report)
    }
}

/// How far a group has come in a topic.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Which member has which partition, as the members were told last.
    pub owners: BTreeMap<i32, String>,
    /// Which places were read, and by whom first.
    pub read: BTreeMap<(i32, i64), String>,
    /// Up to where commits were acknowledged.
    pub committed: BTreeMap<i32, i64>,
    /// Whether the client says when a commit is acknowledged.
    pub says_committed: bool,
}

impl Progress {
    fn add(&mut self, event: &Event, of: &str) {
        match event {
            Event::Assigned {
                group,
                member,
                partition,
            } if group == of => {
                self.owners.insert(partition.partition, member.clone());
            }
            Event::Read {
                group,
                member,
                partition,
                offset,
                ..
            } if group == of => {
                let place = (partition.partition, *offset);
                self.read.entry(place).or_insert_with(|| member.clone());
            }
            Event::Committed {
                group,
                partition,
                offset,
                ..
            } if group == of => {
                self.says_committed = true;
                self.committed.insert(partition.partition, *offset);
            }
            _ => {}
        }
    }

    /// Who has partitions.
    #[must_use]
    pub fn members(&self) -> BTreeSet<&str> {
        self.owners.values().map(String::as_str).collect()
    }

    /// How many events are committed, for a client that says so; else how many are read.
    #[must_use]
    pub fn settled(&self) -> i64 {
        if self.says_committed {
            self.committed.values().sum()
        } else {
            i64::try_from(self.read.len()).unwrap_or(i64::MAX)
        }
    }
}
