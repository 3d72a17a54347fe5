//! What clients did, as they wrote it down, and whether a log may answer like that.
//!
//! ```text
//! clients (any language) ─► files of JSON lines ─► History ─► check ─► faults
//! ```
//!
//! A client writes a line before it sends an event, one when that is acknowledged, one for each
//! event it reads, one before and one after each commit (`event.rs` has the lines). The checker
//! knows nothing of the node, and nothing of the client but these lines.
//!
//! Invariant: a fault is reported only if no order of what the lines leave open explains them.
//! Topics from which records may go away (compaction, aborted transactions) are not for it.

pub mod check;
mod commits;
mod delivery;
pub mod event;
pub mod fault;
mod files;
pub mod follow;
mod log;
pub mod record;

pub use check::{Report, check};
pub use event::{Entry, Event};
pub use fault::Fault;
pub use files::History;
pub use follow::Follower;
