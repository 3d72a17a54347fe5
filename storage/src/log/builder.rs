//! The block that gathers entries, and its layout when it is written.
//!
//! Small payloads are copied once, into the head buffer; frames become extents as they were
//! received. A block of exactly one frame has its header and entry table written into the
//! frame's headroom, so that it is one contiguous write.
//!
//! ```text
//! head    [ header 128 | payload … | entry table | pad ]     then     [ frame | pad ] …
//! frame   [ headroom 4096: header, entry table | frame | pad ]        (the only one)
//! ```

use std::ops::Range;
use std::time::Duration;

use ringlog_types::Sequence;

use super::frame::{FRAME_HEADROOM_BYTES, FrameEntry};
use super::urgency::Urgency;
use crate::buffer::{Buf, BufMut};
use crate::format::block_header::{BlockHeader, Group};
use crate::format::checksum::{Key, payload_checksum};
use crate::format::entry_header::{EntryHeader, EntryMeta};

/// A frame that is part of the block: bytes from the headroom's end to `end`.
#[derive(Debug)]
struct Frame {
    buf: BufMut,
    end: usize,
}

/// Where an entry's payload is until the layout is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    Frame(usize),
}

/// Entries that will be written together.
#[derive(Debug)]
pub(super) struct OpenBlock {
    /// Its place in the log.
    pub sequence: Sequence,
    /// Part of an atomic group.
    pub group: Group,
    /// First block of the group.
    pub group_first: Sequence,
    /// When its first entry came.
    pub opened_at: Duration,
    /// Bytes of its payloads.
    pub payload_bytes: usize,
    /// The most that anybody waits for who has an entry in it.
    pub urgency: Urgency,
    entries: Vec<EntryHeader>,
    places: Vec<Place>,
    head: Option<BufMut>,
    head_used: usize,
    frames: Vec<Frame>,
}

/// What a block states of the log when it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub segment: u64,
    pub durable: Sequence,
    pub previous: u64,
    pub metadata_version: u64,
    pub epoch: u32,
    pub wall_ms: i64,
}

/// A block laid out and ready to be written.
#[derive(Debug)]
pub(super) struct Laid {
    pub entries: Vec<EntryHeader>,
    pub extents: Vec<(usize, Buf)>,
    pub bytes: usize,
    pub checksum: u64,
    /// A head buffer that is larger than the block needed, for the next one.
    pub spare_head: Option<BufMut>,
}

impl OpenBlock {
    pub fn new(sequence: Sequence, opened_at: Duration, urgency: Urgency) -> OpenBlock {
        OpenBlock {
            sequence,
            group: Group::Whole,
            group_first: sequence,
            opened_at,
            payload_bytes: 0,
            urgency,
            entries: Vec::new(),
            places: Vec::new(),
            head: None,
            head_used: BlockHeader::BYTES,
            frames: Vec::new(),
        }
    }

    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that gathered, padding aside.
    pub fn gathered_bytes(&self) -> usize {
        self.payload_bytes + BlockHeader::BYTES + self.entries.len() * EntryHeader::BYTES
    }

    /// Whether a payload of `bytes` can still be copied in. Without a head buffer: no.
    pub fn has_room(&self, payload_bytes: usize, entries: usize) -> bool {
        let table = (self.entries.len() + entries) * EntryHeader::BYTES;
        let head = self.head.as_ref().map_or(0, |head| head.len());
        self.head_used + payload_bytes + table <= head
    }

    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    pub fn set_head(&mut self, head: BufMut) {
        debug_assert!(self.head.is_none(), "a head in use is not replaced");
        self.head = Some(head);
    }

    /// Copies a payload in.
    ///
    /// # Panics
    /// Without room: the caller asked [`OpenBlock::has_room`].
    pub fn push_copied(&mut self, meta: EntryMeta, payload: &[u8]) {
        let start = self.head_used;
        let head = self
            .head
            .as_mut()
            .expect("the caller made sure of a head with room");
        head[start..start + payload.len()].copy_from_slice(payload);
        self.head_used = start + payload.len();
        self.push(
            meta,
            start..start + payload.len(),
            payload_checksum(payload),
            Place::Head,
        );
    }

    /// Takes a frame in, with entries whose payloads lie in it.
    pub fn push_frame(&mut self, entries: &[FrameEntry], buf: BufMut, end: usize) {
        let place = Place::Frame(self.frames.len());
        for entry in entries {
            let checksum = payload_checksum(&buf[entry.range.clone()]);
            self.push(entry.meta, entry.range.clone(), checksum, place);
        }
        self.frames.push(Frame { buf, end });
    }

    fn push(&mut self, meta: EntryMeta, range: Range<usize>, checksum: u64, place: Place) {
        let number = |value| u32::try_from(value).expect("a block is far below 4 GiB");
        self.payload_bytes += range.len();
        self.entries.push(EntryHeader {
            meta,
            checksum,
            payload_offset: number(range.start),
            length: number(range.len()),
        });
        self.places.push(place);
    }

    /// Length of the block as it would be written.
    pub fn block_bytes(&self, unit: usize) -> usize {
        if self.is_single_frame() {
            return self.frames[0].end.next_multiple_of(unit);
        }
        let frames = self.frames.iter();
        let frames: usize = frames.map(|frame| frame_bytes(frame.end, unit)).sum();
        self.head_bytes(unit) + frames
    }

    fn head_bytes(&self, unit: usize) -> usize {
        (self.head_used + self.entries.len() * EntryHeader::BYTES).next_multiple_of(unit)
    }

    fn is_single_frame(&self) -> bool {
        let table = self.entries.len() * EntryHeader::BYTES;
        self.frames.len() == 1
            && self.head_used == BlockHeader::BYTES
            && BlockHeader::BYTES + table <= FRAME_HEADROOM_BYTES
    }

    /// Fixes the layout and writes table and header under the segment's key. `None`: no
    /// memory for a head; the block stays as it is.
    pub fn lay(
        &mut self,
        statement: &Statement,
        key: &Key,
        alloc: &mut dyn FnMut(usize) -> Option<BufMut>,
        unit: usize,
    ) -> Option<Laid> {
        let single = self.is_single_frame();
        let bytes = self.block_bytes(unit);
        let (mut spare_head, mut head) = (self.head.take(), None);
        if !single {
            let needed = self.head_bytes(unit);
            // A block much smaller than its buffer would hold memory for as long as readers
            // may want it: it moves to a buffer of its size, and the large one is used again.
            let keep = spare_head
                .as_ref()
                .is_some_and(|head| head.len() <= 4 * needed);
            if keep {
                head = spare_head.take();
            } else {
                let Some(mut small) = alloc(needed) else {
                    self.head = spare_head;
                    return None;
                };
                if let Some(large) = &spare_head {
                    small[..self.head_used].copy_from_slice(&large[..self.head_used]);
                }
                head = Some(small);
            }
        }
        let mut entries = std::mem::take(&mut self.entries);
        let table_offset = if single {
            BlockHeader::BYTES
        } else {
            self.head_used
        };
        let mut extents = Vec::with_capacity(1 + self.frames.len());
        let mut start = if single {
            0
        } else {
            self.head_bytes_of(entries.len(), unit)
        };
        let mut frame_shift = Vec::with_capacity(self.frames.len());
        for frame in &self.frames {
            // What a payload offset in the frame becomes in the block.
            frame_shift.push(if single {
                0
            } else {
                start as i64 - FRAME_HEADROOM_BYTES as i64
            });
            start += frame_bytes(frame.end, unit);
        }
        for (entry, place) in entries.iter_mut().zip(&self.places) {
            if let Place::Frame(frame) = place {
                let offset = i64::from(entry.payload_offset) + frame_shift[*frame];
                entry.payload_offset = u32::try_from(offset).expect("a block is below 4 GiB");
            }
        }
        let table_bytes = entries.len() * EntryHeader::BYTES;
        let mut frames = std::mem::take(&mut self.frames);
        let target: &mut [u8] = match &mut head {
            Some(head) => head,
            None => &mut frames[0].buf,
        };
        let head_end = if single {
            FRAME_HEADROOM_BYTES
        } else {
            self.head_bytes_of(entries.len(), unit)
        };
        let table = &mut target[table_offset..table_offset + table_bytes];
        for (row, entry) in table.chunks_exact_mut(EntryHeader::BYTES).zip(&entries) {
            entry.encode(row);
        }
        let table_checksum = key.checksum(table);
        target[table_offset + table_bytes..head_end].fill(0);
        let number = |value| u32::try_from(value).expect("a block is far below 4 GiB");
        let header = BlockHeader {
            sequence: self.sequence,
            durable: statement.durable,
            previous: statement.previous,
            metadata_version: statement.metadata_version,
            segment: statement.segment,
            group_first: self.group_first,
            group: self.group,
            block_bytes: number(bytes),
            entry_count: number(entries.len()),
            table_offset: number(table_offset),
            epoch: statement.epoch,
            table_checksum,
            wall_ms: statement.wall_ms,
        };
        let checksum = header.encode(key, target);
        let mut start = 0;
        if let Some(head) = head {
            extents.push((0, head.freeze().slice(0..head_end)));
            start = head_end;
        }
        for mut frame in frames {
            let padded = frame.end.next_multiple_of(unit);
            frame.buf[frame.end..padded].fill(0);
            let from = if single { 0 } else { FRAME_HEADROOM_BYTES };
            extents.push((start, frame.buf.freeze().slice(from..padded)));
            start += padded - from;
        }
        debug_assert_eq!(start, bytes, "the extents make up the block");
        Some(Laid {
            entries,
            extents,
            bytes,
            checksum,
            spare_head,
        })
    }

    fn head_bytes_of(&self, entries: usize, unit: usize) -> usize {
        (self.head_used + entries * EntryHeader::BYTES).next_multiple_of(unit)
    }
}

fn frame_bytes(end: usize, unit: usize) -> usize {
    end.next_multiple_of(unit) - FRAME_HEADROOM_BYTES
}
