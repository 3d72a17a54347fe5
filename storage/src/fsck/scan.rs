//! Reading a segment file from its first block to its end: every block with every checksum on
//! the way to its payloads, and what stands between blocks.
//!
//! Invariant: what is not valid under the segment's own key is never taken for a block, so that
//! recycled bytes behind the end are passed over.

use std::io;

use ringlog_types::batch;

use super::source::Source;
use crate::format::block::{self, BlockFault};
use crate::format::block_header::BlockHeader;
use crate::format::checksum::Key;
use crate::format::cold;
use crate::format::entry_header::{EntryHeader, EntryKind, EntryMeta};

/// Bytes read at once, and the largest head of a block that is read for salvage.
const WINDOW_BYTES: usize = 4 << 20;

/// Why an entry cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryFault {
    /// The payload fails its checksum.
    Payload,
    /// The payload passes, and is no batch as it should be.
    Batch(String),
}

/// An entry of a block that was read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub meta: EntryMeta,
    pub bytes: u32,
    pub fault: Option<EntryFault>,
    /// What replaces segments: its bytes.
    pub payload: Option<Vec<u8>>,
}

/// What is behind a block's valid header.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Whole(Vec<Seen>),
    Broken(BlockFault),
}

/// A block whose header is valid under the segment's key.
#[derive(Clone, Debug)]
pub(super) struct Scanned {
    pub position: u64,
    pub header: BlockHeader,
    pub checksum: u64,
    pub body: Body,
}

impl Scanned {
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.header.block_bytes)
    }
}

/// A stretch without a valid block header, and what can still be told of the block at its start.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub position: u64,
    pub end: u64,
    pub fault: BlockFault,
    pub salvaged: Vec<EntryMeta>,
}

/// A segment's blocks and gaps, each in the order of their positions.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub blocks: Vec<Scanned>,
    pub gaps: Vec<Gap>,
}

impl Scan {
    pub fn block_at(&self, position: u64) -> Option<&Scanned> {
        let at = self.blocks.binary_search_by_key(&position, |b| b.position);
        at.ok().map(|at| &self.blocks[at])
    }

    pub fn gap_at(&self, position: u64) -> Option<&Gap> {
        let mut gaps = self.gaps.iter();
        gaps.find(|gap| gap.position <= position && position < gap.end)
    }
}

/// A segment file to be scanned.
pub(super) struct Scanner<'a> {
    pub source: &'a dyn Source,
    pub name: &'a str,
    pub file_bytes: u64,
    pub key: &'a Key,
    pub unit: usize,
    /// Whether record entries hold batches whose own checksum is to be checked.
    pub batches: bool,
    window: (u64, Vec<u8>),
}

impl<'a> Scanner<'a> {
    pub fn new(
        source: &'a dyn Source,
        name: &'a str,
        file_bytes: u64,
        key: &'a Key,
        unit: usize,
        batches: bool,
    ) -> Scanner<'a> {
        Scanner {
            source,
            name,
            file_bytes,
            key,
            unit,
            batches,
            window: (0, Vec::new()),
        }
    }

    /// As many of `bytes` at `position` as the file has.
    fn bytes_at(&mut self, position: u64, bytes: usize) -> io::Result<&[u8]> {
        let available = usize::try_from(self.file_bytes.saturating_sub(position));
        let bytes = bytes.min(available.unwrap_or(usize::MAX));
        let (from, window) = &self.window;
        let held = *from <= position && position + bytes as u64 <= from + window.len() as u64;
        if !held {
            let length = bytes.max(WINDOW_BYTES).min(available.unwrap_or(bytes));
            let window = self.source.read(self.name, position, length)?;
            self.window = (position, window);
        }
        let (from, window) = &self.window;
        // Within the window, whose length is a usize.
        let start = (position - from) as usize;
        Ok(&window[start.min(window.len())..(start + bytes).min(window.len())])
    }

    /// The whole segment.
    pub fn scan(&mut self) -> io::Result<Scan> {
        let unit = self.unit as u64;
        let mut scan = Scan::default();
        let mut at = unit;
        while at + unit <= self.file_bytes {
            let (key, unit_bytes) = (self.key, self.unit);
            match BlockHeader::decode(key, self.bytes_at(at, unit_bytes)?) {
                Ok((header, checksum)) => {
                    let block = self.block(at, header, checksum)?;
                    let length = u64::from(header.block_bytes).next_multiple_of(unit);
                    at += length.max(unit);
                    scan.blocks.push(block);
                }
                Err(fault) => {
                    match scan.gaps.last_mut() {
                        Some(gap) if gap.end == at => gap.end += unit,
                        _ => scan.gaps.push(Gap {
                            position: at,
                            end: at + unit,
                            salvaged: self.salvage(at)?,
                            fault: fault.into(),
                        }),
                    }
                    at += unit;
                }
            }
        }
        Ok(scan)
    }

    fn block(&mut self, position: u64, header: BlockHeader, checksum: u64) -> io::Result<Scanned> {
        let (key, unit, batches) = (self.key, self.unit, self.batches);
        let is_cold = cold::is_cold(header.sequence);
        let bytes = self.bytes_at(position, header.block_bytes as usize)?;
        let body = match block::decode(key, bytes, unit) {
            Ok(layout) => {
                let damaged = block::damaged_payloads(&layout, bytes);
                let entries = layout.entries.iter().enumerate();
                let seen = entries.map(|(number, entry)| Seen {
                    meta: entry.meta,
                    bytes: entry.length,
                    payload: (entry.meta.kind == EntryKind::Replaced)
                        .then(|| bytes[entry.range()].to_vec()),
                    fault: if damaged.contains(&number) {
                        Some(EntryFault::Payload)
                    } else if batches && entry.meta.kind == EntryKind::Records {
                        check_batch(entry, bytes, is_cold)
                            .err()
                            .map(EntryFault::Batch)
                    } else {
                        None
                    },
                });
                Body::Whole(seen.collect())
            }
            Err(fault) => Body::Broken(fault),
        };
        Ok(Scanned {
            position,
            header,
            checksum,
            body,
        })
    }

    /// Entries of a block whose header fails, where the table can still be proven.
    fn salvage(&mut self, position: u64) -> io::Result<Vec<EntryMeta>> {
        let (key, unit) = (self.key, self.unit);
        let Some(stated) = BlockHeader::unproven(self.bytes_at(position, unit)?) else {
            return Ok(Vec::new());
        };
        let head = (stated.table_offset as usize)
            .saturating_add((stated.entry_count as usize).saturating_mul(EntryHeader::BYTES));
        let bytes = self.bytes_at(position, head.min(WINDOW_BYTES))?;
        let entries = block::salvage_table(key, bytes).unwrap_or_default();
        Ok(entries.iter().map(|entry| entry.meta).collect())
    }
}

fn check_batch(entry: &EntryHeader, block: &[u8], is_cold: bool) -> Result<(), String> {
    let validate = if is_cold {
        // Log compaction may have taken records from it.
        batch::validate_compacted
    } else {
        batch::validate
    };
    let header = validate(&block[entry.range()]).map_err(|error| error.to_string())?;
    let meta = &entry.meta;
    if header.base_offset != meta.base_offset.as_i64() || header.offsets() != meta.count {
        return Err(format!(
            "the batch has offsets {}+{}, its entry says {}+{}",
            header.base_offset,
            header.offsets(),
            meta.base_offset,
            meta.count
        ));
    }
    Ok(())
}
