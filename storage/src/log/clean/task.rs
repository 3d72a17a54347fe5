//! What the cleaner asks of the helper: work on bytes that never change, which may take longer
//! than a core can spare. A task owns all it needs and says all it found; it reads no file and no
//! clock, so that it runs on another thread as well as in place.
//!
//! Invariant: only entries whose every checksum holds are copied, and of a partition either all
//! that lives in the source or nothing.

use std::collections::{BTreeMap, HashMap};

use ringlog_types::{Offset, PartitionId};

use super::lay::{Blank, Laid, Layer, Shape};
use crate::format::block::{self, BlockFault, Layout};
use crate::format::checksum::{Key, payload_checksum};
use crate::format::entry_header::EntryMeta;
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

#[derive(Debug)]
enum Kind {
    Gather(Gathered, Box<Source>),
    Lay(Gathered, Shape, Vec<Blank>),
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
    Gathered(Gathered),
    Laid(Vec<Laid>),
}

impl CleanTask {
    pub(super) fn gather(gathered: Gathered, source: Source) -> CleanTask {
        let kind = Kind::Gather(gathered, Box::new(source));
        CleanTask { kind }
    }

    pub(super) fn lay(gathered: Gathered, shape: Shape, blanks: Vec<Blank>) -> CleanTask {
        let kind = Kind::Lay(gathered, shape, blanks);
        CleanTask { kind }
    }

    /// Does it. One XXH3 over every live byte, and a copy.
    #[must_use]
    pub fn run(self) -> CleanOutcome {
        let outcome = match self.kind {
            Kind::Gather(mut gathered, source) => {
                gathered.add(&source).map(|()| Done::Gathered(gathered))
            }
            Kind::Lay(gathered, shape, blanks) => gathered.lay(shape, blanks).map(Done::Laid),
        };
        CleanOutcome { outcome }
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
        for (meta, payload) in self.entries.into_values().flatten() {
            let pushed = layer.push(meta, payload);
            pushed.map_err(|_| CleanFault::Full)?;
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
