//! An offset that a group committed for a partition.
//!
//! ```text
//! offset = offset i64, leader epoch i32, committed i64, expires i64, metadata text
//! ```

use std::sync::Arc;

use crate::little_endian::{DecodeError, Reader, Writer};

/// What a group remembers of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to be read.
    pub offset: i64,
    /// The leader's epoch when it was read; −1: the client did not say.
    pub leader_epoch: i32,
    /// When it was committed, by the wall clock.
    pub committed_ms: i64,
    /// When it expires whatever the group does, where the client asked for a time of its own
    /// (old versions of OffsetCommit can); else −1.
    pub expires_ms: i64,
    /// What the client wants to remember with it.
    pub metadata: Arc<str>,
}

impl CommittedOffset {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.i64(self.offset);
        out.i32(self.leader_epoch);
        out.i64(self.committed_ms);
        out.i64(self.expires_ms);
        out.text(&self.metadata);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<CommittedOffset, DecodeError> {
        Ok(CommittedOffset {
            offset: reader.i64("a committed offset")?,
            leader_epoch: reader.i32("an offset's leader epoch")?,
            committed_ms: reader.i64("when an offset was committed")?,
            expires_ms: reader.i64("when an offset expires")?,
            metadata: reader.text("an offset's metadata")?.into(),
        })
    }
}
