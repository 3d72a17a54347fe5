//! Reads for readers that are under way: of blocks, and of pieces of blocks.
//!
//! Invariant: what is under way is counted at the most it takes in the cache, so that within the
//! budget nothing that was asked for pushes out something else that was.

use std::collections::{BTreeMap, VecDeque};

use ringlog_types::{NumberSet, PartitionId};

use super::wanted::Wanted;
use super::work::Work;
use crate::io::Completion;

/// Blocks up to this length are read whole: three small reads cost more.
const WHOLE_BYTES: u64 = 32 << 10;

/// A block is read in pieces when it holds this many times what is wanted of it.
const SHARE: u64 = 8;

/// Or this many times what few partitions want: then there are few reads.
const SHARE_OF_FEW: u64 = 3;

/// That many.
const FEW_PARTITIONS: usize = 2;

/// The most that the payloads of a piece, and what lies between them, may span: where they lie
/// further apart the block is read whole.
pub(super) fn most_piece_bytes(wanted: &Wanted) -> u64 {
    wanted.payload_bytes * 2 + (8 << 10)
}

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct ColdReads {
    /// End by segment and start.
    ranges: BTreeMap<(u64, u64), u64>,
    pieces: NumberSet<(u64, u64, PartitionId)>,
    /// Blocks of which a piece could not be had: segments and positions.
    whole: NumberSet<(u64, u64)>,
    /// Bytes of what is under way; of a piece, the most it may come to.
    pub bytes: u64,
    /// Came back, and is not looked at yet.
    pub arrived: VecDeque<(Work, Completion)>,
}

/// Blocks that are remembered as not to be read in pieces. A forgotten one costs another try.
const MOST_WHOLE: usize = 1024;

impl ColdReads {
    /// The block is read whole from now on.
    pub fn read_whole(&mut self, wanted: &Wanted) {
        if self.whole.len() >= MOST_WHOLE {
            self.whole.clear();
        }
        self.whole.insert((wanted.segment, wanted.position));
    }

    /// Whether a block is read in pieces: `block` is what is wanted of it, by partition.
    pub fn is_piecewise(&self, block: &[Wanted]) -> bool {
        let first = &block[0];
        let payload_bytes: u64 = block.iter().map(|one| one.payload_bytes).sum();
        let share = if block.len() <= FEW_PARTITIONS {
            SHARE_OF_FEW
        } else {
            SHARE
        };
        let is_small = payload_bytes * share <= first.block_bytes;
        first.block_bytes > WHOLE_BYTES
            && is_small
            && !self.whole.contains(&(first.segment, first.position))
    }

    pub fn has(&self, wanted: &Wanted) -> bool {
        let Wanted {
            segment, position, ..
        } = *wanted;
        let covered = self.ranges.range(..=(segment, position)).next_back();
        covered.is_some_and(|((of, _), end)| *of == segment && *end > position)
            || self.pieces.contains(&(segment, position, wanted.partition))
    }

    pub fn begin(&mut self, segment: u64, position: u64, bytes: u64) {
        self.ranges.insert((segment, position), position + bytes);
        self.bytes += bytes;
    }

    pub fn end(&mut self, segment: u64, position: u64) {
        if let Some(end) = self.ranges.remove(&(segment, position)) {
            self.bytes -= end - position;
        }
    }

    pub fn begin_piece(&mut self, wanted: &Wanted) {
        let Wanted {
            segment,
            position,
            partition,
            ..
        } = *wanted;
        self.pieces.insert((segment, position, partition));
        self.bytes += most_piece_bytes(wanted);
    }

    pub fn end_piece(&mut self, wanted: &Wanted) {
        let Wanted {
            segment,
            position,
            partition,
            ..
        } = *wanted;
        self.pieces.remove(&(segment, position, partition));
        self.bytes -= most_piece_bytes(wanted);
    }

    pub fn count(&self) -> u64 {
        (self.ranges.len() + self.pieces.len()) as u64
    }
}
