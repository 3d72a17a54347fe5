//! Why a log could not be checked, or not be repaired.

use ringlog_types::LogId;

use crate::format::FormatError;

/// Why a log could not be checked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The directory or a file in it could not be read.
    #[error(
        "checking log {log}: {what}: {cause}; mend the device or the permissions, then check again"
    )]
    Io {
        /// The log.
        log: LogId,
        /// What was attempted.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A file was written by another version of the program.
    #[error("checking log {log}: {file}: {cause}; check it with the version that wrote it")]
    Version {
        /// The log.
        log: LogId,
        /// The file.
        file: String,
        /// What was found.
        cause: FormatError,
    },
}

/// Why nothing was repaired. Nothing was changed, unless it says which file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Where durable data is damaged, what is a torn tail cannot be told.
    #[error(
        "log {log} has {findings} damaged places: only a log without damage has a tail that is \
         known to be unacknowledged; restore from a copy, or start the node, which serves what is \
         whole and names the rest"
    )]
    Damaged {
        /// The log.
        log: LogId,
        /// How many.
        findings: usize,
    },
    /// The tail could not be written over.
    #[error("repairing log {log}: {what}: {cause}; check again")]
    Io {
        /// The log.
        log: LogId,
        /// What was attempted.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
}
