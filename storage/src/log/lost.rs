//! Naming what was in durable blocks that cannot be read, so that their offsets stay taken and
//! are called damaged: from the block's own entry table where only its header fails, and from the
//! footer of a sealed segment.

use std::collections::BTreeSet;

use ringlog_types::PartitionId;

use super::survey::{Found, place};
use super::walk::{Walk, read_pieces};
use super::{EntryKind, EntryMeta, Log, Machine};
use crate::format::footer;
use crate::io::Io;

impl<I: Io> Log<I> {
    /// Takes the offsets of the records that stood in a segment from `from` to before `to`, as
    /// far as they can be told, and marks them damaged, but for what begins at positions where
    /// blocks stand. Returns them.
    ///
    /// # Errors
    /// The device's own.
    pub(super) fn take_lost(
        &mut self,
        segment: u64,
        file: &Found,
        (from, to): (u64, u64),
        standing: &BTreeSet<u64>,
        machine: &mut dyn Machine,
    ) -> std::io::Result<Vec<(PartitionId, u64, u64)>> {
        let mut walk = Walk::new(segment, file.file, file.file_bytes, &file.key, self.unit);
        let mut metas = walk.salvage_at(&mut self.submitter.io, from)?;
        metas.extend(self.footer_metas(file, (from, to), standing)?);
        metas.retain(|meta| meta.kind == EntryKind::Records);
        metas.sort_by_key(|meta| (meta.partition, meta.base_offset));
        let mut named = Vec::new();
        for meta in metas {
            let state = self.partitions.entry(meta.partition).or_default();
            let (first, end) = (state.end, meta.end_offset());
            if end <= first {
                continue; // Named already, by the other of the two.
            }
            state.add_damage(first, end);
            state.end = end;
            // The two overlap: what is told of each is what is new in it.
            machine.apply_damaged(&EntryMeta {
                base_offset: first,
                count: u32::try_from(end.0 - first.0).unwrap_or(u32::MAX),
                ..meta
            });
            named.push((meta.partition, first.0, end.0));
        }
        Ok(named)
    }

    /// What a sealed segment's footer says of the blocks in a stretch of it.
    fn footer_metas(
        &mut self,
        file: &Found,
        (from, to): (u64, u64),
        standing: &BTreeSet<u64>,
    ) -> std::io::Result<Vec<EntryMeta>> {
        let Some(trailer) = &file.trailer else {
            return Ok(Vec::new());
        };
        let place = place(trailer);
        let length = (place.bytes as usize).next_multiple_of(self.unit);
        let piece = (file.file, place.position, length.max(self.unit));
        let read = read_pieces(&mut self.submitter.io, &[piece])?.remove(0);
        let bytes = read.get(..place.bytes as usize);
        let proven = bytes.filter(|bytes| file.key.checksum(bytes) == place.checksum);
        let rows = proven.and_then(|bytes| footer::decode_rows(bytes).ok());
        let unit = self.unit as u64;
        let lost = rows.unwrap_or_default().into_iter().filter(|(_, row)| {
            let position = u64::from(row.position_units) * unit;
            from <= position && position < to && !standing.contains(&position)
        });
        Ok(lost
            .map(|(partition, row)| EntryMeta {
                partition,
                kind: EntryKind::Records,
                machine: 0,
                base_offset: row.first,
                // A block has far fewer records than 2^32.
                count: u32::try_from(row.end.0 - row.first.0).unwrap_or(u32::MAX),
                max_timestamp: row.max_timestamp,
            })
            .collect())
    }
}
