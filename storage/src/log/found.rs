//! What a start found of a segment, before it is known what it holds.

use crate::format::block_header::BlockHeader;
use crate::format::checksum::Key;
use crate::format::origin::Origin;
use crate::format::trailer::Trailer;
use crate::io::FileId;

/// A segment file with a valid header.
#[derive(Debug)]
pub(super) struct Found {
    pub name: String,
    /// Who wrote it; `None`: this log.
    pub origin: Option<Origin>,
    /// Written by the cleaner.
    pub is_cold: bool,
    pub file: FileId,
    pub file_bytes: u64,
    pub key: Key,
    pub trailer: Option<Trailer>,
    /// Shorter than its header says, without the trailer that the seal writes before it cuts.
    pub is_cut_off: bool,
    /// Header of the block at its start, if valid.
    pub first_block: Option<BlockHeader>,
}
