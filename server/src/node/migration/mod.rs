//! A start with another number of cores, or with more directories, than the node had: every
//! partition, and what the machines remember of it, goes to a new log, before anything is served.
//!
//! ```text
//! planned   migration.toml names the logs that are and the logs that come
//! retired   every old log is recovered, sealed, and says what it holds
//! linked    each new log's directory has the segment files of its partitions: hard links, or
//!           copies where the directory is on another filesystem
//! imported  each new log has a checkpoint of what it takes in
//! switched  node.toml names the new logs, under the next epoch: this makes it effective
//! removed   the old logs' directories are gone, then migration.toml
//! ```
//! A crash before `switched` leaves the old logs as they are, and the next start removes what was
//! begun; a crash behind it leaves the new ones, and the next start removes the old. Which of the
//! two is told by comparing the epochs of the two files.
//!
//! Links copy no data: the time depends on the number of segments and partitions.
//!
//! | file | what |
//! |---|---|
//! | `run` | the steps |
//! | `plan` | `migration.toml` |
//! | `leftovers` | what an earlier attempt left |
//! | `retire`, `machines`, `shares`, `files` | one step's work each |
//! | `steps` | the steps' names, and ending at one for tests |
//!
//! Invariants: no directory is removed that `migration.toml` does not name; log numbers, and with
//! them producer ids and segments' origins, are never given twice; leader epochs rise.

mod error;
mod files;
mod leftovers;
mod machines;
mod plan;
mod retire;
mod run;
mod shares;
mod steps;

#[cfg(test)]
mod tests;

pub use error::MigrationError;
pub use run::settle;
