//! A check under way: the findings so far, the blocks that belong to the log, and what every step
//! asks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ringlog_types::{LogId, Sequence};

use super::error::CheckError;
use super::finding::{
    Fault, Finding, LogCheck, OffsetRange, Place, Role, SegmentCheck, Severity, TornTail,
};
use super::offsets::{Partitions, merged, missing};
use super::scan::{Body, EntryFault, Scan, Scanned, Scanner};
use super::sealed;
use super::source::Source;
use super::survey::{Found, Survey};
use crate::format::FormatError;
use crate::format::block_header::Group;
use crate::format::entry_header::EntryKind;

/// What is checked beyond the log's own structures.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Record entries hold record batches: their own CRC-32C, shape and offsets are checked.
    pub batches: bool,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions { batches: true }
    }
}

/// A check under way.
pub(super) struct Check<'a> {
    pub source: &'a dyn Source,
    pub survey: &'a Survey,
    pub tail: TornTail,
    /// First block of the checkpoint in use.
    pub checkpoint: Option<Sequence>,
    log: LogId,
    options: CheckOptions,
    findings: Vec<Finding>,
    /// No damage, and not worth a word, where nothing of their offsets is live.
    if_live: Vec<Finding>,
    /// What cold segments hold: a segment that it came from may be sealed without it.
    copied: Vec<OffsetRange>,
    scanned: Option<(u64, Rc<Scan>)>,
    /// Positions of the log's own blocks, by segment.
    kept: BTreeMap<u64, BTreeSet<u64>>,
    counted: BTreeMap<u64, SegmentCheck>,
    seals_checked: BTreeSet<u64>,
    batches: u64,
}

impl<'a> Check<'a> {
    pub fn new(
        source: &'a dyn Source,
        log: LogId,
        options: CheckOptions,
        survey: &'a Survey,
    ) -> Check<'a> {
        Check {
            source,
            survey,
            tail: TornTail::default(),
            log,
            options,
            findings: survey.findings.clone(),
            if_live: Vec::new(),
            copied: Vec::new(),
            checkpoint: None,
            scanned: None,
            kept: BTreeMap::new(),
            counted: BTreeMap::new(),
            seals_checked: BTreeSet::new(),
            batches: 0,
        }
    }

    pub fn unreadable(&self, what: &str, cause: std::io::Error) -> CheckError {
        CheckError::Io {
            log: self.log,
            what: format!("reading {what}"),
            cause,
        }
    }

    pub fn find(
        &mut self,
        severity: Severity,
        fault: Fault,
        place: Place,
        offsets: Vec<OffsetRange>,
        detail: String,
    ) -> usize {
        self.findings.push(Finding {
            severity,
            fault,
            place,
            offsets,
            detail,
        });
        self.findings.len() - 1
    }

    pub fn damage(
        &mut self,
        fault: Fault,
        place: Place,
        offsets: Vec<OffsetRange>,
        detail: String,
    ) -> usize {
        self.find(Severity::Damage, fault, place, offsets, detail)
    }

    /// Damage if some of the offsets are live at the end of the check, otherwise nothing.
    pub fn missing_where_live(
        &mut self,
        fault: Fault,
        place: Place,
        offsets: Vec<OffsetRange>,
        detail: String,
    ) {
        if !offsets.is_empty() {
            self.if_live.push(Finding {
                severity: Severity::Damage,
                fault,
                place,
                offsets,
                detail,
            });
        }
    }

    /// A segment that a checkpoint names was replaced: that no file holds it is no loss.
    pub fn forget_missing(&mut self, segment: u64) {
        self.if_live.retain(|finding| {
            finding.fault != Fault::MissingSegment || finding.place.segment != Some(segment)
        });
    }

    /// A cold segment holds these offsets.
    pub fn add_copied(&mut self, ranges: impl Iterator<Item = OffsetRange>) {
        self.copied.extend(ranges);
    }

    fn found(&self, segment: u64) -> &'a Found {
        let found = self.survey.found(segment);
        found.expect("only segments that were found are looked into")
    }

    /// More offsets that an earlier finding explains.
    pub fn add_offsets(&mut self, finding: usize, range: OffsetRange) {
        self.findings[finding].offsets.push(range);
    }

    /// A segment's blocks; the last one asked for is kept.
    pub fn scan(&mut self, segment: u64) -> Result<Rc<Scan>, CheckError> {
        if let Some((held, scan)) = &self.scanned
            && *held == segment
        {
            return Ok(Rc::clone(scan));
        }
        let found = self.found(segment);
        let batches = self.options.batches;
        let mut scanner = Scanner::new(
            self.source,
            &found.name,
            found.file_bytes,
            &found.key,
            found.unit,
            batches,
        );
        let scan = scanner.scan();
        let scan = Rc::new(scan.map_err(|cause| self.unreadable(&found.name, cause))?);
        self.scanned = Some((segment, Rc::clone(&scan)));
        Ok(scan)
    }

    pub fn place(&self, segment: u64, position: u64, first: Sequence, end: Sequence) -> Place {
        let found = self.survey.found(segment);
        Place {
            file: found.map(|found| found.name.clone()),
            segment: Some(segment),
            position: found.map(|_| position),
            blocks: (first < end).then_some((first, end)),
        }
    }

    pub fn place_of(&self, segment: u64, block: &Scanned) -> Place {
        let sequence = block.header.sequence;
        self.place(segment, block.position, sequence, sequence.next())
    }

    /// A block belongs to the log: counts it, and reports what is wrong with its entries.
    /// `covered`: the checkpoint holds the state in it, only records still matter.
    pub fn keep(&mut self, segment: u64, block: &Scanned, covered: bool) {
        self.kept.entry(segment).or_default().insert(block.position);
        let sequence = block.header.sequence;
        let count = self.counted.entry(segment).or_insert_with(|| SegmentCheck {
            file: String::new(),
            file_bytes: 0,
            segment: Some(segment),
            role: Role::Unknown,
            blocks: 0,
            block_bytes: 0,
            sequences: None,
        });
        count.blocks += 1;
        count.block_bytes += u64::from(block.header.block_bytes);
        let first = count.sequences.map_or(sequence, |(first, _)| first);
        count.sequences = Some((first, sequence));
        let header = &block.header;
        let found = self.found(segment);
        let mut wrong = Vec::new();
        let number = found.origin.map_or(segment, |origin| origin.segment);
        if header.segment != number {
            wrong.push(format!("it says it is of segment {}", header.segment));
        }
        let begins = matches!(header.group, Group::Whole | Group::Begin);
        if begins != (header.group_first == sequence) {
            let (group, first) = (header.group, header.group_first);
            wrong.push(format!(
                "it is a {group:?} block of a group that begins at {first}"
            ));
        }
        if header.durable >= sequence {
            wrong.push(format!(
                "it states that block {} is durable",
                header.durable
            ));
        }
        if let Some(of_segment) = &found.header
            && of_segment.epoch != header.epoch
        {
            let (epoch, own) = (header.epoch, of_segment.epoch);
            wrong.push(format!(
                "it is of epoch {epoch} in a segment of epoch {own}"
            ));
        }
        for detail in wrong {
            let place = self.place_of(segment, block);
            self.damage(Fault::Statement, place, Vec::new(), detail);
        }
        let Body::Whole(entries) = &block.body else {
            return;
        };
        for entry in entries {
            let meta = &entry.meta;
            let is_records = meta.kind == EntryKind::Records;
            self.batches += u64::from(is_records);
            let (fault, detail) = match &entry.fault {
                None => continue,
                Some(EntryFault::Payload) => {
                    let detail = "the payload fails its checksum".to_owned();
                    (Fault::Payload, detail)
                }
                Some(EntryFault::Batch(detail)) => (Fault::Batch, detail.clone()),
            };
            let place = self.place_of(segment, block);
            if is_records {
                let range = OffsetRange {
                    partition: meta.partition,
                    first: meta.base_offset,
                    end: meta.end_offset(),
                };
                self.damage(fault, place, vec![range], detail);
            } else {
                let what = format!("of a {:?} entry of machine {}", meta.kind, meta.machine);
                let (severity, why) = if covered {
                    (Severity::Notice, "the checkpoint covers it")
                } else {
                    (Severity::Damage, "what it changed is lost")
                };
                let detail = format!("{detail}, {what}: {why}");
                self.find(severity, fault, place, Vec::new(), detail);
            }
        }
    }

    /// Footers and trailers of the segments that hold blocks of the log and were not checked yet.
    pub fn check_seals(&mut self) -> Result<(), CheckError> {
        let chain = self.kept.keys().rev();
        let newest = chain.copied().find(|id| !self.found(*id).is_cold());
        let left = self
            .kept
            .keys()
            .filter(|id| !self.seals_checked.contains(id));
        for segment in left.copied().collect::<Vec<_>>() {
            self.check_seal(segment, newest == Some(segment))?;
        }
        Ok(())
    }

    /// A segment's footer and trailer against its blocks.
    pub fn check_seal(&mut self, segment: u64, is_newest: bool) -> Result<(), CheckError> {
        self.seals_checked.insert(segment);
        let Some(kept) = self.kept.get(&segment).cloned() else {
            return Ok(());
        };
        let scan = self.scan(segment)?;
        let found = self.found(segment);
        let blocks = scan.blocks.iter();
        let blocks: Vec<&Scanned> = blocks.filter(|b| kept.contains(&b.position)).collect();
        let last_unit = (found.file_bytes / found.unit as u64).saturating_sub(1);
        let place = |position| Place {
            file: Some(found.name.clone()),
            segment: Some(segment),
            position: Some(position),
            blocks: None,
        };
        let at_end = place(last_unit * found.unit as u64);
        let trailer = match &found.trailer {
            Ok(trailer) => trailer,
            Err(cause) => return self.no_trailer(found, at_end, &blocks, cause, is_newest),
        };
        let is_whole = |block: &&Scanned| matches!(block.body, Body::Whole(_));
        let begins = blocks
            .first()
            .is_some_and(|first| first.position == found.unit as u64);
        let ends = blocks
            .last()
            .is_some_and(|last| last.end() == trailer.data_end);
        let contiguous = ends && blocks.is_sorted_by(|a, b| a.end() == b.position);
        if begins && contiguous && blocks.iter().all(is_whole) {
            for detail in sealed::check_trailer(trailer, &blocks, found.is_cold()) {
                self.damage(Fault::Trailer, at_end.clone(), Vec::new(), detail);
            }
        }
        let rows = sealed::footer_rows(self.source, found);
        let rows = rows.map_err(|cause| self.unreadable(&found.name, cause))?;
        match rows {
            Ok(rows) => {
                for fault in sealed::check_rows(found, &rows, &blocks) {
                    let at = place(fault.position);
                    if fault.offsets.is_empty() {
                        self.damage(fault.fault, at, fault.offsets, fault.detail);
                    } else {
                        self.missing_where_live(fault.fault, at, fault.offsets, fault.detail);
                    }
                }
            }
            Err(fault) => {
                let detail = format!("{}; the blocks it indexes are told apart", fault.detail);
                self.damage(fault.fault, place(fault.position), fault.offsets, detail);
            }
        }
        Ok(())
    }

    /// A segment without a valid trailer: sealed once and damaged, or never sealed.
    fn no_trailer(
        &mut self,
        found: &Found,
        place: Place,
        blocks: &[&Scanned],
        cause: &FormatError,
        is_newest: bool,
    ) -> Result<(), CheckError> {
        let position = place.position.unwrap_or(0);
        let unit = self.source.read(&found.name, position, found.unit);
        let unit = unit.map_err(|cause| self.unreadable(&found.name, cause))?;
        if found.is_cut() || sealed::resembles(found, &unit, blocks) {
            let detail = if found.is_cut() {
                format!(
                    "{cause}, and the file is shorter than its segment, which only a seal makes it"
                )
            } else {
                format!("{cause}; most of its fields stand there")
            };
            self.damage(Fault::Trailer, place, Vec::new(), detail);
        } else if !is_newest {
            let detail = "not sealed, though a later segment was begun: a crash came between, or \
                          its last unit is damaged; nothing in it is lost by that";
            self.find(
                Severity::Notice,
                Fault::Unsealed,
                place,
                Vec::new(),
                detail.to_owned(),
            );
        }
        Ok(())
    }

    /// Without a checkpoint to start from: each segment's blocks for themselves.
    pub fn each_alone(&mut self) -> Result<(), CheckError> {
        let segments = self.survey.segments.keys();
        let segments = segments.chain(self.survey.cold.keys()).copied();
        for segment in segments.collect::<Vec<_>>() {
            let scan = self.scan(segment)?;
            for block in &scan.blocks {
                if let Body::Broken(fault) = &block.body {
                    let place = self.place_of(segment, block);
                    self.damage(Fault::EntryTable, place, Vec::new(), fault.to_string());
                }
                self.keep(segment, block, false);
            }
        }
        Ok(())
    }

    pub fn finish(mut self, partitions: Partitions, end: Sequence) -> LogCheck {
        partitions.keep_live(&mut self.findings);
        let copied = merged(std::mem::take(&mut self.copied));
        let is_footer = |finding: &&mut Finding| finding.fault == Fault::Footer;
        for finding in self.if_live.iter_mut().filter(is_footer) {
            let offsets = std::mem::take(&mut finding.offsets).into_iter();
            finding.offsets = offsets.flat_map(|range| missing(range, &copied)).collect();
        }
        self.if_live.retain(|finding| !finding.offsets.is_empty());
        partitions.keep_live(&mut self.if_live);
        let live = self.if_live.into_iter();
        let live = live.filter(|finding| finding.severity == Severity::Damage);
        self.findings.extend(live);
        self.findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.severity, f.place.segment, f.place.position);
            key(a).cmp(&key(b))
        });
        let mut segments = Vec::new();
        let files = self.survey.segments.iter().chain(&self.survey.cold);
        for (segment, found) in files {
            let counted = self.counted.remove(segment);
            let role = match (&counted, &found.trailer) {
                (Some(_), Ok(_)) => Role::Sealed,
                (Some(_), Err(_)) => Role::Open,
                (None, _) if found.first_block.is_none() => Role::Prepared,
                (None, _) => Role::Free,
            };
            segments.push(SegmentCheck {
                file: found.name.clone(),
                file_bytes: found.file_bytes,
                segment: Some(*segment),
                role,
                blocks: counted.as_ref().map_or(0, |counted| counted.blocks),
                block_bytes: counted.as_ref().map_or(0, |counted| counted.block_bytes),
                sequences: counted.and_then(|counted| counted.sequences),
            });
        }
        for (file, file_bytes, is_strange) in &self.survey.others {
            segments.push(SegmentCheck {
                file: file.clone(),
                file_bytes: *file_bytes,
                segment: None,
                role: if *is_strange {
                    Role::Unknown
                } else {
                    Role::Unused
                },
                blocks: 0,
                block_bytes: 0,
                sequences: None,
            });
        }
        LogCheck {
            log: self.log,
            findings: self.findings,
            tail: self.tail,
            checkpoint: self.checkpoint,
            end,
            partitions: partitions.all(),
            blocks: segments.iter().map(|segment| segment.blocks).sum(),
            block_bytes: segments.iter().map(|segment| segment.block_bytes).sum(),
            batches: self.batches,
            segments,
        }
    }
}
