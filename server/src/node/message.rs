//! What cores say to each other, and the errors of the control plane that travel with it.
//!
//! Everything here is plain data that may cross threads. Metadata records travel as their log
//! bytes: every core decodes what core 0 has made durable, byte for byte.

use std::sync::Arc;

use ringlog_engine::groups::GroupCounts;
use ringlog_engine::partitions::ProducerCounts;
use ringlog_engine::topics::{MetadataRecord, TopicCommand, TopicError};
use ringlog_engine::users::{Credential, Mechanism, UserCommand, UserError};
use ringlog_storage::log::Stats;
use ringlog_types::CoreId;
use tokio::sync::oneshot;

use super::budget::BudgetFigures;
use super::stages::StageTimes;

/// A log that can take nothing any more: a write or flush failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log of this core is closed: {cause}; restart the node to recover what is durable")]
pub struct StorageFailed {
    /// The first failure.
    pub cause: String,
}

/// What core 0 is asked to decide.
#[derive(Clone, Debug)]
pub enum ControlCommand {
    /// About topics.
    Topic(TopicCommand),
    /// About users.
    User(UserCommand),
}

impl From<TopicCommand> for ControlCommand {
    fn from(command: TopicCommand) -> ControlCommand {
        ControlCommand::Topic(command)
    }
}

impl From<UserCommand> for ControlCommand {
    fn from(command: UserCommand) -> ControlCommand {
        ControlCommand::User(command)
    }
}

/// Why a control command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The topics machine refuses it.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The users machine refuses it.
    #[error(transparent)]
    User(#[from] UserError),
    /// The metadata log is closed. Whether the command is durable shows after a restart.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// The metadata log did not take the record.
    #[error("the metadata log did not take the change: {reason}; nothing was changed, try again")]
    Refused {
        /// What the log said.
        reason: String,
    },
    /// The node stops. Whether the command is durable shows after the restart.
    #[error("the node is stopping; ask again when it is back")]
    Stopping,
}

/// A core's figures at one moment, for `/metrics`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Figures of the log.
    pub log: Stats,
    /// Block writes in flight.
    pub blocks_in_flight: usize,
    /// Last durable sequence.
    pub durable: u64,
    /// Last appended sequence.
    pub appended: u64,
    /// Bytes appended and not yet durable.
    pub pending_bytes: usize,
    /// Bytes of blocks kept for readers.
    pub cached_bytes: usize,
    /// Bytes handed out for frames, blocks and reads.
    pub memory_used_bytes: usize,
    /// The most that may be handed out.
    pub memory_limit_bytes: usize,
    /// Memory for requests that wait to be answered.
    pub request_memory: BudgetFigures,
    /// Memory for answers that wait to be taken.
    pub answer_memory: BudgetFigures,
    /// Memory for batches that are being decompressed.
    pub opening_memory: BudgetFigures,
    /// TLS handshakes and password hashes of the node that are done or wait for a thread.
    pub security_jobs: usize,
    /// Metadata records applied on this core.
    pub metadata_version: u64,
    /// Topics this core knows.
    pub topics: usize,
    /// Partitions with entries in this core's log.
    pub partitions: usize,
    /// Idempotent producers of this core's partitions.
    pub producers: ProducerCounts,
    /// Consumer groups of this core.
    pub groups: GroupCounts,
    /// Where the time of Produce requests went.
    pub stages: Box<StageTimes>,
}

/// What a core finds in its mailbox.
#[derive(Debug)]
pub enum Message {
    /// To core 0: decide this.
    Control {
        /// Who asks.
        asker: CoreId,
        /// The asker's number for it.
        request: u64,
        /// What to decide.
        command: ControlCommand,
    },
    /// From core 0 to the asker: every core has applied it, or it was refused.
    ControlDone {
        /// The asker's number.
        request: u64,
        /// What became of it.
        result: Result<MetadataRecord, ControlError>,
    },
    /// From core 0: the next metadata record, durable there.
    Metadata {
        /// [`ringlog_engine::topics::Topics::version`] after it.
        version: u64,
        /// The record as it lies in the log.
        record: Arc<[u8]>,
    },
    /// To core 0: this core has applied everything up to a version.
    MetadataApplied {
        /// Who.
        core: CoreId,
        /// Up to where.
        version: u64,
    },
    /// From the HTTP face: what verifies a user.
    Credentials {
        /// Who.
        user: String,
        /// Where to say it; nothing where there is no such user.
        reply: oneshot::Sender<Vec<(Mechanism, Credential)>>,
    },
    /// From the supervisor: say how you are.
    Snapshot {
        /// Where to say it.
        reply: oneshot::Sender<Box<Snapshot>>,
    },
    /// From the supervisor: stop taking connections, finish, close the log.
    Stop,
}
