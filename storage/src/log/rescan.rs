//! A sealed segment whose footer is damaged: its rows are made again from its blocks, in
//! the background, one window after the other, while readers ask again.
//!
//! Invariant: a block counts wherever it stands, because its header says under the segment's
//! key which one it is; what a partition spans and no block shows is damage, and named.

use std::collections::BTreeMap;

use super::Log;
use super::index::{Footer, SegmentIndex, gaps};
use super::pending::{Rescan, Rescanned};
use super::runs::open_group::open_behind;
use super::work::Work;
use crate::format::block::{self, BlockFault};
use crate::format::block_header::BlockHeader;
use crate::format::footer::BlockRef;
use crate::io::{Completion, Io};

const WINDOW_BYTES: u64 = 1 << 20;

impl<I: Io> Log<I> {
    /// Starts to make the rows of a segment again.
    pub(super) fn rebuild_footer(&mut self, segment: u64) {
        tracing::error!(
            log = %self.id, segment,
            "the footer of a sealed segment is damaged or not true: its blocks are read instead"
        );
        let rescan = Rescan {
            at: self.unit as u64,
            window_bytes: WINDOW_BYTES,
            blocks: BTreeMap::new(),
        };
        self.rescan(segment, rescan);
    }

    fn rescan(&mut self, segment: u64, rescan: Rescan) {
        let end = self.segments.live[&segment].position;
        if rescan.at >= end {
            self.finish_rescan(segment, rescan);
            return;
        }
        // Readers that come meanwhile wait for this one.
        self.footer_reads.insert(segment, ());
        let length = rescan.window_bytes.min(end - rescan.at) as usize;
        if self.submit_read(segment, rescan.at, length, Work::Rescan(segment)) {
            self.rescans.insert(segment, rescan);
        } else {
            self.footer_reads.remove(&segment);
            let cause = "no memory to read the segment into".to_owned();
            self.read_failures.insert((segment, 0), cause);
        }
    }

    pub(super) fn rescanned(&mut self, segment: u64, completion: Completion) {
        self.reads_done += 1;
        self.footer_reads.remove(&segment);
        let rescan = self.rescans.remove(&segment);
        let (Some(mut rescan), Some(from)) = (rescan, self.segments.live.get_mut(&segment)) else {
            return;
        };
        from.reads -= 1;
        let (key, last, end) = (from.key.clone(), from.last_sequence, from.position);
        let is_cold = from.is_cold;
        let read = match completion.result {
            Ok(read) => read,
            Err(error) => {
                let cause = format!("reading segment {segment} at {}: {error}", rescan.at);
                tracing::error!(log = %self.id, "{cause}");
                self.read_failures.insert((segment, 0), cause);
                return;
            }
        };
        let buf = completion.buf.as_deref().unwrap_or_default();
        let bytes = &buf[..read.min(buf.len())];
        let (mut at, mut wider) = (0, false);
        while at + BlockHeader::BYTES <= bytes.len() {
            match block::decode(&key, &bytes[at..], self.unit) {
                Ok(found) if found.header.sequence <= last || is_cold => {
                    let block = Rescanned {
                        position: rescan.at + at as u64,
                        bytes: found.header.block_bytes,
                        group: (found.header.group, found.header.group_first),
                        entries: found.entries,
                    };
                    rescan.blocks.entry(found.header.sequence).or_insert(block);
                    // Not past it: one that went astray may stand on the payloads of this one.
                    at += self.unit;
                }
                Err(BlockFault::Cut { stated, .. })
                    if rescan.at + (at + stated) as u64 <= end
                        && (at > 0 || stated as u64 > rescan.window_bytes) =>
                {
                    // The next window begins with it, and holds it.
                    rescan.window_bytes = WINDOW_BYTES.max(stated as u64);
                    wider = true;
                    break;
                }
                _ => at += self.unit,
            }
        }
        if !wider {
            at = at.max(self.unit);
        }
        rescan.at += at as u64;
        self.rescan(segment, rescan);
    }

    fn finish_rescan(&mut self, segment: u64, rescan: Rescan) {
        let unit = self.unit as u64;
        let units = |bytes: u64| u32::try_from(bytes / unit).unwrap_or(u32::MAX);
        let live = &self.segments.live[&segment].index.partitions;
        let is_covered = self.segments.live[&segment].index.covered.is_some();
        let moved = &self.segments.live[&segment].index.moved;
        let last = rescan.blocks.values().next_back();
        let open = last.and_then(|last| open_behind(last.group));
        let open = open.filter(|_| is_covered);
        let (mut index, mut of_open) = (SegmentIndex::new(), SegmentIndex::new());
        for block in rescan.blocks.into_values() {
            let index = match open {
                Some(open) if block.group.1 == open => &mut of_open,
                _ => &mut index,
            };
            for entry in block.entries {
                let meta = entry.meta;
                let wanted = live.get(&meta.partition).is_some_and(|range| {
                    meta.end_offset() > range.first && meta.base_offset < range.end
                }) || is_covered
                    && !moved.contains(&meta.partition)
                    && self.counted(meta.partition).is_some();
                if !meta.kind.spans_offsets() || !wanted {
                    continue;
                }
                let row = BlockRef {
                    first: meta.base_offset,
                    end: meta.end_offset(),
                    max_timestamp: meta.max_timestamp,
                    position_units: units(block.position),
                    block_units: units(u64::from(block.bytes)),
                    payload_bytes: entry.length,
                };
                index.add(meta.partition, row);
            }
        }
        if let Some(open) = open
            && self.is_committed(segment, open, (&index, &of_open))
        {
            index.append(of_open);
        }
        for (partition, range) in live {
            let found = index.partitions.get(partition);
            let blocks = found.map_or(&[][..], |found| &found.blocks);
            if let Some(state) = self.partitions.get_mut(partition) {
                for (first, end) in gaps(range, blocks, state.start) {
                    tracing::error!(
                        log = %self.id, %partition, %first, %end, segment,
                        "damaged offsets (end exclusive)"
                    );
                    state.add_damage(first, end);
                    self.stats.damaged_ranges += 1;
                }
            }
        }
        // What a run covers is not in memory, all of it or as far as it was handed over: then all that
        // stands in the segment and counts is wanted. Once, and in the order of a footer.
        let mut rows = Vec::with_capacity(index.rows);
        for (partition, range) in index.partitions {
            rows.extend(range.blocks.into_iter().map(|block| (partition, block)));
        }
        self.keep_footer(segment, Footer::rebuilt(rows));
        self.reads_done += 1;
    }
}
