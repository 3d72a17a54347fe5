//! What an operator or the device profile sets of a log, with the reasons for the defaults.

use std::time::Duration;

use super::seeded_bug::SeededBug;

/// How written blocks become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FlushMethod {
    /// Each block's write carries `RWF_DSYNC`.
    #[default]
    DsyncEachWrite,
    /// Plain writes, and one flush that covers every write completed before it.
    FlushAfterWrites,
}

/// Settings of one log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Length of a segment file. Also bounds a group: a block never spans segments.
    pub segment_bytes: u64,
    /// Free segments kept ready beside the active one: recycled ones first, then pre-written.
    pub pool_segments: usize,
    /// Most bytes of free recycled segments kept; beyond that files are removed.
    pub recycle_bytes: u64,
    /// A gathering block this large is closed and written even while others are in flight.
    pub target_block_bytes: usize,
    /// Most block writes in flight.
    pub depth: usize,
    /// Most bytes of block writes in flight; one block may always be, and short ones are not
    /// counted. More would only wait in the device's queue, in front of who comes next.
    pub in_flight_bytes: usize,
    /// Bytes of blocks that gather, wait or are being written, beyond which records had better
    /// wait outside, where it can still be decided whose come first: [`super::Log::has_queue_room`].
    pub queue_bytes: usize,
    /// With fewer writes in flight than this, whatever has gathered is written at once.
    pub eager_depth: usize,
    /// How blocks become durable.
    pub flush: FlushMethod,
    /// A block in which nobody waits for stable storage is flushed this long after its write, if
    /// nothing brought its flush before. Readers see it then.
    pub flush_after: Duration,
    /// A checkpoint is written after this many bytes of blocks.
    pub checkpoint_bytes: u64,
    /// Rows of a checkpoint (partitions, ranges of segments, state of machines) taken in one step.
    pub checkpoint_step_rows: usize,
    /// Bytes of machines' entries that are applied in one step; one entry is whatever it has.
    pub apply_step_bytes: usize,
    /// Blocks kept in memory for readers at the tail.
    pub cache_bytes: usize,
    /// Blocks kept in memory for readers of older data.
    pub cold_cache_bytes: usize,
    /// Most bytes of one read-ahead.
    pub read_ahead_bytes: usize,
    /// Appended bytes that may wait to become durable; beyond it appends answer `Busy`.
    pub pending_bytes: usize,
    /// How long after the last block a mark states that everything is durable.
    pub idle_mark_after: Duration,
    /// With less space than this left, records are refused; offsets and deletes go on.
    pub reserve_bytes: u64,
    /// Rows of the index kept in memory for sealed segments. Beyond half of it those of the oldest
    /// go into an index run on disk.
    pub index_rows: usize,
    /// Memory for pages of index runs, beside one page for each run; and as much again for rows that
    /// readers are about to come to.
    pub index_cache_bytes: usize,
    /// So many index runs of a like size become one.
    pub index_fan_in: usize,
    /// Bytes that the cleaner reads and writes in a second, four times as many while nothing else
    /// is written; 0: nothing is cleaned.
    pub clean_bytes_per_second: u64,
    /// A segment with a smaller share of live bytes is worth cleaning.
    pub clean_live_share: f64,
    /// A segment of which a reader of one partition reads so many bytes for each it wants, or
    /// more, is worth cleaning.
    pub clean_amplification: f64,
    /// Rows of segments that the cleaner looks at in one step.
    pub clean_step_rows: usize,
    /// Sealed segments are read in the background, to find rot before readers do, at most at this
    /// rate. 0: not at all.
    pub scrub_bytes_per_second: u64,
    /// From the beginning of one pass over all segments to that of the next.
    pub scrub_every: Duration,
    /// A mistake to make, for the simulator to find.
    #[doc(hidden)]
    pub seeded_bug: Option<SeededBug>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 64 << 20,
            pool_segments: 2,
            recycle_bytes: 2 << 30,
            target_block_bytes: 1 << 20,
            depth: 8,
            in_flight_bytes: 2 << 20,
            queue_bytes: 2 << 20,
            eager_depth: 2,
            flush: FlushMethod::DsyncEachWrite,
            flush_after: Duration::from_millis(5),
            checkpoint_bytes: 256 << 20,
            checkpoint_step_rows: 256,
            apply_step_bytes: 32 << 10,
            cache_bytes: 24 << 20,
            cold_cache_bytes: 32 << 20,
            read_ahead_bytes: 1 << 20,
            pending_bytes: 96 << 20,
            idle_mark_after: Duration::from_millis(50),
            reserve_bytes: 16 << 20,
            index_rows: 64 << 10,
            index_cache_bytes: 8 << 20,
            index_fan_in: 8,
            clean_bytes_per_second: 32 << 20,
            clean_live_share: 0.5,
            clean_amplification: 4.0,
            clean_step_rows: 1024,
            scrub_bytes_per_second: 0,
            scrub_every: Duration::from_secs(7 * 24 * 60 * 60),
            seeded_bug: None,
        }
    }
}
