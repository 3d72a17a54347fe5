//! Whether this core coordinates a group.

use kafka_protocol::error::ResponseError;
use ringlog_engine::groups::coordinator;

use crate::node::core::CoreHandle;
use crate::node::topology::{Broker, Topology};

/// The core that coordinates a group.
#[must_use]
pub fn coordinator_of<'a>(topology: &'a Topology, group: &str) -> &'a Broker {
    let brokers = topology.brokers();
    &brokers[coordinator(group, brokers.len())]
}

/// Refuses groups of other cores.
///
/// # Errors
/// The protocol's code: the client looks for the coordinator again.
pub fn check(core: &CoreHandle, group: &str) -> Result<(), ResponseError> {
    if coordinator_of(core.topology(), group).id == core.id() {
        Ok(())
    } else {
        Err(ResponseError::NotCoordinator)
    }
}
