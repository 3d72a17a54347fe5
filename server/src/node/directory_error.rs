//! Why a data directory cannot be used: what was attempted, what was found, what to do.

use std::io;
use std::path::{Path, PathBuf};

use ringlog_types::LogId;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system said no.
    #[error("{what} {path} failed: {error}; check that it exists and that this user may write it")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by process {holder}; stop that process, or choose \
         another directory with --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, as it wrote it down.
        holder: String,
    },
    /// Nobody made a data directory there.
    #[error(
        "{path} is no data directory: it has no node.toml; give the one a node was started with"
    )]
    NotThere {
        /// The directory.
        path: PathBuf,
    },
    /// The identity cannot be read.
    #[error("{path} cannot be read: {reason}; restore it from a backup")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Made by another version.
    #[error(
        "the data directory {path} has format version {found}, this build reads 1 and 2; start \
         the version of Ringlog that wrote it"
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// One directory was given twice.
    #[error("--data-dir {path} was given twice; give each directory once")]
    Twice {
        /// The directory.
        path: PathBuf,
    },
    /// Directories of two nodes.
    #[error(
        "both {one} and {other} are the first directory of a node (each has a node.toml); give \
         the directories of one node"
    )]
    TwoNodes {
        /// A directory.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// A directory of the node was not given, or is not what lies there.
    #[error(
        "the data directory {id} of this node, last at {path}, is missing: none of the \
         directories given is it; mount its disk, and give every directory with --data-dir"
    )]
    Missing {
        /// Its name.
        id: String,
        /// Where it was.
        path: PathBuf,
    },
    /// A directory belongs to another node.
    #[error(
        "{path} belongs to another node (cluster {cluster_id}), whose first directory has its \
         node.toml; give the directories of one node, or an empty one"
    )]
    OfAnother {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        cluster_id: String,
    },
    /// A directory has logs and does not say whose.
    #[error(
        "{path} has logs in it, but no {file} that says whose; give the directory that the node \
         was started with, or an empty one"
    )]
    Unnamed {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        file: &'static str,
    },
    /// A log of the node is gone.
    #[error(
        "log {log} of this node should be in {path}, which is not there; restore it from a copy"
    )]
    NoLog {
        /// The log.
        log: LogId,
        /// Where it should be.
        path: PathBuf,
    },
}

/// What became of an operation on a path.
pub(super) fn io_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::Io { what, path, error }
}
