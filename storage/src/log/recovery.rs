//! Opening a log: find the newest checkpoint, replay what follows it, find the end, flush it,
//! and open a new segment whose first block names that end.
//!
//! Invariant: nothing is served before what was kept is written again and flushed and the new segment's first
//! block is durable.

use ringlog_types::{LogId, Sequence};

use super::adopt::Cursor;
use super::config::LogConfig;
use super::replay::Tail;
use super::report::{Damage, OpenError, RecoveryReport};
use super::survey::Survey;
use super::{Log, Machine};
use crate::format::manifest::Manifest;
use crate::format::segment_header::CheckpointPointer;
use crate::io::Io;

impl<I: Io> Log<I> {
    /// Opens the log in the seam's directory, replaying into `machine`. Blocks until the log
    /// can serve.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        io: I,
        id: LogId,
        config: LogConfig,
        machine: &mut dyn Machine,
    ) -> Result<(Log<I>, RecoveryReport), OpenError> {
        let started = io.monotonic();
        let unreadable = |cause| OpenError::Io {
            log: id,
            what: "reading segments (what cannot be read is not taken for lost)".to_owned(),
            cause,
        };
        let mut log = Log::new(io, id, config, 1);
        let mut survey = log.find_segments()?;
        let damaged_headers = [&survey.damaged_headers[..], &survey.damaged_foreign].concat();
        log.set_cold_files(std::mem::take(&mut survey.cold));
        let mut report = RecoveryReport {
            segments: survey.segments.len() + survey.foreign.len(),
            damaged_headers,
            ..RecoveryReport::default()
        };
        let mut cursor = Cursor {
            segment: 0,
            position: 0,
            expected: Sequence(1),
            previous: 0,
        };
        let (checkpoint, unread) = log.newest_checkpoint(&survey)?;
        if checkpoint.is_none()
            && let Some((_, foreign)) = survey.foreign.first_key_value()
        {
            let file = foreign.name.clone();
            return Err(OpenError::Unnamed { log: id, file });
        }
        if let Some((pointer, manifest, state)) = checkpoint {
            survey.number_foreign(&manifest);
            let refused = |cause| OpenError::Checkpoint {
                log: id,
                sequence: pointer.sequence,
                segment: pointer.segment,
                position: pointer.position,
                cause,
            };
            machine.restore(&state).map_err(refused)?;
            report.from_checkpoint = true;
            log.adopt_runs(&manifest, pointer.sequence)
                .map_err(unreadable)?;
            cursor = log
                .adopt_manifest(&survey.segments, &manifest, &mut report)
                .map_err(unreadable)?;
            log.checkpoint = Some(pointer);
            log.segments.named_checkpoint = Some(pointer.sequence);
            log.checkpoint_anchor_segment = manifest.anchor.segment;
            log.checkpoint_anchor = manifest.anchor.sequence;
        }
        log.note_stray_runs().map_err(unreadable)?;
        let start = cursor.expected;
        let mut tail = Tail::default();
        log.replay(&survey, cursor, machine, &mut report, &mut tail)
            .map_err(unreadable)?;
        if let Some(cause) = log.failure.take() {
            return Err(unreadable(std::io::Error::other(cause)));
        }
        log.drop_open_group(machine);
        let unnamed = log.settle_cold_files(&mut report);
        if let Some(file) = survey.damaged_headers.get(report.segments_missing) {
            // Nothing shows a segment to be missing, so it may be the end of the log, with
            // offsets that would be given out again.
            let (file, what) = (file.clone(), "has a damaged header");
            return Err(OpenError::Unreadable {
                log: id,
                file,
                what,
            });
        }
        let mut own = log.segments.live.iter();
        let last = own.rfind(|(_, segment)| segment.origin.is_none() && !segment.is_cold);
        let last = last.map(|(id, segment)| (*id, segment.position));
        if let Some((last, position)) = last
            && let Some(last) = survey.segments.get(&last)
            && last.is_cut_off
            && !log.ends_as_sealed(last, position).map_err(unreadable)?
        {
            let (file, what) = (last.name.clone(), "is shorter than its header says");
            return Err(OpenError::Unreadable {
                log: id,
                file,
                what,
            });
        }
        if let Some((sequence, error)) = unread {
            // State that only the unreadable checkpoint covered may be in blocks that it let go.
            let lost = |damage: &Damage| damage.offsets.is_empty() && damage.first >= start;
            let mut lost = report.damage.iter().filter(|damage| lost(damage));
            if log.lost_blocks.iter().any(|damage| damage.first < sequence)
                || lost.any(|damage| damage.first < sequence)
            {
                return Err(error);
            }
        }
        log.name_damage(&mut report);
        let foreign = std::mem::take(&mut survey.foreign);
        log.sort_out_files(survey.segments, foreign.into_values());
        log.sort_out_files(unnamed, std::iter::empty());
        log.make_servable(machine, tail)?;
        log.lay_ghosts(machine, &mut report)
            .map_err(|cause| OpenError::NotWritable { log: id, cause })?;
        report.end = log.durable;
        report.epoch = log.epoch;
        report.duration = log.submitter.io.monotonic().saturating_sub(started);
        Ok((log, report))
    }

    /// The newest checkpoint that can be read; with it the sequence of the newest one and its
    /// fault, if that is another.
    #[expect(
        clippy::type_complexity,
        reason = "what is found and what is not, for the one caller"
    )]
    fn newest_checkpoint(
        &mut self,
        survey: &Survey,
    ) -> Result<
        (
            Option<(CheckpointPointer, Manifest, Vec<u8>)>,
            Option<(Sequence, OpenError)>,
        ),
        OpenError,
    > {
        let mut unread = None;
        for pointer in &survey.checkpoints {
            match self.load_checkpoint(&survey.segments, *pointer) {
                Ok((manifest, state)) => return Ok((Some((*pointer, manifest, state)), unread)),
                Err(error @ OpenError::Checkpoint { .. }) => {
                    tracing::error!(log = %self.id, %error, "trying an older checkpoint");
                    unread.get_or_insert((pointer.sequence, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((None, unread))
    }
}
