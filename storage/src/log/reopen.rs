//! From a log that was replayed to one that serves: files are sorted, what is no part of the log is
//! erased, what was kept is written again and flushed, and a new segment is opened whose first
//! block names the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::commit::whole;
use super::replay::Tail;
use super::report::OpenError;
use super::seeded_bug::SeededBug;
use super::segments::{FreeFile, Stage};
use super::survey::{Found, place};
use super::walk::run;
use super::{Log, Machine};
use crate::format::manifest::Anchor;
use crate::io::{FileId, Io, Op};
use ringlog_types::Sequence;

impl<I: Io> Log<I> {
    /// Files that hold nothing live become free; walked segments with a matching trailer are
    /// sealed.
    pub(super) fn sort_out_files(
        &mut self,
        found: BTreeMap<u64, Found>,
        unnamed: impl Iterator<Item = Found>,
    ) {
        let unnamed = unnamed.map(|file| (file.name, file.file));
        self.segments.departing.extend(unnamed);
        let released: BTreeSet<FileId> = {
            let free = self.segments.free.iter().map(|free| free.file);
            let short = self.segments.short.iter().chain(&self.segments.departing);
            free.chain(short.map(|(_, file)| *file)).collect()
        };
        for (id, file) in found {
            let Some(segment) = self.segments.live.get_mut(&id) else {
                if released.contains(&file.file) {
                    continue;
                }
                if file.origin.is_some() {
                    self.segments.departing.push((file.name, file.file));
                } else if file.file_bytes == self.config.segment_bytes {
                    let (prewritten_to, recycled) = (file.file_bytes, true);
                    let (name, file) = (file.name, file.file);
                    self.segments.free.push_back(FreeFile {
                        name,
                        file,
                        prewritten_to,
                        recycled,
                    });
                } else {
                    self.segments.short.push_back((file.name, file.file));
                }
                continue;
            };
            if let Some(trailer) = file.trailer
                && trailer.data_end == segment.position
                && segment.stage == Stage::Open
            {
                segment.stage = Stage::Sealed;
                segment.footer = Some(place(&trailer));
            }
        }
    }

    /// Flushes what was kept, opens the new segment and writes its first block.
    pub(super) fn make_servable(
        &mut self,
        machine: &mut dyn Machine,
        tail: Tail,
    ) -> Result<(), OpenError> {
        let log = self.id;
        let failed = |cause: String| OpenError::NotWritable { log, cause };
        self.erase(&tail.discarded).map_err(failed)?;
        let flushes = !self.has_bug(SeededBug::ServeTailUnflushed);
        for block in tail.kept.into_iter().filter(|_| flushes) {
            let bytes: usize = block.bytes.iter().map(|buf| buf.len()).sum();
            let write = Op::Write {
                file: block.file,
                offset: block.position,
                bufs: block.bytes,
                durable: true,
            };
            let written = run(&mut self.submitter.io, write).result;
            whole(written, bytes).map_err(|cause| {
                failed(format!("writing block {} again: {cause}", block.sequence))
            })?;
        }
        let open = self
            .segments
            .live
            .values()
            .filter(|s| s.stage == Stage::Open);
        let files = open.map(|segment| segment.file).filter(|_| flushes);
        let flush = files.map(|file| Op::Flush { file }).collect::<Vec<_>>();
        let sync = (!self.has_bug(SeededBug::ForgetDirectory)).then_some(Op::SyncDir);
        for op in flush.into_iter().chain(sync) {
            let what = format!("{op:?}");
            run(&mut self.submitter.io, op)
                .result
                .map_err(|e| failed(format!("{what}: {e}")))?;
        }
        self.next_sequence = self.durable.next();
        let first = self.next_sequence;
        if self.durable == Sequence::NONE {
            self.anchor = Anchor {
                sequence: first,
                segment: 0,
                end_position: 0,
                checksum: 0,
            };
        }
        self.add_mark();
        while self.durable < first {
            self.submit();
            self.poll(machine);
            if let Some(failure) = &self.failure {
                return Err(failed(failure.clone()));
            }
            if self.segments.is_stuck()
                && self.segments.free.is_empty()
                && self.in_flight.is_empty()
            {
                return Err(failed("no space for a new segment".to_owned()));
            }
            if self.durable < first {
                self.submitter.io.wait(Duration::from_millis(100));
            }
        }
        self.bytes_since_checkpoint = self.bytes_since_checkpoint.max(1);
        self.demote_old_segments();
        self.release_dead_segments();
        Ok(())
    }

    /// Overwrites the headers of blocks that are not part of the log, so that they are not taken
    /// for it when what comes to stand in their place is damaged one day.
    fn erase(&mut self, headers: &[(FileId, u64)]) -> Result<(), String> {
        for (file, offset) in headers.iter().rev() {
            let mut zeros = self.alloc(self.unit).ok_or("no memory")?;
            zeros.fill(0);
            let write = Op::Write {
                file: *file,
                offset: *offset,
                bufs: vec![zeros.freeze().slice(0..self.unit)],
                durable: true,
            };
            let written = run(&mut self.submitter.io, write).result;
            whole(written, self.unit)
                .map_err(|cause| format!("erasing a discarded block: {cause}"))?;
        }
        Ok(())
    }
}
