//! The first look at a log's directory: which files are segments, what their headers and
//! trailers say, and where the newest checkpoint is.

use std::collections::BTreeMap;

use super::Log;
use super::first_block::FirstBlock;
pub(super) use super::found::Found;
use super::index::SegmentIndex;
use super::report::OpenError;
use super::segments::{FooterPlace, Segment, Stage};
use super::walk::{read_pieces, run};
use crate::format::FormatError;
use crate::format::block_header::BlockHeader;
use crate::format::checksum::Key;
use crate::format::cold;
use crate::format::manifest::Manifest;
use crate::format::origin::Origin;
use crate::format::segment_header::{CheckpointPointer, SegmentHeader};
use crate::format::segment_name::slot_of;
use crate::format::trailer::Trailer;
use crate::io::{Io, Op};
use ringlog_types::{LogId, Sequence};

/// What a log's directory holds.
#[derive(Default)]
pub(super) struct Survey {
    /// Segments by their number.
    pub segments: BTreeMap<u64, Found>,
    /// Segments of other logs, until a manifest says under which numbers this one has them.
    pub foreign: BTreeMap<Origin, Found>,
    /// Those that the cleaner wrote: no part of the chain of blocks.
    pub cold: BTreeMap<u64, Found>,
    /// Every checkpoint that a header or trailer names, newest first.
    pub checkpoints: Vec<CheckpointPointer>,
    /// The last block that a trailer or the name of a checkpoint states to have been durable.
    pub stated: Sequence,
    /// Files that were segments and have no readable header.
    pub damaged_headers: Vec<String>,
    /// The same of other logs' segments: the end of this log is in none of them.
    pub damaged_foreign: Vec<String>,
}

impl Survey {
    /// Gives the segments of other logs the numbers that the manifest has for them. What it does
    /// not name holds nothing live, and stays behind.
    pub fn number_foreign(&mut self, manifest: &Manifest) {
        for row in &manifest.segments {
            if let Some(origin) = row.origin
                && let Some(found) = self.foreign.remove(&origin)
            {
                self.segments.insert(row.segment, found);
            }
        }
    }
}

impl<I: Io> Log<I> {
    /// Opens every segment file and reads headers, trailers and first blocks. Files that never
    /// had a header become raw material; a header that fails its check was whole once, because it
    /// lies within a sector, and its file is left alone.
    pub(super) fn find_segments(&mut self) -> Result<Survey, OpenError> {
        let (log, unit) = (self.id, self.unit);
        let failed = |what: &str| {
            let what = what.to_owned();
            move |cause| OpenError::Io { log, what, cause }
        };
        let io = &mut self.submitter.io;
        let listed = io.list().map_err(failed("listing the directory"))?;
        let mut files = Vec::new();
        for (name, bytes) in listed {
            match slot_of(&name) {
                Some(slot) => self.segments.next_slot = self.segments.next_slot.max(slot + 1),
                None if Origin::of_file_name(&name).is_some() => {}
                None => continue,
            }
            let opened = run(
                io,
                Op::Open {
                    name: name.clone(),
                    create: false,
                },
            );
            opened.result.map_err(failed(&format!("opening {name}")))?;
            let file = opened.file.expect("a successful open names its file");
            files.push((name, file, bytes));
        }
        files.sort();
        let mut pieces = Vec::new();
        for (_, file, bytes) in &files {
            let last = (bytes / unit as u64).saturating_sub(1) * unit as u64;
            pieces.extend([
                (*file, 0, unit),
                (*file, unit as u64, unit),
                (*file, last, unit),
            ]);
        }
        let units = read_pieces(io, &pieces).map_err(failed("reading headers and trailers"))?;
        let mut units = units.into_iter();
        let mut survey = Survey::default();
        for (name, file, file_bytes) in files {
            let mut next = || units.next().expect("three units were read of each file");
            let (head, first, last) = (next(), next(), next());
            let origin = Origin::of_file_name(&name);
            let writer = origin.map_or(log, |origin| origin.log);
            let header = SegmentHeader::decode(&head);
            let header = match header {
                Ok(header) => header,
                Err(cause @ FormatError::Version { .. }) => {
                    return Err(OpenError::Version {
                        log,
                        file: name,
                        cause,
                    });
                }
                Err(_) if origin.is_none() && head.iter().all(|byte| *byte == 0) => {
                    // Never used, or a crash came while zeros were written ahead over a file
                    // that had been let go, of which any sectors may be left.
                    self.segments.short.push_back((name, file));
                    continue;
                }
                Err(cause) => match proven_by_block(&head, &first, writer, file_bytes) {
                    Some(header) => {
                        tracing::error!(
                            %log, file = %name, segment = header.segment,
                            "{cause}: its blocks verify under its nonce and are read"
                        );
                        header
                    }
                    None => {
                        tracing::error!(
                            %log, file = %name,
                            "{cause}: what it holds cannot be read; it is left as it is"
                        );
                        if origin.is_some() {
                            survey.damaged_foreign.push(name);
                        } else {
                            survey.damaged_headers.push(name);
                        }
                        continue;
                    }
                },
            };
            let is_named = origin.is_none_or(|origin| origin.segment == header.segment);
            if header.log != writer || !is_named {
                let found = format!("is segment {} of log {}", header.segment, header.log);
                return Err(OpenError::Foreign {
                    log,
                    file: name,
                    found,
                });
            }
            if header.unit_bytes as usize != unit {
                let found = format!(
                    "was written in units of {} bytes, this device asks for {unit}",
                    header.unit_bytes
                );
                return Err(OpenError::Foreign {
                    log,
                    file: name,
                    found,
                });
            }
            let key = header.key();
            let trailer = Trailer::decode(&key, &last).ok();
            let trailer = trailer.filter(|trailer| trailer.segment == header.segment);
            let first_block = BlockHeader::decode(&key, &first).ok();
            let first_block = first_block.map(|(header, _)| header);
            let segment = Found {
                is_cut_off: trailer.is_none() && file_bytes < header.segment_bytes,
                name,
                origin,
                is_cold: header.is_cold,
                file,
                file_bytes,
                key,
                trailer,
                first_block,
            };
            // What another log states of sequences and checkpoints, it states of its own.
            if let Some(origin) = origin {
                survey.foreign.insert(origin, segment);
                continue;
            }
            self.epoch = self.epoch.max(header.epoch + 1);
            self.segments.next_segment = self.segments.next_segment.max(header.segment + 1);
            let named = [header.checkpoint, trailer.and_then(|t| t.checkpoint)];
            survey.checkpoints.extend(named.into_iter().flatten());
            if let Some(trailer) = trailer.as_ref().filter(|_| !header.is_cold) {
                survey.stated = survey.stated.max(trailer.last_sequence);
            }
            let segments = if header.is_cold {
                &mut survey.cold
            } else {
                &mut survey.segments
            };
            segments.insert(header.segment, segment);
        }
        survey.checkpoints.sort_by(|a, b| b.cmp(a));
        survey.checkpoints.dedup();
        for named in &survey.checkpoints {
            survey.stated = survey.stated.max(named.sequence);
            self.segments.next_segment = self.segments.next_segment.max(named.segment + 1);
        }
        if survey.segments.is_empty() && !survey.damaged_headers.is_empty() {
            let files = survey.damaged_headers.join(", ");
            return Err(OpenError::Headers { log, files });
        }
        Ok(survey)
    }

    /// A live segment of a file, before it is known what it holds.
    pub(super) fn segment_of(&self, file: &Found) -> Segment {
        Segment {
            name: file.name.clone(),
            origin: file.origin,
            file: file.file,
            file_bytes: file.file_bytes,
            key: file.key.clone(),
            stage: Stage::Open,
            position: self.unit as u64,
            rows_bound: 0,
            first_sequence: Sequence::NONE,
            first_block: file.first_block.as_ref().map(FirstBlock::of),
            last_sequence: Sequence::NONE,
            last_checksum: 0,
            index: SegmentIndex::new(),
            footer: None,
            reads: 0,
            prewritten_to: file.file_bytes,
            recycled: true,
            is_cold: false,
            was_source: false,
            emptied: None,
            amplification: None,
        }
    }
}

/// A segment's header from its first block, where it fails its check and the nonce in it stands.
/// A header is in one sector and durable before its first block: no crash leaves it like that.
fn proven_by_block(
    head: &[u8],
    first: &[u8],
    log: LogId,
    segment_bytes: u64,
) -> Option<SegmentHeader> {
    let (nonce, _) = SegmentHeader::unproven(head)?;
    let (block, _) = BlockHeader::decode(&Key::derive(nonce), first).ok()?;
    Some(SegmentHeader {
        log,
        segment: block.segment,
        nonce,
        segment_bytes,
        unit_bytes: u32::try_from(first.len()).ok()?,
        epoch: block.epoch,
        created_ms: block.wall_ms,
        checkpoint: None,
        is_cold: cold::is_cold(block.sequence),
    })
}

/// Where a sealed segment's footer lies.
pub(super) fn place(trailer: &Trailer) -> FooterPlace {
    FooterPlace {
        position: trailer.footer_position,
        bytes: trailer.footer_bytes,
        checksum: trailer.footer_checksum,
    }
}
