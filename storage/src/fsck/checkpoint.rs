//! The newest checkpoint, read whole: its blocks, its parts in order, its manifest.

use ringlog_types::Sequence;

use super::source::Source;
use super::survey::{Found, Survey};
use crate::format::block;
use crate::format::block_header::{BlockHeader, Group};
use crate::format::entry_header::EntryKind;
use crate::format::manifest::Manifest;
use crate::format::segment_header::CheckpointPointer;

/// Why a checkpoint cannot be used.
pub(super) enum CheckpointFault {
    /// The device's own.
    Io(std::io::Error),
    /// What is wrong with it, and where.
    Damaged {
        segment: u64,
        position: u64,
        sequence: Sequence,
        detail: String,
    },
}

/// Reads the checkpoint that the pointer names.
pub(super) fn load(
    source: &dyn Source,
    survey: &Survey,
    pointer: CheckpointPointer,
) -> Result<Manifest, CheckpointFault> {
    let mut reader = Reader {
        source,
        survey,
        segment: pointer.segment,
        position: pointer.position,
        expected: pointer.sequence,
    };
    let mut bytes = Vec::new();
    let (mut parts, mut wanted) = (0, 1);
    while parts < wanted {
        let first = parts == 0;
        let (head, block) = reader.next_block(first)?;
        let layout = block::decode(head.key(survey), &block, head.unit)
            .map_err(|fault| reader.damaged(fault.to_string()))?;
        let group = layout.header.group;
        let fits = match group {
            Group::Whole | Group::Begin => first,
            Group::Continue | Group::Commit => layout.header.group_first == pointer.sequence,
        };
        if !fits {
            return Err(reader.damaged(format!("its group is broken off by a {group:?} block")));
        }
        let damaged = block::damaged_payloads(&layout, &block);
        for (number, entry) in layout.entries.iter().enumerate() {
            if entry.meta.kind != EntryKind::Checkpoint {
                continue;
            }
            if damaged.contains(&number) || entry.meta.base_offset.0 != parts {
                return Err(reader.damaged(format!("part {parts} of it is damaged")));
            }
            bytes.extend_from_slice(&block[entry.range()]);
            parts += 1;
            wanted = u64::from(entry.meta.count);
        }
        if parts == 0 {
            return Err(reader.damaged("no part of it stands there".to_owned()));
        }
        let ends = matches!(group, Group::Whole | Group::Commit);
        if ends != (parts >= wanted) {
            return Err(reader.damaged(format!("{parts} of {wanted} parts are in its group")));
        }
        reader.position += u64::from(layout.header.block_bytes);
        reader.expected = reader.expected.next();
    }
    let decoded = Manifest::decode(&bytes);
    let (manifest, _machines) = decoded.map_err(|fault| reader.damaged(fault.to_string()))?;
    Ok(manifest)
}

struct Reader<'a> {
    source: &'a dyn Source,
    survey: &'a Survey,
    segment: u64,
    position: u64,
    expected: Sequence,
}

struct Head {
    segment: u64,
    unit: usize,
}

impl Head {
    fn key<'s>(&self, survey: &'s Survey) -> &'s crate::format::checksum::Key {
        &survey.segments[&self.segment].key
    }
}

impl Reader<'_> {
    fn damaged(&self, detail: String) -> CheckpointFault {
        CheckpointFault::Damaged {
            segment: self.segment,
            position: self.position,
            sequence: self.expected,
            detail,
        }
    }

    fn next_block(&mut self, first: bool) -> Result<(Head, Vec<u8>), CheckpointFault> {
        loop {
            let Some(found) = self.survey.segments.get(&self.segment) else {
                return Err(self.damaged("its segment is missing".to_owned()));
            };
            let refused = match self.block(found) {
                Ok(block) => {
                    let head = Head {
                        segment: self.segment,
                        unit: found.unit,
                    };
                    return Ok((head, block));
                }
                Err(fault) => fault,
            };
            if first || self.position == found.unit as u64 {
                return Err(refused);
            }
            // The group goes on in the segment that was opened next.
            let mut later = self.survey.segments.range(self.segment + 1..);
            let next = later.find(|(_, next)| {
                let first = next.first_block;
                first.is_some_and(|(block, _)| block.sequence == self.expected)
            });
            let Some((segment, next)) = next else {
                return Err(refused);
            };
            (self.segment, self.position) = (*segment, next.unit as u64);
        }
    }

    fn block(&self, found: &Found) -> Result<Vec<u8>, CheckpointFault> {
        let read = |bytes| {
            let read = self.source.read(&found.name, self.position, bytes);
            read.map_err(CheckpointFault::Io)
        };
        let (header, _) = BlockHeader::decode(&found.key, &read(found.unit)?)
            .map_err(|fault| self.damaged(fault.to_string()))?;
        if header.sequence != self.expected {
            return Err(self.damaged(format!("block {} stands there", header.sequence)));
        }
        let available = found.file_bytes.saturating_sub(self.position);
        let bytes = u64::from(header.block_bytes).min(available);
        read(usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}
