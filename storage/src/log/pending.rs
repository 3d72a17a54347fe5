//! What is on its way to being durable or whole: blocks in flight, a checkpoint whose blocks are
//! among them, a group whose last block has not come, and a segment that is read again.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ringlog_types::Sequence;

use super::block::Block;
use super::urgency::Urgency;
use crate::format::block_header::Group;
use crate::format::entry_header::{EntryHeader, EntryMeta};
use crate::format::segment_header::CheckpointPointer;
use crate::io::FileId;

/// How far a block's write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteState {
    Writing,
    Written,
    Flushing,
    Durable,
    Failed,
}

/// A block between its submission and the durable prefix.
#[derive(Debug)]
pub(super) struct InFlight {
    pub block: Rc<Block>,
    pub file: FileId,
    pub payload_bytes: usize,
    pub submitted_at: Duration,
    /// The most that anybody waits for.
    pub urgency: Urgency,
    /// Its write makes it durable.
    pub dsync: bool,
    /// When its write completed.
    pub written_at: Duration,
    pub state: WriteState,
}

/// Blocks of the log that were durable once and are lost whole.
#[derive(Debug)]
pub(super) struct LostBlocks {
    /// Where they stood.
    pub segment: u64,
    pub position: u64,
    /// Which they are: the first, and the one behind the last.
    pub first: Sequence,
    pub end: Sequence,
    /// What can be told of the records in them.
    pub entries: Vec<EntryMeta>,
}

/// A piece of a group that spans blocks.
#[derive(Debug)]
pub(super) enum GroupPart {
    /// A block, and the entries in it whose bytes are lost.
    Block(Rc<Block>, Vec<usize>),
    /// Blocks that are lost, of this group or behind it.
    Lost(LostBlocks),
}

/// A group that spans blocks, until the block that commits it.
#[derive(Debug, Default)]
pub(super) struct OpenGroup {
    /// Its blocks so far, and what is lost between and behind them.
    pub parts: Vec<GroupPart>,
    /// One of its blocks is lost: what it held is damaged once it is certain that it was
    /// committed.
    pub broken: bool,
}

impl OpenGroup {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn first_block(&self) -> Option<&Rc<Block>> {
        self.blocks().next()
    }

    pub fn last_block(&self) -> Option<&Rc<Block>> {
        self.blocks().last()
    }

    fn blocks(&self) -> impl Iterator<Item = &Rc<Block>> {
        self.parts.iter().filter_map(|part| match part {
            GroupPart::Block(block, _) => Some(block),
            GroupPart::Lost(_) => None,
        })
    }
}

/// What is durable and still to be applied, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct ToApply {
    pub parts: VecDeque<(GroupPart, Whole)>,
    /// Entries of the first part that are applied.
    pub entries: usize,
}

impl ToApply {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

/// Whether all of a group is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Yes,
    /// What its blocks hold is lost with the missing one.
    Broken,
}

/// A checkpoint on its way to being durable.
#[derive(Debug)]
pub(super) struct PendingCheckpoint {
    pub first: Option<CheckpointPointer>,
    pub last_sequence: Sequence,
    pub parts_left: usize,
    pub anchor_segment: u64,
    pub anchor: Sequence,
    /// The index runs it names.
    pub runs: Vec<u64>,
}

/// How far a segment has been read again, because its footer is damaged.
#[derive(Debug)]
pub(super) struct Rescan {
    pub at: u64,
    /// Enough to hold the block at `at` whole.
    pub window_bytes: u64,
    pub blocks: BTreeMap<Sequence, Rescanned>,
}

/// A block that was found.
#[derive(Debug)]
pub(super) struct Rescanned {
    pub position: u64,
    pub bytes: u32,
    /// Its group, and the group's first block.
    pub group: (Group, Sequence),
    pub entries: Vec<EntryHeader>,
}
