//! What a core wants to post to other cores, in order: synchronous code puts it here, one task
//! posts it and waits where a mailbox is full. So the task that empties a core's own mailbox
//! never waits for another core, and two full mailboxes cannot wait for each other.
//!
//! Bounded by what may be asked: each core has a limited number of control commands under way.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

use ringlog_types::CoreId;

use super::mailbox::Mailbox;
use super::message::Message;
use super::waiters::Signal;

/// Messages that wait to be posted.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: RefCell<VecDeque<(CoreId, Message)>>,
    signal: Signal,
}

impl Outbox {
    /// Puts a message behind those that wait.
    pub fn put(&self, to: CoreId, message: Message) {
        self.waiting.borrow_mut().push_back((to, message));
        self.signal.raise();
    }

    /// Posts messages in their order, for as long as the core runs.
    pub async fn post_all(&self, mailboxes: &[Arc<Mailbox<Message>>]) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some((to, message)) => mailboxes[usize::from(to.0)].post(message).await,
                None => poll_fn(|cx| self.signal.poll_raised(cx)).await,
            }
        }
    }
}
