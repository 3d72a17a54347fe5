//! A sealed segment whose footer cannot be used: its blocks are read instead, and give the rows
//! again. Costs one read of the whole segment and the memory for it; only damage gets here.

use std::rc::Rc;

use super::index::{Footer, SegmentIndex};
use super::work::Work;
use super::{EntryKind, Log, read};
use crate::format::footer::{self, BlockRef};
use crate::io::{Completion, Io};

impl<I: Io> Log<I> {
    /// Asks for a segment's blocks in place of its footer. `false`: there is no memory for them.
    pub(super) fn submit_reindex(&mut self, segment: u64) -> bool {
        let Some(from) = self.segments.live.get(&segment) else {
            return false;
        };
        let unit = self.unit as u64;
        // A segment's length is a usize wherever it can be held in memory.
        let length = from.position.saturating_sub(unit) as usize;
        length > 0 && self.submit_read(segment, unit, length, Work::SegmentRead(segment))
    }

    pub(super) fn segment_read(&mut self, segment: u64, completion: Completion) {
        self.reads_done += 1;
        self.footer_reads.remove(&segment);
        let Some(from) = self.segments.live.get_mut(&segment) else {
            return;
        };
        from.reads -= 1;
        let key = from.key.clone();
        let (Ok(length), Some(buf)) = (completion.result, completion.buf) else {
            let cause = format!("reading the blocks of segment {segment} failed");
            self.read_failures.insert((segment, 0), cause);
            return;
        };
        let buf = buf.freeze();
        let mut index = SegmentIndex::new();
        let units = |bytes: usize| u32::try_from(bytes / self.unit).unwrap_or(u32::MAX);
        let (unit, mut at) = (self.unit, 0);
        while at < length {
            let position = (at + unit) as u64;
            let Ok((block, _)) =
                read::decode(&buf.slice(at..length), segment, position, &key, unit)
            else {
                // What is lost is named when a reader gets to it, between the rows around it.
                at += unit;
                continue;
            };
            let records = block.entries.iter();
            for entry in records.filter(|entry| entry.meta.kind == EntryKind::Records) {
                index.add(
                    entry.meta.partition,
                    BlockRef {
                        first: entry.meta.base_offset,
                        end: entry.meta.end_offset(),
                        max_timestamp: entry.meta.max_timestamp,
                        position_units: units(at + unit),
                        block_units: units(block.bytes),
                        payload_bytes: entry.length,
                    },
                );
            }
            at += block.bytes;
        }
        let rows = footer::decode_rows(&index.footer());
        let rows = rows.expect("rows of entries that were decoded have possible offsets");
        self.keep_footer(segment, Footer::new(rows));
        tracing::warn!(log = %self.id, segment, "the segment's blocks stand in for its footer");
    }

    /// Keeps a footer for readers, in place of the oldest one.
    pub(super) fn keep_footer(&mut self, segment: u64, footer: Footer) {
        self.footers.push_back((segment, Rc::new(footer)));
        if self.footers.len() > read::FOOTERS_KEPT {
            self.footers.pop_front();
        }
    }
}
