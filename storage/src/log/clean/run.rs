//! One run of the cleaner: reads its sources within the budget, lets the helper work on their
//! bytes, has the targets written, and appends the entry that switches to them.
//!
//! A run does one thing at a time, so one operation of the cleaner is in flight at most. Whatever
//! goes wrong ends the run: nothing has changed by then, and what was written is a free file.

use std::rc::Rc;
use std::time::Duration;

use ringlog_types::{Offset, PartitionId, Sequence};

use super::budget::Others;
use super::held::{Step, Walk};
use super::lay::{Blank, Shape};
use super::state::{Run, State};
use super::targets::{Targets, Written};
use super::task::{CleanFault, CleanOutcome, CleanTask, Done, Gathered, Source};
use crate::format::replaced::Replaced;
use crate::io::{Completion, Io, Op};
use crate::log::urgency::Urgency;
use crate::log::work::Work;
use crate::log::{AppendError, EntryKind, EntryMeta, Log, SeededBug};

/// Bytes of one read: what it brings is copied in one step, and a producer's block that comes
/// meanwhile waits for it.
const READ_BYTES: u64 = 256 << 10;

/// Nothing was written by anybody else for this long: there is time for the cleaner.
const CALM: Duration = Duration::from_millis(20);

/// After a failure of the device, nothing is cleaned for this long.
const REST: Duration = Duration::from_secs(60);

impl<I: Io> Log<I> {
    /// Work for the helper, if there is any: to be run wherever there is time, and its outcome
    /// handed to [`Log::finish_clean_task`]. It is not lost by being dropped, but the cleaner
    /// stands still until a restart.
    pub fn take_clean_task(&mut self) -> Option<CleanTask> {
        let run = self.cleaner.run.as_mut()?;
        match std::mem::replace(&mut run.state, State::Over) {
            State::Task(source, task) => {
                run.state = State::Helping(source);
                Some(task)
            }
            other => {
                run.state = other;
                None
            }
        }
    }

    /// Takes what came of a task.
    pub fn finish_clean_task(&mut self, outcome: CleanOutcome) {
        let Some(run) = self.cleaner.run.as_mut() else {
            return;
        };
        let State::Helping(source) = run.state else {
            return;
        };
        match outcome.outcome {
            Ok(Done::Room(gathered, memory)) => {
                run.state = State::Read(source, gathered, memory);
            }
            Ok(Done::Gathered(gathered, memory)) if source + 1 < run.sources.len() => {
                run.state = State::Read(source + 1, gathered, memory);
            }
            Ok(Done::Gathered(gathered, memory)) => self.lay_out(gathered, memory),
            Ok(Done::Noted(rewriter, full)) => self.noted(rewriter, full),
            Ok(Done::Rewritten(rewriting)) => self.rewritten(rewriting),
            Ok(Done::Laid(laid)) => run.state = State::Write(Box::new(Targets::new(laid))),
            Err(fault) => self.leave_alone(source, &fault),
        }
    }

    /// Has the helper lay out what is to be written, and let go of memory.
    pub(super) fn lay_out(&mut self, gathered: Gathered, unused: Vec<u8>) {
        let blanks = self.blanks();
        let shape = Shape {
            segment_bytes: self.config.segment_bytes,
            unit: self.unit,
            epoch: self.epoch,
            wall_ms: self.submitter.io.wall_ms(),
        };
        if let Some(run) = &mut self.cleaner.run {
            let task = CleanTask::lay(gathered, shape, blanks, unused);
            run.state = State::Task(run.sources.len(), task);
        }
    }

    /// Numbers and nonces for the targets of the run: as many as could be needed.
    fn blanks(&mut self) -> Vec<Blank> {
        let sources = self.cleaner.run.as_ref().map_or(0, |run| run.sources.len());
        let blank = |_| {
            let segment = self.segments.next_segment;
            self.segments.next_segment += 1;
            Blank {
                segment,
                nonce: self.submitter.io.entropy(),
            }
        };
        (0..=sources).map(blank).collect()
    }

    /// A source cannot be copied in whole: it stays, with what is damaged in it for readers to
    /// find and to be told of.
    fn leave_alone(&mut self, source: usize, fault: &CleanFault) {
        let segment = self
            .cleaner
            .run
            .as_ref()
            .and_then(|run| run.sources.get(source).copied());
        if let Some(segment) = segment {
            tracing::error!(
                log = %self.id, segment, %fault,
                "a segment is damaged, so it is not cleaned: retention will free it"
            );
            self.cleaner.unclean.insert(segment);
        } else {
            tracing::warn!(log = %self.id, %fault, "a run of the cleaner is given up");
            self.cleaner.pass = None;
        }
        self.end_run();
    }

    /// Whether a run reads or replaces a segment.
    pub(in crate::log) fn is_being_cleaned(&self, id: u64) -> bool {
        self.cleaner.run.as_ref().is_some_and(|run| {
            let is_target = matches!(&run.state, State::Moving(moving) if moving.has_target(id));
            is_target || run.sources.contains(&id)
        })
    }

    pub(super) fn begin_run(&mut self, mut run: Run) {
        let mut covers: Option<(Sequence, Sequence)> = None;
        for source in &run.sources {
            if let Some(segment) = self.segments.live.get_mut(source) {
                // It stays until the run is over, whatever dies in it.
                segment.reads += 1;
                let (first, last) = (segment.first_sequence, segment.last_sequence);
                let both = covers.map_or((first, last), |c| (c.0.min(first), c.1.max(last)));
                covers = Some(both);
            }
        }
        run.covers = covers.unwrap_or_default();
        self.cleaner.run = Some(run);
        self.stats.cleaning = true;
    }

    /// The run is over, whether it came to its switch or not.
    pub(super) fn end_run(&mut self) -> Option<Run> {
        let mut run = self.cleaner.run.take()?;
        for source in &run.sources {
            if let Some(segment) = self.segments.live.get_mut(source) {
                segment.reads -= 1;
            }
        }
        let written = match std::mem::replace(&mut run.state, State::Over) {
            State::Write(targets) => targets.into_files(),
            State::Switch(written) => written.into_iter().map(Written::into_file).collect(),
            other => {
                run.state = other;
                Vec::new()
            }
        };
        // Made anew before they are used again.
        self.segments.short.extend(written);
        self.stats.cleaning = self.cleaner.pass.is_some();
        self.release_dead_segments();
        Some(run)
    }

    /// The device failed the cleaner: nothing is lost, and it is tried again later.
    pub(super) fn give_up(&mut self, cause: &str) {
        tracing::warn!(log = %self.id, cause, "a run of the cleaner is given up; again in a minute");
        self.cleaner.rests_until = self.submitter.io.monotonic() + REST;
        self.stats.clean_failures += 1;
        self.cleaner.pass = None;
        self.end_run();
    }

    /// The next operation of the run, as far as the budget goes. After the producers' own.
    pub(in crate::log) fn clean_step(&mut self) {
        if self.is_closing {
            return;
        }
        let Some(run) = &self.cleaner.run else {
            self.pass_step();
            return;
        };
        if run.waits {
            return;
        }
        match &run.state {
            State::Read(source, _, memory) => {
                let (source, read) = (run.sources[*source], memory.len() as u64);
                let room = memory.capacity() as u64;
                self.read_source(source, read, room);
            }
            State::Write(_) => self.write_targets(),
            State::Switch(_) => self.append_switch(),
            State::Scan => self.pass_step(),
            State::List(..) => self.list_live(),
            State::Moving(_) => self.move_some(),
            State::Task(..) | State::Helping(_) | State::Switching(..) | State::Over => {}
        }
    }

    /// Whether the budget allows an operation now.
    pub(super) fn may_clean(&mut self) -> bool {
        let now = self.submitter.io.monotonic();
        let is_free = self.in_flight.is_empty() && self.ready.is_empty() && self.open.is_none();
        let others = match is_free {
            true if now >= self.last_progress + CALM => Others::Idle,
            true => Others::Between,
            false => Others::Busy,
        };
        self.cleaner.budget.has_some(now, others)
    }

    /// When the run wants to go on though nothing happens.
    pub(in crate::log) fn clean_deadline(&self) -> Option<Duration> {
        let Some(run) = &self.cleaner.run else {
            return self
                .cleaner
                .pass
                .as_ref()
                .map(|_| self.cleaner.budget.wait());
        };
        if matches!(run.state, State::List(..) | State::Moving(_)) {
            return Some(Duration::ZERO);
        }
        let moves = matches!(
            run.state,
            State::Read(..) | State::Write(_) | State::Switch(_) | State::Scan
        );
        (moves && !run.waits).then(|| self.cleaner.budget.wait())
    }

    /// Reads on in a source, of which so many bytes are read, into memory for `room` of them.
    fn read_source(&mut self, source: u64, read: u64, room: u64) {
        let Some(segment) = self.segments.live.get(&source) else {
            self.give_up("a source is gone");
            return;
        };
        let Some(footer) = segment.footer else {
            self.give_up("a source has no footer");
            return;
        };
        let unit = self.unit as u64;
        let end = footer.position + u64::from(footer.bytes).next_multiple_of(unit).max(unit);
        let (from, file) = (unit + read, segment.file);
        if room < end - unit {
            self.ask_for_room(usize::try_from(end - unit).expect("a segment fits memory"));
            return;
        }
        if !self.may_clean() {
            return;
        }
        let length = READ_BYTES.min(end.saturating_sub(from));
        let Some(buf) = self.alloc(usize::try_from(length).expect("a MiB fits memory")) else {
            return;
        };
        self.cleaner.budget.spend(buf.len());
        let offset = from;
        self.submitter
            .submit(Op::Read { file, offset, buf }, Work::Clean);
        self.set_waiting();
    }

    /// Has the helper make memory for a source.
    fn ask_for_room(&mut self, bytes: usize) {
        let Some(run) = &mut self.cleaner.run else {
            return;
        };
        match std::mem::replace(&mut run.state, State::Over) {
            State::Read(source, gathered, _) => {
                run.state = State::Task(source, CleanTask::room(gathered, bytes));
            }
            other => run.state = other,
        }
    }

    pub(super) fn set_waiting(&mut self) {
        if let Some(run) = &mut self.cleaner.run {
            run.waits = true;
        }
    }

    /// The run's operation is back.
    pub(in crate::log) fn cleaned(&mut self, completion: Completion) {
        let Some(run) = &mut self.cleaner.run else {
            return;
        };
        run.waits = false;
        match &run.state {
            State::Read(..) => self.source_read(completion),
            State::Write(_) => self.target_written(completion),
            _ => {}
        }
    }

    fn source_read(&mut self, completion: Completion) {
        let read = match completion.result {
            Ok(read) => read,
            Err(error) => {
                self.give_up(&format!("reading a source: {error}"));
                return;
            }
        };
        self.stats.clean_read_bytes += read as u64;
        let Some(run) = &mut self.cleaner.run else {
            return;
        };
        let State::Read(source, gathered, mut bytes) =
            std::mem::replace(&mut run.state, State::Over)
        else {
            return;
        };
        let number = run.sources[source];
        let buf = completion.buf.as_deref().unwrap_or_default();
        let Some(segment) = self.segments.live.get(&number) else {
            self.give_up("a source is gone");
            return;
        };
        let unit = self.unit as u64;
        let Some(footer) = segment.footer else {
            self.give_up("a source has no footer");
            return;
        };
        let end = footer.position + u64::from(footer.bytes).next_multiple_of(unit).max(unit);
        let (key, data_end) = (segment.key.clone(), segment.position);
        bytes.extend_from_slice(&buf[..read.min(buf.len())]);
        let Some(run) = &mut self.cleaner.run else {
            return;
        };
        // A file that ends early is short of something: the helper finds out of what.
        if read > 0 && unit + (bytes.len() as u64) < end {
            run.state = State::Read(source, gathered, bytes);
            return;
        }
        let source_bytes = Source {
            key,
            unit: self.unit,
            bytes,
            data_end: footer.position.max(data_end),
            footer_bytes: footer.bytes as usize,
            footer_checksum: footer.checksum,
            live: Vec::new(),
        };
        let walk = Walk::new(number, run.rows.get(&number).map(Rc::clone));
        run.state = State::List(source, gathered, Box::new(source_bytes), walk);
    }

    /// Lists some of what lives in a source that is read: each partition with the first offset
    /// and the end. What dies behind the walk is copied, and dropped when its target is taken.
    fn list_live(&mut self) {
        let Some(mut run) = self.cleaner.run.take() else {
            return;
        };
        if let State::List(_, _, source, walk) = &mut run.state {
            for _ in 0..self.config.clean_step_rows.max(1) {
                match self.walk(walk) {
                    Step::Held(held) => source.live.push((held.partition, held.first, held.end)),
                    Step::Passed => {}
                    Step::End => {
                        run.state = match std::mem::replace(&mut run.state, State::Over) {
                            State::List(place, gathered, source, _) => {
                                State::Task(place, CleanTask::gather(gathered, source))
                            }
                            other => other,
                        };
                        break;
                    }
                }
            }
        }
        self.cleaner.run = Some(run);
    }

    /// Whether an entry that replaces segments is on its way, or what it says is under way.
    pub(in crate::log) fn replaces_segments(&self) -> bool {
        let run = self.cleaner.run.as_ref();
        run.is_some_and(|run| matches!(run.state, State::Switching(..) | State::Moving(_)))
    }

    /// All targets are durable: appends the entry that makes them the log's.
    fn append_switch(&mut self) {
        if self.holds_segments() {
            return;
        }
        let Some(run) = &self.cleaner.run else { return };
        let State::Switch(written) = &run.state else {
            return;
        };
        let replaced = Replaced {
            sources: run.sources.clone(),
            moved: run.moved.clone(),
            targets: written.iter().map(|w| w.target.clone()).collect(),
        };
        let meta = EntryMeta {
            partition: PartitionId::NONE,
            kind: EntryKind::Replaced,
            machine: 0,
            base_offset: Offset::ZERO,
            count: 0,
            max_timestamp: -1,
        };
        let payload = replaced.encode();
        match self.add_group(&[(meta, &payload)], Urgency::Durable) {
            Ok(sequence) => {
                let Some(run) = &mut self.cleaner.run else {
                    return;
                };
                if let State::Switch(written) = std::mem::replace(&mut run.state, State::Over) {
                    run.state = State::Switching(sequence, written);
                }
                if self.has_bug(SeededBug::CleanFreesEarly) {
                    self.switch(&replaced, sequence);
                }
            }
            Err(AppendError::Busy) => {}
            Err(error) => self.give_up(&format!("appending the switch: {error}")),
        }
    }
}
