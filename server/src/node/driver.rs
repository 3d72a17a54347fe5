//! The task that drives a core's log: takes completions, applies and tells what became durable,
//! and starts what has gathered.
//!
//! ```text
//!  append ──signal──► driver yields once: every connection that is ready appends as well
//!                       └─► poll (apply, wake waiters) ─► submit (one block for all of them)
//!  ring readable ─────► poll ─► submit what has gathered meanwhile
//!  nothing else to do, few wait, a block in flight ─► polls for a bounded time, then sleeps
//! ```
//!
//! Invariant: only this task polls the log, so effects are handled in the order of the log.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::control::ControlPlane;
use super::core::CoreHandle;
use super::polling::Polling;
use super::status::NodeStatus;
use crate::runtime::Readable;
use ringlog_machines::Effects;

/// What a turn found.
struct Turn {
    moved: bool,
    /// More blocks, the rest of one that is applied, partitions of deleted topics, reads that came
    /// back, or a checkpoint that is being taken wait for the next step.
    more: bool,
    in_flight: usize,
    /// When the log wants the next turn though nothing happens.
    deadline: Option<Duration>,
}

/// A core's driver.
#[derive(Debug)]
pub struct Driver {
    core: CoreHandle,
    control: Rc<ControlPlane>,
    status: NodeStatus,
    ring: Readable,
    polling: Polling,
    failure_told: bool,
}

impl Driver {
    /// A driver for a core whose log's ring is `ring`, which polls for `spin` at most before it
    /// sleeps; zero: not at all.
    #[must_use]
    pub fn new(
        core: CoreHandle,
        control: Rc<ControlPlane>,
        status: NodeStatus,
        ring: Readable,
        spin: Duration,
    ) -> Driver {
        Driver {
            core,
            control,
            status,
            ring,
            polling: Polling::new(spin, Instant::now()),
            failure_told: false,
        }
    }

    /// Drives the log for as long as the core runs.
    ///
    /// # Errors
    /// When the ring cannot be waited for: the core cannot go on.
    pub async fn run(mut self) -> std::io::Result<()> {
        loop {
            self.core.work().take();
            let turn = self.turn();
            let now = Instant::now();
            self.polling.turned(turn.moved, turn.in_flight, now);
            let waiters = self.core.commit_waiters();
            if self.polling.holds(turn.in_flight, waiters, now) {
                // Lets the runtime look at sockets and timers, and run whoever is ready.
                tokio::task::yield_now().await;
                continue;
            }
            self.core.about_to_sleep();
            self.wait(turn.deadline).await?;
            self.polling.woke(Instant::now());
            if self.core.work().take() {
                // Whoever is ready appends before the block is closed.
                tokio::task::yield_now().await;
            }
        }
    }

    /// One turn: completions in, effects out, gathered blocks off.
    fn turn(&mut self) -> Turn {
        let (turn, effects, answers) = self.core.with(|core| {
            let moved = core.poll_log();
            let effects = core.take_effects();
            core.add_orphaned(effects.orphaned.iter().copied());
            let orphans_left = core.drop_orphaned().unwrap_or_else(|error| {
                tracing::warn!(%error, "partitions of a deleted topic stay until the next start");
                false
            });
            if core.log.failure().is_some() {
                core.groups.log_closed();
            }
            // What the log has no room for waits for its next move; what it refuses is answered.
            let _ = core.log_group_records();
            let answers = core.groups.take_answers();
            let blocks_left = core.log.submit_step();
            let log = &core.log;
            let log_waits = log.has_arrived() || log.takes_checkpoint() || log.is_applying();
            let in_flight = core.log.blocks_in_flight();
            let deadline = core.log.next_deadline();
            (
                Turn {
                    moved,
                    more: orphans_left || blocks_left || log_waits,
                    in_flight,
                    deadline,
                },
                effects,
                answers,
            )
        });
        self.core.metrics().driver_turns.add(1);
        self.core.answer_groups(answers);
        if turn.moved {
            self.tell(effects);
        }
        if turn.more {
            self.core.work().raise();
        }
        turn
    }

    fn tell(&mut self, effects: Effects) {
        for reason in &effects.refused {
            tracing::error!(core = %self.core.id(), "{reason}");
        }
        self.core.publish(&effects.moved);
        self.control.dropped(&effects.orphaned);
        self.control.committed(effects.metadata);
        if !self.failure_told
            && let Some(failure) = self.core.failure()
        {
            self.failure_told = true;
            let status = &self.status.cores[usize::from(self.core.id().0)];
            status.fail(failure.cause.clone());
            self.control.failed(&failure);
        }
    }

    async fn wait(&self, deadline: Option<Duration>) -> std::io::Result<()> {
        let mut alarm = deadline.map(|after| Box::pin(sleep(after)));
        poll_fn(|cx| {
            if self.core.work().poll_raised(cx).is_ready() {
                // Raised again for the caller, who lets others append first.
                self.core.work().raise();
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(result) = self.ring.poll_readable(cx) {
                return Poll::Ready(result);
            }
            match alarm.as_mut() {
                Some(alarm) => alarm.as_mut().poll(cx).map(Ok),
                None => Poll::Pending,
            }
        })
        .await
    }
}
