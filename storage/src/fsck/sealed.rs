//! A sealed segment's footer and trailer against the blocks they speak of.

use std::collections::BTreeMap;
use std::io;

use ringlog_types::PartitionId;

use super::finding::{Fault, OffsetRange};
use super::scan::{Body, Scanned};
use super::source::Source;
use super::survey::Found;
use crate::format::block_header::Group;
use crate::format::footer::{self, BlockRef};
use crate::format::trailer::Trailer;

/// What is wrong with a seal.
pub(super) struct SealFault {
    pub fault: Fault,
    pub position: u64,
    pub offsets: Vec<OffsetRange>,
    pub detail: String,
}

/// The rows of a segment's footer, if it is sealed and they can be read.
pub(super) fn footer_rows(
    source: &dyn Source,
    found: &Found,
) -> io::Result<Result<Vec<(PartitionId, BlockRef)>, SealFault>> {
    let Ok(trailer) = &found.trailer else {
        return Ok(Ok(Vec::new()));
    };
    let position = trailer.footer_position;
    let bytes = source.read(&found.name, position, trailer.footer_bytes as usize)?;
    let refused = |detail: String| SealFault {
        fault: Fault::Footer,
        position,
        offsets: Vec::new(),
        detail,
    };
    if bytes.len() < trailer.footer_bytes as usize {
        let detail = format!(
            "{} of its {} bytes are there",
            bytes.len(),
            trailer.footer_bytes
        );
        return Ok(Err(refused(detail)));
    }
    if found.key.checksum(&bytes) != trailer.footer_checksum {
        return Ok(Err(refused("it fails its checksum".to_owned())));
    }
    Ok(footer::decode_rows(&bytes).map_err(|fault| refused(fault.to_string())))
}

/// The row of each partition in each block, as the blocks have it.
fn rows_of(blocks: &[&Scanned], unit: usize) -> BTreeMap<(PartitionId, u64), BlockRef> {
    let mut rows: BTreeMap<(PartitionId, u64), BlockRef> = BTreeMap::new();
    let units = |bytes: u64| u32::try_from(bytes / unit as u64).unwrap_or(u32::MAX);
    for block in blocks {
        let Body::Whole(entries) = &block.body else {
            continue;
        };
        for entry in entries.iter().filter(|e| e.meta.kind.spans_offsets()) {
            let meta = &entry.meta;
            let row = rows
                .entry((meta.partition, block.position))
                .or_insert(BlockRef {
                    first: meta.base_offset,
                    end: meta.base_offset,
                    max_timestamp: meta.max_timestamp,
                    position_units: units(block.position),
                    block_units: units(u64::from(block.header.block_bytes)),
                    payload_bytes: 0,
                });
            row.end = meta.end_offset();
            row.max_timestamp = row.max_timestamp.max(meta.max_timestamp);
            row.payload_bytes = row.payload_bytes.saturating_add(entry.bytes);
        }
    }
    rows
}

/// Checks footer rows against the blocks. A partition may be absent from a footer when nothing
/// of it was live at the seal: what is missing is told with its offsets, for whoever knows what
/// is live.
pub(super) fn check_rows(
    found: &Found,
    rows: &[(PartitionId, BlockRef)],
    blocks: &[&Scanned],
) -> Vec<SealFault> {
    let Ok(trailer) = &found.trailer else {
        return Vec::new();
    };
    let mut expected = rows_of(blocks, found.unit);
    let mut faults = Vec::new();
    let mut refuse = |row: Option<(PartitionId, BlockRef)>, detail: String| {
        let offsets = row.map(|(partition, row)| OffsetRange {
            partition,
            first: row.first,
            end: row.end,
        });
        faults.push(SealFault {
            fault: Fault::Footer,
            position: trailer.footer_position,
            offsets: offsets.into_iter().collect(),
            detail,
        });
    };
    let order = |row: &(PartitionId, BlockRef)| (row.0, row.1.first);
    if !rows.is_sorted_by_key(order) {
        refuse(
            None,
            "its rows are not sorted by partition and offset".to_owned(),
        );
    }
    for (partition, row) in rows {
        let position = u64::from(row.position_units) * found.unit as u64;
        let intact = blocks
            .binary_search_by_key(&position, |block| block.position)
            .is_ok_and(|at| matches!(blocks[at].body, Body::Whole(_)));
        match expected.remove(&(*partition, position)) {
            Some(block) if block == *row => {}
            // What the block was is told where the block is.
            None if !intact => {}
            Some(block) => {
                let detail = format!("a row says {row:?} where the block has {block:?}");
                refuse(Some((*partition, *row)), detail);
            }
            None => {
                let detail = format!("a row names records at byte {position} that are not there");
                refuse(Some((*partition, *row)), detail);
            }
        }
    }
    for ((partition, position), row) in expected {
        let at = blocks.partition_point(|block| block.position < position);
        // Of a group that was never committed nothing is in an index.
        if blocks
            .get(at)
            .is_some_and(|block| block.header.group != Group::Whole)
        {
            continue;
        }
        let detail = format!("no row for the records in the block at byte {position}");
        refuse(Some((partition, row)), detail);
    }
    faults
}

/// What a trailer says of its segment's blocks that they do not say.
pub(super) fn check_trailer(trailer: &Trailer, blocks: &[&Scanned], is_cold: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        return wrong;
    };
    let mut compare = |what: &str, stated: u64, real: u64| {
        if stated != real {
            wrong.push(format!("{what} is {stated} where the blocks have {real}"));
        }
    };
    if !is_cold {
        // That of a cold segment names the blocks that it was made of.
        compare(
            "first sequence",
            trailer.first_sequence.0,
            first.header.sequence.0,
        );
        compare(
            "last sequence",
            trailer.last_sequence.0,
            last.header.sequence.0,
        );
    }
    compare("last checksum", trailer.last_checksum, last.checksum);
    compare("data end", trailer.data_end, last.end());
    compare("footer position", trailer.footer_position, last.end());
    wrong
}

/// Whether bytes that are no valid trailer were this segment's own: most fields of the trailer
/// that its blocks ask for stand in them. (A recycled file may have the trailer of an earlier life
/// there, a new one anything.)
pub(super) fn resembles(found: &Found, last_unit: &[u8], blocks: &[&Scanned]) -> bool {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        return false;
    };
    let expected = Trailer {
        segment: last.header.segment,
        footer_position: last.end(),
        footer_bytes: 0,
        footer_checksum: 0,
        data_end: last.end(),
        first_sequence: first.header.sequence,
        last_sequence: last.header.sequence,
        last_checksum: last.checksum,
        checkpoint: None,
    };
    let mut unit = vec![0; found.unit];
    expected.encode(&found.key, &mut unit);
    let words = unit[..Trailer::BYTES].chunks(8).zip(last_unit.chunks(8));
    let same = words.filter(|(a, b)| a == b && **a != [0; 8]);
    const MOST_FIELDS: usize = 5;
    same.count() >= MOST_FIELDS
}
