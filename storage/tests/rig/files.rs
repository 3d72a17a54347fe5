//! A log's files taken apart, to hit what one means to hit.

use std::ops::Range;

use ringlog_storage::format::block;
use ringlog_storage::format::block_header::BlockHeader;
use ringlog_storage::format::entry_header::{EntryHeader, EntryKind};
use ringlog_storage::format::segment_header::SegmentHeader;
use ringlog_storage::format::trailer::Trailer;
use ringlog_storage::io::medium::Image;
use ringlog_types::PartitionId;

/// The unit of the simulated disk.
pub const UNIT: usize = 4096;

/// A block in a file.
#[derive(Clone, Debug)]
pub struct BlockPlace {
    /// Its bytes in the file.
    pub bytes: Range<usize>,
    /// Its entry table's bytes in the file.
    pub table: Range<usize>,
    /// Its entries.
    pub entries: Vec<EntryHeader>,
}

impl BlockPlace {
    /// Offsets of the records in it.
    pub fn records(&self) -> Vec<(PartitionId, u64, u64)> {
        let records = self.entries.iter().map(|entry| entry.meta);
        let records = records.filter(|meta| meta.kind == EntryKind::Records);
        records
            .map(|meta| (meta.partition, meta.base_offset.0, meta.end_offset().0))
            .collect()
    }
}

/// A segment file.
#[derive(Clone, Debug)]
pub struct FilePlace {
    /// Its name.
    pub name: String,
    /// Its number.
    pub segment: u64,
    /// Its blocks.
    pub blocks: Vec<BlockPlace>,
    /// Its footer's bytes and its trailer's position, if it is sealed.
    pub seal: Option<(Range<usize>, usize)>,
}

/// Every segment file with blocks, by its number.
pub fn take_apart(image: &Image) -> Vec<FilePlace> {
    let mut files = Vec::new();
    for (name, content) in image {
        let Ok(header) = SegmentHeader::decode(content) else {
            continue;
        };
        let key = header.key();
        let mut blocks = Vec::new();
        let mut at = UNIT;
        while let Ok(layout) = block::decode(&key, &content[at.min(content.len())..], UNIT) {
            let BlockHeader {
                block_bytes,
                table_offset,
                entry_count,
                ..
            } = layout.header;
            let table = at + table_offset as usize;
            let end = at + block_bytes as usize;
            blocks.push(BlockPlace {
                bytes: at..end,
                table: table..table + entry_count as usize * EntryHeader::BYTES,
                entries: layout.entries,
            });
            at = end;
        }
        let last = content.len() - UNIT;
        let trailer = Trailer::decode(&key, &content[last..]);
        let seal = trailer.ok().map(|trailer| {
            let from = usize::try_from(trailer.footer_position).unwrap();
            (from..from + trailer.footer_bytes as usize, last)
        });
        if !blocks.is_empty() {
            files.push(FilePlace {
                name: name.clone(),
                segment: header.segment,
                blocks,
                seal,
            });
        }
    }
    files.sort_by_key(|file| file.segment);
    files
}
