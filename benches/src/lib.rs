//! What the benchmarks share: batches, and a log on a simulated disk.

use ringlog_storage::io::sim::{Faults, SimDisk, SimIo};
use ringlog_storage::log::{Entry, EntryKind, EntryMeta, Log, LogConfig, Machine};
use ringlog_types::batch::Builder;
use ringlog_types::{LogId, Offset, PartitionId};

/// A machine without state: what is measured is the log.
#[derive(Debug, Default)]
pub struct Nothing;

impl Machine for Nothing {
    fn restore(&mut self, _checkpoint: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _entry: &Entry) {}

    fn apply_damaged(&mut self, _meta: &EntryMeta) {}

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// An uncompressed batch of about `bytes` with values of 100 bytes, as the load generator
/// sends them.
#[must_use]
pub fn batch(bytes: usize) -> Vec<u8> {
    let value = [b'x'; 100];
    let mut builder = Builder::new();
    let records = (bytes.saturating_sub(61) / 109).max(1);
    for _ in 0..records {
        builder = builder.push(1_700_000_000_000, None, Some(&value), &[]);
    }
    builder.build()
}

/// A new log on a simulated disk without faults.
///
/// # Panics
/// When the simulated disk fails, which it does not without faults.
#[must_use]
pub fn simulated_log(config: LogConfig) -> Log<SimIo> {
    let disk = SimDisk::new(1, Faults::none());
    let opened = Log::open(disk.io(), LogId(0), config, &mut Nothing);
    opened.expect("a disk without faults opens").0
}

/// What an entry with a batch of `records` records says of itself.
#[must_use]
pub fn records_meta(partition: u64, base_offset: u64, records: u32) -> EntryMeta {
    EntryMeta {
        partition: PartitionId(partition),
        kind: EntryKind::Records,
        machine: 0,
        base_offset: Offset(base_offset),
        count: records,
        max_timestamp: 1_700_000_000_000,
    }
}
