//! A checkpoint in the making: what was taken so far.

use std::collections::VecDeque;

use ringlog_types::snapshot::Pieces;
use ringlog_types::{Offset, PartitionId};

use super::builder::OpenBlock;
use super::segment_rows::SegmentRows;
use crate::format::entry_header::{EntryKind, EntryMeta};
use crate::format::manifest::{Anchor, DroppedRow, Manifest, RunInfo};

/// A checkpoint that is being taken.
#[derive(Debug)]
pub(super) struct Taking {
    pub anchor: Anchor,
    pub segments: SegmentRows,
    pub manifest: Pieces,
    pub machines: Pieces,
    /// The machines have more to give.
    pub machines_have_more: bool,
    pub dropped: Vec<DroppedRow>,
    pub runs: Vec<RunInfo>,
    pub phase: Phase,
    /// There is no memory for its next block.
    pub stalled: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    Partitions,
    Segments,
    Machines,
    Blocks(Blocks),
}

/// The group in the making.
#[derive(Debug)]
pub(super) struct Blocks {
    pub pieces: VecDeque<Vec<u8>>,
    pub count: u32,
    pub placed: u32,
    pub blocks: Vec<OpenBlock>,
}

impl Blocks {
    pub fn meta(&self) -> EntryMeta {
        EntryMeta {
            partition: PartitionId::NONE,
            kind: EntryKind::Checkpoint,
            machine: 0,
            base_offset: Offset(u64::from(self.placed)),
            count: self.count,
            max_timestamp: -1,
        }
    }
}

impl Taking {
    /// All bytes are there: what is left is to put them into blocks.
    pub fn blocks(&mut self) -> Blocks {
        let mut head = Vec::new();
        Manifest::encode_head(&self.anchor, &self.dropped, &self.runs, &mut head);
        let mut pieces = vec![head];
        pieces.extend(std::mem::take(&mut self.manifest).into_pieces());
        pieces.extend(std::mem::take(&mut self.machines).into_pieces());
        let pieces = joined(pieces);
        Blocks {
            count: u32::try_from(pieces.len()).expect("a checkpoint is far below 2^32 pieces"),
            pieces,
            placed: 0,
            blocks: Vec::new(),
        }
    }
}

/// Short pieces become part of the one before: a small checkpoint is one.
fn joined(pieces: Vec<Vec<u8>>) -> VecDeque<Vec<u8>> {
    const SHORT_BYTES: usize = 32 << 10;
    let mut joined: VecDeque<Vec<u8>> = VecDeque::new();
    for piece in pieces {
        match joined.back_mut() {
            Some(last) if last.len() + piece.len() <= SHORT_BYTES => last.extend(piece),
            _ => joined.push_back(piece),
        }
    }
    joined
}
