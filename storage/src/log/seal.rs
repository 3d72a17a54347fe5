//! Bringing a full segment to rest: its footer, then its trailer; and closing the log.
//!
//! ```text
//! full ─► last block applied ─► footer durable ─► trailer durable ─► sealed
//! ```
//! A crash in between leaves a segment without a trailer, whose blocks are then read instead.

use std::time::Duration;

use ringlog_types::Sequence;

use super::commit::whole;
use super::segments::{FooterPlace, Stage};
use super::work::Work;
use super::{Log, Machine};
use crate::format::trailer::Trailer;
use crate::io::{Io, Op};

impl<I: Io> Log<I> {
    pub(super) fn seal_full_segments(&mut self) {
        // Blocks of a group that is not committed yet are durable and in no index.
        let group_from = self
            .open_group
            .first_block()
            .map_or(u64::MAX, |block| block.segment);
        let from = self.segments.unsealed_from;
        let live = self.segments.live.range(from..);
        let open = live.filter(|(_, segment)| segment.stage == Stage::Open);
        let full = open.clone().filter(|(id, segment)| {
            Some(**id) != self.segments.active
                && segment.last_sequence <= self.durable
                && **id < group_from
        });
        let full: Vec<u64> = full.map(|(id, _)| *id).collect();
        let first = open.map(|(id, _)| *id).next();
        // Those made later have larger numbers.
        self.segments.unsealed_from = first.unwrap_or(from);
        for id in full {
            self.seal(id);
        }
        self.stats.segments_live = self.segments.live.len();
        self.stats.segments_free = self.segments.free.len();
    }

    /// Writes a segment's footer; its trailer follows when the footer is durable.
    pub(super) fn seal(&mut self, id: u64) {
        let Some(segment) = self.segments.live.get(&id) else {
            return;
        };
        let amplification = segment.index.amplification(self.unit);
        let rows = segment.index.footer();
        let bytes = rows.len().next_multiple_of(self.unit).max(self.unit);
        let (file, position) = (segment.file, segment.position);
        let checksum = segment.key.checksum(&rows);
        let Some(mut buf) = self.alloc(bytes) else {
            return;
        };
        buf[..rows.len()].copy_from_slice(&rows);
        buf[rows.len()..bytes].fill(0);
        let length = u32::try_from(rows.len()).expect("a footer is smaller than its segment");
        let segment = self.segments.live.get_mut(&id).expect("it was just seen");
        segment.stage = Stage::Sealing;
        segment.amplification = Some(amplification);
        segment.footer = Some(FooterPlace {
            position,
            bytes: length,
            checksum,
        });
        let bufs = vec![buf.freeze().slice(0..bytes)];
        let write = Op::Write {
            file,
            offset: position,
            bufs,
            durable: true,
        };
        self.submitter.submit(write, Work::Footer(id));
    }

    pub(super) fn footer_written(&mut self, id: u64, result: std::io::Result<usize>) {
        let Some(segment) = self.segments.live.get_mut(&id) else {
            return;
        };
        let footer = segment
            .footer
            .expect("a segment that is being sealed has a footer");
        let bytes = (footer.bytes as usize)
            .next_multiple_of(self.unit)
            .max(self.unit);
        if let Err(cause) = whole(result, bytes) {
            self.fail(format!("writing the footer of segment {id}: {cause}"));
            return;
        }
        let trailer = Trailer {
            segment: id,
            footer_position: footer.position,
            footer_bytes: footer.bytes,
            footer_checksum: footer.checksum,
            data_end: segment.position,
            first_sequence: segment.first_sequence,
            last_sequence: segment.last_sequence,
            last_checksum: segment.last_checksum,
            checkpoint: self.checkpoint,
        };
        let end = footer.position + bytes as u64 + self.unit as u64;
        let unused = segment.file_bytes.saturating_sub(end);
        if segment.file_bytes < end || unused > self.config.segment_bytes / 8 {
            // Mostly unused, because the log was closed: what is not used goes back. Or the file
            // was cut by somebody else: a trailer in its last unit would stand on a block.
            segment.file_bytes = end;
        }
        let (file, key) = (segment.file, segment.key.clone());
        let offset = segment.file_bytes - self.unit as u64;
        let Some(mut unit) = self.alloc(self.unit) else {
            // Without a trailer the segment's blocks are read instead: nothing is lost.
            if let Some(segment) = self.segments.live.get_mut(&id) {
                segment.stage = Stage::Open;
                self.segments.unsealed_from = self.segments.unsealed_from.min(id);
            }
            return;
        };
        unit.fill(0);
        trailer.encode(&key, &mut unit);
        let bufs = vec![unit.freeze().slice(0..self.unit)];
        self.submitter.submit(
            Op::Write {
                file,
                offset,
                bufs,
                durable: true,
            },
            Work::Trailer(id),
        );
    }

    pub(super) fn trailer_written(&mut self, id: u64, result: std::io::Result<usize>) {
        if let Err(cause) = whole(result, self.unit) {
            self.fail(format!("writing the trailer of segment {id}: {cause}"));
            return;
        }
        let Some(segment) = self.segments.live.get_mut(&id) else {
            return;
        };
        if segment.file_bytes < self.config.segment_bytes {
            // Until it is cut it is not at rest: let go at once, it would be made anew meanwhile,
            // and the late cut would take the new segment's space.
            let truncate = Op::Truncate {
                file: segment.file,
                bytes: segment.file_bytes,
            };
            self.submitter.submit(truncate, Work::Cut(id));
            return;
        }
        self.sealed(id);
    }

    pub(super) fn segment_cut(&mut self, id: u64, result: std::io::Result<usize>) {
        if let Err(error) = result {
            tracing::warn!(log = %self.id, segment = id, %error, "cutting a sealed segment failed");
        }
        self.sealed(id);
    }

    fn sealed(&mut self, id: u64) {
        let Some(segment) = self.segments.live.get_mut(&id) else {
            return;
        };
        segment.stage = Stage::Sealed;
        self.stats.sealed += 1;
        self.runs.look = true;
        self.demote_old_segments();
        self.release_dead_segments();
    }

    /// Keeps the rows of recent segments only. Older footers are read when asked for.
    pub(super) fn demote_old_segments(&mut self) {
        if self.resident_rows <= self.config.index_rows {
            return;
        }
        let sealed = self.segments.live.values_mut();
        for segment in sealed.filter(|s| s.stage == Stage::Sealed && s.index.resident) {
            self.resident_rows -= segment.index.demote();
            if self.resident_rows <= self.config.index_rows {
                break;
            }
        }
    }

    /// Makes everything appended durable, checkpoints, seals. Blocks. For shutdown.
    ///
    /// # Errors
    /// The failure that closed the log.
    pub fn close(mut self, machine: &mut dyn Machine) -> Result<(), String> {
        self.come_to_rest(machine)
    }

    pub(super) fn come_to_rest(&mut self, machine: &mut dyn Machine) -> Result<(), String> {
        self.is_closing = true;
        self.drain(machine)?;
        if self.anchor.sequence > Sequence::NONE {
            self.start_checkpoint(machine);
            self.drain(machine)?;
            self.mark_due = false;
            if let Some(active) = self.segments.active.take() {
                let used = self.segments.live.get(&active);
                if used.is_some_and(|segment| segment.first_sequence > Sequence::NONE) {
                    self.seal(active);
                }
            }
            self.drain(machine)?;
        }
        Ok(())
    }

    fn drain(&mut self, machine: &mut dyn Machine) -> Result<(), String> {
        loop {
            let taking = self.taking.is_some();
            self.close_open();
            self.submit();
            self.poll(machine);
            if let Some(failure) = &self.failure {
                return Err(failure.clone());
            }
            let committing = !self.ready.is_empty() || !self.in_flight.is_empty();
            let sealing = self.submitter.any(|work| {
                matches!(
                    work,
                    Work::Footer(_) | Work::Trailer(_) | Work::Cut(_) | Work::Housekeeping(_)
                )
            });
            if self.takes_checkpoint() || taking != self.taking.is_some() || self.is_applying() {
                continue; // Its next step, or the block that it went into.
            }
            if !committing && !sealing && self.taking.is_none() {
                return Ok(());
            }
            if self.segments.is_stuck() && self.in_flight.is_empty() && !sealing {
                return Err("no space for the blocks that wait to be written".to_owned());
            }
            self.submitter.io.wait(Duration::from_millis(100));
        }
    }
}
