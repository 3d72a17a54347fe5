//! One generator thread: its connections and partitions, and the loop that keeps them busy.
//!
//! ```text
//!  fill windows ─► write ─► poll (until a socket or a due time) ─► read answers ─► mend ─┐
//!      ▲                                                                               │
//!      └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: a partition's batches go out on one connection to its leader, in order of their
//! numbers; a partition changes its connection only while nothing of it is in flight.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail};
use kafka_protocol::error::ResponseError;
use rustix::event::{PollFd, PollFlags, poll};

use crate::batch::stamp::{RunId, Stamp};
use crate::batch::template::{BatchTemplate, Patch};
use crate::clock::{now_ns, timespec, wall_ms};
use crate::journal::{Journal, acknowledgement_line};
use crate::kafka::cluster::{Cluster, ProducerId, TopicLayout};
use crate::kafka::frame::{Acks, ProduceFrame};
use crate::kafka::produce_response::{Answer, error_message};
use crate::latency::Latencies;
use crate::produce::connection::{Connection, Flow, SharedBytes};
use crate::produce::options::ProduceOptions;
use crate::produce::partition::{Partition, Pending};
use crate::produce::progress::Progress;
use crate::produce::schedule::Window;

/// After sending ends, answers may take this long.
const DRAIN_NS: u64 = 30_000_000_000;
/// A broker may stay away this long.
pub(super) const AWAY_NS: u64 = 30_000_000_000;
/// Between attempts to reach it, and between looks at the stop flag.
pub(super) const TURN_NS: u64 = 100_000_000;

/// What all threads of a run share.
pub struct RunShared<'a> {
    /// What was asked for.
    pub options: &'a ProduceOptions,
    /// What is sent.
    pub template: &'a BatchTemplate,
    /// What is sent around it.
    pub frame: &'a ProduceFrame,
    /// Version of Produce.
    pub version: i16,
    /// The run's stamp.
    pub run: RunId,
    /// For idempotent runs.
    pub producer: Option<ProducerId>,
    /// What is measured.
    pub window: Window,
    /// Somebody wants the run to end now.
    pub stop: &'a AtomicBool,
    /// For those who watch.
    pub progress: &'a Progress,
    /// Where acknowledgements are noted.
    pub journal: Option<&'a Journal>,
    /// Batches handed out so far, for runs of a fixed length.
    pub batches_begun: &'a AtomicU64,
}

/// What one thread brings home.
#[derive(Default)]
pub struct WorkerOutcome {
    /// The partitions it served.
    pub partitions: Vec<Partition>,
    /// Latencies of the window.
    pub latencies: Latencies,
    /// The same, one by one.
    pub latencies_ns: Vec<u64>,
    /// When each of those came, from the beginning of the window.
    pub acknowledged_ns: Vec<u64>,
    /// Batches acknowledged within the window.
    pub window_batches: u64,
    /// When the thread stopped sending.
    pub sending_ended_ns: u64,
    /// See the report.
    pub unknown_batches: u64,
    /// See the report.
    pub retried_batches: u64,
    /// See the report.
    pub disconnects: u64,
    /// See the report.
    pub behind_batches: u64,
    /// See the report.
    pub errors: BTreeMap<String, u64>,
}

/// One thread's state.
pub struct Worker<'a> {
    pub(super) shared: &'a RunShared<'a>,
    pub(super) layout: TopicLayout,
    pub(super) cluster: Option<Cluster>,
    pub(super) connections: Vec<Connection>,
    /// When each connection was lost, and when to try next; `None`: it is there.
    pub(super) away: Vec<Option<Away>>,
    pub(super) partitions: Vec<Partition>,
    pub(super) outcome: WorkerOutcome,
    journal_lines: String,
    answers: Vec<(Answer, Pending, Option<String>)>,
    pub(super) sending: bool,
    pub(super) refresh_at_ns: Option<u64>,
    wall_offset_ns: i64,
}

/// A connection that was lost.
#[derive(Clone, Copy)]
pub(super) struct Away {
    pub(super) since_ns: u64,
    pub(super) retry_at_ns: u64,
    /// Nothing is tried any more: the run ends with the first lost connection.
    pub(super) for_good: bool,
}

impl<'a> Worker<'a> {
    /// A worker with these connections, to which `partitions` are already bound.
    #[must_use]
    pub fn new(
        shared: &'a RunShared<'a>,
        layout: TopicLayout,
        connections: Vec<Connection>,
        partitions: Vec<Partition>,
    ) -> Worker<'a> {
        Worker {
            shared,
            layout,
            cluster: None,
            away: vec![None; connections.len()],
            connections,
            partitions,
            outcome: WorkerOutcome::default(),
            journal_lines: String::new(),
            answers: Vec::new(),
            sending: true,
            refresh_at_ns: None,
            wall_offset_ns: wall_ms() * 1_000_000 - now_ns().cast_signed(),
        }
    }

    /// Sends until the run ends, and waits for the last answers.
    pub fn run(mut self) -> anyhow::Result<WorkerOutcome> {
        let mut drain_until_ns = u64::MAX;
        loop {
            let now = now_ns();
            if self.sending && self.is_over(now) {
                self.end_sending(now);
                drain_until_ns = now + DRAIN_NS;
            }
            for at in 0..self.connections.len() {
                if self.away[at].is_none() {
                    self.fill(at, now);
                    self.write(at, now)?;
                }
            }
            if !self.sending {
                if self.is_drained() {
                    break;
                }
                if now > drain_until_ns {
                    self.give_up_rest();
                    break;
                }
            }
            self.wait(now)?;
            self.flush_journal()?;
            self.mend()?;
        }
        self.flush_journal()?;
        self.outcome.partitions = self.partitions;
        Ok(self.outcome)
    }

    fn is_over(&self, now: u64) -> bool {
        let options = self.shared.options;
        let begun = || self.shared.batches_begun.load(Ordering::Relaxed);
        now >= self.shared.window.until_ns
            || self.shared.stop.load(Ordering::Relaxed)
            || options.max_batches.is_some_and(|most| begun() >= most)
    }

    pub(super) fn end_sending(&mut self, now: u64) {
        self.sending = false;
        self.outcome.sending_ended_ns = now;
        if self.shared.options.max_batches.is_none() {
            let behind = self
                .connections
                .iter()
                .map(|connection| connection.schedule.backlog(now));
            self.outcome.behind_batches = behind.sum();
        }
    }

    fn is_drained(&self) -> bool {
        let unsent = self
            .connections
            .iter()
            .zip(&self.away)
            .any(|(one, away)| away.is_none() && one.has_unsent());
        !unsent && self.partitions.iter().all(Partition::is_settled)
    }

    fn give_up_rest(&mut self) {
        for connection in &mut self.connections {
            for pending in connection.take_pending() {
                self.partitions[pending.partition].given_up();
                self.outcome.unknown_batches += 1;
            }
        }
    }

    /// Puts as many batches into a connection's window as are due and fit.
    fn fill(&mut self, at: usize, now: u64) {
        let options = self.shared.options;
        let answered = options.acks != Acks::None;
        loop {
            let connection = &mut self.connections[at];
            let waiting = if answered {
                connection.in_flight()
            } else {
                connection.unsent_frames()
            };
            if waiting >= options.in_flight {
                return;
            }
            let due = connection.schedule.due(now).filter(|_| self.sending);
            let Some(place) = next_partition(connection, &self.partitions, due.is_some(), now)
            else {
                return;
            };
            let partition = &mut self.partitions[place];
            let pending = match (partition.take_repeat(), due) {
                (Some(repeat), _) => {
                    self.outcome.retried_batches += 1;
                    repeat
                }
                (None, Some(due)) => {
                    if let Some(most) = options.max_batches
                        && self.shared.batches_begun.fetch_add(1, Ordering::Relaxed) >= most
                    {
                        return;
                    }
                    connection.schedule.take();
                    partition.take_new(place, due)
                }
                (None, None) => return,
            };
            let index = partition.index;
            queue(
                self.shared,
                connection,
                index,
                pending,
                answered,
                now,
                self.wall_offset_ns,
            );
            if !answered {
                // Without answers nothing is ever in flight for the partition.
                self.partitions[place].given_up();
                self.outcome.unknown_batches += 1;
                self.count_window(now);
            }
        }
    }

    fn count_window(&mut self, now: u64) {
        let template = self.shared.template;
        self.shared
            .progress
            .add(u64::from(template.records()), template.total_bytes() as u64);
        if self.shared.window.contains(now) {
            self.outcome.window_batches += 1;
        }
    }

    fn write(&mut self, at: usize, now: u64) -> anyhow::Result<()> {
        let connection = &mut self.connections[at];
        if connection.blocked || !connection.has_unsent() {
            return Ok(());
        }
        let shared = SharedBytes {
            tail: self.shared.template.tail(),
            suffix: self.shared.frame.suffix(),
        };
        if connection.write(shared)? == Flow::Closed {
            self.lost(at, now);
        }
        Ok(())
    }

    /// Waits for sockets or for the next thing that is due, and serves the sockets.
    fn wait(&mut self, now: u64) -> anyhow::Result<()> {
        let timeout = timespec(self.next_moment(now).saturating_sub(now).min(TURN_NS));
        let present: Vec<usize> = (0..self.connections.len())
            .filter(|at| self.away[*at].is_none())
            .collect();
        let mut sockets: Vec<PollFd<'_>> = present
            .iter()
            .map(|at| {
                let connection = &self.connections[*at];
                let mut flags = PollFlags::IN;
                flags.set(PollFlags::OUT, connection.blocked);
                PollFd::new(connection.socket(), flags)
            })
            .collect();
        match poll(&mut sockets, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("polling the connections"),
        }
        let ready: Vec<PollFlags> = sockets.iter().map(PollFd::revents).collect();
        for (at, ready) in present.into_iter().zip(ready) {
            if ready.contains(PollFlags::OUT) {
                self.connections[at].blocked = false;
            }
            if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.read(at)?;
            }
        }
        Ok(())
    }

    /// The next moment at which something is due that no socket tells of.
    fn next_moment(&self, now: u64) -> u64 {
        let options = self.shared.options;
        let mut next = if self.sending {
            self.shared.window.until_ns
        } else {
            u64::MAX
        };
        for (connection, away) in self.connections.iter().zip(&self.away) {
            match away {
                Some(away) if !away.for_good => next = next.min(away.retry_at_ns),
                Some(_) => {}
                None => {
                    // A full window opens with an answer, a full socket when it is polled.
                    let room = match options.acks {
                        Acks::None => !connection.blocked,
                        _ => connection.in_flight() < options.in_flight,
                    };
                    if room && self.sending {
                        match (connection.schedule.next_ns(), options.acks) {
                            (Some(due), _) => next = next.min(due),
                            // Everything is written and nothing will answer: go on.
                            (None, Acks::None) => next = now,
                            // Room without a batch to fill it: every partition is stalled.
                            (None, _) => {}
                        }
                    }
                }
            }
        }
        let stalled = self
            .partitions
            .iter()
            .filter_map(Partition::stalled_until_ns);
        let later = stalled
            .chain(self.refresh_at_ns)
            .filter(|moment| *moment > now);
        later.fold(next, u64::min)
    }

    fn read(&mut self, at: usize) -> anyhow::Result<()> {
        let version = self.shared.version;
        let mut answers = std::mem::take(&mut self.answers);
        let flow = self.connections[at].read(version, |answer, pending, frame| {
            let message = match answer.error_code {
                0 => None,
                _ => Some(error_message(version, frame).unwrap_or_default()),
            };
            answers.push((answer, pending, message));
            Ok(())
        });
        let now = now_ns();
        for (answer, pending, message) in answers.drain(..) {
            match ResponseError::try_from_code(answer.error_code) {
                None => self.acknowledged(pending, u64::try_from(answer.base_offset).ok(), now),
                Some(error) => {
                    self.refused(pending, error, &message.unwrap_or_default(), now)?;
                }
            }
        }
        self.answers = answers;
        if flow? == Flow::Closed {
            self.lost(at, now);
        }
        Ok(())
    }

    fn acknowledged(&mut self, pending: Pending, base_offset: Option<u64>, now: u64) {
        let partition = &mut self.partitions[pending.partition];
        partition.acknowledged(&pending, base_offset);
        if self.shared.journal.is_some() {
            let index = partition.index;
            acknowledgement_line(&mut self.journal_lines, index, pending.number, base_offset);
        }
        if self.shared.window.contains(pending.scheduled_ns) {
            let latency = now.saturating_sub(pending.scheduled_ns);
            self.outcome.latencies.record(latency);
            if self.shared.options.keep_latencies {
                self.outcome.latencies_ns.push(latency);
                let since = now.saturating_sub(self.shared.window.from_ns);
                self.outcome.acknowledged_ns.push(since);
            }
        }
        self.count_window(now);
    }

    fn refused(
        &mut self,
        pending: Pending,
        error: ResponseError,
        message: &str,
        now: u64,
    ) -> anyhow::Result<()> {
        *self.outcome.errors.entry(error.to_string()).or_default() += 1;
        let partition = &mut self.partitions[pending.partition];
        let idempotent = self.shared.producer.is_some();
        match error {
            ResponseError::DuplicateSequenceNumber if idempotent => {
                self.acknowledged(pending, None, now);
                return Ok(());
            }
            // The broker has not seen the batch before, which is on its way to be sent again.
            ResponseError::OutOfOrderSequenceNumber if idempotent && partition.is_stalled() => {}
            error if error.is_retriable() => {}
            error => bail!(
                "partition {}, batch {}: the broker refused it for good: {error} {message}",
                partition.index,
                pending.number
            ),
        }
        if idempotent {
            partition.failed(pending, now);
        } else {
            partition.given_up();
            partition.hold(now);
            self.outcome.unknown_batches += 1;
        }
        self.refresh_at_ns.get_or_insert(now);
        Ok(())
    }

    fn flush_journal(&mut self) -> anyhow::Result<()> {
        if let Some(journal) = self.shared.journal
            && !self.journal_lines.is_empty()
        {
            journal.append(&self.journal_lines)?;
            self.journal_lines.clear();
        }
        Ok(())
    }
}

/// The partition whose turn it is: one with batches to send again, or, when a new batch is due,
/// any that is ready.
fn next_partition(
    connection: &mut Connection,
    partitions: &[Partition],
    new_is_due: bool,
    now: u64,
) -> Option<usize> {
    let count = connection.partitions.len();
    for step in 0..count {
        let turn = (connection.turn + step) % count;
        let place = connection.partitions[turn];
        let partition = &partitions[place];
        if partition.is_ready(now) && (new_is_due || partition.has_repeats()) {
            connection.turn = (turn + 1) % count;
            return Some(place);
        }
    }
    None
}

fn queue(
    shared: &RunShared<'_>,
    connection: &mut Connection,
    partition: u32,
    pending: Pending,
    answered: bool,
    now: u64,
    wall_offset_ns: i64,
) {
    let producer = shared.producer;
    let patch = Patch {
        stamp: Stamp {
            run: shared.run,
            connection: connection.id,
            partition,
            number: pending.number,
            scheduled_ns: pending.scheduled_ns,
        },
        timestamp_ms: (now.cast_signed() + wall_offset_ns) / 1_000_000,
        producer_id: producer.map_or(-1, |producer| producer.id),
        producer_epoch: producer.map_or(-1, |producer| producer.epoch),
        base_sequence: producer.map_or(-1, |_| pending.sequence),
    };
    let prefix_bytes = shared.frame.prefix_bytes();
    let lead_bytes = prefix_bytes + shared.template.head_bytes();
    connection.queue(lead_bytes, pending, answered, |correlation, lead| {
        let (prefix, head) = lead.split_at_mut(prefix_bytes);
        shared.frame.write_prefix(correlation, partition, prefix);
        shared.template.patch_head(&patch, head);
    });
}
