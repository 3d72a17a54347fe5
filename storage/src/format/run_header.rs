//! The first unit of an index run's file: whose it is, its number and its nonce; and the file's
//! name.
//!
//! ```text
//! run      [ header | page | page | … | root page ]     one unit each
//! ```
//! Where the run ends and which page is its root stands in the checkpoint that names it: a file
//! that no checkpoint names is left over from an attempt.

use ringlog_types::LogId;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Key;
use super::{FORMAT_VERSION, FormatError, check_version};

const MAGIC: [u8; 8] = *b"RINGLIDX";
const WHAT: &str = "index run header";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    checksum: U64,
    version: U16,
    flags: U16,
    log: U32,
    number: U64,
    nonce: U128,
    unit_bytes: U32,
    reserved: U32,
}

/// The header of an index run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// Whose it is.
    pub log: LogId,
    /// Its number: larger for one made later, never given twice in a log.
    pub number: u64,
    /// Random, different for every run.
    pub nonce: u128,
    /// Length of a page.
    pub unit_bytes: u32,
}

impl RunHeader {
    /// Bytes of the encoded header (the rest of its unit is zero).
    pub const BYTES: usize = size_of::<Raw>();

    /// The key for every checksum in this run.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::derive(self.nonce)
    }

    /// Writes the header at the start of `unit`.
    ///
    /// # Panics
    /// When `unit` is shorter than [`Self::BYTES`].
    pub fn encode(&self, unit: &mut [u8]) {
        let mut raw = Raw {
            magic: MAGIC,
            checksum: U64::ZERO,
            version: FORMAT_VERSION.into(),
            flags: U16::ZERO,
            log: self.log.0.into(),
            number: self.number.into(),
            nonce: self.nonce.into(),
            unit_bytes: self.unit_bytes.into(),
            reserved: U32::ZERO,
        };
        raw.checksum = self.key().checksum(&raw.as_bytes()[16..]).into();
        unit[..Self::BYTES].copy_from_slice(raw.as_bytes());
    }

    /// Reads the header at the start of `unit`.
    ///
    /// # Errors
    /// Absent, failing its checksum, or of another version.
    pub fn decode(unit: &[u8]) -> Result<RunHeader, FormatError> {
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
        Ok(RunHeader {
            log: LogId(raw.log.get()),
            number: raw.number.get(),
            nonce: raw.nonce.get(),
            unit_bytes: raw.unit_bytes.get(),
        })
    }
}

/// The name of a run's file.
#[must_use]
pub fn run_file_name(number: u64) -> String {
    format!("{number:010}.index")
}

/// The number of the run in a file of this name; `None` for any other file.
#[must_use]
pub fn run_number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".index")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_refused() {
        let header = RunHeader {
            log: LogId(3),
            number: 9,
            nonce: 0x1234_5678_9abc_def0_1122_3344_5566_7788,
            unit_bytes: 4096,
        };
        let mut unit = [0; 4096];
        header.encode(&mut unit);
        assert_eq!(RunHeader::decode(&unit), Ok(header));
        for bit in 0..RunHeader::BYTES * 8 {
            unit[bit / 8] ^= 1 << (bit % 8);
            assert!(RunHeader::decode(&unit).is_err(), "bit {bit}");
            unit[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_run_is_found_in_its_name_and_in_no_other() {
        assert_eq!(run_number_of(&run_file_name(7)), Some(7));
        assert_eq!(run_number_of("0000000007.segment"), None);
        assert_eq!(run_number_of("x.index"), None);
    }
}
