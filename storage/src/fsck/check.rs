//! The order of a check.

use ringlog_types::{LogId, Sequence};

use super::adopted;
use super::checkpoint::{self, CheckpointFault};
use super::cold;
use super::error::CheckError;
use super::finding::{Fault, LogCheck, Place};
use super::offsets::Partitions;
use super::progress::{Check, CheckOptions};
use super::replayed::{self, Cursor};
use super::runs;
use super::source::Source;
use super::survey::survey;

/// Checks one log.
///
/// # Errors
/// When it cannot be checked: see [`CheckError`]. Damage is no error, it is in the result.
pub fn check(
    source: &dyn Source,
    log: LogId,
    options: CheckOptions,
) -> Result<LogCheck, CheckError> {
    let mut survey = survey(source, log)?;
    let loaded = survey.newest.map(|pointer| {
        let loaded = checkpoint::load(source, &survey, pointer);
        (pointer, loaded)
    });
    let manifest = loaded.as_ref().and_then(|(_, loaded)| loaded.as_ref().ok());
    let unnamed = survey.foreign.first_key_value();
    let unnamed = unnamed.filter(|_| manifest.is_none());
    let unnamed = unnamed.map(|(_, found)| found.name.clone());
    survey.number_foreign(manifest);
    let mut check = Check::new(source, log, options, &survey);
    let mut manifest = match loaded {
        None => None,
        Some((pointer, loaded)) => match loaded {
            Ok(manifest) => Some((pointer, manifest)),
            Err(CheckpointFault::Io(cause)) => return Err(check.unreadable("a checkpoint", cause)),
            Err(CheckpointFault::Damaged {
                segment,
                position,
                sequence,
                detail,
            }) => {
                let file = survey
                    .segments
                    .get(&segment)
                    .map(|found| found.name.clone());
                let place = Place {
                    file,
                    segment: Some(segment),
                    position: Some(position),
                    blocks: Some((sequence, sequence.next())),
                };
                let detail = format!(
                    "the checkpoint that starts at block {} cannot be read: {detail}; a start \
                     refuses it, and segments are checked one by one, without what it says of them",
                    pointer.sequence
                );
                check.damage(Fault::Checkpoint, place, Vec::new(), detail);
                check.each_alone()?;
                return Ok(check.finish(Partitions::default(), Sequence::NONE));
            }
        },
    };
    if let (None, Some(file)) = (&manifest, unnamed) {
        let place = Place {
            file: Some(file),
            ..Place::default()
        };
        let detail = "it was written by another log, and no checkpoint says what of it belongs to \
                      this one: a start refuses the log";
        check.damage(Fault::Checkpoint, place, Vec::new(), detail.to_owned());
    }
    let mut partitions = Partitions::default();
    let mut cursor = Cursor::beginning();
    if let Some((pointer, manifest)) = &mut manifest {
        runs::check_runs(&mut check, log, manifest)?;
        check.checkpoint = Some(pointer.sequence);
        partitions = Partitions::of(manifest);
        adopted::check_segments(&mut check, manifest)?;
        cold::check_segments(&mut check, manifest)?;
        cursor = Cursor::behind(&manifest.anchor);
    }
    let end = replayed::walk(&mut check, cursor, &mut partitions)?;
    check.check_seals()?;
    Ok(check.finish(partitions, end))
}
