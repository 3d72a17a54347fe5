//! The payload of an entry that replaces segments: which ones, and what stands in their place.
//!
//! ```text
//! version u16, moved u8 (0: all that the sources hold; 1: the partitions listed)
//! sources u32 x { segment u64 }
//! moved u32 x { partition u64, compacted up to u64 }
//! targets u32 x { segment u64, data end u64, first block u64, last block u64,
//!                 footer bytes u32, footer checksum u64,
//!                 ranges u32 x { partition u64, first u64, end u64, bytes u64, max timestamp i64 } }
//! ```
//! It says all that the switch needs: a replay reads nothing else to apply it.

use ringlog_types::{Offset, PartitionId, Sequence};

use super::manifest::RangeRow;
use super::reader::Reader;
use super::{FORMAT_VERSION, FormatError};

const WHAT: &str = "replacement of segments";

/// What leaves its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Everything: the sources hold nothing any more.
    All,
    /// These partitions; and up to which offset each is compacted by this.
    Partitions(Vec<(PartitionId, Offset)>),
}

/// A segment that stands in the place of others. Durable, footer and all, before the entry that
/// names it is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub segment: u64,
    /// Where its last block ends and its footer begins.
    pub data_end: u64,
    /// The first block of the log that a source held.
    pub first_sequence: Sequence,
    /// The last one.
    pub last_sequence: Sequence,
    /// Length of its footer.
    pub footer_bytes: u32,
    /// Keyed checksum of its footer.
    pub footer_checksum: u64,
    /// What it holds, by partition.
    pub ranges: Vec<RangeRow>,
}

/// A switch from segments to what was made of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Segments that are replaced.
    pub sources: Vec<u64>,
    /// What of them is.
    pub moved: Moved,
    /// What stands in their place.
    pub targets: Vec<Target>,
}

impl Replaced {
    /// The entry's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(FORMAT_VERSION.to_le_bytes());
        let moved = match &self.moved {
            Moved::All => &[][..],
            Moved::Partitions(moved) => moved,
        };
        out.push(u8::from(self.moved != Moved::All));
        count(&mut out, self.sources.len());
        for segment in &self.sources {
            out.extend(segment.to_le_bytes());
        }
        count(&mut out, moved.len());
        for (partition, to) in moved {
            out.extend(partition.0.to_le_bytes());
            out.extend(to.0.to_le_bytes());
        }
        count(&mut out, self.targets.len());
        for target in &self.targets {
            let fields = [
                target.segment,
                target.data_end,
                target.first_sequence.0,
                target.last_sequence.0,
            ];
            out.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
            out.extend(target.footer_bytes.to_le_bytes());
            out.extend(target.footer_checksum.to_le_bytes());
            count(&mut out, target.ranges.len());
            for range in &target.ranges {
                let fields = [range.partition.0, range.first.0, range.end.0, range.bytes];
                out.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
                out.extend(range.max_timestamp.to_le_bytes());
            }
        }
        out
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// Another version, counts that do not fit the bytes, bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Replaced, FormatError> {
        let mut reader = Reader::new(bytes, WHAT);
        let found = reader.u16()?;
        if found == 0 || found > FORMAT_VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                found,
                known: FORMAT_VERSION,
            });
        }
        let listed = match reader.bytes(1)?[0] {
            0 => false,
            1 => true,
            other => return Err(bounds(format!("kind {other}"))),
        };
        let mut sources = Vec::new();
        for _ in 0..reader.count(8)? {
            sources.push(reader.u64()?);
        }
        let mut moved = Vec::new();
        for _ in 0..reader.count(16)? {
            moved.push((PartitionId(reader.u64()?), offset(&mut reader)?));
        }
        if !listed && !moved.is_empty() {
            return Err(bounds(format!("all of it and {} partitions", moved.len())));
        }
        let mut targets = Vec::new();
        for _ in 0..reader.count(48)? {
            let (segment, data_end) = (reader.u64()?, reader.u64()?);
            let first_sequence = Sequence(reader.u64()?);
            let last_sequence = Sequence(reader.u64()?);
            let (footer_bytes, footer_checksum) = (reader.u32()?, reader.u64()?);
            let mut ranges = Vec::new();
            for _ in 0..reader.count(40)? {
                let row = RangeRow {
                    partition: PartitionId(reader.u64()?),
                    first: offset(&mut reader)?,
                    end: offset(&mut reader)?,
                    bytes: reader.u64()?,
                    max_timestamp: reader.i64()?,
                };
                if row.first >= row.end {
                    return Err(bounds(format!("offsets {}..{}", row.first, row.end)));
                }
                ranges.push(row);
            }
            targets.push(Target {
                segment,
                data_end,
                first_sequence,
                last_sequence,
                footer_bytes,
                footer_checksum,
                ranges,
            });
        }
        let rest = reader.rest();
        if !rest.is_empty() {
            return Err(bounds(format!("{} bytes left over", rest.len())));
        }
        let moved = if listed {
            Moved::Partitions(moved)
        } else {
            Moved::All
        };
        Ok(Replaced {
            sources,
            moved,
            targets,
        })
    }
}

fn count(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("the size of a group keeps tables below 2^32");
    out.extend(length.to_le_bytes());
}

fn bounds(detail: String) -> FormatError {
    FormatError::Bounds { what: WHAT, detail }
}

fn offset(reader: &mut Reader<'_>) -> Result<Offset, FormatError> {
    let value = reader.u64()?;
    if value > i64::MAX as u64 {
        return Err(bounds(format!("offset {value}")));
    }
    Ok(Offset(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(moved: Moved) -> Replaced {
        Replaced {
            sources: vec![3, 4],
            moved,
            targets: vec![Target {
                segment: 9,
                data_end: 8192,
                first_sequence: Sequence(11),
                last_sequence: Sequence(40),
                footer_bytes: 96,
                footer_checksum: 5,
                ranges: vec![RangeRow {
                    partition: PartitionId(7),
                    first: Offset(2),
                    end: Offset(20),
                    bytes: 900,
                    max_timestamp: -1,
                }],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_truncation_is_refused() {
        let some = Moved::Partitions(vec![(PartitionId(7), Offset(20))]);
        for entry in [replaced(Moved::All), replaced(some)] {
            let bytes = entry.encode();
            assert_eq!(Replaced::decode(&bytes), Ok(entry));
            for length in 0..bytes.len() {
                let cut = Replaced::decode(&bytes[..length]);
                assert!(cut.is_err(), "length {length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Replaced::decode(&longer).is_err());
        }
    }
}
