//! The first unit of a segment file: who it is, its nonce, and the newest checkpoint known
//! when it was opened.
//!
//! Invariant: flushed before the segment's first block is written. A recycled file's new
//! header names a checkpoint at least as new as the one that let the file go, so the newest
//! checkpoint named by any header can always be replayed.

use ringlog_types::{LogId, Sequence};
use zerocopy::little_endian::{I64, U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Key;
use super::{FORMAT_VERSION, FormatError, check_version};

const MAGIC: [u8; 8] = *b"RINGLSEG";
const WHAT: &str = "segment header";
/// Flag: the segment was written by the cleaner.
const COLD: u16 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    checksum: U64,
    version: U16,
    flags: U16,
    log: U32,
    segment: U64,
    nonce: U128,
    segment_bytes: U64,
    unit_bytes: U32,
    epoch: U32,
    created_ms: I64,
    checkpoint_segment: U64,
    checkpoint_position: U64,
    checkpoint_sequence: U64,
}

/// Where a checkpoint's first block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointPointer {
    /// Sequence of its first block; the newest checkpoint has the largest.
    pub sequence: Sequence,
    /// Segment of its first block.
    pub segment: u64,
    /// Byte position of its first block in that segment.
    pub position: u64,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose it is.
    pub log: LogId,
    /// Its number: larger for one opened later, never given twice in a log.
    pub segment: u64,
    /// Random, different for every opening, known to this node alone.
    pub nonce: u128,
    /// Length of the file.
    pub segment_bytes: u64,
    /// Unit of all positions in it.
    pub unit_bytes: u32,
    /// How often the log had been opened.
    pub epoch: u32,
    /// Wall clock at opening, for people.
    pub created_ms: i64,
    /// The newest durable checkpoint at opening.
    pub checkpoint: Option<CheckpointPointer>,
    /// Written by the cleaner: its blocks are copies and no part of the chain of blocks. See
    /// [`super::cold`].
    pub is_cold: bool,
}

impl SegmentHeader {
    /// Bytes of the encoded header (the rest of its unit is zero).
    pub const BYTES: usize = size_of::<Raw>();

    /// The key for every checksum in this segment.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::derive(self.nonce)
    }

    /// Writes the header at the start of `unit`.
    ///
    /// # Panics
    /// When `unit` is shorter than [`Self::BYTES`].
    pub fn encode(&self, unit: &mut [u8]) {
        let pointer = self.checkpoint;
        let mut raw = Raw {
            magic: MAGIC,
            checksum: U64::ZERO,
            version: FORMAT_VERSION.into(),
            flags: if self.is_cold { COLD } else { 0 }.into(),
            log: self.log.0.into(),
            segment: self.segment.into(),
            nonce: self.nonce.into(),
            segment_bytes: self.segment_bytes.into(),
            unit_bytes: self.unit_bytes.into(),
            epoch: self.epoch.into(),
            created_ms: self.created_ms.into(),
            checkpoint_segment: pointer.map_or(0, |p| p.segment).into(),
            checkpoint_position: pointer.map_or(0, |p| p.position).into(),
            checkpoint_sequence: pointer.map_or(0, |p| p.sequence.0).into(),
        };
        raw.checksum = self.key().checksum(&raw.as_bytes()[16..]).into();
        unit[..Self::BYTES].copy_from_slice(raw.as_bytes());
    }

    /// Reads the header at the start of `unit`.
    ///
    /// # Errors
    /// Absent, failing its checksum, or of another version.
    pub fn decode(unit: &[u8]) -> Result<SegmentHeader, FormatError> {
        let absent = FormatError::Absent { what: WHAT };
        let Ok((raw, _)) = Raw::ref_from_prefix(unit) else {
            return Err(absent);
        };
        if raw.magic != MAGIC {
            return Err(absent);
        }
        let key = Key::derive(raw.nonce.get());
        if key.checksum(&raw.as_bytes()[16..]) != raw.checksum.get() {
            return Err(FormatError::Checksum { what: WHAT });
        }
        check_version(WHAT, raw.version.get())?;
        let checkpoint = (raw.checkpoint_sequence.get() > 0).then(|| CheckpointPointer {
            sequence: Sequence(raw.checkpoint_sequence.get()),
            segment: raw.checkpoint_segment.get(),
            position: raw.checkpoint_position.get(),
        });
        Ok(SegmentHeader {
            log: LogId(raw.log.get()),
            segment: raw.segment.get(),
            nonce: raw.nonce.get(),
            segment_bytes: raw.segment_bytes.get(),
            unit_bytes: raw.unit_bytes.get(),
            epoch: raw.epoch.get(),
            created_ms: raw.created_ms.get(),
            checkpoint,
            is_cold: raw.flags.get() & COLD != 0,
        })
    }

    /// The nonce and the unit as they stand at the start of `unit`, whatever the checksum says:
    /// a guess, proven by a block that verifies under the nonce. `None`: nothing was written.
    #[must_use]
    pub fn unproven(unit: &[u8]) -> Option<(u128, u32)> {
        let (raw, _) = Raw::ref_from_prefix(unit).ok()?;
        let written = raw.as_bytes().iter().any(|byte| *byte != 0);
        written.then(|| (raw.nonce.get(), raw.unit_bytes.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log: LogId(3),
            segment: 9,
            nonce: 0x1234_5678_9abc_def0_1122_3344_5566_7788,
            segment_bytes: 1 << 26,
            unit_bytes: 4096,
            epoch: 4,
            created_ms: 1_700_000_000_000,
            checkpoint: Some(CheckpointPointer {
                sequence: Sequence(77),
                segment: 8,
                position: 4096,
            }),
            is_cold: true,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut unit = [0; 4096];
        header().encode(&mut unit);
        assert_eq!(SegmentHeader::decode(&unit), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let mut unit = [0; 4096];
        header().encode(&mut unit);
        for bit in 0..SegmentHeader::BYTES * 8 {
            unit[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&unit).is_err(), "bit {bit}");
            unit[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
