//! The engine's machines on a simulated log: topics, partitions, idempotent producers and producer
//! ids, composed as a node composes them, through kills and power cuts.
//!
//! | file | what |
//! |---|---|
//! | `node` | a core without sockets: the log, the machines behind it, the way of a batch |
//! | `model` | what was asked for, in the order of the log, and what it must come to |
//! | `members` | clients of one group, and what they must be told |
//! | `workload` | producers that go on, repeat and go wrong; topics; deletes; producer ids |
//! | `check` | what a start must show |
//! | `run` | lives of a node under a seed |
//! | `mistake` | what the node can be told to do wrong |
//!
//! Invariant: the model never asks the machines; it knows only what the node was told to do and
//! what it answered.

mod check;
mod members;
mod mistake;
mod model;
mod node;
mod run;
mod workload;

pub use members::CrewDone;
pub use mistake::Mistake;
pub use run::{Lived, run_machines};
