//! What opening a log says: why it could not be opened, what it found, what is damaged.

use std::fmt;
use std::time::Duration;

use ringlog_types::{LogId, Offset, PartitionId, Sequence};

use crate::format::FormatError;

/// Why a log could not be opened. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it could not be read.
    #[error("opening log {log}: {what}: {cause}")]
    Io {
        /// The log.
        log: LogId,
        /// What was attempted.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A file was written by another program version.
    #[error("opening log {log}: {file}: {cause}; start the version that wrote it")]
    Version {
        /// The log.
        log: LogId,
        /// The file.
        file: String,
        /// What was found.
        cause: FormatError,
    },
    /// A file belongs to another log or to a device with another block size.
    #[error("opening log {log}: {file} {found}; was the directory copied or moved?")]
    Foreign {
        /// The log.
        log: LogId,
        /// The file.
        file: String,
        /// What was found.
        found: String,
    },
    /// A segment cannot be read in whole, and nothing shows that what is lost is not the end of
    /// the log.
    #[error(
        "opening log {log}: {file} {what}, and it may hold the end of the log; restore the file \
         from a copy, or move it away to go on without what only it holds"
    )]
    Unreadable {
        /// The log.
        log: LogId,
        /// The file.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The newest checkpoint cannot be read, nor can what led to it from an older one.
    #[error(
        "opening log {log}: the checkpoint at block {sequence} (segment {segment}, byte \
         {position}) cannot be read: {cause}; nor can all blocks since an older one; restore the \
         data directory from a copy"
    )]
    Checkpoint {
        /// The log.
        log: LogId,
        /// Its first block.
        sequence: Sequence,
        /// Its segment.
        segment: u64,
        /// Its position.
        position: u64,
        /// Why.
        cause: String,
    },
    /// Segments that other logs wrote are there, and no checkpoint that says what of them lives.
    #[error(
        "opening log {log}: {file} was written by another log, and no checkpoint that says what \
         of it belongs to this one can be read; restore the data directory from a copy"
    )]
    Unnamed {
        /// The log.
        log: LogId,
        /// One of the files.
        file: String,
    },
    /// Files are there that were segments, and none of their headers can be read.
    #[error(
        "opening log {log}: no segment header can be read ({files}); restore the data directory \
         from a copy, or move the files away to begin an empty log"
    )]
    Headers {
        /// The log.
        log: LogId,
        /// The files.
        files: String,
    },
    /// The log could not be written: a new segment is needed before anything is served.
    #[error("opening log {log}: {cause}; free space or mend the device, then start again")]
    NotWritable {
        /// The log.
        log: LogId,
        /// Why.
        cause: String,
    },
}

/// Blocks that were durable once and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Segment in which the damage begins.
    pub segment: u64,
    /// Byte position at which it begins.
    pub position: u64,
    /// First block.
    pub first: Sequence,
    /// Behind the last block.
    pub end: Sequence,
    /// What is known to be lost with them: partition, first offset, end offset. Of a block that
    /// cannot be read at all it is what later blocks show to be missing.
    pub offsets: Vec<(PartitionId, u64, u64)>,
}

/// Offsets that are missing before a block: dense as they are, they were in blocks that are lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// The block that shows them missing.
    pub before: Sequence,
    pub partition: PartitionId,
    pub first: Offset,
    pub end: Offset,
}

/// What opening found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Segment files found.
    pub segments: usize,
    /// Replay started at a checkpoint.
    pub from_checkpoint: bool,
    /// Blocks replayed behind it.
    pub blocks_replayed: u64,
    /// Their bytes.
    pub bytes_replayed: u64,
    /// The last block kept.
    pub end: Sequence,
    /// Bytes of blocks behind the end that were written but never known durable.
    pub discarded_tail_bytes: u64,
    /// Durable blocks that could not be read.
    pub damage: Vec<Damage>,
    /// Segments that a checkpoint or the chain of blocks misses; some of them may be dead.
    pub segments_missing: usize,
    /// Files that were segments and whose header is damaged: what is in them cannot be read.
    /// They are left as they are.
    pub damaged_headers: Vec<String>,
    /// How often the log has been opened, this time included.
    pub epoch: u32,
    /// Time taken.
    pub duration: Duration,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = if self.from_checkpoint {
            "a checkpoint"
        } else {
            "the beginning"
        };
        write!(
            f,
            "{} segment files, {} blocks ({} bytes) replayed from {origin} to block {}, \
             discarded {} bytes behind it, epoch {}, {:.1} ms",
            self.segments,
            self.blocks_replayed,
            self.bytes_replayed,
            self.end,
            self.discarded_tail_bytes,
            self.epoch,
            self.duration.as_secs_f64() * 1e3
        )?;
        for damage in &self.damage {
            write!(
                f,
                "; DAMAGE: blocks {}..{} at byte {} of segment {}",
                damage.first, damage.end, damage.position, damage.segment
            )?;
            for (partition, first, end) in &damage.offsets {
                write!(f, ", partition {partition} offsets {first}..{end}")?;
            }
        }
        for name in &self.damaged_headers {
            write!(f, "; DAMAGE: the header of {name} cannot be read")?;
        }
        Ok(())
    }
}
