//! A commit of offsets on its way into the log: cut into records, which go in as one atomic group.
//!
//! Invariants: a record is small, so that applying one is a short step of a core; of one commit all
//! records are in the log or none, which is what whoever logs them sees to.

use std::sync::Arc;

use ringlog_types::PartitionId;

use super::offset::CommittedOffset;
use super::record::GroupRecord;
use crate::limits::{BYTES_PER_COMMIT, BYTES_PER_OFFSETS_RECORD, OFFSETS_PER_RECORD};

/// Bytes of an offset in a record, beside its metadata.
const OFFSET_BYTES: usize = 40;

/// Offsets that a group commits together.
#[derive(Clone, Debug)]
pub struct Commit {
    group: Arc<str>,
    /// What goes into the record that is being made.
    gathered: Vec<(PartitionId, CommittedOffset)>,
    gathered_bytes: usize,
    records: Vec<Vec<u8>>,
    offsets: usize,
    /// How many of them replace one that the group has.
    replacing: usize,
    bytes: usize,
}

impl Commit {
    /// Of a group, without any offset yet.
    #[must_use]
    pub fn of(group: Arc<str>) -> Commit {
        Commit {
            group,
            gathered: Vec::new(),
            gathered_bytes: 0,
            records: Vec::new(),
            offsets: 0,
            replacing: 0,
            bytes: 0,
        }
    }

    /// One more offset. Of two for a partition the later one counts. Costs the encoding of a record
    /// now and then; beyond [`BYTES_PER_COMMIT`] nothing more is kept, and the commit is refused.
    pub fn add(&mut self, partition: PartitionId, offset: CommittedOffset) {
        self.offsets += 1;
        if self.is_too_large() {
            return;
        }
        self.gathered_bytes += OFFSET_BYTES + offset.metadata.len();
        self.gathered.push((partition, offset));
        let is_full = self.gathered_bytes >= BYTES_PER_OFFSETS_RECORD;
        if is_full || self.gathered.len() >= OFFSETS_PER_RECORD {
            self.close_record();
        }
    }

    /// The offset added last replaces one that the group has: it needs no room of its own.
    pub fn replaces(&mut self) {
        self.replacing += 1;
    }

    /// All offsets are there.
    #[must_use]
    pub fn finish(mut self) -> Commit {
        if !self.gathered.is_empty() {
            self.close_record();
        }
        self
    }

    fn close_record(&mut self) {
        let record = GroupRecord::Offsets {
            group: Arc::clone(&self.group),
            offsets: std::mem::take(&mut self.gathered),
        };
        self.gathered_bytes = 0;
        let record = record.encode();
        self.bytes += record.len();
        self.records.push(record);
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// How many offsets it has.
    #[must_use]
    pub fn offsets(&self) -> usize {
        self.offsets
    }

    /// How many of them the group does not have yet, as far as was said.
    #[must_use]
    pub fn new_offsets(&self) -> usize {
        self.offsets - self.replacing
    }

    /// Bytes of its records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is more than the log takes at once.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.bytes > BYTES_PER_COMMIT
    }

    /// What is to be logged, as one atomic group.
    #[must_use]
    pub fn records(&self) -> &[Vec<u8>] {
        &self.records
    }
}
