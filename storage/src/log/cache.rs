//! Blocks in memory: the tail that was just written, and older blocks that readers brought in.
//! Two budgets, so that a reader of old data cannot push out the tail. First in, first out:
//! readers go forward.

use std::collections::VecDeque;
use std::rc::Rc;

use ringlog_types::{NumberMap, PartitionId};

use super::block::Block;

/// Segment and position; and the partition, of a piece that holds the records of one.
type Key = (u64, u64, PartitionId);

#[derive(Debug)]
struct Side {
    order: VecDeque<(Key, usize)>,
    bytes: usize,
    budget_bytes: usize,
}

/// The cache of one log.
#[derive(Debug)]
pub(super) struct Cache {
    blocks: NumberMap<Key, Rc<Block>>,
    tail: Side,
    cold: Side,
}

impl Cache {
    pub fn new(tail_bytes: usize, cold_bytes: usize) -> Cache {
        let side = |budget_bytes| Side {
            order: VecDeque::new(),
            bytes: 0,
            budget_bytes,
        };
        Cache {
            blocks: NumberMap::default(),
            tail: side(tail_bytes),
            cold: side(cold_bytes),
        }
    }

    /// A block, or the piece of it that has a partition's records.
    pub fn find(&self, segment: u64, position: u64, partition: PartitionId) -> Option<&Rc<Block>> {
        let whole = self.blocks.get(&(segment, position, PartitionId::NONE));
        whole.or_else(|| self.blocks.get(&(segment, position, partition)))
    }

    /// Keeps a block that was just written.
    pub fn keep_tail(&mut self, block: Rc<Block>) {
        Cache::keep(&mut self.blocks, &mut self.tail, PartitionId::NONE, block);
    }

    /// Keeps a block that was read.
    pub fn keep_cold(&mut self, block: Rc<Block>) {
        Cache::keep(&mut self.blocks, &mut self.cold, PartitionId::NONE, block);
    }

    /// Keeps the records of one partition in a block, which were read alone.
    pub fn keep_piece(&mut self, partition: PartitionId, piece: Rc<Block>) {
        Cache::keep(&mut self.blocks, &mut self.cold, partition, piece);
    }

    fn keep(
        blocks: &mut NumberMap<Key, Rc<Block>>,
        side: &mut Side,
        partition: PartitionId,
        block: Rc<Block>,
    ) {
        let key = (block.segment, block.position, partition);
        let bytes = block.bytes;
        if blocks.insert(key, block).is_some() {
            return;
        }
        side.order.push_back((key, bytes));
        side.bytes += bytes;
        while side.bytes > side.budget_bytes && side.order.len() > 1 {
            Cache::evict_from(blocks, side);
        }
    }

    fn evict_from(blocks: &mut NumberMap<Key, Rc<Block>>, side: &mut Side) -> bool {
        let Some((key, bytes)) = side.order.pop_front() else {
            return false;
        };
        side.bytes -= bytes;
        blocks.remove(&key);
        true
    }

    /// Lets go of the oldest block, because memory is short. `false`: nothing left.
    pub fn evict_one(&mut self) -> bool {
        Cache::evict_from(&mut self.blocks, &mut self.cold)
            || Cache::evict_from(&mut self.blocks, &mut self.tail)
    }

    /// Lets go of the blocks of a segment that is being recycled: its positions will mean
    /// other blocks, though under another segment number.
    pub fn forget_segment(&mut self, segment: u64) {
        for side in [&mut self.tail, &mut self.cold] {
            side.order.retain(|(key, bytes)| {
                let stays = key.0 != segment;
                if !stays {
                    side.bytes -= bytes;
                    self.blocks.remove(key);
                }
                stays
            });
        }
    }

    pub fn bytes(&self) -> usize {
        self.tail.bytes + self.cold.bytes
    }
}
