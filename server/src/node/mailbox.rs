//! A bounded mailbox of one core: any thread posts, the core's own task takes.
//!
//! ```text
//!  any thread ──try_post──► ArrayQueue (bounded) ──take──► the core's mailbox task
//!                └──────────► eventfd ──readable──► wakes it
//! ```
//!
//! Invariants: messages of one sender arrive in the order it posted them; a post that finds the
//! mailbox full changes nothing and gives the message back (the sender waits: back-pressure).
//! The data path never comes here.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::runtime::Readable;

/// How long a sender waits before it looks at a full mailbox again.
const FULL_RETRY: Duration = Duration::from_millis(1);

/// The shared half: post from anywhere.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: ArrayQueue<T>,
    wake: OwnedFd,
}

impl<T> Mailbox<T> {
    /// A mailbox for at most `capacity` messages.
    ///
    /// # Errors
    /// When the eventfd cannot be made (the process has no file descriptor left, say).
    pub fn new(capacity: usize) -> std::io::Result<Mailbox<T>> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox {
            queue: ArrayQueue::new(capacity),
            wake,
        })
    }

    /// Posts without waiting.
    ///
    /// # Errors
    /// The message itself, when the mailbox is full.
    pub fn try_post(&self, message: T) -> Result<(), T> {
        self.queue.push(message)?;
        self.ring();
        Ok(())
    }

    /// Posts, waiting while the mailbox is full.
    ///
    /// Cancellation: a dropped call has posted nothing.
    pub async fn post(&self, mut message: T) {
        while let Err(back) = self.try_post(message) {
            message = back;
            tokio::time::sleep(FULL_RETRY).await;
        }
    }

    /// The next message, if one waits: for who empties a mailbox that nobody receives from any
    /// more.
    pub fn try_take(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Messages that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.len()
    }

    fn ring(&self) {
        // A counter at its maximum answers EAGAIN: the receiver is awake then in any case.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// The receiving half, on the core's own thread.
#[derive(Debug)]
pub struct Receiver<T> {
    mailbox: Arc<Mailbox<T>>,
    readable: Readable,
}

impl<T> Receiver<T> {
    /// Receives from a mailbox on the runtime of the calling thread.
    ///
    /// # Errors
    /// When the runtime cannot watch the eventfd.
    pub fn new(mailbox: Arc<Mailbox<T>>) -> std::io::Result<Receiver<T>> {
        let readable = Readable::watch(&mailbox.wake)?;
        Ok(Receiver { mailbox, readable })
    }

    /// The next message.
    ///
    /// Cancellation: a dropped call has taken nothing.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn take(&mut self) -> std::io::Result<T> {
        loop {
            if let Some(message) = self.mailbox.queue.pop() {
                return Ok(message);
            }
            // First the readiness, then the counter, then the queue: a message that is posted
            // in between rings again, so that no wake-up is lost.
            self.readable.readable().await?;
            let mut count = [0u8; 8];
            let _ = rustix::io::read(&self.mailbox.wake, &mut count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_runtime<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn messages_of_one_sender_arrive_in_order_and_a_full_mailbox_makes_it_wait() {
        let mailbox = Arc::new(Mailbox::new(8).unwrap());
        let senders: Vec<_> = (0..3u64)
            .map(|sender| {
                let mailbox = Arc::clone(&mailbox);
                std::thread::spawn(move || {
                    on_runtime(async {
                        for number in 0..2_000u64 {
                            mailbox.post((sender, number)).await;
                        }
                    });
                })
            })
            .collect();
        on_runtime(async {
            let mut receiver = Receiver::new(Arc::clone(&mailbox)).unwrap();
            let mut next = [0u64; 3];
            for _ in 0..6_000 {
                let taken = tokio::time::timeout(Duration::from_secs(30), receiver.take());
                let (sender, number) = taken.await.expect("a posted message arrives").unwrap();
                let sender = usize::try_from(sender).unwrap();
                assert_eq!(number, next[sender], "sender {sender}");
                next[sender] += 1;
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(mailbox.depth(), 0);
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let mailbox = Mailbox::new(1).unwrap();
        mailbox.try_post(1).unwrap();
        assert_eq!(mailbox.try_post(2), Err(2));
        assert_eq!(mailbox.depth(), 1);
    }
}
