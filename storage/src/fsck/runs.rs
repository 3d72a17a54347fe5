//! The index runs that the newest checkpoint names: every page, the order of their rows, the fences that
//! lead to them, and what they count. Their rows are put in place of what the manifest does not say
//! itself, so that all that follows compares them with the segments' blocks.

use std::collections::{BTreeMap, BTreeSet};

use ringlog_types::{LogId, Offset, PartitionId};

use super::error::CheckError;
use super::finding::{Fault, Place, Severity};
use super::progress::Check;
use super::sealed;
use crate::format::checksum::Key;
use crate::format::manifest::{Manifest, RangeRow, RunInfo, SegmentRow};
use crate::format::run_header::{RunHeader, run_file_name, run_number_of};
use crate::format::run_page::{Page, RunRow};

/// Pages read at once.
const READ_PAGES: u32 = 256;

/// The smallest unit there is: a header is in it whole.
const SMALLEST_UNIT: usize = 4096;

/// A run as it was found.
#[derive(Default)]
struct Seen {
    /// By segment, in order.
    rows: BTreeMap<u64, Vec<RunRow>>,
    is_damaged: bool,
}

/// Checks the runs, and fills the segments' ranges in the manifest from them.
pub(super) fn check_runs(
    check: &mut Check<'_>,
    log: LogId,
    manifest: &mut Manifest,
) -> Result<(), CheckError> {
    note_left_over(check, manifest)?;
    let mut seen = BTreeMap::new();
    for info in &manifest.runs {
        seen.insert(info.number, read_run(check, log, *info)?);
    }
    let counted: BTreeMap<PartitionId, Offset> = manifest
        .dropped
        .iter()
        .map(|row| (row.partition, row.counted))
        .chain(
            manifest
                .partitions
                .iter()
                .map(|row| (row.partition, row.counted)),
        )
        .collect();
    let rows = manifest.partitions.iter();
    let starts: BTreeMap<PartitionId, Offset> =
        rows.map(|row| (row.partition, row.start)).collect();
    for row in manifest.segments.iter_mut().filter(|row| row.run > 0) {
        let run = seen.get(&row.run);
        let rows = match run {
            Some(run) if !run.is_damaged => run.rows.get(&row.segment).cloned(),
            _ => Some(rows_of_footer(check, row)?),
        };
        // What was moved out of the segment counts neither in its run nor in its footer.
        let moved: BTreeSet<PartitionId> = row.moved.iter().copied().collect();
        let rows = rows.unwrap_or_default().into_iter();
        let rows: Vec<RunRow> = rows.filter(|row| !moved.contains(&row.partition)).collect();
        let live = |run_row: &&RunRow| {
            let counted = counted.get(&run_row.partition);
            counted.is_some_and(|counted| run_row.block.end > *counted)
        };
        let found = rows.iter().filter(live).count() as u64;
        if run.is_some_and(|run| !run.is_damaged) && found != row.live.rows {
            let place = Place {
                file: Some(run_file_name(row.run)),
                segment: Some(row.segment),
                ..Place::default()
            };
            let detail = format!(
                "the checkpoint counts {} live rows of the segment in it, it has {found}",
                row.live.rows
            );
            check.damage(Fault::IndexRun, place, Vec::new(), detail);
        }
        row.ranges = ranges(&rows, &starts);
    }
    Ok(())
}

/// Runs that a crash left, or that were replaced: nothing is read from them.
fn note_left_over(check: &mut Check<'_>, manifest: &Manifest) -> Result<(), CheckError> {
    let listed = check.source.list();
    let listed = listed.map_err(|cause| check.unreadable("the directory", cause))?;
    let named: BTreeSet<u64> = manifest.runs.iter().map(|run| run.number).collect();
    for (name, _) in listed {
        if run_number_of(&name).is_some_and(|number| !named.contains(&number)) {
            let place = Place {
                file: Some(name),
                ..Place::default()
            };
            let detail = "the checkpoint in use does not name it: a start removes it";
            let (notice, fault) = (Severity::Notice, Fault::IndexRun);
            check.find(notice, fault, place, Vec::new(), detail.to_owned());
        }
    }
    Ok(())
}

/// What a partition has in a segment: a range for each stretch without a gap.
fn ranges(rows: &[RunRow], starts: &BTreeMap<PartitionId, Offset>) -> Vec<RangeRow> {
    let mut ranges: Vec<RangeRow> = Vec::new();
    for row in rows {
        let block = row.block;
        let start = starts.get(&row.partition);
        if start.is_none_or(|start| block.end <= *start) {
            continue;
        }
        let bytes = u64::from(block.payload_bytes);
        match ranges.last_mut() {
            Some(last) if last.partition == row.partition && last.end == block.first => {
                last.end = block.end;
                last.bytes += bytes;
                last.max_timestamp = last.max_timestamp.max(block.max_timestamp);
            }
            _ => ranges.push(RangeRow {
                partition: row.partition,
                first: block.first,
                end: block.end,
                bytes,
                max_timestamp: block.max_timestamp,
            }),
        }
    }
    ranges
}

fn rows_of_footer(check: &Check<'_>, row: &SegmentRow) -> Result<Vec<RunRow>, CheckError> {
    let Some(found) = check.survey.found(row.segment) else {
        return Ok(Vec::new());
    };
    let rows = sealed::footer_rows(check.source, found);
    let rows = rows.map_err(|cause| check.unreadable(&found.name, cause))?;
    let row = |(partition, block)| RunRow {
        partition,
        segment: row.segment,
        block,
    };
    Ok(rows.unwrap_or_default().into_iter().map(row).collect())
}

fn read_run(check: &mut Check<'_>, log: LogId, info: RunInfo) -> Result<Seen, CheckError> {
    let name = run_file_name(info.number);
    let mut seen = Seen::default();
    let unreadable = |check: &Check<'_>, cause| check.unreadable(&name, cause);
    let head = match check.source.read(&name, 0, SMALLEST_UNIT) {
        Ok(head) => head,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            seen.refuse(check, &name, 0, "it is not there".to_owned());
            return Ok(seen);
        }
        Err(cause) => return Err(unreadable(check, cause)),
    };
    let header = match RunHeader::decode(&head) {
        Ok(header) if (header.log, header.number) == (log, info.number) => header,
        Ok(header) => {
            let detail = format!("it is run {} of log {}", header.number, header.log);
            seen.refuse(check, &name, 0, detail);
            return Ok(seen);
        }
        Err(fault) => {
            seen.refuse(check, &name, 0, fault.to_string());
            return Ok(seen);
        }
    };
    let (key, unit) = (header.key(), header.unit_bytes as usize);
    let mut tree = Tree::default();
    let mut at = 1;
    while at < info.pages {
        let pages = READ_PAGES.min(info.pages - at);
        let read = check
            .source
            .read(&name, u64::from(at) * unit as u64, pages as usize * unit);
        let bytes = read.map_err(|cause| unreadable(check, cause))?;
        for number in at..at + pages {
            let from = ((number - at) as usize * unit).min(bytes.len());
            let to = (from + unit).min(bytes.len());
            if let Err(detail) = seen.take(&key, number, &bytes[from..to], &mut tree) {
                seen.refuse(check, &name, u64::from(number) * unit as u64, detail);
            }
        }
        at += pages;
    }
    let named: u64 = seen.rows.values().map(|rows| rows.len() as u64).sum();
    let open: Vec<u32> = tree.tops.keys().copied().collect();
    if !seen.is_damaged && (named != info.rows || open != [info.root]) {
        let detail = format!(
            "{named} rows under the roots {open:?}, the checkpoint says {} under {}",
            info.rows, info.root
        );
        seen.refuse(check, &name, 0, detail);
    }
    Ok(seen)
}

/// The pages seen so far that no fence has named, each with the key of its first row and the largest
/// timestamp under it.
#[derive(Default)]
struct Tree {
    tops: BTreeMap<u32, (PartitionId, Offset, i64)>,
    last: Option<(PartitionId, Offset)>,
}

impl Seen {
    fn refuse(&mut self, check: &mut Check<'_>, name: &str, position: u64, detail: String) {
        self.is_damaged = true;
        let place = Place {
            file: Some(name.to_owned()),
            position: Some(position),
            ..Place::default()
        };
        let detail = format!("{detail}; it is made anew from the segments' footers");
        check.damage(Fault::IndexRun, place, Vec::new(), detail);
    }

    fn take(
        &mut self,
        key: &Key,
        number: u32,
        bytes: &[u8],
        tree: &mut Tree,
    ) -> Result<(), String> {
        let page = Page::decode(key, number, bytes).map_err(|fault| fault.to_string())?;
        let mut top: Option<(PartitionId, Offset, i64)> = None;
        let mut add = |partition, first, ms: i64| {
            let (partition, first, known) = top.unwrap_or((partition, first, ms));
            top = Some((partition, first, known.max(ms)));
        };
        for row in (0..page.count()).filter_map(|at| page.row(at)) {
            let place = (row.partition, row.block.first);
            if tree.last.is_some_and(|last| last >= place) {
                return Err(format!("page {number} begins before the last one ends"));
            }
            tree.last = Some(place);
            add(row.partition, row.block.first, row.block.max_timestamp);
            self.rows.entry(row.segment).or_default().push(row);
        }
        let mut named = BTreeSet::new();
        for fence in (0..page.count()).filter_map(|at| page.fence(at)) {
            let below = (fence.partition, fence.first, fence.max_timestamp);
            if tree.tops.remove(&fence.page) != Some(below) || !named.insert(fence.page) {
                return Err(format!("a fence in page {number} leads astray"));
            }
            add(fence.partition, fence.first, fence.max_timestamp);
        }
        tree.tops.insert(number, top.unwrap_or_default());
        Ok(())
    }
}
