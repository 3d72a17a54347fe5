//! Log compaction: of all records with a key the last one stays. Two passes over a partition's
//! batches, oldest first: [`Compaction::note`] learns where each key was last, and
//! [`Compaction::rewrite`] says what stays of a batch.
//!
//! | file | what |
//! |---|---|
//! | `keys` | where each key was last, in bounded memory |
//! | `rewrite` | what stays of a batch, and the batch without the rest |
//!
//! Invariants: offsets of what stays never change; the value that a key has at the end never
//! does; a batch that cannot be opened stays as it is, and what lies before it too.

mod keys;
mod rewrite;

#[cfg(test)]
mod tests;

pub use rewrite::{Compaction, CompactionRules, Rewritten};
