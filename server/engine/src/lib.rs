//! The layers of a node as deterministic state machines: topics and their configuration,
//! partitions and their offsets, idempotent producers, producer ids, consumer groups, users.
//!
//! Each has two halves. `prepare` checks a command against committed and pending state, and
//! reserves what it hands out; `apply` alone changes committed state, in log order, the same
//! live, in replay and from a checkpoint. What was prepared is appended to a log and comes back
//! through `apply` when it is durable, or is given back with `abandon` when the log refused it.
//!
//! Invariant: no socket, no file, no clock, no randomness: equal calls lead to equal state, and
//! equal committed state to equal checkpoint bytes. Hash maps are looked up and never walked
//! where the order could show.
//!
//! | room | what |
//! |---|---|
//! | `topics` | which topics there are, their partitions and configuration |
//! | `partitions` | offsets of the partitions in one log, and their idempotent producers |
//! | `groups` | consumer groups: their members, and the offsets they committed |
//! | `users` | who may log in, and what proves it |
//! | `producer_ids` | ids for producers, unique over logs and restarts |
//! | `machine` | their numbers in log entries |
//! | `limits` | what bounds them |

pub mod groups;
pub mod limits;
pub mod machine;
pub mod partitions;
pub mod topics;
pub mod users;

mod little_endian;
mod producer_ids;

pub use little_endian::DecodeError;
