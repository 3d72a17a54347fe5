//! What a log counts. Plain numbers, owned by the log; whoever publishes them copies them.

/// Counts values in buckets whose bounds grow by a quarter power of two: 19 % wide, which is
/// close enough for a latency and costs one increment.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; Histogram::BUCKETS]>,
    count: u64,
    sum: u64,
}

impl Histogram {
    const BUCKETS: usize = 4 * 64;

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.counts[Histogram::bucket(value)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Values added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Buckets that are not empty: inclusive upper bound, and values in the bucket.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (Histogram::upper_bound(bucket), *count))
    }

    fn bucket(value: u64) -> usize {
        if value < 4 {
            return value as usize;
        }
        let exponent = value.ilog2() as usize;
        let quarter = (value >> (exponent - 2)) as usize & 3;
        4 * (exponent - 1) + quarter
    }

    fn upper_bound(bucket: usize) -> u64 {
        if bucket < 4 {
            return bucket as u64;
        }
        let (exponent, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
        let bound = u128::from(4 + quarter + 1) << (exponent - 2);
        u64::try_from(bound - 1).unwrap_or(u64::MAX)
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: Box::new([0; Histogram::BUCKETS]),
            count: 0,
            sum: 0,
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Histogram({} values, sum {})", self.count, self.sum)
    }
}

/// Counters of one log since it was opened.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Blocks made durable.
    pub blocks: u64,
    /// Their bytes, headers and padding included.
    pub block_bytes: u64,
    /// Bytes of the entries in them.
    pub payload_bytes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Block bytes written into recycled segments.
    pub written_recycled_bytes: u64,
    /// Block bytes written into space written ahead.
    pub written_prewritten_bytes: u64,
    /// Block bytes written into space that was only reserved.
    pub written_unwritten_bytes: u64,
    /// Bytes written ahead to fill the pool.
    pub prewriting_bytes: u64,
    /// Durable writes and flushes issued for blocks.
    pub flushes: u64,
    /// Blocks found in memory by readers.
    pub cache_hits: u64,
    /// Blocks that had to be read.
    pub cache_misses: u64,
    /// Bytes read for readers.
    pub cold_read_bytes: u64,
    /// Bytes of sealed segments read to look for damage.
    pub scrubbed_bytes: u64,
    /// Damaged headers, tables, payloads, footers and trailers found by it.
    pub scrub_damage: u64,
    /// Times that all segments were looked at.
    pub scrub_passes: u64,
    /// Checkpoints made durable.
    pub checkpoints: u64,
    /// Segments sealed.
    pub sealed: u64,
    /// Segments with live entries, the active one included.
    pub segments_live: usize,
    /// Those of them that other logs wrote, from before the number of logs changed.
    pub segments_foreign: usize,
    /// Segments ready to be written.
    pub segments_free: usize,
    /// Appends refused because too much waits.
    pub refused_busy: u64,
    /// Appends refused because the disk is full.
    pub refused_full: u64,
    /// Bytes read by the cleaner.
    pub clean_read_bytes: u64,
    /// Bytes written by the cleaner: none of them are among the others.
    pub clean_written_bytes: u64,
    /// Runs of the cleaner that came to their switch.
    pub clean_runs: u64,
    /// Segments replaced by them.
    pub cleaned_segments: u64,
    /// Passes of log compaction over a partition that came to their end.
    pub compaction_passes: u64,
    /// Batches of which log compaction left nothing, or not all.
    pub compacted_batches: u64,
    /// Runs given up because the device failed.
    pub clean_failures: u64,
    /// A run is under way.
    pub cleaning: bool,
    /// Damaged ranges known.
    pub damaged_ranges: u64,
    /// Blocks that a reader came to and that were not what the index says.
    pub unreadable_blocks: u64,
    /// Index runs in force.
    pub index_runs: usize,
    /// Index runs made, merged ones included.
    pub index_runs_made: u64,
    /// Index runs that were found damaged.
    pub index_runs_broken: u64,
    /// Bytes written into index runs.
    pub index_written_bytes: u64,
    /// Units read of index runs.
    pub index_pages_read: u64,
    /// From an entry's arrival in a block to the block's submission, nanoseconds.
    pub queue_latency: Histogram,
    /// From a block's submission until it is durable and everything before it, nanoseconds.
    pub write_latency: Histogram,
    /// From a block's submission until its write completed, nanoseconds.
    pub device_latency: Histogram,
    /// From the completion of a block's write until it is durable and everything before it: what
    /// it waits for a flush, or for blocks that came before, nanoseconds.
    pub settle_latency: Histogram,
    /// Bytes of each block.
    pub block_size: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_bounds_it_within_a_quarter() {
        let powers = (0..64).flat_map(|bit| [1u64 << bit, (1u64 << bit) + 1, (1u64 << bit) - 1]);
        for value in powers.chain([u64::MAX, 5, 6, 7, 1000, 123_456_789]) {
            let mut histogram = Histogram::default();
            histogram.record(value);
            let (bound, count) = histogram.buckets().next().expect("one bucket is filled");
            assert_eq!(count, 1);
            assert!(bound >= value, "{bound} bounds {value}");
            assert!(
                bound as u128 * 4 <= value as u128 * 5 + 4,
                "{bound} is close to {value}"
            );
        }
    }
}
