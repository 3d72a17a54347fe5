//! Reading a whole commit block: header, entry table and payloads, each checked.
//!
//! Called by recovery and by cold reads. What fails is told apart, because it decides how much
//! of the log can still be named: with the header the length is known, with the table the
//! partitions and offsets.

use super::FormatError;
use super::block_header::BlockHeader;
use super::checksum::{Key, payload_checksum};
use super::entry_header::EntryHeader;

/// The structure of a block whose header and table passed their checks.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its header.
    pub header: BlockHeader,
    /// The header's checksum: the chain's next link.
    pub checksum: u64,
    /// Its entries.
    pub entries: Vec<EntryHeader>,
}

/// Why a block is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// No valid header: nothing is known of it.
    #[error(transparent)]
    Header(#[from] FormatError),
    /// The header is good and says more bytes than there are.
    #[error("the block says {stated} bytes, {available} are there")]
    Cut {
        /// Bytes stated.
        stated: usize,
        /// Bytes there.
        available: usize,
    },
    /// The header is good, the table is not: length known, contents unknown.
    #[error("the entry table of block {sequence} fails its check: {cause}")]
    Table {
        /// The block.
        sequence: u64,
        /// Why.
        cause: FormatError,
    },
}

/// Reads header and entry table of the block at the start of `bytes`, which must hold the
/// whole block.
///
/// # Errors
/// See [`BlockFault`].
pub fn decode(key: &Key, bytes: &[u8], unit_bytes: usize) -> Result<Layout, BlockFault> {
    let (header, checksum) = BlockHeader::decode(key, bytes)?;
    let stated = header.block_bytes as usize;
    if stated > bytes.len() {
        return Err(BlockFault::Cut {
            stated,
            available: bytes.len(),
        });
    }
    let fault = |cause| BlockFault::Table {
        sequence: header.sequence.0,
        cause,
    };
    let bounds = |detail| {
        fault(FormatError::Bounds {
            what: "block",
            detail,
        })
    };
    if stated == 0 || !stated.is_multiple_of(unit_bytes) {
        return Err(bounds(format!("{stated} bytes in units of {unit_bytes}")));
    }
    let table_bytes = u64::from(header.entry_count) * EntryHeader::BYTES as u64;
    let table_end = u64::from(header.table_offset) + table_bytes;
    if table_end > stated as u64 {
        return Err(bounds(format!(
            "entry table to {table_end} of {stated} bytes"
        )));
    }
    let table = &bytes[header.table_offset as usize..table_end as usize];
    if key.checksum(table) != header.table_checksum {
        return Err(fault(FormatError::Checksum {
            what: "entry table",
        }));
    }
    let entries = EntryHeader::decode_table(table, stated).map_err(fault)?;
    Ok(Layout {
        header,
        checksum,
        entries,
    })
}

/// Indexes of the entries whose payload fails its checksum.
#[must_use]
pub fn damaged_payloads(layout: &Layout, bytes: &[u8]) -> Vec<usize> {
    let bad = |entry: &EntryHeader| payload_checksum(&bytes[entry.range()]) != entry.checksum;
    let entries = layout.entries.iter().enumerate();
    entries
        .filter(|(_, entry)| bad(entry))
        .map(|(index, _)| index)
        .collect()
}

/// The entries of a block whose header fails its check, if the table it leads to passes its own:
/// what was lost can then still be named. `bytes` must hold the block's head.
#[must_use]
pub fn salvage_table(key: &Key, bytes: &[u8]) -> Option<Vec<EntryHeader>> {
    let header = BlockHeader::unproven(bytes)?;
    let start = header.table_offset as usize;
    let length = (header.entry_count as usize).checked_mul(EntryHeader::BYTES)?;
    let table = bytes.get(start..start.checked_add(length)?)?;
    let proven = !table.is_empty() && key.checksum(table) == header.table_checksum;
    let block_bytes = header.block_bytes as usize;
    proven
        .then(|| EntryHeader::decode_table(table, block_bytes).ok())
        .flatten()
}
