//! What the index takes in memory.

use std::collections::VecDeque;

use ringlog_types::{Offset, PartitionId};

use crate::format::footer::BlockRef;
use crate::io::Io;
use crate::log::Log;
use crate::log::index::{PartitionState, SegmentRange};
use crate::log::segments::Segment;

impl<I: Io> Log<I> {
    /// Bytes of memory that the index takes, as near as can be counted: partitions, segments, what is
    /// known of recent segments, and [`Log::cached_index_bytes`]. Costs a look at each.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        let partitions = self.partitions.values().map(|state| {
            let recent = VecDeque::capacity(&state.segments) * size_of::<(Offset, u64)>();
            let damage = state.damage.capacity() * size_of::<(Offset, Offset)>();
            size_of::<(PartitionId, PartitionState)>() + recent + damage
        });
        let segments = self.segments.live.values().map(|segment| {
            let ranges = segment.index.partitions.values();
            let rows: usize = ranges.map(|range| range.blocks.capacity()).sum();
            let range = size_of::<(PartitionId, SegmentRange)>();
            size_of::<(u64, Segment)>()
                + segment.name.capacity()
                + segment.index.partitions.len() * range
                + rows * size_of::<BlockRef>()
                + segment.index.moved.len() * size_of::<PartitionId>()
        });
        partitions.sum::<usize>() + segments.sum::<usize>() + self.cached_index_bytes()
    }

    /// Bytes of pages and rows of index runs that are kept for readers: bounded by
    /// [`LogConfig::index_cache_bytes`] twice, and a page for each run.
    ///
    /// [`LogConfig::index_cache_bytes`]: crate::log::LogConfig::index_cache_bytes
    #[must_use]
    pub fn cached_index_bytes(&self) -> usize {
        let pages = self.runs.cache.len() + self.runs.live.len();
        pages * self.unit + self.runs.ahead.bytes()
    }
}
