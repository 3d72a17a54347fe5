//! What storage, engine and adapters agree on: identifiers that cannot be mixed up, the Kafka v2
//! record batch header, and how a checkpoint is taken in steps.
//!
//! Invariant: nothing here does I/O, and nothing here knows a file, a socket or a request.

pub mod batch;
pub mod ids;
mod number_hash;
pub mod snapshot;

pub use ids::{CoreId, LogId, Offset, PartitionId, Sequence, TopicNumber};
pub use number_hash::{NumberHash, NumberMap, NumberSet};
