//! The control plane: core 0 decides, logs, and tells; every core applies in order and says so.
//!
//! ```text
//!  asker ──Control──► core 0: prepare ─► append ─► durable ─► apply ─┬─Metadata──► core 1 … n
//!    ▲                                                               │                 │
//!    └──────────────ControlDone── when all have applied it ◄─────────┴─MetadataApplied─┘
//! ```
//!
//! Invariant: a core applies records in the order of their versions, without a gap; nothing is
//! told to another core before it is durable in core 0's log.

use std::cell::RefCell;
use std::sync::Arc;

use ringlog_engine::machine::METADATA;
use ringlog_engine::topics::MetadataRecord;
use ringlog_storage::log::{AppendError, EntryKind, EntryMeta};
use ringlog_types::{CoreId, Offset, PartitionId};

use super::core::{Core, CoreHandle};
use super::decisions::{Asker, Decisions};
use super::message::{ControlCommand, ControlError, Message, StorageFailed};
use super::outbox::Outbox;
use ringlog_machines::apply_metadata;

/// One core's part of the control plane.
#[derive(Debug)]
pub struct ControlPlane {
    core: CoreHandle,
    /// What this core tells others.
    pub outbox: Outbox,
    /// On core 0.
    decisions: RefCell<Decisions>,
}

impl ControlPlane {
    /// The part of this core.
    #[must_use]
    pub fn new(core: CoreHandle) -> ControlPlane {
        let version = core.with(|core| core.topics.version());
        let cores = core.mailboxes().len();
        ControlPlane {
            core,
            outbox: Outbox::default(),
            decisions: RefCell::new(Decisions::new(version, cores)),
        }
    }

    /// Core 0: decides a command and appends its record. Waits while the log has no room, so
    /// that commands are logged in the order in which they were decided.
    pub async fn decide(&self, asker: Asker, command: &ControlCommand) {
        match self.core.with(|core| prepare(core, command)) {
            Ok(record) => self.log(asker, &record).await,
            Err(error) => self.answer(asker, Err(error)),
        }
    }

    /// Core 0: appends a record that was decided.
    pub async fn log(&self, asker: Asker, record: &MetadataRecord) {
        let payload = record.encode();
        loop {
            match self.core.with(|core| append_metadata(core, &payload)) {
                Ok(()) => return self.decisions.borrow_mut().appended(asker),
                Err(AppendError::Busy) => self.core.log_moved().await,
                Err(error) => {
                    self.core.with(|core| abandon(core, record));
                    return self.answer(asker, Err(refusal(&error)));
                }
            }
        }
    }

    /// Core 0: records became durable and are applied here. Tells the other cores.
    pub fn committed(&self, records: Vec<(u64, MetadataRecord)>) {
        if records.is_empty() {
            return;
        }
        // Blocks say under which version of the topics they are built.
        self.core
            .with(|core| core.log.set_metadata_version(core.topics.version()));
        for (version, record) in records {
            let bytes: Arc<[u8]> = record.encode().into();
            for other in 1..self.core.mailboxes().len() {
                let other = CoreId(u16::try_from(other).expect("core ids are 16 bits"));
                let record = Arc::clone(&bytes);
                self.outbox
                    .put(other, Message::Metadata { version, record });
            }
            let mut decisions = self.decisions.borrow_mut();
            decisions.durable(version, record);
            decisions.applied(CoreId(0), version);
        }
        self.answer_done();
    }

    /// Core 0: a core has applied everything up to a version.
    pub fn acknowledged(&self, core: CoreId, version: u64) {
        self.decisions.borrow_mut().applied(core, version);
        self.answer_done();
    }

    /// Core 0: the metadata log closed.
    pub fn failed(&self, failure: &StorageFailed) {
        let askers = self.decisions.borrow_mut().take_all();
        for asker in askers {
            self.answer(asker, Err(ControlError::Storage(failure.clone())));
        }
    }

    /// Another core: applies the next record and acknowledges it.
    ///
    /// # Errors
    /// When it is not the next one, or cannot be read: this core's copy is no longer core 0's,
    /// and it must not go on.
    pub fn apply(&self, version: u64, record: &[u8]) -> Result<(), String> {
        let record = MetadataRecord::decode(record)
            .map_err(|error| format!("metadata record {version} cannot be read: {error}"))?;
        let orphaned = self.core.with(|core| {
            let expected = core.topics.version() + 1;
            if version != expected {
                return Err(format!(
                    "metadata record {version} came where {expected} was due"
                ));
            }
            let orphaned = apply_metadata(&mut core.topics, &mut core.users, core.log_id, &record);
            core.add_orphaned(orphaned.iter().copied());
            core.log.set_metadata_version(version);
            Ok(orphaned)
        })?;
        self.dropped(&orphaned);
        let core = self.core.id();
        self.outbox
            .put(CoreId(0), Message::MetadataApplied { core, version });
        Ok(())
    }

    /// Partitions of this core lost their topic: their end is logged by the driver, and who
    /// waits for them looks again and finds them gone.
    pub fn dropped(&self, orphaned: &[PartitionId]) {
        if !orphaned.is_empty() {
            self.core.wake_partitions(orphaned);
            self.core.work().raise();
        }
    }

    fn answer_done(&self) {
        let done = self.decisions.borrow_mut().take_done();
        for (asker, record) in done {
            self.answer(asker, Ok(record));
        }
    }

    fn answer(&self, asker: Asker, result: Result<MetadataRecord, ControlError>) {
        match asker {
            Some((core, request)) if core == self.core.id() => self.core.answer(request, result),
            Some((core, request)) => {
                self.outbox
                    .put(core, Message::ControlDone { request, result });
            }
            None => {
                if let Err(error) = result {
                    tracing::error!(%error, "a metadata record of the node itself was not logged");
                }
            }
        }
    }
}

fn prepare(core: &mut Core, command: &ControlCommand) -> Result<MetadataRecord, ControlError> {
    Ok(match command {
        ControlCommand::Topic(command) => {
            let entropy = uuid::Uuid::new_v4().as_u128();
            core.topics.prepare(command, entropy)?
        }
        ControlCommand::User(command) => MetadataRecord::User(core.users.prepare(command)?),
    })
}

fn abandon(core: &mut Core, record: &MetadataRecord) {
    match record {
        MetadataRecord::User(record) => core.users.abandon(record),
        record => core.topics.abandon(record),
    }
}

fn append_metadata(core: &mut Core, payload: &[u8]) -> Result<(), AppendError> {
    let meta = EntryMeta {
        partition: PartitionId::NONE,
        kind: EntryKind::Machine,
        machine: METADATA,
        base_offset: Offset::ZERO,
        count: 0,
        max_timestamp: -1,
    };
    core.log.append(&[(meta, payload)]).map(|_| ())
}

fn refusal(error: &AppendError) -> ControlError {
    match error {
        AppendError::Closed { cause } => ControlError::Storage(StorageFailed {
            cause: cause.clone(),
        }),
        other => ControlError::Refused {
            reason: other.to_string(),
        },
    }
}
