//! Where a partition is led, as Produce and Fetch tell a client that asked the wrong broker
//! (KIP-951): it can go there at once, without asking for metadata.

use ringlog_types::LogId;

use super::wire::Writer;
use crate::node::topology::Topology;

/// The broker that leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its id.
    pub id: i32,
    /// Its epoch.
    pub epoch: i32,
}

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: i32,
    /// Where it listens.
    pub host: String,
    /// And the port.
    pub port: u16,
}

/// Who leads the partitions of a log.
#[must_use]
pub fn leader_of(topology: &Topology, log: LogId) -> Leader {
    Leader {
        id: i32::from(topology.broker_of(topology.log_owner(log)).id.0),
        epoch: topology.leader_epoch(log),
    }
}

/// Notes where a leader is, once.
pub fn add_endpoint(endpoints: &mut Vec<Endpoint>, topology: &Topology, leader: Leader) {
    if endpoints.iter().any(|endpoint| endpoint.id == leader.id) {
        return;
    }
    let brokers = topology.brokers();
    if let Some(broker) = brokers
        .iter()
        .find(|broker| i32::from(broker.id.0) == leader.id)
    {
        endpoints.push(Endpoint {
            id: leader.id,
            host: broker.host.clone(),
            port: broker.port,
        });
    }
}

/// The tagged fields at the end of an answer: the endpoints, as field 0, if there are any.
pub fn write_endpoints(endpoints: &[Endpoint], writer: &mut Writer<'_>) {
    if endpoints.is_empty() {
        writer.varint(0);
        return;
    }
    writer.varint(1);
    writer.tagged(0, |field| {
        field.count(endpoints.len());
        for endpoint in endpoints {
            field.i32(endpoint.id);
            field.text(Some(&endpoint.host));
            field.i32(i32::from(endpoint.port));
            // Rack.
            field.text(None);
            field.no_tags();
        }
    });
}

/// A leader, as the tagged field `tag`.
pub fn write_leader(tag: u32, leader: Leader, writer: &mut Writer<'_>) {
    writer.tagged(tag, |field| {
        field.i32(leader.id);
        field.i32(leader.epoch);
        field.no_tags();
    });
}
