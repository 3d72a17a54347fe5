//! The producers of all partitions of a log: a bounded table. Found by partition and producer
//! id, ordered by how long they have been idle, in their partition and in the whole log.
//!
//! Idle is counted in committed batches, not in time, so that replay forgets the same producers
//! as the live path did.

mod idle_order;
mod table;
mod window;

pub use table::{ProducerCounts, ProducerLimits, ProducerPlace, ProducerView};
pub(super) use table::{Producers, Slot};
pub(super) use window::{Standing, Window, Written, repeats};
