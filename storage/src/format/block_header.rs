//! The header of a commit block: its place in the sequence, the chain to its predecessor, and
//! how far the log was known to be durable when it was built.
//!
//! ```text
//!   0 checksum (keyed, over 8..128)        8 magic   12 version  14 flags
//!  16 sequence          24 durable sequence         32 checksum of the block before
//!  40 metadata version  48 segment                  56 first sequence of the group
//!  64 block bytes  68 entry count  72 table offset  76 epoch
//!  80 checksum of the entry table (keyed)           88 wall clock ms     96 reserved (0)
//! ```
//! The entry table holds the payloads' checksums, so the header's checksum covers the block
//! as a tree does, and the chain of header checksums covers the log.

use ringlog_types::Sequence;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Key;
use super::{FORMAT_VERSION, FormatError, check_version};

const MAGIC: u32 = 0x4b4c_4252;
const WHAT: &str = "block header";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    checksum: U64,
    magic: U32,
    version: U16,
    flags: U16,
    sequence: U64,
    durable: U64,
    previous: U64,
    metadata_version: U64,
    segment: U64,
    group_first: U64,
    block_bytes: U32,
    entry_count: U32,
    table_offset: U32,
    epoch: U32,
    table_checksum: U64,
    wall_ms: I64,
    reserved: [u8; 32],
}

impl Raw {
    fn header(&self, group: Group) -> BlockHeader {
        BlockHeader {
            sequence: Sequence(self.sequence.get()),
            durable: Sequence(self.durable.get()),
            previous: self.previous.get(),
            metadata_version: self.metadata_version.get(),
            segment: self.segment.get(),
            group_first: Sequence(self.group_first.get()),
            group,
            block_bytes: self.block_bytes.get(),
            entry_count: self.entry_count.get(),
            table_offset: self.table_offset.get(),
            epoch: self.epoch.get(),
            table_checksum: self.table_checksum.get(),
            wall_ms: self.wall_ms.get(),
        }
    }
}

/// What part of an atomic group a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A group of its own.
    Whole,
    /// Starts a group that goes on in the next block.
    Begin,
    /// Neither the first nor the last block of its group.
    Continue,
    /// Ends its group: with this block the group exists.
    Commit,
}

/// The header of a commit block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Its place in the log.
    pub sequence: Sequence,
    /// Last sequence known durable when it was built.
    pub durable: Sequence,
    /// Header checksum of the block before it, 0 for the first of the log.
    pub previous: u64,
    /// Version of the metadata under which its entries were prepared.
    pub metadata_version: u64,
    /// The segment it was written to.
    pub segment: u64,
    /// First block of its group (itself, for a whole one).
    pub group_first: Sequence,
    /// Part of a group.
    pub group: Group,
    /// Length of the block, header and padding included.
    pub block_bytes: u32,
    /// Entries in it. None: a mark that only states how far the log is durable.
    pub entry_count: u32,
    /// Where the entry table starts, from the block's start.
    pub table_offset: u32,
    /// How often the log had been opened.
    pub epoch: u32,
    /// Keyed checksum of the entry table.
    pub table_checksum: u64,
    /// Wall clock when it was built.
    pub wall_ms: i64,
}

impl BlockHeader {
    /// Bytes of the header.
    pub const BYTES: usize = size_of::<Raw>();

    /// Writes the header at the start of `out` and returns its checksum, the next block's
    /// [`BlockHeader::previous`].
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::BYTES`].
    pub fn encode(&self, key: &Key, out: &mut [u8]) -> u64 {
        let flags: u16 = match self.group {
            Group::Whole => 0,
            Group::Begin => 1,
            Group::Continue => 2,
            Group::Commit => 3,
        };
        let mut raw = Raw {
            checksum: U64::ZERO,
            magic: MAGIC.into(),
            version: FORMAT_VERSION.into(),
            flags: flags.into(),
            sequence: self.sequence.0.into(),
            durable: self.durable.0.into(),
            previous: self.previous.into(),
            metadata_version: self.metadata_version.into(),
            segment: self.segment.into(),
            group_first: self.group_first.0.into(),
            block_bytes: self.block_bytes.into(),
            entry_count: self.entry_count.into(),
            table_offset: self.table_offset.into(),
            epoch: self.epoch.into(),
            table_checksum: self.table_checksum.into(),
            wall_ms: self.wall_ms.into(),
            reserved: [0; 32],
        };
        let checksum = key.checksum(&raw.as_bytes()[8..]);
        raw.checksum = checksum.into();
        out[..Self::BYTES].copy_from_slice(raw.as_bytes());
        checksum
    }

    /// Reads the header at the start of `bytes`; with it its checksum.
    ///
    /// # Errors
    /// Absent, failing its checksum, or of another version.
    pub fn decode(key: &Key, bytes: &[u8]) -> Result<(BlockHeader, u64), FormatError> {
        let absent = FormatError::Absent { what: WHAT };
        let Ok((raw, _)) = Raw::ref_from_prefix(bytes) else {
            return Err(absent);
        };
        if raw.magic.get() != MAGIC {
            return Err(absent);
        }
        let checksum = key.checksum(&raw.as_bytes()[8..]);
        if checksum != raw.checksum.get() {
            return Err(FormatError::Checksum { what: WHAT });
        }
        check_version(WHAT, raw.version.get())?;
        let group = match raw.flags.get() {
            0 => Group::Whole,
            1 => Group::Begin,
            2 => Group::Continue,
            3 => Group::Commit,
            other => {
                let detail = format!("group flags {other}");
                return Err(FormatError::Bounds { what: WHAT, detail });
            }
        };
        Ok((raw.header(group), checksum))
    }

    /// The header at the start of `bytes` as it stands, whatever its checksum says: a guess, to
    /// be proven by what it leads to. `None`: not even the magic is there.
    #[must_use]
    pub fn unproven(bytes: &[u8]) -> Option<BlockHeader> {
        let (raw, _) = Raw::ref_from_prefix(bytes).ok()?;
        (raw.magic.get() == MAGIC).then(|| raw.header(Group::Whole))
    }

    /// Whether a block header may start here: a cheap test before [`Self::decode`], for
    /// scans.
    #[must_use]
    pub fn maybe(bytes: &[u8]) -> bool {
        bytes.len() >= Self::BYTES && bytes[8..12] == MAGIC.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            sequence: Sequence(12),
            durable: Sequence(9),
            previous: 0xfeed,
            metadata_version: 5,
            segment: 2,
            group_first: Sequence(11),
            group: Group::Commit,
            block_bytes: 8192,
            entry_count: 1,
            table_offset: 200,
            epoch: 3,
            table_checksum: 0xabc,
            wall_ms: 1,
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_under_its_own_key() {
        assert_eq!(BlockHeader::BYTES, 128);
        let key = Key::derive(1);
        let mut bytes = [0; 128];
        let checksum = header().encode(&key, &mut bytes);
        assert!(BlockHeader::maybe(&bytes));
        assert_eq!(BlockHeader::decode(&key, &bytes), Ok((header(), checksum)));
        assert!(BlockHeader::decode(&Key::derive(2), &bytes).is_err());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let key = Key::derive(1);
        let mut bytes = [0; 128];
        header().encode(&key, &mut bytes);
        for bit in 0..128 * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::decode(&key, &bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
