//! Memory that a core holds for its clients beside that of its log: requests that wait to be answered,
//! answers that wait to be taken, windows of decompressors.
//!
//! ```text
//! take ─► Held (counts) ─► released piece by piece, or dropped ─► the next in line
//! ```
//!
//! Invariants: whoever takes waits, first come first served, while what is held does not leave room; what
//! is there already can be counted beyond the limit, and then nobody takes until enough is released. A
//! [`Held`] may cross to another thread: it counts until it is dropped there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore};

/// So much, and no more.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    /// Takers that wait.
    waiting: AtomicUsize,
    /// The first of them waits for the bytes, the others for their turn.
    turn: Semaphore,
    released: Notify,
    waits: AtomicU64,
    given_up: AtomicU64,
}

/// What a budget is and was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetFigures {
    /// Bytes held.
    pub used_bytes: usize,
    /// The most that takers get.
    pub limit_bytes: usize,
    /// Takers that had to wait, ever.
    pub waits: u64,
    /// Those who were sent away for want of it, ever.
    pub given_up: u64,
}

/// Bytes of a budget, until this is dropped.
#[derive(Debug)]
#[must_use = "what is held counts until this is dropped"]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Arc<Budget> {
        Arc::new(Budget {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            turn: Semaphore::new(1),
            released: Notify::new(),
            waits: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        })
    }

    /// Between `least` and `most` bytes, as many as there are; more than the limit are never had. `None`:
    /// there is no room for the least, or others wait for it.
    #[must_use]
    pub fn try_take(self: &Arc<Self>, least: usize, most: usize) -> Option<Held> {
        if self.is_wanted() {
            return None;
        }
        self.take_now(least, most)
    }

    /// The same, after waiting for room if need be.
    ///
    /// Cancellation: nothing is taken.
    pub async fn take(self: &Arc<Self>, least: usize, most: usize) -> Held {
        if let Some(held) = self.try_take(least, most) {
            return held;
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting::new(self);
        let _turn = self.turn.acquire().await;
        loop {
            if let Some(held) = self.take_now(least, most) {
                return held;
            }
            // A release in between is kept for this.
            self.released.notified().await;
        }
    }

    /// Counts bytes that are there already, whether there is room or not.
    pub fn count(self: &Arc<Self>, bytes: usize) -> Held {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Held {
            budget: Arc::clone(self),
            bytes,
        }
    }

    /// Waits until the least can be had, and takes nothing.
    ///
    /// Cancellation: nothing is lost.
    pub async fn room(self: &Arc<Self>) {
        drop(self.take(1, 1).await);
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Notes that somebody was sent away.
    pub fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// How it is.
    #[must_use]
    pub fn figures(&self) -> BudgetFigures {
        BudgetFigures {
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            limit_bytes: self.limit_bytes,
            waits: self.waits.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
        }
    }

    fn take_now(self: &Arc<Self>, least: usize, most: usize) -> Option<Held> {
        let least = least.min(self.limit_bytes);
        let mut taken = 0;
        let grant = |used_bytes: usize| {
            let room = self.limit_bytes.checked_sub(used_bytes)?;
            taken = most.min(room);
            (room >= least).then_some(used_bytes + taken)
        };
        let used = &self.used_bytes;
        used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, grant)
            .ok()?;
        Some(Held {
            budget: Arc::clone(self),
            bytes: taken,
        })
    }
}

impl Held {
    /// How many.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives so many back, or all there are; returns how many were.
    pub fn release(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.bytes);
        if bytes > 0 {
            self.bytes -= bytes;
            // Before it is asked who waits, as who waits says so before it looks: one sees the other.
            self.budget.used_bytes.fetch_sub(bytes, Ordering::SeqCst);
            if self.budget.is_wanted() {
                self.budget.released.notify_one();
            }
        }
        bytes
    }

    /// Holds so many from now on, whether there is room for more or not.
    pub fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            self.budget.used_bytes.fetch_add(more, Ordering::Relaxed);
            self.bytes = bytes;
        } else {
            self.release(self.bytes - bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

/// Counts one who waits.
struct Waiting<'a>(&'a Budget);

impl<'a> Waiting<'a> {
    fn new(budget: &'a Budget) -> Waiting<'a> {
        budget.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(poll: Poll<Held>) -> Option<Held> {
        match poll {
            Poll::Ready(held) => Some(held),
            Poll::Pending => None,
        }
    }

    #[test]
    fn takers_get_what_there_is_and_then_wait_first_come_first_served() {
        let budget = Budget::new(100);
        let first = budget.try_take(10, 80).unwrap();
        assert_eq!(first.bytes(), 80);
        let mut second = budget.try_take(10, 80).unwrap();
        assert_eq!(second.bytes(), 20, "a part");
        assert!(budget.try_take(1, 1).is_none());
        let (mut large, mut small) = (pin!(budget.take(60, 60)), pin!(budget.take(1, 1)));
        assert!(taken(poll(large.as_mut())).is_none());
        assert!(taken(poll(small.as_mut())).is_none());
        assert_eq!(second.release(15), 15);
        assert!(taken(poll(large.as_mut())).is_none());
        assert!(
            taken(poll(small.as_mut())).is_none(),
            "not before the one that came first"
        );
        assert!(
            budget.try_take(1, 1).is_none(),
            "nor somebody who comes later"
        );
        drop(first);
        let large = taken(poll(large.as_mut())).expect("there is room");
        let small = taken(poll(small.as_mut())).expect("its turn");
        assert_eq!(budget.figures().used_bytes, 60 + 1 + 5);
        drop((large, small, second));
        let figures = budget.figures();
        assert_eq!((figures.used_bytes, figures.waits), (0, 2));
        assert!(!budget.is_wanted());
    }

    #[test]
    fn what_is_there_already_counts_beyond_the_limit_and_is_waited_for() {
        let budget = Budget::new(100);
        let mut held = budget.take_now(1, 10).unwrap();
        held.resize(250);
        assert_eq!(budget.figures().used_bytes, 250);
        let mut waiting = pin!(budget.room());
        assert!(poll(waiting.as_mut()).is_pending());
        held.resize(100);
        assert!(poll(waiting.as_mut()).is_pending());
        held.resize(99);
        assert!(poll(waiting.as_mut()).is_ready());
    }

    #[test]
    fn more_than_the_limit_is_the_limit_and_who_gives_up_waiting_leaves_nothing() {
        let budget = Budget::new(100);
        let all = budget.try_take(1000, 5000).unwrap();
        assert_eq!(all.bytes(), 100);
        {
            let mut waiting = pin!(budget.take(1, 1));
            assert!(taken(poll(waiting.as_mut())).is_none());
            assert!(budget.is_wanted());
        }
        assert!(!budget.is_wanted());
        drop(all);
        assert_eq!(budget.try_take(100, 100).unwrap().bytes(), 100);
    }

    #[test]
    fn a_release_on_another_thread_wakes_who_waits() {
        let budget = Budget::new(1 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for _ in 0..200 {
            let all = budget.try_take(1 << 20, 1 << 20).unwrap();
            let releasing = std::thread::spawn(move || drop(all));
            let held = runtime.block_on(budget.take(1 << 20, 1 << 20));
            releasing.join().unwrap();
            drop(held);
        }
    }
}
