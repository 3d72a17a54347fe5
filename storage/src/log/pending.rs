//! What is on its way to being durable: blocks in flight, and a checkpoint whose blocks are
//! among them.

use std::rc::Rc;
use std::time::Duration;

use ringlog_types::Sequence;

use super::block::Block;
use super::urgency::Urgency;
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

/// A checkpoint on its way to being durable.
#[derive(Debug)]
pub(super) struct PendingCheckpoint {
    pub first: Option<CheckpointPointer>,
    pub last_sequence: Sequence,
    pub parts_left: usize,
    pub anchor_segment: u64,
}
