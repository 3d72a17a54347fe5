//! What the cleaner asks of the helper: work on bytes that never change, which may take longer
//! than a core can spare. A task owns all it needs and says all it found; it reads no file and no
//! clock, so that it runs on another thread as well as in place.
//!
//! Log compaction asks a [`Rewriter`] what stays of a partition's batches: of batches the log knows
//! no more than the header.
//!
//! Invariant: only entries whose every checksum holds are copied, and of a partition either all
//! that lives in the source or nothing.

use std::collections::{BTreeMap, HashMap};

use ringlog_types::batch::BatchHeader;
use ringlog_types::{Offset, PartitionId};

use super::lay::{Blank, Laid, Layer, Shape, bytes_of};
use crate::format::block::{self, BlockFault, Layout};
use crate::format::checksum::{Key, payload_checksum};
use crate::format::entry_header::{EntryKind, EntryMeta};
use crate::format::footer::{self, BlockRef};

/// Why a source is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CleanFault {
    /// Its footer does not say where its entries are.
    #[error("its footer is damaged")]
    Footer,
    /// A block with live entries is damaged.
    #[error("the block at byte {position} is damaged: {fault}")]
    Block {
        /// Where.
        position: u64,
        /// What is wrong.
        fault: BlockFault,
    },
    /// A live entry is damaged.
    #[error("offset {offset} of partition {partition} is damaged")]
    Payload {
        /// Whose.
        partition: PartitionId,
        /// Its first offset.
        offset: Offset,
    },
    /// Offsets that should be there are in no block.
    #[error("offset {offset} of partition {partition} is not where it should be")]
    Missing {
        /// Whose.
        partition: PartitionId,
        /// The first one missing.
        offset: Offset,
    },
    /// The entries did not fit what was counted on.
    #[error("the live entries need more segments than were counted on")]
    Full,
}

/// The bytes of a source, from its first block to the end of its footer.
#[derive(Debug)]
pub(super) struct Source {
    pub key: Key,
    pub unit: usize,
    pub bytes: Vec<u8>,
    pub data_end: u64,
    pub footer_bytes: usize,
    pub footer_checksum: u64,
    /// What lives in it: partition, first offset, end.
    pub live: Vec<(PartitionId, Offset, Offset)>,
}

/// Live entries, by partition.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    entries: BTreeMap<PartitionId, Vec<(EntryMeta, Vec<u8>)>>,
}

/// What log compaction does with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Same,
    /// Nothing of it stays.
    Nothing,
    /// This stands in its place, with the same offsets.
    Batch(Vec<u8>),
}

/// Decides what log compaction leaves of a partition: two passes over its batches, oldest first.
pub trait Rewriter: std::fmt::Debug + Send {
    /// Learns what a batch holds. `false`: there is no room to learn more; batches from this one
    /// on stay as they are.
    fn note(&mut self, batch: &[u8]) -> bool;

    /// What stays of a batch.
    fn rewrite(&self, batch: &[u8]) -> Fate;
}

/// A partition's batches on their way through a rewriter.
#[derive(Debug)]
pub(super) struct Rewriting {
    pub rewriter: Box<dyn Rewriter>,
    pub partition: PartitionId,
    /// Batches, one behind the other.
    pub bytes: Vec<u8>,
    /// Up to here what stays is in `gathered`.
    pub next: Offset,
    /// Batches from here on stay as they are.
    pub noted_to: Offset,
    /// The partition's last offset: its batch stays as it is, so that there is always one.
    pub last: Offset,
    pub gathered: Gathered,
    /// Whether anything does not stay as it is.
    pub changed: bool,
    /// Batches of which nothing stays, and others of which something does not.
    pub removed: u64,
    pub rewritten: u64,
}

#[derive(Debug)]
enum Kind {
    Note(Box<dyn Rewriter>, Vec<u8>),
    Rewrite(Box<Rewriting>),
    /// Memory for so many bytes of a source, for the run that has gathered this.
    Room(Gathered, usize),
    Gather(Gathered, Box<Source>),
    /// With memory that is let go here: where it is large, that takes long.
    Lay(Gathered, Shape, Vec<Blank>, Vec<u8>),
}

/// A task for the helper.
#[derive(Debug)]
pub struct CleanTask {
    kind: Kind,
}

/// What came of a task.
#[derive(Debug)]
pub struct CleanOutcome {
    pub(super) outcome: Result<Done, CleanFault>,
}

#[derive(Debug)]
pub(super) enum Done {
    /// With memory for the source.
    Room(Gathered, Vec<u8>),
    /// With the memory of the source, for the next one.
    Gathered(Gathered, Vec<u8>),
    Laid(Vec<Laid>),
    /// The rewriter, and the offset of the batch for which it had no room.
    Noted(Box<dyn Rewriter>, Option<Offset>),
    Rewritten(Box<Rewriting>),
}

impl CleanTask {
    pub(super) fn room(gathered: Gathered, bytes: usize) -> CleanTask {
        let kind = Kind::Room(gathered, bytes);
        CleanTask { kind }
    }

    pub(super) fn gather(gathered: Gathered, source: Box<Source>) -> CleanTask {
        let kind = Kind::Gather(gathered, source);
        CleanTask { kind }
    }

    pub(super) fn lay(
        gathered: Gathered,
        shape: Shape,
        blanks: Vec<Blank>,
        unused: Vec<u8>,
    ) -> CleanTask {
        let kind = Kind::Lay(gathered, shape, blanks, unused);
        CleanTask { kind }
    }

    pub(super) fn note(rewriter: Box<dyn Rewriter>, batches: Vec<u8>) -> CleanTask {
        let kind = Kind::Note(rewriter, batches);
        CleanTask { kind }
    }

    pub(super) fn rewrite(rewriting: Box<Rewriting>) -> CleanTask {
        let kind = Kind::Rewrite(rewriting);
        CleanTask { kind }
    }

    /// Does it. One XXH3 over every live byte, and a copy.
    #[must_use]
    pub fn run(self) -> CleanOutcome {
        let outcome = match self.kind {
            Kind::Room(gathered, bytes) => {
                // Every page is touched here: the first touch of a huge page was seen to take
                // 5 to 9 ms on a virtual machine.
                let mut memory = vec![u8::MAX; bytes];
                memory.clear();
                Ok(Done::Room(gathered, memory))
            }
            Kind::Gather(mut gathered, source) => gathered.add(&source).map(|()| {
                let mut memory = source.bytes;
                memory.clear();
                Done::Gathered(gathered, memory)
            }),
            Kind::Note(mut rewriter, bytes) => {
                let mut batches = Batches(&bytes);
                let full = batches.find(|(_, batch)| !rewriter.note(batch));
                let full = full.map(|(header, _)| offset(&header));
                Ok(Done::Noted(rewriter, full))
            }
            Kind::Rewrite(mut rewriting) => {
                rewriting.run();
                Ok(Done::Rewritten(rewriting))
            }
            Kind::Lay(gathered, shape, blanks, unused) => {
                drop(unused);
                gathered.lay(shape, blanks).map(Done::Laid)
            }
        };
        CleanOutcome { outcome }
    }
}

/// The batches in bytes where they lie one behind the other.
struct Batches<'a>(&'a [u8]);

impl<'a> Iterator for Batches<'a> {
    type Item = (BatchHeader, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = BatchHeader::parse(self.0).ok()?;
        let (batch, rest) = self.0.split_at_checked(header.total_bytes())?;
        self.0 = rest;
        Some((header, batch))
    }
}

/// A batch's base offset, which the log gave it.
fn offset(header: &BatchHeader) -> Offset {
    Offset(u64::try_from(header.base_offset).unwrap_or(0))
}

impl Rewriting {
    fn run(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        for (header, batch) in Batches(&bytes) {
            let base = offset(&header);
            let end = base.plus(u64::from(header.offsets()));
            let fate = if base >= self.noted_to || end > self.last {
                Fate::Same
            } else {
                self.rewriter.rewrite(batch)
            };
            if fate == Fate::Nothing {
                self.changed = true;
                self.removed += 1;
                continue; // A gap, up to what comes next.
            }
            self.gap_to(base);
            let (batch, header) = match &fate {
                Fate::Batch(bytes) => {
                    self.changed = true;
                    self.rewritten += 1;
                    (&bytes[..], BatchHeader::parse(bytes).unwrap_or(header))
                }
                _ => (batch, header),
            };
            let meta = EntryMeta {
                partition: self.partition,
                kind: EntryKind::Records,
                machine: 0,
                base_offset: base,
                count: header.offsets(),
                max_timestamp: header.max_timestamp,
            };
            self.push(meta, batch.to_vec());
            self.next = end;
        }
    }

    /// Accounts for the offsets before `to` that no batch has any more.
    pub fn gap_to(&mut self, to: Offset) {
        while self.next < to {
            let count = u32::try_from(to.0 - self.next.0).unwrap_or(u32::MAX);
            let meta = EntryMeta {
                partition: self.partition,
                kind: EntryKind::Removed,
                machine: 0,
                base_offset: self.next,
                count,
                max_timestamp: -1,
            };
            self.next = meta.end_offset();
            self.push(meta, Vec::new());
        }
    }

    fn push(&mut self, meta: EntryMeta, payload: Vec<u8>) {
        let entries = self.gathered.entries.entry(self.partition).or_default();
        entries.push((meta, payload));
    }
}

impl Gathered {
    fn add(&mut self, source: &Source) -> Result<(), CleanFault> {
        let rows = source.rows().ok_or(CleanFault::Footer)?;
        let mut layouts = HashMap::new();
        for (partition, first, end) in &source.live {
            let (partition, end) = (*partition, *end);
            let from = rows.partition_point(|(of, _)| *of < partition);
            let rows = rows[from..].iter().take_while(|(of, _)| *of == partition);
            let into = self.entries.entry(partition).or_default();
            let mut next = *first;
            for (_, row) in rows.filter(|(_, row)| row.end > *first) {
                let position = row.position_units;
                let layout = match layouts.entry(position) {
                    std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::hash_map::Entry::Vacant(new) => {
                        new.insert(source.layout(row)?)
                    }
                };
                let block = source.block(row);
                let mine = layout.entries.iter().filter(|entry| {
                    let meta = &entry.meta;
                    meta.partition == partition
                        && meta.kind.spans_offsets()
                        && meta.end_offset() > *first
                });
                for entry in mine {
                    let meta = entry.meta;
                    if meta.base_offset > next {
                        let offset = next;
                        return Err(CleanFault::Missing { partition, offset });
                    }
                    let payload = &block[entry.range()];
                    if payload_checksum(payload) != entry.checksum {
                        let offset = meta.base_offset;
                        return Err(CleanFault::Payload { partition, offset });
                    }
                    next = meta.end_offset();
                    into.push((meta, payload.to_vec()));
                }
            }
            if next < end {
                let offset = next;
                return Err(CleanFault::Missing { partition, offset });
            }
        }
        Ok(())
    }

    fn lay(self, shape: Shape, blanks: Vec<Blank>) -> Result<Vec<Laid>, CleanFault> {
        let mut layer = Layer::new(shape, blanks);
        for entries in self.entries.into_values() {
            layer.begin_partition(entries.iter().map(|entry| bytes_of(&entry.1)).sum());
            for (meta, payload) in entries {
                let pushed = layer.push(meta, payload);
                pushed.map_err(|_| CleanFault::Full)?;
            }
        }
        Ok(layer.finish())
    }
}

impl Source {
    fn rows(&self) -> Option<Vec<(PartitionId, BlockRef)>> {
        let start = usize::try_from(self.data_end).ok()? - self.unit;
        let bytes = self.bytes.get(start..start + self.footer_bytes)?;
        let proven = self.key.checksum(bytes) == self.footer_checksum;
        proven.then(|| footer::decode_rows(bytes).ok()).flatten()
    }

    /// Where a row's block begins in what was read.
    fn start(&self, row: &BlockRef) -> usize {
        (row.position_units as usize).saturating_sub(1) * self.unit
    }

    fn block(&self, row: &BlockRef) -> &[u8] {
        self.bytes.get(self.start(row)..).unwrap_or_default()
    }

    fn layout(&self, row: &BlockRef) -> Result<Layout, CleanFault> {
        block::decode(&self.key, self.block(row), self.unit).map_err(|fault| CleanFault::Block {
            position: u64::from(row.position_units) * self.unit as u64,
            fault,
        })
    }
}
