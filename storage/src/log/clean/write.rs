//! Writing the targets of a run, one after the other: header, read back; blocks and footer;
//! flush; trailer.
//!
//! Invariant: when the last trailer is durable, so is everything before it, and the entry that
//! names the targets may be appended.

use super::state::State;
use super::targets::{Step, Targets, Writing, Written};
use crate::format::replaced::Target;
use crate::format::segment_header::SegmentHeader;
use crate::format::trailer::Trailer;
use crate::io::{Completion, Io, Op};
use crate::log::commit::whole;
use crate::log::work::Work;
use crate::log::{Log, SeededBug};

/// Bytes of one write: a longer one holds the core for the time of its copy and submission, and
/// makes the next flush of a producer's block wait for more.
const WRITE_BYTES: usize = 256 << 10;
const READ_BACK_ATTEMPTS: u32 = 5;

impl<I: Io> Log<I> {
    fn targets(&mut self) -> Option<&mut Targets> {
        match &mut self.cleaner.run.as_mut()?.state {
            State::Write(targets) => Some(targets),
            _ => None,
        }
    }

    pub(super) fn write_targets(&mut self) {
        let Some(targets) = self.targets() else {
            return;
        };
        if targets.writing.is_none() && targets.waiting.is_empty() {
            let written = std::mem::take(&mut targets.written);
            if let Some(run) = &mut self.cleaner.run {
                run.state = State::Switch(written);
            }
            return;
        }
        if targets.writing.is_none() && !self.open_target() {
            return; // Until a file is free.
        }
        if !self.may_clean() {
            return;
        }
        let Some((op, bytes)) = self.next_write() else {
            return; // No memory now.
        };
        if let Some(writing) = self.targets().and_then(|t| t.writing.as_mut()) {
            writing.expected = bytes;
        }
        self.cleaner.budget.spend(bytes);
        self.submitter.submit(op, Work::Clean);
        self.set_waiting();
    }

    /// Takes a free file for the next target. Producers come first: one file is ready for them,
    /// and where no more can be made, another stays.
    fn open_target(&mut self) -> bool {
        let spare = usize::from(self.segments.is_stuck());
        if !self.segments.has_next() || self.segments.free.len() <= spare {
            return false;
        }
        let Some(file) = self.segments.free.pop_front() else {
            return false;
        };
        let (log, epoch, checkpoint) = (self.id, self.epoch, self.checkpoint);
        let (segment_bytes, unit) = (self.config.segment_bytes, self.unit);
        let created_ms = self.submitter.io.wall_ms();
        let Some(targets) = self.targets() else {
            return false;
        };
        let Some(laid) = targets.waiting.pop_front() else {
            return false;
        };
        let header = SegmentHeader {
            log,
            segment: laid.blank.segment,
            nonce: laid.blank.nonce,
            segment_bytes,
            unit_bytes: u32::try_from(unit).expect("a unit is a few KiB"),
            epoch,
            created_ms,
            checkpoint,
            is_cold: true,
        };
        targets.writing = Some(Writing {
            key: header.key(),
            laid,
            file,
            header,
            step: Step::Header,
            expected: 0,
        });
        true
    }

    /// The next operation, and how many bytes it moves.
    fn next_write(&mut self) -> Option<(Op, usize)> {
        let unit = self.unit;
        let (covers, checkpoint) = (self.cleaner.run.as_ref()?.covers, self.checkpoint);
        let writing = self.targets()?.writing.as_ref()?;
        let (file, step) = (writing.file.file, writing.step);
        let data_end = writing.laid.data_end;
        let (offset, bytes, durable) = match step {
            Step::Header => (0, unit, true),
            Step::Check(_) => {
                let buf = self.alloc(unit)?;
                let offset = 0;
                return Some((Op::Read { file, offset, buf }, unit));
            }
            Step::Blocks { at, within } => {
                let block = writing.laid.blocks.front()?;
                (at + within, WRITE_BYTES.min(block.len() - within), false)
            }
            Step::Footer => {
                let bytes = writing.laid.footer.len().next_multiple_of(unit).max(unit);
                (data_end, bytes, false)
            }
            Step::Flush => return Some((Op::Flush { file }, 0)),
            Step::Trailer => {
                let last = writing.header.segment_bytes - unit as u64;
                (usize::try_from(last).ok()?, unit, true)
            }
        };
        let mut buf = self.alloc(bytes)?;
        let writing = self.targets()?.writing.as_ref()?;
        let content = match step {
            Step::Header => {
                buf.fill(0);
                writing.header.encode(&mut buf);
                0..bytes
            }
            Step::Blocks { within, .. } => {
                let block = writing.laid.blocks.front()?;
                buf[..bytes].copy_from_slice(&block[within..within + bytes]);
                0..bytes
            }
            Step::Footer => {
                let length = writing.laid.footer.len();
                buf[..length].copy_from_slice(&writing.laid.footer);
                buf[length..bytes].fill(0);
                0..bytes
            }
            Step::Check(_) | Step::Flush | Step::Trailer => {
                buf.fill(0);
                let trailer = Trailer {
                    segment: writing.laid.blank.segment,
                    footer_position: data_end as u64,
                    footer_bytes: u32::try_from(writing.laid.footer.len()).ok()?,
                    footer_checksum: writing.laid.footer_checksum,
                    data_end: data_end as u64,
                    first_sequence: covers.0,
                    last_sequence: covers.1,
                    last_checksum: writing.laid.last_checksum,
                    checkpoint,
                };
                trailer.encode(&writing.key, &mut buf);
                0..bytes
            }
        };
        let op = Op::Write {
            file,
            offset: offset as u64,
            bufs: vec![buf.freeze().slice(content)],
            durable,
        };
        Some((op, bytes))
    }

    pub(super) fn target_written(&mut self, completion: Completion) {
        let skips_flush = self.has_bug(SeededBug::SwitchUnflushed);
        let unit = self.unit;
        let Some(writing) = self.targets().and_then(|t| t.writing.as_mut()) else {
            return;
        };
        let (step, expected) = (writing.step, writing.expected);
        if let Step::Check(failed) = step
            && completion.result.is_err()
            && failed + 1 < READ_BACK_ATTEMPTS
        {
            writing.step = Step::Check(failed + 1);
            return;
        }
        if let Err(cause) = whole(completion.result, expected) {
            self.give_up(&format!("a target, {step:?}: {cause}"));
            return;
        }
        if matches!(step, Step::Check(_)) {
            let read = SegmentHeader::decode(completion.buf.as_deref().unwrap_or_default());
            if read.as_ref() != Ok(&writing.header) {
                self.give_up("a target's header was written and is not there");
                return;
            }
        }
        let next = match step {
            Step::Header => Some(Step::Check(0)),
            Step::Footer if skips_flush => Some(Step::Trailer),
            Step::Check(_) => Some(writing.blocks_from(unit)),
            Step::Blocks { at, within } => Some(writing.blocks_behind(at, within + expected)),
            Step::Footer => Some(Step::Flush),
            Step::Flush => Some(Step::Trailer),
            Step::Trailer => None,
        };
        if !matches!(step, Step::Check(_)) {
            self.stats.clean_written_bytes += expected as u64;
        }
        match next {
            Some(next) => {
                if let Some(writing) = self.targets().and_then(|t| t.writing.as_mut()) {
                    writing.step = next;
                    if step == Step::Header {
                        let named = writing.header.checkpoint.map(|newest| newest.sequence);
                        self.segments.named_checkpoint = named;
                    }
                }
            }
            None => self.target_done(),
        }
    }

    /// A target is durable, to its trailer.
    fn target_done(&mut self) {
        let Some(covers) = self.cleaner.run.as_ref().map(|run| run.covers) else {
            return;
        };
        let Some(targets) = self.targets() else {
            return;
        };
        let Some(writing) = targets.writing.take() else {
            return;
        };
        let Writing {
            laid, file, key, ..
        } = writing;
        let target = Target {
            segment: laid.blank.segment,
            data_end: laid.data_end as u64,
            first_sequence: covers.0,
            last_sequence: covers.1,
            footer_bytes: u32::try_from(laid.footer.len()).expect("a footer is below its segment"),
            footer_checksum: laid.footer_checksum,
            ranges: laid.ranges,
        };
        targets.written.push(Written {
            target,
            file,
            key,
            last_checksum: laid.last_checksum,
        });
    }
}
