//! Who waits for what on a core: tasks for durability, for a partition's high watermark, for cold
//! reads, for the next move of the log; and the driver for work.
//!
//! Invariant: nothing here decides that something happened. The driver says so (and, in debug
//! builds, [`super::core::CoreHandle::durable`] checks it again against the log).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use ringlog_types::{NumberMap, PartitionId, Sequence};

/// A wake-up for one task of this thread: raised any number of times, taken once.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the task that waits, or lets its next wait return at once.
    pub fn raise(&self) {
        if !self.raised.replace(true) {
            let waker = self.waker.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Ready when raised since the last time this was ready.
    pub fn poll_raised(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes the signal without waiting.
    pub fn take(&self) -> bool {
        self.raised.replace(false)
    }
}

/// Wakers in the order of the number they wait for.
///
/// A waiter that was dropped stays here until its number passes: it costs one needless wake-up.
#[derive(Debug, Default)]
struct Ordered {
    waiting: VecDeque<(u64, Waker)>,
}

impl Ordered {
    fn add(&mut self, number: u64, waker: Waker) {
        let place = self.waiting.partition_point(|(other, _)| *other <= number);
        self.waiting.insert(place, (number, waker));
    }

    fn wake_until(&mut self, reached: u64) {
        while self
            .waiting
            .front()
            .is_some_and(|(number, _)| *number <= reached)
        {
            if let Some((_, waker)) = self.waiting.pop_front() {
                waker.wake();
            }
        }
    }
}

/// A place among the waiters of partitions, given back with [`Waiters::leave_progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgressKey(u64);

#[derive(Debug, Default)]
struct ProgressWaiter {
    partitions: Box<[PartitionId]>,
    waker: Option<Waker>,
    fired: bool,
}

/// All tasks of a core that wait for its log.
#[derive(Debug, Default)]
pub struct Waiters {
    written: Ordered,
    durable: Ordered,
    reads: Ordered,
    moved: Vec<Waker>,
    next_progress: u64,
    progress: NumberMap<ProgressKey, ProgressWaiter>,
    by_partition: NumberMap<PartitionId, Vec<ProgressKey>>,
}

impl Waiters {
    /// Waits for the durable prefix to reach a sequence.
    pub fn wait_durable(&mut self, sequence: Sequence, waker: Waker) {
        self.durable.add(sequence.0, waker);
    }

    /// Waits for the written prefix to reach a sequence.
    pub fn wait_written(&mut self, sequence: Sequence, waker: Waker) {
        self.written.add(sequence.0, waker);
    }

    /// The written prefix reached a sequence.
    pub fn written_reached(&mut self, sequence: Sequence) {
        self.written.wake_until(sequence.0);
    }

    /// How many wait for a block to be written or durable.
    #[must_use]
    pub fn commit_waiting(&self) -> usize {
        self.written.waiting.len() + self.durable.waiting.len()
    }

    /// The durable prefix reached a sequence.
    pub fn durable_reached(&mut self, sequence: Sequence) {
        self.durable.wake_until(sequence.0);
    }

    /// Waits for the count of finished cold reads to reach a number.
    pub fn wait_reads(&mut self, ticket: u64, waker: Waker) {
        self.reads.add(ticket, waker);
    }

    /// So many cold reads are finished.
    pub fn reads_reached(&mut self, ticket: u64) {
        self.reads.wake_until(ticket);
    }

    /// Waits for the log to move in any way.
    pub fn wait_moved(&mut self, waker: Waker) {
        self.moved.push(waker);
    }

    /// The log moved.
    pub fn log_moved(&mut self) {
        for waker in self.moved.drain(..) {
            waker.wake();
        }
    }

    /// Takes a place among the waiters of these partitions.
    pub fn enter_progress(&mut self, partitions: &[PartitionId]) -> ProgressKey {
        let key = ProgressKey(self.next_progress);
        self.next_progress += 1;
        for partition in partitions {
            self.by_partition.entry(*partition).or_default().push(key);
        }
        self.progress.insert(
            key,
            ProgressWaiter {
                partitions: partitions.into(),
                waker: None,
                fired: false,
            },
        );
        key
    }

    /// Ready once one of the partitions moved.
    pub fn poll_progress(&mut self, key: ProgressKey, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiter) = self.progress.get_mut(&key) else {
            return Poll::Ready(());
        };
        if waiter.fired {
            return Poll::Ready(());
        }
        match waiter.waker.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => waiter.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Gives a place back.
    pub fn leave_progress(&mut self, key: ProgressKey) {
        let Some(waiter) = self.progress.remove(&key) else {
            return;
        };
        for partition in waiter.partitions {
            if let Some(keys) = self.by_partition.get_mut(&partition) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.by_partition.remove(&partition);
                }
            }
        }
    }

    /// A partition moved, or is gone.
    pub fn partition_moved(&mut self, partition: PartitionId) {
        let Some(keys) = self.by_partition.remove(&partition) else {
            return;
        };
        for key in keys {
            if let Some(waiter) = self.progress.get_mut(&key) {
                waiter.fired = true;
                if let Some(waker) = waiter.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// The log closed: everyone looks again.
    pub fn wake_all(&mut self) {
        self.written.wake_until(u64::MAX);
        self.durable.wake_until(u64::MAX);
        self.reads.wake_until(u64::MAX);
        self.log_moved();
        self.end_progress();
    }

    /// Every waiter of a partition looks again: the node stops, or the log closed.
    pub fn end_progress(&mut self) {
        for waiter in self.progress.values_mut() {
            waiter.fired = true;
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
        self.by_partition.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use ringlog_types::TopicNumber;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::SeqCst)
    }

    #[test]
    fn durable_waiters_wake_in_sequence_whatever_order_they_came_in() {
        let mut waiters = Waiters::default();
        let (late, late_waker) = counter();
        let (early, early_waker) = counter();
        waiters.wait_durable(Sequence(9), late_waker);
        waiters.wait_durable(Sequence(7), early_waker);
        waiters.durable_reached(Sequence(6));
        assert_eq!((woken(&early), woken(&late)), (0, 0));
        waiters.durable_reached(Sequence(8));
        assert_eq!((woken(&early), woken(&late)), (1, 0));
        waiters.durable_reached(Sequence(9));
        assert_eq!((woken(&early), woken(&late)), (1, 1));
    }

    #[test]
    fn progress_fires_for_any_of_its_partitions_and_leaves_nothing_behind() {
        let mut waiters = Waiters::default();
        let one = PartitionId::new(TopicNumber(1), 0);
        let two = PartitionId::new(TopicNumber(1), 1);
        let (count, waker) = counter();
        let mut cx = Context::from_waker(&waker);
        let key = waiters.enter_progress(&[one, two]);
        assert!(waiters.poll_progress(key, &mut cx).is_pending());
        waiters.partition_moved(PartitionId::new(TopicNumber(2), 0));
        assert_eq!(woken(&count), 0);
        waiters.partition_moved(two);
        assert_eq!(woken(&count), 1);
        assert!(waiters.poll_progress(key, &mut cx).is_ready());
        waiters.leave_progress(key);
        assert!(waiters.progress.is_empty() && waiters.by_partition.is_empty());
    }

    #[test]
    fn a_partition_that_moved_between_registration_and_first_poll_is_seen() {
        let mut waiters = Waiters::default();
        let partition = PartitionId::new(TopicNumber(1), 0);
        let key = waiters.enter_progress(&[partition]);
        waiters.partition_moved(partition);
        let (_, waker) = counter();
        assert!(
            waiters
                .poll_progress(key, &mut Context::from_waker(&waker))
                .is_ready()
        );
    }

    #[test]
    fn a_signal_raised_before_the_wait_is_not_lost_and_is_taken_once() {
        let signal = Signal::default();
        let (count, waker) = counter();
        let mut cx = Context::from_waker(&waker);
        signal.raise();
        signal.raise();
        assert!(signal.poll_raised(&mut cx).is_ready());
        assert!(signal.poll_raised(&mut cx).is_pending());
        signal.raise();
        assert_eq!(woken(&count), 1);
        assert!(signal.poll_raised(&mut cx).is_ready());
    }

    #[test]
    fn waking_all_releases_every_kind_of_waiter() {
        let mut waiters = Waiters::default();
        let (count, waker) = counter();
        waiters.wait_durable(Sequence(9), waker.clone());
        waiters.wait_written(Sequence(9), waker.clone());
        waiters.wait_reads(4, waker.clone());
        waiters.wait_moved(waker.clone());
        let key = waiters.enter_progress(&[PartitionId::NONE]);
        let mut cx = Context::from_waker(&waker);
        assert!(waiters.poll_progress(key, &mut cx).is_pending());
        waiters.wake_all();
        assert_eq!(woken(&count), 5);
        assert!(waiters.poll_progress(key, &mut cx).is_ready());
    }
}
