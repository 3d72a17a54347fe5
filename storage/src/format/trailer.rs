//! The last unit of a sealed segment: where its footer and its data end, and the newest
//! checkpoint known at the seal.
//!
//! A segment without a valid trailer was not sealed before the end of its process; its blocks
//! are then read instead.

use ringlog_types::Sequence;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Key;
use super::segment_header::CheckpointPointer;
use super::{FORMAT_VERSION, FormatError, check_version};

const MAGIC: [u8; 8] = *b"RINGLEND";
const WHAT: &str = "segment trailer";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    checksum: U64,
    magic: [u8; 8],
    version: U16,
    flags: U16,
    footer_bytes: U32,
    segment: U64,
    footer_position: U64,
    footer_checksum: U64,
    data_end: U64,
    first_sequence: U64,
    last_sequence: U64,
    last_checksum: U64,
    checkpoint_segment: U64,
    checkpoint_position: U64,
    checkpoint_sequence: U64,
}

/// The trailer of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The segment's number.
    pub segment: u64,
    /// Where the footer starts, in bytes.
    pub footer_position: u64,
    /// Its length in bytes, without padding.
    pub footer_bytes: u32,
    /// Its keyed checksum.
    pub footer_checksum: u64,
    /// Where the last block ends.
    pub data_end: u64,
    /// First block.
    pub first_sequence: Sequence,
    /// Last block.
    pub last_sequence: Sequence,
    /// Header checksum of the last block.
    pub last_checksum: u64,
    /// The newest durable checkpoint at the seal.
    pub checkpoint: Option<CheckpointPointer>,
}

impl Trailer {
    /// Bytes of the encoded trailer (the rest of its unit is zero).
    pub const BYTES: usize = size_of::<Raw>();

    /// Writes the trailer at the start of `unit`.
    ///
    /// # Panics
    /// When `unit` is shorter than [`Self::BYTES`].
    pub fn encode(&self, key: &Key, unit: &mut [u8]) {
        let mut raw = Raw {
            checksum: U64::ZERO,
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            flags: U16::ZERO,
            footer_bytes: self.footer_bytes.into(),
            segment: self.segment.into(),
            footer_position: self.footer_position.into(),
            footer_checksum: self.footer_checksum.into(),
            data_end: self.data_end.into(),
            first_sequence: self.first_sequence.0.into(),
            last_sequence: self.last_sequence.0.into(),
            last_checksum: self.last_checksum.into(),
            checkpoint_segment: self.checkpoint.map_or(0, |p| p.segment).into(),
            checkpoint_position: self.checkpoint.map_or(0, |p| p.position).into(),
            checkpoint_sequence: self.checkpoint.map_or(0, |p| p.sequence.0).into(),
        };
        raw.checksum = key.checksum(&raw.as_bytes()[8..]).into();
        unit[..Self::BYTES].copy_from_slice(raw.as_bytes());
    }

    /// Reads the trailer at the start of `unit`.
    ///
    /// # Errors
    /// Absent, failing its checksum, or of another version.
    pub fn decode(key: &Key, unit: &[u8]) -> Result<Trailer, FormatError> {
        let absent = FormatError::Absent { what: WHAT };
        let Ok((raw, _)) = Raw::ref_from_prefix(unit) else {
            return Err(absent);
        };
        if raw.magic != MAGIC {
            return Err(absent);
        }
        if key.checksum(&raw.as_bytes()[8..]) != raw.checksum.get() {
            return Err(FormatError::Checksum { what: WHAT });
        }
        check_version(WHAT, raw.version.get())?;
        let checkpoint = (raw.checkpoint_sequence.get() > 0).then(|| CheckpointPointer {
            sequence: Sequence(raw.checkpoint_sequence.get()),
            segment: raw.checkpoint_segment.get(),
            position: raw.checkpoint_position.get(),
        });
        Ok(Trailer {
            segment: raw.segment.get(),
            footer_position: raw.footer_position.get(),
            footer_bytes: raw.footer_bytes.get(),
            footer_checksum: raw.footer_checksum.get(),
            data_end: raw.data_end.get(),
            first_sequence: Sequence(raw.first_sequence.get()),
            last_sequence: Sequence(raw.last_sequence.get()),
            last_checksum: raw.last_checksum.get(),
            checkpoint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_refused() {
        let trailer = Trailer {
            segment: 1,
            footer_position: 2,
            footer_bytes: 3,
            footer_checksum: 4,
            data_end: 5,
            first_sequence: Sequence(6),
            last_sequence: Sequence(7),
            last_checksum: 8,
            checkpoint: None,
        };
        let key = Key::derive(5);
        let mut unit = [0; 4096];
        trailer.encode(&key, &mut unit);
        assert_eq!(Trailer::decode(&key, &unit), Ok(trailer));
        for bit in 0..Trailer::BYTES * 8 {
            unit[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&key, &unit).is_err(), "bit {bit}");
            unit[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
