//! How the cores are, for whoever asks from outside: one place per core, written by the core,
//! read without waiting for it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringlog_types::CoreId;
use tokio::sync::oneshot;

use super::core::CoreHandle;
use super::errand::Door;
use super::mailbox::Mailbox;
use super::message::{Message, Snapshot};
use super::metrics::CoreMetrics;

/// How long a core may take to say how it is.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(1);

/// Where a core is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Opening its log.
    Recovering = 0,
    /// Its log is open; it waits for the other cores.
    Recovered = 1,
    /// It takes connections.
    Serving = 2,
    /// It finishes what it has begun.
    Draining = 3,
    /// Its log is closed in order.
    Stopped = 4,
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Recovering => "recovering",
            Phase::Recovered => "recovered",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        }
    }

    fn from_number(number: u8) -> Phase {
        match number {
            0 => Phase::Recovering,
            1 => Phase::Recovered,
            2 => Phase::Serving,
            3 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }
}

/// One core, seen from outside.
#[derive(Debug)]
pub struct CoreStatus {
    /// Which core.
    pub id: CoreId,
    /// Its counters.
    pub metrics: Arc<CoreMetrics>,
    /// Its mailbox.
    pub mailbox: Arc<Mailbox<Message>>,
    /// The way to it for commands that arrived elsewhere.
    pub door: Door<CoreHandle>,
    phase: AtomicU8,
    failure: OnceLock<String>,
}

impl CoreStatus {
    /// A core that begins to recover.
    #[must_use]
    pub fn new(id: CoreId, mailbox: Arc<Mailbox<Message>>, door: Door<CoreHandle>) -> CoreStatus {
        CoreStatus {
            id,
            metrics: Arc::default(),
            mailbox,
            door,
            phase: AtomicU8::new(Phase::Recovering as u8),
            failure: OnceLock::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Acquire))
    }

    /// It came to another phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Why its log closed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Its log closed. Only the first cause is kept.
    pub fn fail(&self, cause: String) {
        let _ = self.failure.set(cause);
    }

    /// Its figures now, or `None` when it does not answer in time (it is not serving, or is
    /// held up: `longest_step` says more).
    pub async fn snapshot(&self) -> Option<Box<Snapshot>> {
        if self.phase() != Phase::Serving {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.mailbox.try_post(Message::Snapshot { reply }).ok()?;
        tokio::time::timeout(SNAPSHOT_PATIENCE, answer)
            .await
            .ok()?
            .ok()
    }
}

/// The node, seen from outside.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its cores, by id.
    pub cores: Arc<[CoreStatus]>,
}

impl NodeStatus {
    /// Why the node is not ready, one line per reason; empty when it is.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        for core in self.cores.iter() {
            if let Some(cause) = core.failure() {
                obstacles.push(format!("core {}: its log has failed: {cause}", core.id));
            } else if core.phase() != Phase::Serving {
                obstacles.push(format!("core {} is {}", core.id, core.phase().name()));
            }
        }
        obstacles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_every_core_serves_and_no_log_has_failed() {
        let cores: Arc<[CoreStatus]> = (0..2)
            .map(|id| {
                let mailbox = Arc::new(Mailbox::new(1).unwrap());
                CoreStatus::new(CoreId(id), mailbox, Door::new(1).unwrap())
            })
            .collect();
        let node = NodeStatus { cores };
        assert_eq!(
            node.obstacles(),
            ["core 0 is recovering", "core 1 is recovering"]
        );
        for core in node.cores.iter() {
            core.enter(Phase::Serving);
        }
        assert!(node.obstacles().is_empty());
        node.cores[1].fail("EIO".to_owned());
        node.cores[1].fail("a later one".to_owned());
        assert_eq!(node.obstacles(), ["core 1: its log has failed: EIO"]);
    }
}
