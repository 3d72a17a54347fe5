//! Why a node does not get other logs.

use ringlog_types::LogId;

use crate::node::directory_error::DirectoryError;

/// Why a node does not get other logs. Before the switch the old ones stand.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A directory or a file in it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// An old log could not be recovered and sealed.
    #[error(
        "log {log} could not be recovered and sealed: {reason}; the node has its old logs, and \
         starts with them when the number of cores and the directories are as they were"
    )]
    Retire {
        /// The log.
        log: LogId,
        /// Why.
        reason: String,
    },
    /// An old log has files that cannot be read, and that would be removed with it.
    #[error(
        "log {log} has segment files whose header cannot be read ({files}), which would be \
         removed with it; restore them from a copy, or move them away when they are no longer \
         wanted, and start again"
    )]
    Unreadable {
        /// The log.
        log: LogId,
        /// The files.
        files: String,
    },
    /// A new log could not be made.
    #[error(
        "the new log {log} could not be made: {reason}; the node has its old logs, and starts \
         with them when the number of cores and the directories are as they were"
    )]
    Import {
        /// The log.
        log: LogId,
        /// Why.
        reason: String,
    },
    /// The record of an earlier attempt does not fit the identity.
    #[error(
        "migration.toml is about epoch {planned} of the node, node.toml has epoch {found}: they \
         are not of the same time; restore both from one copy"
    )]
    Mixed {
        /// Epoch of the plan.
        planned: u32,
        /// Epoch of the identity.
        found: u32,
    },
    /// A directory that a new log would get is there.
    #[error(
        "{path} is there already, and is no log of this node: move it away, or restore the \
         node.toml that it belongs to"
    )]
    Occupied {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// No more numbers for logs.
    #[error(
        "this node has had {used} logs, and there are numbers for {limit}: it keeps the number of \
         cores it has"
    )]
    UsedUp {
        /// Numbers given.
        used: u32,
        /// Numbers there are.
        limit: u32,
    },
}
