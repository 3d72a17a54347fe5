//! One row of a block's entry table: what an entry is, where its payload lies in the block,
//! and the payload's checksum.
//!
//! ```text
//!  0 partition   8 base offset   16 maximum timestamp   24 payload checksum (XXH3)
//! 32 payload offset  36 length  40 count  44 kind  46 machine
//! ```

use ringlog_types::{Offset, PartitionId};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FormatError;

const WHAT: &str = "entry table";

/// What an entry of a commit block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum EntryKind {
    /// A record batch of a partition: `base_offset` and `count` say which offsets.
    Records = 1,
    /// The partition's first offset is now `base_offset`: everything below is dead.
    StartOffset = 2,
    /// The partition is gone: everything of it is dead.
    PartitionDropped = 3,
    /// A part of a checkpoint (storage's own).
    Checkpoint = 4,
    /// Segments were rewritten: what lay in the sources lies in the targets from here on
    /// (storage's own).
    Replaced = 5,
    /// Offsets of a partition whose records log compaction removed: no payload. Only in
    /// segments that the cleaner wrote, so that a gap there is told from damage.
    Removed = 6,
    /// State of a machine above storage; the payload is opaque here.
    Machine = 16,
}

impl EntryKind {
    /// Whether an entry accounts for offsets of its partition: each offset below the end is
    /// accounted for by one entry, or lost.
    #[must_use]
    pub fn spans_offsets(self) -> bool {
        matches!(self, EntryKind::Records | EntryKind::Removed)
    }

    fn from_number(number: u16) -> Option<EntryKind> {
        Some(match number {
            1 => EntryKind::Records,
            2 => EntryKind::StartOffset,
            3 => EntryKind::PartitionDropped,
            4 => EntryKind::Checkpoint,
            5 => EntryKind::Replaced,
            6 => EntryKind::Removed,
            16 => EntryKind::Machine,
            _ => return None,
        })
    }
}

/// What a new entry says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// The partition, or [`PartitionId::NONE`].
    pub partition: PartitionId,
    /// What it is.
    pub kind: EntryKind,
    /// Which machine it belongs to, for [`EntryKind::Machine`]; 0 otherwise.
    pub machine: u16,
    /// First offset.
    pub base_offset: Offset,
    /// Offsets covered.
    pub count: u32,
    /// Largest record timestamp, milliseconds; −1 without one.
    pub max_timestamp: i64,
}

impl EntryMeta {
    /// The offset behind the last one covered.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.count))
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    partition: U64,
    base_offset: U64,
    max_timestamp: I64,
    checksum: U64,
    payload_offset: U32,
    length: U32,
    count: U32,
    kind: U16,
    machine: U16,
}

/// A row of the entry table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What it says of itself.
    pub meta: EntryMeta,
    /// XXH3 of the payload.
    pub checksum: u64,
    /// Where the payload starts, from the block's start.
    pub payload_offset: u32,
    /// Length of the payload.
    pub length: u32,
}

impl EntryHeader {
    /// Bytes of a row.
    pub const BYTES: usize = size_of::<Raw>();

    /// Where the payload lies in the block.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.payload_offset as usize;
        start..start + self.length as usize
    }

    /// Writes the row to the start of `out`.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::BYTES`].
    pub fn encode(&self, out: &mut [u8]) {
        let raw = Raw {
            partition: self.meta.partition.0.into(),
            base_offset: self.meta.base_offset.0.into(),
            max_timestamp: self.meta.max_timestamp.into(),
            checksum: self.checksum.into(),
            payload_offset: self.payload_offset.into(),
            length: self.length.into(),
            count: self.meta.count.into(),
            kind: (self.meta.kind as u16).into(),
            machine: self.meta.machine.into(),
        };
        out[..Self::BYTES].copy_from_slice(raw.as_bytes());
    }

    /// Reads a table of rows whose payloads must lie within a block of `block_bytes`.
    ///
    /// # Errors
    /// An unknown kind, or a payload outside the block.
    pub fn decode_table(table: &[u8], block_bytes: usize) -> Result<Vec<EntryHeader>, FormatError> {
        let bounds = |detail: String| FormatError::Bounds { what: WHAT, detail };
        let mut rows = Vec::with_capacity(table.len() / Self::BYTES);
        for bytes in table.chunks_exact(Self::BYTES) {
            let raw = Raw::ref_from_bytes(bytes).expect("a chunk has the row's length");
            let kind = EntryKind::from_number(raw.kind.get())
                .ok_or_else(|| bounds(format!("entry kind {}", raw.kind)))?;
            let (base, count) = (raw.base_offset.get(), raw.count.get());
            if base
                .checked_add(u64::from(count))
                .is_none_or(|end| end > i64::MAX as u64)
            {
                return Err(bounds(format!("base offset {base}")));
            }
            let row = EntryHeader {
                meta: EntryMeta {
                    partition: PartitionId(raw.partition.get()),
                    kind,
                    machine: raw.machine.get(),
                    base_offset: Offset(base),
                    count,
                    max_timestamp: raw.max_timestamp.get(),
                },
                checksum: raw.checksum.get(),
                payload_offset: raw.payload_offset.get(),
                length: raw.length.get(),
            };
            if row.range().end > block_bytes {
                return Err(bounds(format!(
                    "payload {:?} of {block_bytes} bytes",
                    row.range()
                )));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}
