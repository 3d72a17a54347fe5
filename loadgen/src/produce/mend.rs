//! Lost connections and moved leaders: how a worker gets back to work.
//!
//! Invariant: what was in flight on a lost connection is sent again in order (idempotent runs), or
//! counted as unknown and never sent again; a partition changes its connection only while nothing
//! of it is in flight.

use std::sync::atomic::Ordering;

use anyhow::Context;

use crate::clock::now_ns;
use crate::kafka::cluster::{BrokerId, Cluster, TopicLayout};
use crate::produce::connection::Connection;
use crate::produce::worker::{AWAY_NS, Away, TURN_NS, Worker};

impl Worker<'_> {
    /// A connection is gone, and with it the answers that were on their way.
    pub(super) fn lost(&mut self, at: usize, now: u64) {
        self.outcome.disconnects += 1;
        let ends_run = self.shared.options.until_disconnect;
        for pending in self.connections[at].take_pending() {
            let partition = &mut self.partitions[pending.partition];
            if self.shared.producer.is_some() && !ends_run {
                partition.failed(pending, now);
            } else {
                partition.given_up();
                self.outcome.unknown_batches += 1;
            }
        }
        self.away[at] = Some(Away {
            since_ns: now,
            retry_at_ns: now,
            for_good: ends_run,
        });
        if ends_run && self.sending {
            self.shared.stop.store(true, Ordering::Relaxed);
            self.end_sending(now);
        }
    }

    /// Brings lost connections back and follows leaders that moved.
    pub(super) fn mend(&mut self) -> anyhow::Result<()> {
        let now = now_ns();
        let due = self
            .away
            .iter()
            .flatten()
            .any(|away| !away.for_good && away.retry_at_ns <= now);
        let refresh = self.refresh_at_ns.is_some_and(|at| at <= now);
        if !due && !refresh {
            return Ok(());
        }
        match self.newest_layout() {
            Ok(Some(layout)) => {
                self.layout = layout;
                self.reopen(now)?;
                self.follow_leaders(now)?;
            }
            Ok(None) => self.refresh_at_ns = Some(now + TURN_NS),
            Err(error) => {
                self.cluster = None;
                self.refresh_at_ns = self.refresh_at_ns.map(|_| now + TURN_NS);
                self.still_away(now, error)?;
            }
        }
        Ok(())
    }

    fn newest_layout(&mut self) -> anyhow::Result<Option<TopicLayout>> {
        let options = self.shared.options;
        let cluster = match &mut self.cluster {
            Some(cluster) => cluster,
            None => self.cluster.insert(Cluster::connect(&options.bootstrap)?),
        };
        cluster.layout_if_ready(&options.topic)
    }

    /// Notes that lost connections could not be brought back yet.
    fn still_away(&mut self, now: u64, error: anyhow::Error) -> anyhow::Result<()> {
        for away in self.away.iter_mut().flatten().filter(|away| !away.for_good) {
            if now - away.since_ns > AWAY_NS {
                return Err(error.context("a broker stayed away for 30 s"));
            }
            away.retry_at_ns = now + TURN_NS;
        }
        Ok(())
    }

    fn reopen(&mut self, now: u64) -> anyhow::Result<()> {
        for at in 0..self.connections.len() {
            let Some(away) = self.away[at].filter(|away| !away.for_good) else {
                continue;
            };
            let connection = &mut self.connections[at];
            let opened = match self.layout.brokers.get(&connection.broker) {
                Some(address) => connection.reopen(address),
                None => Err(anyhow::anyhow!(
                    "broker {} left the cluster",
                    connection.broker.0
                )),
            };
            match opened {
                Ok(()) => self.away[at] = None,
                Err(_) if now - away.since_ns <= AWAY_NS => {
                    self.away[at] = Some(Away {
                        retry_at_ns: now + TURN_NS,
                        ..away
                    });
                }
                Err(error) => return Err(error.context("a broker stayed away for 30 s")),
            }
        }
        Ok(())
    }

    /// Moves each partition whose leader is another to a connection to that leader.
    fn follow_leaders(&mut self, now: u64) -> anyhow::Result<()> {
        self.refresh_at_ns = None;
        for place in 0..self.partitions.len() {
            let leader = self.layout.leaders[self.partitions[place].index as usize];
            let holder = self
                .connections
                .iter()
                .position(|one| one.partitions.contains(&place));
            let holder = holder.context("every partition is bound to a connection")?;
            if self.connections[holder].broker == leader {
                continue;
            }
            if !self.partitions[place].is_movable() {
                self.refresh_at_ns = Some(now + TURN_NS / 2);
                continue;
            }
            let target = self.connection_to(leader, holder)?;
            self.connections[holder]
                .partitions
                .retain(|other| *other != place);
            self.connections[holder].turn = 0;
            self.connections[target].partitions.push(place);
        }
        Ok(())
    }

    fn connection_to(&mut self, leader: BrokerId, like: usize) -> anyhow::Result<usize> {
        let present = (0..self.connections.len())
            .find(|at| self.connections[*at].broker == leader && self.away[*at].is_none());
        if let Some(at) = present {
            return Ok(at);
        }
        let address = self.layout.address(leader)?;
        let schedule = self.connections[like].schedule;
        let id = self.connections[like].id;
        self.connections
            .push(Connection::open(leader, address, id, schedule)?);
        self.away.push(None);
        Ok(self.connections.len() - 1)
    }
}
