//! Partitions that change their log. The log that gives them up comes to rest and says what it
//! holds; a new log begins with what it takes in: segment files of other logs, linked or copied
//! into its directory before, partitions' bounds, and the machines' state.
//!
//! ```text
//! open ─► retire ─► segment files, bounds ─► (split by partition) ─► import ─► open
//! ```
//! A new log's blocks are numbered on from the largest sequence in what it takes in, and from 2 at
//! least. So sequences rise along each partition whoever wrote them, and a start that finds no
//! checkpoint does not take the log for an empty one: the blocks before the first are missing.
//!
//! Invariant: neither changes a record or a file of another log, and a log is either taken in
//! whole or, after any crash, is a directory that nobody names.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ringlog_types::{LogId, Sequence};

use super::config::LogConfig;
use super::replay::Tail;
use super::report::{OpenError, RecoveryReport};
use super::segments::Stage;
use super::walk::run;
use super::{Entry, EntryMeta, Log, Machine};
use crate::format::manifest::{Anchor, Counts, Manifest, PartitionRow, RangeRow, SegmentRow};
use crate::format::origin::Origin;
use crate::io::{FileId, Io, Op};

/// A sealed segment file of a log at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its name in the directory of the log that gives it up.
    pub name: String,
    /// What it holds. Its origin is always there.
    pub row: SegmentRow,
}

/// What a log at rest holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Its last epoch: partitions that leave it go on under higher ones.
    pub epoch: u32,
    /// Its partitions.
    pub partitions: Vec<PartitionRow>,
    /// The segments with live records, of its own and of others.
    pub segments: Vec<SegmentFile>,
}

/// What a new log begins with.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// At least the largest epoch of the logs that the partitions leave.
    pub epoch: u32,
    /// Its partitions.
    pub partitions: Vec<PartitionRow>,
    /// The segments that hold their records, each with its origin, with the ranges of these
    /// partitions only. Their files are in the log's directory, under their origins' names.
    pub segments: Vec<SegmentRow>,
    /// The machines' state, as [`Machine::restore`] takes it.
    pub state: Vec<u8>,
}

impl<I: Io> Log<I> {
    /// Brings the log to rest as [`Log::close`] does, and says what it holds. Everything it
    /// names is on stable storage. Blocks.
    ///
    /// # Errors
    /// The failure that closed the log, or a segment that could not be sealed.
    pub fn retire(mut self, machine: &mut dyn Machine) -> Result<Retired, String> {
        let live = self.segments.live.iter();
        let unsealed: BTreeSet<u64> = live
            .filter(|(_, segment)| segment.stage != Stage::Sealed)
            .map(|(id, _)| *id)
            .collect();
        self.come_to_rest(machine)?;
        self.settle_files()?;
        self.expand_covered()?;
        let mut segments = Vec::new();
        let ids: Vec<u64> = self.segments.live.keys().copied().collect();
        for id in ids {
            let segment = &self.segments.live[&id];
            let ranges = self.ranges_of(id);
            if ranges.is_empty() {
                continue;
            }
            if segment.stage != Stage::Sealed {
                return Err(format!("segment {id} could not be sealed"));
            }
            let (name, file) = (segment.name.clone(), segment.file);
            let own = Origin {
                log: self.id,
                segment: id,
            };
            let row = SegmentRow {
                segment: id,
                origin: Some(segment.origin.unwrap_or(own)),
                data_end: segment.position,
                first_sequence: segment.first_sequence,
                last_sequence: segment.last_sequence,
                run: 0,
                live: Counts::default(),
                ranges,
                // The log that takes it in sees for itself what it has no part of.
                moved: Vec::new(),
            };
            if unsealed.contains(&id) {
                self.flush_cut(&name, file)?;
            }
            segments.push(SegmentFile { name, row });
        }
        Ok(Retired {
            epoch: self.epoch,
            partitions: self.manifest().partitions,
            segments,
        })
    }

    /// What a segment holds of each partition.
    fn ranges_of(&self, segment: u64) -> Vec<RangeRow> {
        let live = &self.segments.live[&segment].index.partitions;
        live.iter()
            .map(|(partition, range)| RangeRow {
                partition: *partition,
                first: range.first,
                end: range.end,
                bytes: range.bytes,
                max_timestamp: range.max_timestamp,
            })
            .collect()
    }

    /// A segment that was sealed just now may have been cut, which nothing awaits otherwise: with
    /// its old length back after a power cut, its trailer would not be found.
    fn flush_cut(&mut self, name: &str, file: FileId) -> Result<(), String> {
        let flushed = run(&mut self.submitter.io, Op::Flush { file }).result;
        let flushed = flushed.map_err(|error| format!("flushing {name}: {error}"));
        flushed.map(|_| ())
    }

    /// Waits until nothing is in flight: files being made ahead, too.
    fn settle_files(&mut self) -> Result<(), String> {
        while self.submitter.io.in_flight() > 0 {
            self.submitter.io.wait(Duration::from_millis(100));
            for (work, completion) in self.submitter.completions() {
                self.complete(work, completion);
            }
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Makes a log in the seam's directory, which holds nothing but the segment files that it
    /// takes in. When this returns, everything but those files' names is on stable storage, and
    /// [`Log::open`] finds the partitions as they were. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`]: a file that is not there or not what its row says, or a device that
    /// cannot be written.
    pub fn import(io: I, id: LogId, config: LogConfig, import: Import) -> Result<(), OpenError> {
        let mut log = Log::new(io, id, config, import.epoch);
        let mut survey = log.find_segments()?;
        let strange = |file: String, found: String| OpenError::Foreign {
            log: id,
            file,
            found,
        };
        if let Some((number, own)) = survey.segments.first_key_value() {
            let found = format!("is segment {number} of a log that is there already");
            return Err(strange(own.name.clone(), found));
        }
        let manifest = numbered(import.partitions, import.segments);
        survey.number_foreign(&manifest);
        for row in &manifest.segments {
            if !survey.segments.contains_key(&row.segment) {
                let file = row.origin.map_or(String::new(), Origin::file_name);
                let found = "is not there or cannot be read".to_owned();
                return Err(strange(file, found));
            }
        }
        let mut report = RecoveryReport::default();
        let adopted = log.adopt_manifest(&survey.segments, &manifest, &mut report);
        adopted.map_err(|cause| OpenError::Io {
            log: id,
            what: "reading segments of other logs".to_owned(),
            cause,
        })?;
        let unwritable = |cause| OpenError::NotWritable { log: id, cause };
        let mut machine = Given(import.state);
        log.make_servable(&mut machine, Tail::default())?;
        log.come_to_rest(&mut machine).map_err(unwritable)?;
        let is_named = log.checkpoint.is_some();
        let own = log.segments.live.values();
        let own = own.filter(|segment| segment.origin.is_none());
        let own: Vec<_> = own
            .map(|segment| (segment.name.clone(), segment.file, segment.stage))
            .collect();
        if !is_named || own.iter().any(|(_, _, stage)| *stage != Stage::Sealed) {
            let cause = "the first checkpoint could not be written".to_owned();
            return Err(unwritable(cause));
        }
        log.settle_files().map_err(unwritable)?;
        for (name, file, _) in own {
            log.flush_cut(&name, file).map_err(unwritable)?;
        }
        Ok(())
    }
}

/// The manifest a log begins with: every segment by its origin once, oldest log first, so that a
/// partition's segments have rising numbers.
fn numbered(partitions: Vec<PartitionRow>, segments: Vec<SegmentRow>) -> Manifest {
    let mut by_origin: HashMap<Origin, SegmentRow> = HashMap::new();
    for row in segments {
        let origin = row
            .origin
            .expect("a segment that is taken in has an origin");
        match by_origin.get_mut(&origin) {
            // Several logs had it, each with its own partitions.
            Some(known) => known.ranges.extend(row.ranges),
            None => {
                by_origin.insert(origin, row);
            }
        }
    }
    let mut segments: Vec<SegmentRow> = by_origin.into_values().collect();
    segments.sort_by_key(|row| row.origin);
    let last = segments.iter().map(|row| row.last_sequence).max();
    for (number, row) in (1..).zip(&mut segments) {
        row.segment = number;
        row.ranges.sort_by_key(|range| range.partition);
    }
    Manifest {
        anchor: Anchor {
            sequence: last.map_or(Sequence(1), |last| last.max(Sequence(1))),
            segment: 0,
            end_position: 0,
            checksum: 0,
        },
        partitions,
        segments,
        dropped: Vec::new(),
        runs: Vec::new(),
    }
}

/// Machines' state for a checkpoint, and nobody who would change it.
struct Given(Vec<u8>);

impl Machine for Given {
    fn restore(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _: &Entry) {}

    fn apply_damaged(&mut self, _: &EntryMeta) {}

    fn checkpoint(&self) -> Vec<u8> {
        self.0.clone()
    }
}
