//! Compacted partitions on a simulated log: keys, values and tombstones, passes of compaction beside
//! the cleaner, through kills and power cuts.
//!
//! | file | what |
//! |---|---|
//! | `model` | what was appended and trimmed, in the order of the log, and which passes were begun |
//! | `rewriter` | the part of compaction that opens batches, and what it can be told to do wrong |
//! | `check` | what a reader of a partition must meet |
//! | `run` | lives of a log under a seed |
//!
//! Invariant: the model knows nothing of how compaction chooses. It holds what is gone against what a
//! compacted topic promises: a record is gone only where a later one of its key stands, or, a
//! tombstone, once its retention has passed.

mod check;
mod model;
mod rewriter;
mod run;

pub use rewriter::CompactionMistake;
pub use run::{Compacted, run_compaction};
