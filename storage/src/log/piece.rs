//! Reading the records of one partition out of a block without reading the block: its header,
//! its entry table, then the payloads. For readers of one partition among thousands, whose share
//! of each block is small.
//!
//! ```text
//! [ header ] … [ entry table ] …   →   [ payload ]
//!   one unit     its units               its units
//! ```
//!
//! Invariant: the chain of checksums is the same as for a whole block (header under the segment's
//! key, table by the header, payloads by the table). Where anything fails the block is read whole when
//! the reader looks again: that knows how to name what is lost.

use std::cell::OnceCell;
use std::ops::Range;
use std::rc::Rc;

use super::Log;
use super::arrived::Placed;
use super::block::Block;
use super::under_way::most_piece_bytes;
use super::wanted::{PieceRead, Progress, Proven, Wanted};
use super::work::Work;
use crate::format::block_header::BlockHeader;
use crate::format::checksum::{Key, payload_checksum};
use crate::format::entry_header::EntryHeader;
use crate::io::{Completion, Io};

/// What follows from bytes that were read.
enum Next {
    Read(Range<usize>, Progress),
    Done(Vec<EntryHeader>),
}

impl<I: Io> Log<I> {
    /// Starts to read a piece. `false`: there is no memory for it now.
    pub(super) fn read_piece(&mut self, wanted: Wanted) -> bool {
        let started = self.read_part(wanted, 0..self.unit, Progress::Header);
        if started {
            self.cold_reads.begin_piece(&wanted);
        }
        started
    }

    fn read_part(&mut self, wanted: Wanted, bytes: Range<usize>, progress: Progress) -> bool {
        let from = bytes.start / self.unit * self.unit;
        let length = bytes.end.next_multiple_of(self.unit) - from;
        let (segment, position) = (wanted.segment, wanted.position + from as u64);
        let work = Work::PieceRead(Box::new(PieceRead {
            wanted,
            from,
            progress,
        }));
        self.submit_read(segment, position, length, work)
    }

    pub(super) fn piece_read(&mut self, piece: PieceRead, completion: Completion) {
        let PieceRead {
            wanted,
            from,
            progress,
        } = piece;
        let Some(segment) = self.segments.live.get_mut(&wanted.segment) else {
            self.end_piece(&wanted);
            return;
        };
        segment.reads -= 1;
        let read = match (completion.result, completion.buf) {
            (Ok(read), Some(buf)) => Some(buf.freeze().slice(0..read)),
            _ => None,
        };
        self.stats.cold_read_bytes += read.as_ref().map_or(0, |read| read.len() as u64);
        let next = read
            .as_ref()
            .and_then(|read| step(&segment.key, &wanted, from, read, &progress));
        let went_on = match (next, read, &progress) {
            (Some(Next::Read(bytes, progress)), ..) => {
                if self.read_part(wanted, bytes, progress) {
                    return;
                }
                false
            }
            (Some(Next::Done(entries)), Some(read), Progress::Payloads(proven, _)) => {
                let Proven { header, checksum } = *proven;
                let piece = Block {
                    sequence: header.sequence,
                    segment: wanted.segment,
                    position: wanted.position,
                    bytes: read.len(),
                    checksum,
                    group: header.group,
                    group_first: header.group_first,
                    epoch: header.epoch,
                    entries,
                    extents: vec![(from, read)],
                    is_cold: true,
                    by_partition: OnceCell::new(),
                };
                let placed = self.placed(&piece);
                if placed == Placed::Here {
                    self.cache.keep_piece(wanted.partition, Rc::new(piece));
                }
                placed != Placed::Elsewhere
            }
            _ => false,
        };
        if !went_on {
            self.cold_reads.read_whole(&wanted);
        }
        self.end_piece(&wanted);
    }

    fn end_piece(&mut self, wanted: &Wanted) {
        self.cold_reads.end_piece(wanted);
        self.reads_done += 1;
    }
}

/// What the bytes from `from` on of a block say; `None`: not what they should.
fn step(key: &Key, wanted: &Wanted, from: usize, read: &[u8], progress: &Progress) -> Option<Next> {
    match progress {
        Progress::Header => {
            let (header, checksum) = BlockHeader::decode(key, read).ok()?;
            if u64::from(header.block_bytes) != wanted.block_bytes {
                return None;
            }
            let proven = Proven { header, checksum };
            let table = table_of(&header)?;
            if table.end <= read.len() {
                return step(key, wanted, 0, read, &Progress::Table(proven));
            }
            Some(Next::Read(table, Progress::Table(proven)))
        }
        Progress::Table(proven) => {
            let table = table_of(&proven.header)?;
            let table = read.get(table.start - from..table.end - from)?;
            if key.checksum(table) != proven.header.table_checksum {
                return None;
            }
            let block_bytes = proven.header.block_bytes as usize;
            let entries = EntryHeader::decode_table(table, block_bytes).ok()?;
            let mine = |entry: &EntryHeader| {
                entry.meta.partition == wanted.partition && entry.meta.kind.spans_offsets()
            };
            let entries: Vec<EntryHeader> = entries.into_iter().filter(mine).collect();
            let start = entries.iter().map(|entry| entry.range().start).min()?;
            let end = entries.iter().map(|entry| entry.range().end).max()?;
            ((end - start) as u64 <= most_piece_bytes(wanted))
                .then_some(Next::Read(start..end, Progress::Payloads(*proven, entries)))
        }
        Progress::Payloads(_, entries) => {
            let sound = |entry: &EntryHeader| {
                let range = entry.range();
                let payload = read.get(range.start - from..range.end - from);
                payload.is_some_and(|payload| payload_checksum(payload) == entry.checksum)
            };
            entries
                .iter()
                .all(sound)
                .then(|| Next::Done(entries.clone()))
        }
    }
}

/// Where a block's entry table lies; `None`: nowhere in it.
fn table_of(header: &BlockHeader) -> Option<Range<usize>> {
    let start = header.table_offset as usize;
    let end = start + header.entry_count as usize * EntryHeader::BYTES;
    (end <= header.block_bytes as usize).then_some(start..end)
}
