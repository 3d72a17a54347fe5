//! Taking entries: into the block that gathers, or over several blocks as one atomic group.
//!
//! Invariant: an append is taken whole or not at all, and only while the log is open, has room, and
//! has space for records.

use ringlog_types::Sequence;

use super::builder::OpenBlock;
use super::frame::{FRAME_HEADROOM_BYTES, FrameEntry};
use super::urgency::Urgency;
use super::{AppendError, EntryKind, EntryMeta, Log};
use crate::buffer::BufMut;
use crate::format::block_header::{BlockHeader, Group};
use crate::format::entry_header::EntryHeader;
use crate::io::Io;

/// Largest block, and so the largest entry: far above Kafka's default `max.message.bytes`,
/// far below what would hold the device for long.
const MAX_BLOCK_BYTES: usize = 16 << 20;

/// Largest atomic group (a checkpoint, say).
const MAX_GROUP_BYTES: usize = 1 << 30;

impl<I: Io> Log<I> {
    /// Adds entries as one atomic group, copying their bytes. Returns the sequence of the block
    /// that completes the group: durable when [`Log::durable`] reaches it.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was added then.
    pub fn append(&mut self, entries: &[(EntryMeta, &[u8])]) -> Result<Sequence, AppendError> {
        self.append_with(entries, Urgency::Durable)
    }

    /// [`Log::append`] for who may not wait for stable storage.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_with(
        &mut self,
        entries: &[(EntryMeta, &[u8])],
        urgency: Urgency,
    ) -> Result<Sequence, AppendError> {
        let bytes: usize = entries.iter().map(|(_, payload)| payload.len()).sum();
        let records = entries
            .iter()
            .any(|(meta, _)| meta.kind == EntryKind::Records);
        let largest = entries
            .iter()
            .map(|(_, payload)| payload.len())
            .max()
            .unwrap_or(0);
        self.admit(largest, bytes, records)?;
        self.add_group(entries, urgency)
    }

    /// Adds entries as one atomic group whose bytes lie in `frame`, without copying them: the
    /// frame becomes an extent of the block. `frame[FRAME_HEADROOM_BYTES..end]` holds what was
    /// received; the headroom before and the rest behind belong to the log.
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// When an entry lies outside the frame, or the buffer is shorter than `end` rounded up to
    /// the device's block.
    pub fn append_frame(
        &mut self,
        entries: &[FrameEntry],
        frame: BufMut,
        end: usize,
    ) -> Result<Sequence, AppendError> {
        self.append_frame_with(entries, frame, end, Urgency::Durable)
    }

    /// [`Log::append_frame`] for who may not wait for stable storage.
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// As [`Log::append_frame`].
    pub fn append_frame_with(
        &mut self,
        entries: &[FrameEntry],
        frame: BufMut,
        end: usize,
        urgency: Urgency,
    ) -> Result<Sequence, AppendError> {
        let padded = end.next_multiple_of(self.unit);
        assert!(
            padded <= frame.len(),
            "a frame buffer is whole device blocks"
        );
        for entry in entries {
            let range = &entry.range;
            assert!(
                FRAME_HEADROOM_BYTES <= range.start && range.end <= end,
                "entry in the frame"
            );
        }
        if padded > self.max_frame_bytes() || entries.is_empty() {
            let copied: Vec<(EntryMeta, &[u8])> = entries
                .iter()
                .map(|e| (e.meta, &frame[e.range.clone()]))
                .collect();
            return self.append_with(&copied, urgency);
        }
        let bytes: usize = entries.iter().map(|entry| entry.range.len()).sum();
        let records = entries
            .iter()
            .any(|entry| entry.meta.kind == EntryKind::Records);
        self.admit(bytes, bytes, records)?;
        if let Some(open) = &self.open {
            let entry_count = open.entry_count() + entries.len();
            let grown = open.block_bytes(self.unit) + padded + entries.len() * EntryHeader::BYTES;
            if grown > self.largest_block(entry_count) {
                self.close_open();
            }
        }
        let open = self.open_block();
        open.push_frame(entries, frame, end);
        self.pending_bytes += bytes;
        Ok(self.added(urgency))
    }

    /// Largest frame buffer [`Log::append_frame`] takes without copying.
    #[must_use]
    pub fn max_frame_bytes(&self) -> usize {
        if self.unit > FRAME_HEADROOM_BYTES {
            0
        } else {
            self.largest_block(1) / 2
        }
    }

    /// Largest entry [`Log::append`] takes.
    #[must_use]
    pub fn max_entry_bytes(&self) -> usize {
        self.largest_block(1) - BlockHeader::BYTES - EntryHeader::BYTES
    }

    pub(super) fn largest_block(&self, entries: usize) -> usize {
        self.segments.largest_block(entries).min(MAX_BLOCK_BYTES)
    }

    fn admit(&mut self, largest: usize, bytes: usize, records: bool) -> Result<(), AppendError> {
        if let Some(cause) = &self.failure {
            return Err(AppendError::Closed {
                cause: cause.clone(),
            });
        }
        let limit_bytes = self.max_entry_bytes();
        if largest > limit_bytes {
            return Err(AppendError::TooLarge {
                bytes: largest,
                limit_bytes,
            });
        }
        if bytes > MAX_GROUP_BYTES {
            return Err(AppendError::TooLarge {
                bytes,
                limit_bytes: MAX_GROUP_BYTES,
            });
        }
        if records {
            let free_bytes = self.segments.writable_bytes();
            let waiting = self.pending_bytes as u64 + bytes as u64;
            if self.segments.is_stuck() && free_bytes < self.config.reserve_bytes + waiting {
                self.stats.refused_full += 1;
                return Err(AppendError::Full { free_bytes });
            }
            if self.pending_bytes > 0 && self.pending_bytes + bytes > self.config.pending_bytes {
                self.stats.refused_busy += 1;
                return Err(AppendError::Busy);
            }
        }
        Ok(())
    }

    /// Adds a group: into the open block if it fits, into a block of its own if it fits one,
    /// else into several.
    pub(super) fn add_group(
        &mut self,
        entries: &[(EntryMeta, &[u8])],
        urgency: Urgency,
    ) -> Result<Sequence, AppendError> {
        let bytes: usize = entries.iter().map(|(_, payload)| payload.len()).sum();
        let table = entries.len() * EntryHeader::BYTES;
        let alone = (BlockHeader::BYTES + bytes + table).next_multiple_of(self.unit);
        if alone <= self.largest_block(entries.len()) {
            self.make_room(bytes, entries.len())?;
            let open = self.open_block();
            for (meta, payload) in entries {
                open.push_copied(*meta, payload);
            }
            self.pending_bytes += bytes;
            return Ok(self.added(urgency));
        }
        self.add_spanning_group(entries, urgency)
    }

    fn add_spanning_group(
        &mut self,
        entries: &[(EntryMeta, &[u8])],
        urgency: Urgency,
    ) -> Result<Sequence, AppendError> {
        // Split greedily, and take all the memory before anything is added.
        let limit = self.largest_block(entries.len());
        let mut blocks = Vec::new();
        let mut from = 0;
        while from < entries.len() {
            let (mut to, mut bytes) = (from, BlockHeader::BYTES);
            while to < entries.len() {
                let more = entries[to].1.len() + EntryHeader::BYTES;
                if (bytes + more).next_multiple_of(self.unit) > limit && to > from {
                    break;
                }
                bytes += more;
                to += 1;
            }
            let head = self
                .alloc(bytes.next_multiple_of(self.unit))
                .ok_or(AppendError::Busy)?;
            blocks.push((head, &entries[from..to]));
            from = to;
        }
        self.close_open();
        let group_first = self.next_sequence;
        let last = blocks.len() - 1;
        let now = self.submitter.io.monotonic();
        for (number, (head, entries)) in blocks.into_iter().enumerate() {
            let mut block = OpenBlock::new(self.next_sequence, now, urgency);
            self.next_sequence = self.next_sequence.next();
            block.group_first = group_first;
            block.group = match number {
                0 => Group::Begin,
                number if number == last => Group::Commit,
                _ => Group::Continue,
            };
            block.set_head(head);
            for (meta, payload) in entries {
                block.push_copied(*meta, payload);
            }
            self.pending_bytes += block.payload_bytes;
            self.last_entry_sequence = block.sequence;
            self.ready.push_back(block);
        }
        Ok(self.last_entry_sequence)
    }

    /// Sees to it that the open block has a head with room.
    fn make_room(&mut self, payload_bytes: usize, entries: usize) -> Result<(), AppendError> {
        if let Some(open) = &self.open {
            let whole = open.block_bytes(self.unit) + payload_bytes + self.unit;
            let entry_count = open.entry_count() + entries;
            let fits = whole + entries * EntryHeader::BYTES <= self.largest_block(entry_count);
            if fits && open.has_room(payload_bytes, entries) {
                return Ok(());
            }
            if open.has_head() || !fits {
                self.close_open();
            }
        }
        let table = (entries + 64) * EntryHeader::BYTES;
        let needed = BlockHeader::BYTES + payload_bytes + table;
        let head = match self.spare_head.take_if(|head| head.len() >= needed) {
            Some(head) => head,
            None => {
                let usual = self.config.target_block_bytes + self.config.target_block_bytes / 8;
                let bytes = needed.max(usual).next_multiple_of(self.unit);
                self.alloc(bytes).ok_or(AppendError::Busy)?
            }
        };
        let open = self.open_block();
        if open.has_room(payload_bytes, entries) {
            self.spare_head = Some(head);
        } else {
            open.set_head(head);
        }
        Ok(())
    }

    /// Memory for a frame or a block: from the arena if need be at the cost of cached blocks,
    /// because fresh pages cost the kernel a clearing that shows (a third of the core's time at
    /// 16 KiB batches); beyond the arena when little is cached. `None` at the pool's limit.
    pub fn alloc(&mut self, bytes: usize) -> Option<BufMut> {
        let pool = self.submitter.io.pool().clone();
        if bytes <= pool.arena_bytes() / 4 {
            loop {
                if let Some(buf) = pool.alloc_in_arena(bytes) {
                    return Some(buf);
                }
                if self.cache.bytes() <= self.config.cache_bytes / 4 || !self.cache.evict_one() {
                    break;
                }
            }
        }
        loop {
            if let Some(buf) = pool.alloc(bytes) {
                return Some(buf);
            }
            if !self.cache.evict_one() {
                return None;
            }
        }
    }

    fn open_block(&mut self) -> &mut OpenBlock {
        if self.open.is_none() {
            let now = self.submitter.io.monotonic();
            self.open = Some(OpenBlock::new(self.next_sequence, now, Urgency::Written));
            self.next_sequence = self.next_sequence.next();
        }
        self.open.as_mut().expect("it was just made")
    }

    /// An entry went into the open block.
    fn added(&mut self, urgency: Urgency) -> Sequence {
        let open = self.open.as_mut().expect("an entry was just added to it");
        open.urgency = open.urgency.max(urgency);
        let sequence = open.sequence;
        self.last_entry_sequence = sequence;
        if open.gathered_bytes() >= self.config.target_block_bytes {
            self.close_open();
        }
        sequence
    }
}
