//! What tasks of a core wait for: durability, a partition's progress, cold reads, room in the log,
//! memory, the end. Each wait is a future that holds no borrow of the core's state.
//!
//! Invariant: a wait is over because the driver said so, never by its own guess; and whoever
//! waits for durability is let go only within the log's durable prefix, whoever waits for a write
//! within the written one (checked again here in debug builds, where the process ends otherwise).

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringlog_storage::buffer::BufMut;
use ringlog_types::{PartitionId, Sequence};

use super::{CoreHandle, LOG_RESERVE_BYTES};
use crate::node::message::StorageFailed;
use crate::node::reach::Reach;
use crate::node::shares::Place;
use crate::node::waiters::{ProgressKey, Waiters};

/// How long a task that waits for memory sleeps before it looks again: memory also comes back
/// where nobody says so (an answer was sent, a connection ended).
const MEMORY_RETRY: Duration = Duration::from_millis(2);

impl CoreHandle {
    /// Waits until the log is durable up to `sequence`. Also wakes the core's driver, so that
    /// open blocks are written.
    ///
    /// Cancellation: nothing is undone; what was appended becomes durable all the same.
    ///
    /// # Errors
    /// When the log closed before: whether the block is durable shows after a restart.
    pub async fn durable(&self, sequence: Sequence) -> Result<(), StorageFailed> {
        let reach = Reach {
            durable: sequence,
            ..Reach::default()
        };
        self.passes(&self.0.durable, sequence, &reach, Waiters::wait_durable)
            .await
    }

    /// Waits until the log has written everything up to `sequence`. Also wakes the core's driver.
    ///
    /// Cancellation: nothing is undone.
    ///
    /// # Errors
    /// When the log closed before.
    async fn written(&self, sequence: Sequence) -> Result<(), StorageFailed> {
        let reach = Reach {
            written: sequence,
            ..Reach::default()
        };
        self.passes(&self.0.written, sequence, &reach, Waiters::wait_written)
            .await
    }

    /// Waits until the log's counter has come to `sequence`, with the core's driver awake.
    async fn passes(
        &self,
        counter: &Cell<Sequence>,
        sequence: Sequence,
        reach: &Reach,
        register: impl Fn(&mut Waiters, Sequence, Waker),
    ) -> Result<(), StorageFailed> {
        let shared = &*self.0;
        if counter.get() < sequence {
            shared.work.raise();
        }
        std::future::poll_fn(|cx| {
            if counter.get() >= sequence {
                self.check_reached(reach);
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = shared.failure.borrow().as_ref() {
                return Poll::Ready(Err(failure.clone()));
            }
            // A task polled again for another reason registers again: one needless wake-up
            // later, against a search through the waiters.
            register(
                &mut shared.waiters.borrow_mut(),
                sequence,
                cx.waker().clone(),
            );
            Poll::Pending
        })
        .await
    }

    /// Waits until the log has come as far as `needed`.
    ///
    /// Cancellation: nothing is undone.
    ///
    /// # Errors
    /// When the log closed before.
    pub async fn reached(&self, needed: &Reach) -> Result<(), StorageFailed> {
        self.durable(needed.durable).await?;
        self.written(needed.written).await
    }

    /// How far the log has come.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.with(|core| Reach {
            written: core.log.written(),
            durable: core.log.durable(),
        })
    }

    /// An acknowledgement ahead of what it promises must never leave: in debug builds the process
    /// ends where it would.
    fn check_reached(&self, needed: &Reach) {
        if cfg!(debug_assertions) {
            let log = &self.0.state.borrow().log;
            let (written, durable) = (log.written(), log.durable());
            if !(Reach { written, durable }).covers(needed) {
                tracing::error!(?needed, %written, %durable, "released ahead of the log");
                std::process::abort();
            }
        }
    }

    /// A future that is ready when the high watermark of any of these partitions moves (or
    /// the partition goes away) after this call. Dropping it gives the place back.
    pub fn progress(&self, partitions: &[PartitionId]) -> Progress {
        let key = self.0.waiters.borrow_mut().enter_progress(partitions);
        Progress {
            core: self.clone(),
            key,
        }
    }

    /// Waits until the count of finished cold reads has passed `ticket` (of
    /// [`ringlog_storage::log::Read::Pending`]): ask again then. A read that fails counts, and a
    /// log that closed still reads.
    pub async fn reads_done(&self, ticket: u64) {
        let shared = &*self.0;
        if shared.reads_done.get() <= ticket {
            shared.work.raise();
        }
        std::future::poll_fn(|cx| {
            if shared.reads_done.get() > ticket {
                return Poll::Ready(());
            }
            shared
                .waiters
                .borrow_mut()
                .wait_reads(ticket + 1, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits for the log's next move (blocks durable, reads done, failure): what
    /// [`ringlog_storage::log::AppendError::Busy`] asks for. Returns at once when nothing is left to be written.
    pub async fn log_moved(&self) {
        let shared = &*self.0;
        shared.work.raise();
        let mut registered = false;
        std::future::poll_fn(|cx| {
            let idle = shared.durable.get() >= shared.appended.get();
            if registered || idle || shared.failure.borrow().is_some() {
                return Poll::Ready(());
            }
            registered = true;
            shared.waiters.borrow_mut().wait_moved(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until it is the connection's turn, and the log takes `bytes` of records without
    /// answering [`ringlog_storage::log::AppendError::Busy`] (or is closed: the append says so then). Append in the
    /// same turn, before the next wait. Connections get equal shares of the bytes; what comes without
    /// one shares as if it were one.
    pub async fn room(&self, peer: Option<SocketAddr>, bytes: usize) {
        let shared = &*self.0;
        let is_room = || self.with(|core| core.has_room(bytes)) || self.failure().is_some();
        if shared.shares.borrow().is_empty() && is_room() {
            shared.shares.borrow_mut().pass(peer, bytes);
            return;
        }
        shared.metrics.room_waits.add(1);
        let place = shared.shares.borrow_mut().enter(peer, bytes);
        let turn = Turn { core: self, place };
        loop {
            std::future::poll_fn(|cx| {
                let mut shares = shared.shares.borrow_mut();
                if shares.is_first(place) {
                    return Poll::Ready(());
                }
                shares.wait(place, cx.waker());
                Poll::Pending
            })
            .await;
            if is_room() {
                shared.shares.borrow_mut().serve(place);
                drop(turn);
                return;
            }
            // Meanwhile somebody may come whose turn is before this one's.
            self.log_moved().await;
        }
    }

    /// Memory for a frame of `bytes`; waits, first come first served, while the core has as
    /// much handed out as it may.
    ///
    /// # Panics
    /// When `bytes` can never be had: callers bound frames by `max_request_bytes`, and the
    /// node refuses to start with less memory than that.
    pub async fn frame_memory(&self, bytes: usize) -> BufMut {
        let shared = &*self.0;
        let limit = self.with(|core| core.log.pool().limit_bytes());
        assert!(
            bytes + LOG_RESERVE_BYTES <= limit,
            "a frame of {bytes} bytes can never be had"
        );
        let _turn = shared.memory_turn.acquire().await;
        loop {
            if let Some(buf) = self.with(|core| core.alloc(bytes)) {
                return buf;
            }
            shared.metrics.memory_waits.add(1);
            // A log that moves gives memory back. Answers that are sent and connections that end
            // do as well, without a sign.
            let moved = async {
                // A closed log never gets there.
                let moves = shared.durable.get() < shared.appended.get();
                if moves && shared.failure.borrow().is_none() {
                    self.log_moved().await;
                } else {
                    std::future::pending().await
                }
            };
            let _ = tokio::time::timeout(MEMORY_RETRY, moved).await;
        }
    }

    /// Waits until the node is stopping. For connections that wait for their next request.
    pub async fn drained(&self) {
        let notified = self.0.drain.notified();
        if !self.is_draining() {
            notified.await;
        }
    }
}

/// A place in the line for the log, given back when this is dropped.
struct Turn<'a> {
    core: &'a CoreHandle,
    place: Place,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.core.0.shares.borrow_mut().leave(self.place);
    }
}

/// See [`CoreHandle::progress`].
#[derive(Debug)]
#[must_use = "a place among the waiters is given back when this is dropped"]
pub struct Progress {
    core: CoreHandle,
    key: ProgressKey,
}

impl Future for Progress {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.core.0.waiters.borrow_mut().poll_progress(self.key, cx)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.core.0.waiters.borrow_mut().leave_progress(self.key);
    }
}
