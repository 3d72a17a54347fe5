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
    let survey = survey(source, log)?;
    let mut check = Check::new(source, log, options, &survey);
    let manifest = match survey.newest {
        None => None,
        Some(pointer) => match checkpoint::load(source, &survey, pointer) {
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
    let mut partitions = Partitions::default();
    let mut cursor = Cursor::beginning();
    if let Some((pointer, manifest)) = &manifest {
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
