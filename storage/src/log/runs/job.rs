//! A run on its way to disk.
//!
//! ```text
//! creating ─► filling (read, write, one write at a time) ─► flushing ─► syncing ─► switching
//! ```
//! A crash anywhere before a checkpoint names the run leaves a file that the next start removes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use ringlog_types::{Offset, PartitionId};

use super::builder::RunBuilder;
use crate::format::manifest::Counts;
use crate::format::run_page::RunRow;
use crate::io::FileId;
use crate::log::index::Footer;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The file is being made.
    Creating,
    /// Rows are gathered and written.
    Filling,
    /// All is written.
    Flushing,
    /// The file's name is being made durable.
    Syncing,
    /// All is on stable storage. While a checkpoint walks over the segments it waits.
    Ready,
    /// Partitions are handed over, some in each step.
    Switching,
}

/// Where the rows come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// From segments: their index in memory, else their footers. `repair`: they are in a run
    /// already, which is damaged.
    Segments {
        ids: Vec<u64>,
        footers: HashMap<u64, Rc<Footer>>,
        repair: bool,
    },
    /// From other runs.
    Runs(Vec<Input>),
}

/// A run that is read from its first page to its last.
#[derive(Debug)]
pub(crate) struct Input {
    pub run: u64,
    pub pages: u32,
    pub next_page: u32,
    pub rows: VecDeque<RunRow>,
    pub reading: bool,
}

/// A run that is being made.
#[derive(Debug)]
pub(crate) struct Job {
    pub number: u64,
    pub name: String,
    pub file: Option<FileId>,
    pub stage: Stage,
    pub source: Source,
    pub builder: RunBuilder,
    /// The first unit that has not been written.
    pub written: u32,
    /// The first unit whose write has not come back.
    pub confirmed: u32,
    /// An operation on the file is under way.
    pub busy: bool,
    /// Given up: cleared away when the operation under way is back.
    pub given_up: bool,
    /// The first key that has not been looked at.
    pub cursor: (PartitionId, Offset),
    /// All rows were looked at; with it the root.
    pub root: Option<u32>,
    /// What went in, by segment.
    pub per_segment: BTreeMap<u64, Counts>,
    /// What went in, by partition, in order.
    pub per_partition: Vec<(PartitionId, Counts)>,
    /// Partitions of which a footer has rows, and whose segment has them no more.
    pub moved: Vec<(u64, PartitionId)>,
    /// Partitions handed over.
    pub switched: usize,
}

impl Job {
    /// Whether rows that went in must keep counting until the switch.
    pub fn freezes_counts(&self) -> bool {
        matches!(self.source, Source::Segments { .. })
    }

    /// Adds a row.
    pub fn push(&mut self, row: RunRow) {
        let bytes = u64::from(row.block.payload_bytes);
        let segment = self.per_segment.entry(row.segment).or_default();
        segment.rows += 1;
        segment.bytes += bytes;
        if self.freezes_counts() {
            match self.per_partition.last_mut() {
                Some((partition, counts)) if *partition == row.partition => {
                    counts.rows += 1;
                    counts.bytes += bytes;
                }
                _ => {
                    let counts = Counts { rows: 1, bytes };
                    self.per_partition.push((row.partition, counts));
                }
            }
        }
        self.builder.push(row);
    }
}
