//! The bytes on disk: one structure, one file. Little-endian, versioned, checksummed.
//!
//! ```text
//! segment  [ header | block | block | …           | footer | …free… | trailer ]
//!            1 unit   from unit 1, whole units      at seal            last unit
//! block    [ header 128 B | payloads | entry table | pad ][ frame | pad ][ frame | pad ] …
//! ```
//! A unit is the device's block (`Geometry::block_bytes`, at least 4096 bytes).
//!
//! Invariant: nothing here reads or writes a file; every decoder accepts any bytes without
//! panicking, and refuses what it does not know by name.

pub mod block;
pub mod block_header;
pub mod checksum;
pub mod cold;
pub mod entry_header;
pub mod footer;
pub mod manifest;
pub mod origin;
pub mod reader;
pub mod replaced;
pub mod run_header;
pub mod run_page;
pub mod segment_header;
pub mod segment_name;
pub mod trailer;

/// Version of every structure in this folder. A change of any of them raises it.
pub const FORMAT_VERSION: u16 = 2;

/// The oldest version that is still read.
pub const OLDEST_VERSION: u16 = 1;

/// Whether a structure of this version can be read.
///
/// # Errors
/// It is of another version, which is named.
pub fn check_version(what: &'static str, found: u16) -> Result<(), FormatError> {
    if (OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Ok(());
    }
    let known = FORMAT_VERSION;
    Err(FormatError::Version { what, found, known })
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No such structure here: never written, recycled, or torn.
    #[error("no {what} here")]
    Absent {
        /// The structure looked for.
        what: &'static str,
    },
    /// The structure is there and fails its checksum.
    #[error("the {what} fails its checksum")]
    Checksum {
        /// The structure.
        what: &'static str,
    },
    /// Written by another version of the format.
    #[error("the {what} has format version {found}, this program reads version {known}")]
    Version {
        /// The structure.
        what: &'static str,
        /// Version found.
        found: u16,
        /// Version known.
        known: u16,
    },
    /// A length or count points outside its container.
    #[error("the {what} states a length that does not fit: {detail}")]
    Bounds {
        /// The structure.
        what: &'static str,
        /// What was stated and what fits.
        detail: String,
    },
}
