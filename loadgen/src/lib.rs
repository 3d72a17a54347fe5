//! Ringlog's load generator: drives Ringlog and any Kafka-compatible peer the same way, verifies
//! what it was promised, and measures beside the physical limit of the machine.
//!
//! Invariant: nothing here knows how a node works inside. What is measured goes through sockets;
//! the device is measured through `ringlog-tuning`.

pub mod batch;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod consume;
pub mod demo;
pub mod end_to_end;
pub mod html;
pub mod interrupt;
pub mod journal;
pub mod kafka;
pub mod latency;
pub mod limit;
pub mod pinning;
pub mod process;
pub mod produce;
pub mod reference;
pub mod sink;
pub mod verify;
