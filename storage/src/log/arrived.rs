//! What came back from disk for readers: blocks and footers, checked against the index before they are
//! kept. Invariant: what is not what the index says is never kept; it is remembered and named.

use std::cell::OnceCell;
use std::ops::Range;
use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use super::Log;
use super::block::Block;
use super::index::{Footer, find, gaps};
use super::seeded_bug::SeededBug;
use super::wanted::Wanted;
use crate::buffer::Buf;
use crate::format::block::{self, BlockFault};
use crate::format::checksum::Key;
use crate::format::footer::{self, BlockRef};
use crate::io::{Completion, Io};

/// Footers kept in memory for readers of old segments.
pub(super) const FOOTERS_KEPT: usize = 16;

/// What the index says of a block where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It belongs there.
    Here,
    /// It went astray.
    Elsewhere,
    /// Its rows are not in memory: whoever asks again reads them first.
    Unknown,
}

impl<I: Io> Log<I> {
    pub(super) fn block_read(&mut self, asked: &Wanted, completion: Completion) {
        let (segment, position) = (asked.segment, asked.position);
        let expected_bytes = usize::try_from(asked.block_bytes).expect("a block fits memory");
        self.reads_done += 1;
        self.cold_reads.end(segment, position);
        let Some(from) = self.segments.live.get_mut(&segment) else {
            return;
        };
        from.reads -= 1;
        let key = from.key.clone();
        let read = match completion.result {
            Ok(read) => read,
            Err(error) => {
                let cause = format!("reading segment {segment} at {position}: {error}");
                tracing::error!(log = %self.id, "{cause}");
                self.read_failures.insert((segment, position), cause);
                return;
            }
        };
        self.stats.cold_read_bytes += read as u64;
        let Some(buf) = completion.buf else { return };
        let buf = buf.freeze();
        let mut at = 0;
        // Where the file ends early, what was asked for is still to be looked at.
        while at < read.max(expected_bytes) {
            let here = position + at as u64;
            match decode(
                &buf.slice(at.min(read)..read),
                segment,
                here,
                &key,
                self.unit,
            ) {
                Ok((block, mut damaged)) => {
                    if self.has_bug(SeededBug::IgnoreChecksums) {
                        damaged.clear();
                    }
                    let is_asked = at > 0 || block.of(asked.partition).next().is_some();
                    let placed = self.placed(&block);
                    if !is_asked || placed != Placed::Here {
                        // Bytes of the log that do not belong here: a write went astray. Of
                        // what was not asked for nothing is said: whoever asks finds out.
                        if at == 0 && (!is_asked || placed == Placed::Elsewhere) {
                            self.name_unreadable(segment, position, "another block stands there");
                        }
                        break;
                    }
                    let next = at + block.bytes;
                    for number in damaged {
                        let meta = block.entries[number].meta;
                        if self.segments.live[&segment].index.covered.is_some() {
                            self.runs.bad_blocks.add_entry(segment, here, meta);
                        }
                        self.add_read_damage(segment, here, |partition, _| {
                            (partition == meta.partition)
                                .then_some((meta.base_offset, meta.end_offset()))
                        });
                    }
                    self.cache.keep_cold(Rc::new(block));
                    at = next;
                }
                // Behind the block asked for may lie anything: what is cut is not damage.
                Err(_) if at >= expected_bytes => break,
                Err(fault) => {
                    self.name_unreadable(segment, position, &fault.to_string());
                    break;
                }
            }
        }
    }

    /// Whether the index says of a block's place what the block holds.
    pub(super) fn placed(&self, block: &Block) -> Placed {
        if self.has_bug(SeededBug::ServeStrayBlocks) {
            return Placed::Here;
        }
        let units = (block.position / self.unit as u64) as u32;
        let index = &self.segments.live[&block.segment].index;
        let footer = self.footers.iter().find(|(id, _)| *id == block.segment);
        if index.covered.is_some() && !index.resident {
            // Each reader compares it with its row: see `finds_damage`.
            return Placed::Here;
        }
        if !index.resident && footer.is_none() {
            return Placed::Unknown;
        }
        // By offset: rows of blocks that went astray are not in the order of their places.
        let row = |partition: PartitionId, first: Offset| {
            if index.resident {
                let rows = &index.partitions.get(&partition)?.blocks;
                return Some(find(rows, first, |row| row));
            }
            let rows = footer?.1.of(partition);
            (!rows.is_empty()).then(|| find(rows, first, |(_, row)| row))
        };
        let is_here = block.spans().all(|(partition, first, end)| {
            let state = self.partitions.get(&partition);
            let is_dead = state.is_none_or(|state| end <= state.start);
            // Records of a partition that has none left here are of no interest.
            is_dead
                || row(partition, first).is_none_or(|row| {
                    row.is_some_and(|row| {
                        row.position_units == units && (first, end) == (row.first, row.end)
                    })
                })
        });
        if is_here {
            Placed::Here
        } else {
            Placed::Elsewhere
        }
    }

    /// A block that was durable is not there: all it held is damage, unless only the footer
    /// sent us here and the block stands elsewhere in its segment.
    pub(super) fn name_unreadable(&mut self, segment: u64, position: u64, fault: &str) {
        let index = &self.segments.live[&segment].index;
        let is_asked_by_footer = !index.resident && index.covered.is_none();
        if is_asked_by_footer && !self.rescans.contains_key(&segment) {
            let rows = self.footers.iter().position(|(id, _)| *id == segment);
            if rows.is_some_and(|at| !self.footers[at].1.is_rebuilt()) {
                self.footers.retain(|(id, _)| *id != segment);
                self.rebuild_footer(segment);
                return;
            }
        }
        self.stats.unreadable_blocks += 1;
        tracing::error!(
            log = %self.id, segment, position, fault,
            "a block of a sealed or active segment is damaged: \
             its offsets are named to readers and never served"
        );
        if self.segments.live[&segment].index.covered.is_some() {
            // What it held is not in memory: whoever asks for it finds out.
            self.runs.bad_blocks.add_unreadable(segment, position);
        }
        self.add_read_damage(segment, position, |_, row| Some((row.first, row.end)));
    }

    /// Remembers as damaged what `lost` says of the rows of a block.
    pub(super) fn add_read_damage(
        &mut self,
        segment: u64,
        position: u64,
        lost: impl Fn(PartitionId, &BlockRef) -> Option<(Offset, Offset)>,
    ) {
        let unit = self.unit as u64;
        let here = |row: &BlockRef| u64::from(row.position_units) * unit == position;
        let mut ranges = Vec::new();
        let index = &self.segments.live[&segment].index;
        if index.resident {
            for (partition, range) in &index.partitions {
                let rows = range.blocks.iter().filter(|row| here(row));
                ranges.extend(rows.filter_map(|row| Some((*partition, lost(*partition, row)?))));
            }
        } else if let Some((_, footer)) = self.footers.iter().find(|(id, _)| *id == segment) {
            // A footer has rows of what was moved elsewhere, too.
            let has = |of: &PartitionId| match index.covered {
                Some(_) => !index.moved.contains(of),
                None => index.partitions.contains_key(of),
            };
            let rows = footer.rows().iter();
            let rows = rows.filter(|(of, row)| here(row) && has(of));
            ranges.extend(rows.filter_map(|(at, row)| Some((*at, lost(*at, row)?))));
        }
        for (partition, (first, end)) in ranges {
            tracing::error!(
                log = %self.id, %partition, %first, %end, segment, position,
                "damaged offsets (end exclusive)"
            );
            if let Some(state) = self.partitions.get_mut(&partition) {
                state.add_damage(first, end);
                self.stats.damaged_ranges += 1;
            }
        }
    }

    pub(super) fn footer_read(&mut self, segment: u64, completion: Completion) {
        self.reads_done += 1;
        self.footer_reads.remove(&segment);
        let Some(from) = self.segments.live.get_mut(&segment) else {
            return;
        };
        from.reads -= 1;
        let place = from.footer.expect("a footer that was read has a place");
        let read = match completion.result {
            Ok(read) => read,
            Err(error) => {
                let cause = format!("reading the footer of segment {segment}: {error}");
                tracing::error!(log = %self.id, "{cause}");
                self.read_failures.insert((segment, 0), cause);
                return;
            }
        };
        let buf = completion.buf.as_deref().unwrap_or_default();
        let bytes = buf[..read.min(buf.len())].get(..place.bytes as usize);
        let bytes = bytes.filter(|bytes| from.key.checksum(bytes) == place.checksum);
        let footer = bytes.and_then(|bytes| footer::decode_rows(bytes).ok());
        match footer.map(Footer::new) {
            Some(footer) if self.covers(segment, &footer) => self.keep_footer(segment, footer),
            footer => {
                if footer.is_some()
                    && let Some(segment) = self.segments.live.get_mut(&segment)
                {
                    segment.index.footer_differs = true;
                }
                self.rebuild_footer(segment);
            }
        }
    }

    /// Whether a footer has all that the segment is known to hold. It lacks what was dead when
    /// it was written, and that lives again if the record that ended it is lost.
    fn covers(&self, segment: u64, footer: &Footer) -> bool {
        let mut live = self.segments.live[&segment].index.partitions.iter();
        live.all(|(partition, range)| {
            let rows = footer.of(*partition).iter();
            let rows: Vec<BlockRef> = rows.map(|(_, row)| *row).collect();
            let start = self.partitions.get(partition).map(|state| state.start);
            gaps(range, &rows, start.unwrap_or_default()).is_empty()
        })
    }

    /// Keeps a footer, and lets go of the oldest: not of one whose blocks are being read, which are
    /// compared with it when they come.
    pub(super) fn keep_footer(&mut self, segment: u64, footer: Footer) {
        self.footers.push_back((segment, Rc::new(footer)));
        let live = &self.segments.live;
        let is_read = |id: &u64| live.get(id).is_some_and(|segment| segment.reads > 0);
        while self.footers.len() > FOOTERS_KEPT
            && let Some(oldest) = self.footers.iter().position(|(id, _)| !is_read(id))
        {
            self.footers.remove(oldest);
        }
    }
}

/// Reads a block at the start of `buf`; with it the entries whose payload is damaged.
pub(super) fn decode(
    buf: &Buf,
    segment: u64,
    position: u64,
    key: &Key,
    unit: usize,
) -> Result<(Block, Vec<usize>), BlockFault> {
    let layout = block::decode(key, buf, unit)?;
    let bytes = layout.header.block_bytes as usize;
    let damaged = block::damaged_payloads(&layout, buf);
    let whole: Range<usize> = 0..bytes;
    let block = Block {
        sequence: layout.header.sequence,
        segment,
        position,
        bytes,
        checksum: layout.checksum,
        group: layout.header.group,
        group_first: layout.header.group_first,
        epoch: layout.header.epoch,
        entries: layout.entries,
        extents: vec![(0, buf.slice(whole))],
        is_cold: true,
        by_partition: OnceCell::new(),
    };
    Ok((block, damaged))
}
