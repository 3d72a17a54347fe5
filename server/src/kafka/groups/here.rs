//! Whether this core coordinates a group.

use kafka_protocol::error::ResponseError;
use ringlog_engine::groups::coordinator;
use ringlog_types::CoreId;

use crate::node::core::CoreHandle;
use crate::node::topology::{Broker, Topology};

/// The broker by which clients reach the coordinator of a group.
#[must_use]
pub fn coordinator_of<'a>(topology: &'a Topology, group: &str) -> &'a Broker {
    topology.broker_of(coordinating_core(topology, group))
}

/// The core that coordinates a group.
#[must_use]
pub fn coordinating_core(topology: &Topology, group: &str) -> CoreId {
    let place = coordinator(group, usize::from(topology.cores()));
    CoreId(u16::try_from(place).expect("the place is below the number of cores"))
}

/// Refuses groups of other cores.
///
/// # Errors
/// The protocol's code: the client looks for the coordinator again.
pub fn check(core: &CoreHandle, group: &str) -> Result<(), ResponseError> {
    if coordinating_core(core.topology(), group) == core.id() {
        Ok(())
    } else {
        Err(ResponseError::NotCoordinator)
    }
}
