//! The partitions whose log is this core's: their offsets, and the idempotent producers that
//! write to them.
//!
//! ```text
//!            prepare              durable
//!  batch ──────────────► pending ─────────► committed        start ≤ end ≤ next
//!           reserves      │ abandon          apply_records    end: the high watermark
//!           offsets and   ▼ (the log                          next: end of what is reserved
//!           sequences    gone refused)
//! ```

mod checkpoint;
mod epochs;
mod error;
mod pending;
mod producers;
mod split;
mod state;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use crate::producer_ids::{Grant, ProducerIds};
pub use error::{InvalidRecord, ProduceError};
pub use producers::{ProducerCounts, ProducerLimits, ProducerPlace, ProducerView};
pub use state::{Partitions, Prepared};
