//! The first look at a log's directory: what each file is, as far as its first and last unit
//! tell.

use std::collections::BTreeMap;

use ringlog_types::{LogId, Sequence};

use super::error::CheckError;
use super::finding::{Fault, Finding, Place, Severity};
use super::source::Source;
use crate::format::FormatError;
use crate::format::block_header::BlockHeader;
use crate::format::checksum::Key;
use crate::format::cold;
use crate::format::manifest::Manifest;
use crate::format::origin::Origin;
use crate::format::run_header::run_number_of;
use crate::format::segment_header::{CheckpointPointer, SegmentHeader};
use crate::format::segment_name::slot_of;
use crate::format::trailer::Trailer;

/// The smallest unit there is, in which a file is looked at whose header says nothing.
const SMALLEST_UNIT: usize = 4096;
/// The largest unit a header is believed.
const LARGEST_UNIT: u32 = 1 << 20;

/// A segment file under whose key blocks can be read.
pub(super) struct Found {
    pub name: String,
    /// Who wrote it; `None`: the log that is checked.
    pub origin: Option<Origin>,
    pub file_bytes: u64,
    pub unit: usize,
    pub key: Key,
    /// `None`: its header is damaged, and what is known of it its first block said.
    pub header: Option<SegmentHeader>,
    pub trailer: Result<Trailer, FormatError>,
    /// Header and header checksum of the block at its start.
    pub first_block: Option<(BlockHeader, u64)>,
}

impl Found {
    /// Whether the cleaner wrote it.
    pub fn is_cold(&self) -> bool {
        match (&self.header, &self.first_block) {
            (Some(header), _) => header.is_cold,
            (None, Some((block, _))) => cold::is_cold(block.sequence),
            (None, None) => false,
        }
    }

    /// Length of the file before its seal could cut it.
    pub fn is_cut(&self) -> bool {
        let whole = self.header.map(|header| header.segment_bytes);
        whole.is_some_and(|whole| self.file_bytes < whole)
    }
}

/// All files of a log.
#[derive(Default)]
pub(super) struct Survey {
    pub segments: BTreeMap<u64, Found>,
    /// Segments of other logs, until a manifest says under which numbers this one has them.
    pub foreign: BTreeMap<Origin, Found>,
    /// Those that the cleaner wrote.
    pub cold: BTreeMap<u64, Found>,
    /// Files never used, and files of which nothing can be told.
    pub others: Vec<(String, u64, bool)>,
    pub newest: Option<CheckpointPointer>,
    pub findings: Vec<Finding>,
}

pub(super) fn survey(source: &dyn Source, log: LogId) -> Result<Survey, CheckError> {
    let unreadable = |what: String| move |cause| CheckError::Io { log, what, cause };
    let listed = source
        .list()
        .map_err(unreadable("listing the directory".to_owned()))?;
    let mut survey = Survey::default();
    for (name, file_bytes) in listed {
        if run_number_of(&name).is_some() {
            continue; // Looked at when it is known which ones the checkpoint names.
        }
        let origin = Origin::of_file_name(&name);
        if origin.is_none() && slot_of(&name).is_none() {
            survey.note(
                Severity::Notice,
                Fault::StrangeFile,
                &name,
                None,
                "it is no segment file",
            );
            continue;
        }
        let read = |position, bytes| {
            let read = source.read(&name, position, bytes);
            read.map_err(unreadable(format!("reading {name}")))
        };
        let head = read(0, SMALLEST_UNIT)?;
        let header = match SegmentHeader::decode(&head) {
            Ok(header) => Some(header),
            Err(cause @ FormatError::Version { .. }) => {
                let file = name;
                return Err(CheckError::Version { log, file, cause });
            }
            Err(cause) => {
                let second = read(SMALLEST_UNIT as u64, SMALLEST_UNIT)?;
                let has_blocks = BlockHeader::maybe(&second);
                if SegmentHeader::unproven(&head).is_none() {
                    if has_blocks {
                        // Zeros are written ahead over a file that was let go, in any order.
                        let detail = "its header is zeros and blocks follow: it was being made \
                                      anew when a crash came; a live segment would be missed";
                        survey.note(Severity::Notice, Fault::SegmentHeader, &name, None, detail);
                    }
                    survey.others.push((name, file_bytes, false));
                    continue;
                }
                survey.damaged_header(
                    source,
                    log,
                    &name,
                    file_bytes,
                    (&head, has_blocks),
                    &cause,
                )?;
                continue;
            }
        };
        let Some(header) = header else { continue };
        if let Some(detail) = impossible(&header, log, origin, file_bytes) {
            let segment = Some(header.segment);
            survey.note(
                Severity::Damage,
                Fault::ForeignSegment,
                &name,
                segment,
                &detail,
            );
            survey.others.push((name, file_bytes, true));
            continue;
        }
        let unit = header.unit_bytes as usize;
        let key = header.key();
        let last = read(
            (file_bytes / unit as u64).saturating_sub(1) * unit as u64,
            unit,
        )?;
        let trailer = Trailer::decode(&key, &last);
        if let Err(cause @ FormatError::Version { .. }) = trailer {
            let file = name;
            return Err(CheckError::Version { log, file, cause });
        }
        let trailer = trailer.and_then(|trailer| {
            let own = trailer.segment == header.segment;
            let other = || FormatError::Bounds {
                what: "segment trailer",
                detail: format!("it is of segment {}", trailer.segment),
            };
            own.then_some(trailer).ok_or_else(other)
        });
        let first_block = BlockHeader::decode(&key, &read(unit as u64, unit)?).ok();
        let named = trailer.as_ref().ok().and_then(|trailer| trailer.checkpoint);
        if origin.is_none() {
            survey.newest = survey.newest.max(header.checkpoint).max(named);
        }
        let found = Found {
            name,
            origin,
            file_bytes,
            unit,
            key,
            header: Some(header),
            trailer,
            first_block,
        };
        survey.add(header.segment, found);
    }
    Ok(survey)
}

/// What a header says that cannot be.
fn impossible(
    header: &SegmentHeader,
    log: LogId,
    origin: Option<Origin>,
    file_bytes: u64,
) -> Option<String> {
    let unit = header.unit_bytes;
    let stated = Origin {
        log: header.log,
        segment: header.segment,
    };
    if origin.map_or(header.log != log, |origin| origin != stated) {
        return Some(format!("it is {stated}"));
    }
    if !unit.is_power_of_two() || !(SMALLEST_UNIT as u32..=LARGEST_UNIT).contains(&unit) {
        return Some(format!("it has units of {unit} bytes"));
    }
    (file_bytes > header.segment_bytes).then(|| {
        let stated = header.segment_bytes;
        format!("it has {file_bytes} bytes where its header says {stated}")
    })
}

impl Survey {
    fn note(
        &mut self,
        severity: Severity,
        fault: Fault,
        file: &str,
        segment: Option<u64>,
        detail: &str,
    ) {
        self.findings.push(Finding {
            severity,
            fault,
            place: Place {
                file: Some(file.to_owned()),
                segment,
                position: Some(0),
                blocks: None,
            },
            offsets: Vec::new(),
            detail: detail.to_owned(),
        });
    }

    /// Gives the segments of other logs the numbers that the manifest has for them.
    pub fn number_foreign(&mut self, manifest: Option<&Manifest>) {
        for row in manifest.iter().flat_map(|manifest| &manifest.segments) {
            if let Some(origin) = row.origin
                && let Some(found) = self.foreign.remove(&origin)
            {
                let segments = if found.is_cold() {
                    &mut self.cold
                } else {
                    &mut self.segments
                };
                segments.insert(row.segment, found);
            }
        }
        for (_, found) in std::mem::take(&mut self.foreign) {
            // Let go, or of a log of which nothing can be told.
            self.others.push((found.name, found.file_bytes, false));
        }
    }

    /// A segment's file, whoever wrote it.
    pub fn found(&self, segment: u64) -> Option<&Found> {
        self.segments
            .get(&segment)
            .or_else(|| self.cold.get(&segment))
    }

    fn add(&mut self, segment: u64, found: Found) {
        if let Some(origin) = found.origin {
            self.foreign.insert(origin, found);
            return;
        }
        if let Some(other) = self.found(segment) {
            let detail = format!("{} has the same segment number", other.name);
            let (name, bytes) = (found.name.clone(), found.file_bytes);
            let damage = Severity::Damage;
            self.note(damage, Fault::ForeignSegment, &name, Some(segment), &detail);
            self.others.push((name, bytes, true));
            return;
        }
        let segments = if found.is_cold() {
            &mut self.cold
        } else {
            &mut self.segments
        };
        segments.insert(segment, found);
    }

    /// A header that fails while the nonce in it stands: blocks that verify under it prove it.
    fn damaged_header(
        &mut self,
        source: &dyn Source,
        log: LogId,
        name: &str,
        file_bytes: u64,
        (head, has_blocks): (&[u8], bool),
        cause: &FormatError,
    ) -> Result<(), CheckError> {
        let unreadable = |cause| CheckError::Io {
            log,
            what: format!("reading {name}"),
            cause,
        };
        let stated = SegmentHeader::unproven(head);
        let (nonce, unit) = stated.unwrap_or_default();
        let usual = u32::try_from(SMALLEST_UNIT).unwrap_or(unit);
        for unit in [unit, usual] {
            if !unit.is_power_of_two() || !(usual..=LARGEST_UNIT).contains(&unit) {
                continue;
            }
            let (key, unit) = (Key::derive(nonce), unit as usize);
            let first = source.read(name, unit as u64, unit).map_err(unreadable)?;
            let Ok((block, checksum)) = BlockHeader::decode(&key, &first) else {
                continue;
            };
            let detail = format!("{cause}; blocks in it verify under its nonce and are checked");
            let segment = block.segment;
            let damage = Severity::Damage;
            self.note(damage, Fault::SegmentHeader, name, Some(segment), &detail);
            let last = (file_bytes / unit as u64).saturating_sub(1) * unit as u64;
            let last = source.read(name, last, unit).map_err(unreadable)?;
            let found = Found {
                name: name.to_owned(),
                origin: Origin::of_file_name(name),
                file_bytes,
                unit,
                trailer: Trailer::decode(&key, &last),
                key,
                header: None,
                first_block: Some((block, checksum)),
            };
            self.add(segment, found);
            return Ok(());
        }
        let (severity, detail) = if has_blocks {
            let detail = format!("{cause}; the blocks in it cannot be read without its nonce");
            (Severity::Damage, detail)
        } else {
            (Severity::Notice, format!("{cause}; no block is in it"))
        };
        self.note(severity, Fault::SegmentHeader, name, None, &detail);
        self.others.push((name.to_owned(), file_bytes, true));
        Ok(())
    }

    /// The segment whose first block follows a block, if one does.
    pub fn successor(&self, behind: u64, expected: Sequence, previous: u64) -> Option<u64> {
        let later = self.segments.range(behind + 1..).rev();
        let follows = |found: &Found| {
            found
                .first_block
                .is_some_and(|(first, _)| first.sequence == expected && first.previous == previous)
        };
        let mut following = later.filter(|(_, found)| follows(found));
        following.next().map(|(segment, _)| *segment)
    }
}
