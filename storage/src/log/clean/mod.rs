//! The cleaner: rewrites sealed segments of which little lives, or in which partitions lie
//! scattered, into cold segments, where each partition lies together.
//!
//! ```text
//! policy ─► read sources ─► helper: check, choose, lay out ─► write targets ─► one entry ─► switch
//!           (budget)        (task, off the core's thread)     (budget)          (durable)
//! ```
//! | file | what |
//! |---|---|
//! | `policy` | which segments |
//! | `plan`, `look`, `held`, `walk`, `order` | what the log knows of them |
//! | `budget` | how fast |
//! | `task`, `lay` | the helper's part: bytes in, bytes out |
//! | `state`, `targets` | how far a run is |
//! | `run`, `write` | one run from its first read to its entry |
//! | `pass`, `compact`, `pieces` | log compaction of a partition |
//! | `cleaner` | all that is remembered |
//! | `switch`, `moving` | what that entry changes, live and in replay |
//!
//! Invariant: until the entry is durable the sources are the log's, and a target that no durable
//! entry or checkpoint names is a free file; from then on the targets are, and the sources are let
//! go once a durable checkpoint knows it. So a crash at any step leaves one of the two whole.

mod budget;
pub(super) mod cleaner;
mod compact;
mod group;
mod held;
mod lay;
mod look;
mod look_state;
mod moving;
mod moving_state;
mod order;
mod pass;
mod pieces;
mod plan;
pub mod policy;
mod run;
mod state;
mod switch;
mod targets;
mod task;
mod walk;
mod write;

pub use pass::Compactable;
pub use plan::Lasting;
pub use task::{CleanFault, CleanOutcome, CleanTask, Fate, Rewriter};
