//! Storage's own part of a checkpoint: the point it describes (the anchor), the partitions'
//! bounds, what each sealed segment holds of them or which index run knows it, and the runs.
//!
//! ```text
//! version u16
//! anchor: sequence u64, segment u64, end position u64, checksum u64
//! dropped u32 × { partition u64, counted u64 }
//! runs u32 × { number u64, rows u64, pages u32, root u32 }
//! partitions u32 × { partition u64, start u64, end u64,
//!                    counted u64, covered rows u64, covered bytes u64,
//!                    damage u32 × { first u64, end u64 } }
//! segments u32 × { segment u64, data end u64, first sequence u64, last sequence u64,
//!                  run u64, live rows u64, live bytes u64, moved u32 × { partition u64 },
//!                  ranges u32 × { partition u64, first u64, end u64, bytes u64, max timestamp i64 } }
//! foreign u32 × { row of the table of segments u32, log u32, segment there u64 }
//! machine state: the rest
//! ```
//! Version 1 has no counted, covered rows and bytes, dropped, run, live rows and bytes, moved, runs and foreign.

use ringlog_types::{LogId, Offset, PartitionId, Sequence};

use super::origin::Origin;
use super::reader::Reader;
use super::{FORMAT_VERSION, FormatError, check_version};

const WHAT: &str = "checkpoint";

/// The last block whose effects a checkpoint includes. Replay starts behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its segment.
    pub segment: u64,
    /// Where it ends in that segment.
    pub end_position: u64,
    /// Its header checksum.
    pub checksum: u64,
}

/// Rows of runs that are counted as live, and the bytes of the batches they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A partition that was dropped while rows of it are counted as live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedRow {
    /// Which.
    pub partition: PartitionId,
    /// Rows that end at or before this offset are no longer counted.
    pub counted: Offset,
}

/// An index run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Its number, and its file's.
    pub number: u64,
    /// Rows in it.
    pub rows: u64,
    /// Units in its file, the header included.
    pub pages: u32,
    /// The page in which a search begins.
    pub root: u32,
}

/// A partition's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    /// Which.
    pub partition: PartitionId,
    /// First offset.
    pub start: Offset,
    /// Behind the last committed offset.
    pub end: Offset,
    /// Rows of the runs that end at or before this offset are no longer counted as live.
    pub counted: Offset,
    /// Its rows in the runs that are counted as live.
    pub covered: Counts,
    /// Offsets that are known to be lost, as half-open ranges.
    pub damage: Vec<(Offset, Offset)>,
}

/// What a segment holds of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeRow {
    /// Which.
    pub partition: PartitionId,
    /// First offset in the segment.
    pub first: Offset,
    /// Behind the last offset in the segment.
    pub end: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Largest timestamp.
    pub max_timestamp: i64,
}

/// A live segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Its number in this log.
    pub segment: u64,
    /// Who wrote it; `None`: this log.
    pub origin: Option<Origin>,
    /// Where its last block (up to the anchor) ends.
    pub data_end: u64,
    /// Its first block, in the sequence of the log that wrote it.
    pub first_sequence: Sequence,
    /// Its last block (up to the anchor), likewise.
    pub last_sequence: Sequence,
    /// The run that has its rows, 0: none, then `ranges` says what it holds.
    pub run: u64,
    /// Its rows in that run that are live.
    pub live: Counts,
    /// What it holds.
    pub ranges: Vec<RangeRow>,
    /// Partitions that its footer has rows of and that lie elsewhere, though they are this log's.
    pub moved: Vec<PartitionId>,
}

/// Storage's part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The point described.
    pub anchor: Anchor,
    /// Every partition with a bound other than zero.
    pub partitions: Vec<PartitionRow>,
    /// Every live segment up to the anchor's.
    pub segments: Vec<SegmentRow>,
    /// Dropped partitions that are still counted in segments.
    pub dropped: Vec<DroppedRow>,
    /// The index runs.
    pub runs: Vec<RunInfo>,
}

impl PartitionRow {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = [
            self.partition.0,
            self.start.0,
            self.end.0,
            self.counted.0,
            self.covered.rows,
            self.covered.bytes,
        ];
        out.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        put_count(out, self.damage.len());
        for (first, end) in &self.damage {
            out.extend(first.0.to_le_bytes());
            out.extend(end.0.to_le_bytes());
        }
    }
}

impl RangeRow {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = [self.partition.0, self.first.0, self.end.0, self.bytes];
        out.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        out.extend(self.max_timestamp.to_le_bytes());
    }
}

impl SegmentRow {
    /// Appends what stands in front of its ranges and their count.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        let fields = [
            self.segment,
            self.data_end,
            self.first_sequence.0,
            self.last_sequence.0,
            self.run,
            self.live.rows,
            self.live.bytes,
        ];
        out.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        put_count(out, self.moved.len());
        for partition in &self.moved {
            out.extend(partition.0.to_le_bytes());
        }
    }
}

impl Manifest {
    /// Appends what stands in front of the partitions.
    pub fn encode_head(
        anchor: &Anchor,
        dropped: &[DroppedRow],
        runs: &[RunInfo],
        out: &mut Vec<u8>,
    ) {
        out.extend(FORMAT_VERSION.to_le_bytes());
        let point = [
            anchor.sequence.0,
            anchor.segment,
            anchor.end_position,
            anchor.checksum,
        ];
        out.extend(point.iter().flat_map(|field| field.to_le_bytes()));
        put_count(out, dropped.len());
        for row in dropped {
            out.extend(row.partition.0.to_le_bytes());
            out.extend(row.counted.0.to_le_bytes());
        }
        put_count(out, runs.len());
        for run in runs {
            out.extend(run.number.to_le_bytes());
            out.extend(run.rows.to_le_bytes());
            out.extend(run.pages.to_le_bytes());
            out.extend(run.root.to_le_bytes());
        }
    }

    /// Appends what stands behind the segments: which rows of them are other logs'.
    pub fn encode_foreign(foreign: &[(u32, Origin)], out: &mut Vec<u8>) {
        put_count(out, foreign.len());
        for (number, origin) in foreign {
            out.extend(number.to_le_bytes());
            out.extend(origin.log.0.to_le_bytes());
            out.extend(origin.segment.to_le_bytes());
        }
    }

    /// Appends the manifest and the machines' state.
    pub fn encode(&self, machine_state: &[u8], out: &mut Vec<u8>) {
        let foreign: Vec<(u32, Origin)> = (0..)
            .zip(&self.segments)
            .filter_map(|(number, row)| Some((number, row.origin?)))
            .collect();
        Manifest::encode_head(&self.anchor, &self.dropped, &self.runs, out);
        put_count(out, self.partitions.len());
        for row in &self.partitions {
            row.encode(out);
        }
        put_count(out, self.segments.len());
        for row in &self.segments {
            row.encode_head(out);
            put_count(out, row.ranges.len());
            for range in &row.ranges {
                range.encode(out);
            }
        }
        Manifest::encode_foreign(&foreign, out);
        out.extend(machine_state);
    }

    /// Reads a manifest; with it the machines' state.
    ///
    /// # Errors
    /// Another version, or counts that do not fit the bytes.
    pub fn decode(bytes: &[u8]) -> Result<(Manifest, &[u8]), FormatError> {
        let mut reader = Reader::new(bytes, WHAT);
        let version = reader.u16()?;
        check_version(WHAT, version)?;
        let has_runs = version >= 2;
        let anchor = Anchor {
            sequence: Sequence(reader.u64()?),
            segment: reader.u64()?,
            end_position: reader.u64()?,
            checksum: reader.u64()?,
        };
        let mut dropped = Vec::new();
        for _ in 0..if has_runs { reader.count(16)? } else { 0 } {
            dropped.push(DroppedRow {
                partition: PartitionId(reader.u64()?),
                counted: offset(&mut reader)?,
            });
        }
        let mut runs = Vec::new();
        for _ in 0..if has_runs { reader.count(24)? } else { 0 } {
            runs.push(RunInfo {
                number: reader.u64()?,
                rows: reader.u64()?,
                pages: reader.u32()?,
                root: reader.u32()?,
            });
        }
        let mut partitions = Vec::new();
        for _ in 0..reader.count(if has_runs { 52 } else { 28 })? {
            let partition = PartitionId(reader.u64()?);
            let (start, end) = (offset(&mut reader)?, offset(&mut reader)?);
            let (mut counted, mut covered) = (start, Counts::default());
            if has_runs {
                counted = offset(&mut reader)?;
                covered = counts(&mut reader)?;
            }
            let mut damage = Vec::new();
            for _ in 0..reader.count(16)? {
                damage.push((offset(&mut reader)?, offset(&mut reader)?));
            }
            partitions.push(PartitionRow {
                partition,
                start,
                end,
                counted,
                covered,
                damage,
            });
        }
        let mut segments = Vec::new();
        for _ in 0..reader.count(if has_runs { 64 } else { 36 })? {
            let (segment, data_end) = (reader.u64()?, reader.u64()?);
            let first_sequence = Sequence(reader.u64()?);
            let last_sequence = Sequence(reader.u64()?);
            let (mut run, mut live) = (0, Counts::default());
            if has_runs {
                run = reader.u64()?;
                live = counts(&mut reader)?;
            }
            let mut moved = Vec::new();
            for _ in 0..if has_runs { reader.count(8)? } else { 0 } {
                moved.push(PartitionId(reader.u64()?));
            }
            let mut ranges = Vec::new();
            for _ in 0..reader.count(40)? {
                ranges.push(RangeRow {
                    partition: PartitionId(reader.u64()?),
                    first: offset(&mut reader)?,
                    end: offset(&mut reader)?,
                    bytes: reader.u64()?,
                    max_timestamp: reader.i64()?,
                });
            }
            segments.push(SegmentRow {
                segment,
                origin: None,
                data_end,
                first_sequence,
                last_sequence,
                run,
                live,
                ranges,
                moved,
            });
        }
        for _ in 0..if has_runs { reader.count(16)? } else { 0 } {
            let number = reader.u32()?;
            let origin = Origin {
                log: LogId(reader.u32()?),
                segment: reader.u64()?,
            };
            let row = segments.get_mut(number as usize);
            let row = row.ok_or_else(|| FormatError::Bounds {
                what: WHAT,
                detail: format!("{origin} stands in row {number}, which is not there"),
            })?;
            row.origin = Some(origin);
        }
        Ok((
            Manifest {
                anchor,
                partitions,
                segments,
                dropped,
                runs,
            },
            reader.rest(),
        ))
    }
}

fn counts(reader: &mut Reader<'_>) -> Result<Counts, FormatError> {
    Ok(Counts {
        rows: reader.u64()?,
        bytes: reader.u64()?,
    })
}

/// Appends how many rows follow.
pub fn put_count(out: &mut Vec<u8>, rows: usize) {
    let rows = u32::try_from(rows).expect("the memory limit keeps tables below 2^32");
    out.extend(rows.to_le_bytes());
}

fn offset(reader: &mut Reader<'_>) -> Result<Offset, FormatError> {
    let value = reader.u64()?;
    if value > i64::MAX as u64 {
        return Err(FormatError::Bounds {
            what: WHAT,
            detail: format!("offset {value}"),
        });
    }
    Ok(Offset(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            anchor: Anchor {
                sequence: Sequence(9),
                segment: 2,
                end_position: 8192,
                checksum: 5,
            },
            partitions: vec![PartitionRow {
                partition: PartitionId(7),
                start: Offset(1),
                end: Offset(20),
                counted: Offset(1),
                covered: Counts { rows: 3, bytes: 77 },
                damage: vec![(Offset(3), Offset(4))],
            }],
            segments: vec![SegmentRow {
                segment: 2,
                origin: None,
                data_end: 8192,
                first_sequence: Sequence(1),
                last_sequence: Sequence(9),
                run: 5,
                live: Counts { rows: 4, bytes: 99 },
                ranges: vec![RangeRow {
                    partition: PartitionId(7),
                    first: Offset(0),
                    end: Offset(20),
                    bytes: 900,
                    max_timestamp: -1,
                }],
                moved: vec![PartitionId(6), PartitionId(8)],
            }],
            dropped: vec![DroppedRow {
                partition: PartitionId(8),
                counted: Offset(2),
            }],
            runs: vec![RunInfo {
                number: 5,
                rows: 7,
                pages: 3,
                root: 2,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_with_the_machine_state_behind_it() {
        let mut bytes = Vec::new();
        manifest().encode(b"state", &mut bytes);
        assert_eq!(Manifest::decode(&bytes), Ok((manifest(), &b"state"[..])));
    }

    #[test]
    fn segments_of_other_logs_are_read_with_their_origin() {
        let mut manifest = manifest();
        let mut row = manifest.segments[0].clone();
        (row.segment, row.origin) = (
            1,
            Some(Origin {
                log: LogId(4),
                segment: 70,
            }),
        );
        manifest.segments.insert(0, row);
        let mut bytes = Vec::new();
        manifest.encode(b"state", &mut bytes);
        assert_eq!(
            Manifest::decode(&bytes),
            Ok((manifest.clone(), &b"state"[..]))
        );
        bytes.truncate(bytes.len() - b"state".len());
        for length in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..length]).is_err(),
                "length {length}"
            );
        }
        let at = bytes.len() - 16;
        bytes[at] = 9;
        assert!(Manifest::decode(&bytes).is_err(), "a row that is not there");
    }

    #[test]
    fn every_truncation_is_refused_or_reads_as_less_machine_state() {
        let mut bytes = Vec::new();
        manifest().encode(b"", &mut bytes);
        for length in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..length]).is_err(),
                "length {length}"
            );
        }
    }
}
