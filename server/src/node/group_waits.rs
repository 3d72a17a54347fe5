//! Who waits for an answer of the groups machine: each has a ticket, and hears once.
//!
//! Invariant: nothing here decides; the machine's answers are handed on in their order.

use std::collections::HashMap;

use ringlog_engine::groups::{GroupAnswer, Ticket};
use tokio::sync::oneshot;

/// Those who wait.
#[derive(Debug, Default)]
pub struct GroupWaits {
    waiting: HashMap<Ticket, oneshot::Sender<GroupAnswer>>,
}

impl GroupWaits {
    /// A place for a ticket. An answer that comes when nobody waits any more is dropped.
    pub fn enter(&mut self, ticket: Ticket) -> oneshot::Receiver<GroupAnswer> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(ticket, sender);
        receiver
    }

    /// Hands answers on.
    pub fn answer(&mut self, answers: Vec<(Ticket, GroupAnswer)>) {
        for (ticket, answer) in answers {
            if let Some(sender) = self.waiting.remove(&ticket) {
                // Its client may have gone away.
                let _ = sender.send(answer);
            }
        }
    }
}
