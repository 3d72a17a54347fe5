//! Cold segments: those that the checkpoint names and those that an entry behind it puts in the
//! place of others. Their blocks are no part of the chain; each segment is checked for itself,
//! against what is said of it.

use ringlog_types::Sequence;

use super::adopted;
use super::error::CheckError;
use super::finding::{Fault, Place, Severity};
use super::progress::Check;
use super::survey::Found;
use crate::format::cold;
use crate::format::manifest::{Counts, Manifest, SegmentRow};
use crate::format::replaced::Replaced;

/// What an entry that replaces segments changes: the targets are the log's, and of the sources
/// nothing is missed any more.
pub(super) fn replace(check: &mut Check<'_>, replaced: &Replaced) -> Result<(), CheckError> {
    let survey = check.survey;
    let is_there = |source: &u64| survey.found(*source).is_some();
    let sources_stand = replaced.sources.iter().all(is_there);
    let gone = |segment: &u64| survey.found(*segment).is_none();
    let mut missing = replaced.targets.iter().map(|target| target.segment);
    if let Some(segment) = missing.find(|segment| gone(segment))
        && sources_stand
    {
        let place = Place {
            segment: Some(segment),
            ..Place::default()
        };
        let detail = "no file holds this cold segment; what it was made of is there and is used";
        let (notice, fault) = (Severity::Notice, Fault::MissingSegment);
        check.find(notice, fault, place, Vec::new(), detail.to_owned());
        return Ok(());
    }
    for source in &replaced.sources {
        check.forget_missing(*source);
    }
    for target in &replaced.targets {
        let row = SegmentRow {
            origin: None,
            segment: target.segment,
            data_end: target.data_end,
            first_sequence: target.first_sequence,
            last_sequence: target.last_sequence,
            run: 0,
            live: Counts::default(),
            ranges: target.ranges.clone(),
            moved: Vec::new(),
        };
        check_segment(check, &row)?;
    }
    Ok(())
}

/// The cold segments that a checkpoint names, as far as files hold them.
pub(super) fn check_segments(check: &mut Check<'_>, manifest: &Manifest) -> Result<(), CheckError> {
    let survey = check.survey;
    let is_cold = |row: &&SegmentRow| survey.found(row.segment).is_some_and(Found::is_cold);
    let mut named = manifest.segments.iter().filter(is_cold);
    named.try_for_each(|row| check_segment(check, row))
}

/// Checks a cold segment that is the log's.
fn check_segment(check: &mut Check<'_>, row: &SegmentRow) -> Result<(), CheckError> {
    let Some(found) = check.survey.found(row.segment) else {
        let ranges = row.ranges.iter().map(adopted::offsets_of).collect();
        let place = Place {
            segment: Some(row.segment),
            ..Place::default()
        };
        let detail = "the log names this cold segment and no file holds it";
        check.missing_where_live(Fault::MissingSegment, place, ranges, detail.to_owned());
        return Ok(());
    };
    check.add_copied(row.ranges.iter().map(adopted::offsets_of));
    let unit = found.unit as u64;
    let scan = check.scan(row.segment)?;
    let origin = found.origin;
    let number = origin.map_or(row.segment, |origin| origin.segment);
    let first = cold::sequence(number, 0);
    let within = scan.blocks.iter().filter(|b| b.position < row.data_end);
    let last = within.map(|block| block.header.sequence).max();
    let own = SegmentRow {
        first_sequence: first,
        // Of blocks behind the last that stands the number is not known.
        last_sequence: last.unwrap_or(Sequence(first.0 - 1)),
        ..row.clone()
    };
    adopted::check_segment(check, &own, &scan, unit)?;
    check.check_seal(row.segment, false)
}
