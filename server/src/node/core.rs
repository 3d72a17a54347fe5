//! One core: its state, and the handle by which its tasks reach it.
//!
//! Invariants: the state is touched by this core's thread only, inside [`CoreHandle::with`], by
//! synchronous code; no borrow lives across an `.await`. Called by the faces for each request, by
//! the driver and the mailbox task of the core. `waits` has what tasks wait for.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringlog_engine::groups::Groups;
use ringlog_engine::machine::PRODUCER_IDS;
use ringlog_engine::partitions::{Partitions, ProducerIds};
use ringlog_engine::topics::{MetadataRecord, Topics};
use ringlog_engine::users::Users;
use ringlog_storage::buffer::BufMut;
use ringlog_storage::io::uring::UringIo;
use ringlog_storage::log::{AppendError, EntryKind, EntryMeta, Log, Part};
use ringlog_types::{CoreId, LogId, Offset, PartitionId, Sequence};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::budget::Budget;
use super::errand::Door;
use super::group_waits::GroupWaits;
use super::mailbox::Mailbox;
use super::message::{ControlCommand, ControlError, Message, StorageFailed};
use super::metrics::CoreMetrics;
use super::shares::Shares;
use super::stages::Stages;
use super::step_watch::StepWatch;
use super::topology::{Listener, Topologies, Topology};
use super::waiters::{Signal, Waiters};
use crate::config::Settings;
use crate::security::Security;
use ringlog_machines::{CoreMachine, Effects};

pub mod groups;
pub mod waits;

/// Memory that frames leave to the log: for the largest block, and the blocks in flight.
pub const LOG_RESERVE_BYTES: usize = 24 << 20;

/// Partitions without a topic whose end is logged in one step.
const ORPHANS_PER_STEP: usize = 128;

/// Control commands of one core that may wait for their answer at a time; more wait in line.
const CONTROL_COMMANDS: usize = 16;

/// Memory for batches that are being decompressed: the largest window that zstd has.
const OPENING_MEMORY_BYTES: usize = 128 << 20;

/// A core's log, on the disk of the machine.
pub type CoreLog = Log<UringIo>;

/// A core's state.
pub struct Core {
    /// Which core.
    pub id: CoreId,
    /// The log it owns.
    pub log_id: LogId,
    /// That log.
    pub log: Log<UringIo>,
    /// Topics and their configs: this core's copy.
    pub topics: Topics,
    /// Users and what verifies them: this core's copy.
    pub users: Users,
    /// The partitions whose log this is, and their producers.
    pub partitions: Partitions,
    /// Producer ids this core hands out.
    pub producer_ids: ProducerIds,
    /// Consumer groups that this core coordinates.
    pub groups: Groups,
    /// When the clock of the groups' timers began.
    began: Instant,
    /// Block that makes the newest block of producer ids durable.
    producer_ids_logged: Sequence,
    /// The record of the newest block of producer ids, while the log has not taken it.
    producer_ids_unlogged: Option<Vec<u8>>,
    /// What followed from committed entries and was not taken yet.
    effects: Effects,
    /// Appended bytes that may wait to become durable.
    pending_limit_bytes: usize,
    /// Partitions without a topic whose end the log did not take yet.
    orphaned: Vec<PartitionId>,
}

impl Core {
    /// A core whose log is open and whose machines were restored and replayed.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "each machine of the core is one; they come from one place"
    )]
    pub fn new(
        id: CoreId,
        log_id: LogId,
        log: Log<UringIo>,
        topics: Topics,
        users: Users,
        partitions: Partitions,
        producer_ids: ProducerIds,
        groups: Groups,
        pending_limit_bytes: usize,
    ) -> Core {
        Core {
            id,
            log_id,
            log,
            topics,
            users,
            partitions,
            producer_ids,
            groups,
            began: Instant::now(),
            producer_ids_logged: Sequence::NONE,
            producer_ids_unlogged: None,
            effects: Effects::default(),
            pending_limit_bytes,
            orphaned: Vec::new(),
        }
    }

    /// Takes completions of the log and applies what became durable. Returns whether anything
    /// moved.
    pub fn poll_log(&mut self) -> bool {
        let Core {
            id,
            log_id,
            log,
            topics,
            users,
            partitions,
            producer_ids,
            groups,
            effects,
            ..
        } = self;
        log.poll(&mut CoreMachine {
            topics,
            users,
            owns_metadata: id.0 == 0,
            log_id: *log_id,
            partitions,
            producer_ids,
            groups,
            effects,
        })
    }

    /// Takes what followed from committed entries since the last time.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Notes partitions whose topic is gone; [`Core::drop_orphaned`] logs their end.
    pub fn add_orphaned(&mut self, partitions: impl IntoIterator<Item = PartitionId>) {
        self.orphaned.extend(partitions);
    }

    /// Logs the end of partitions without a topic, as many as one step takes. Returns whether
    /// another step has to follow at once; where the log has no room, its next move brings one.
    ///
    /// # Errors
    /// Why the log takes no more: the rest is found again at the next start.
    pub fn drop_orphaned(&mut self) -> Result<bool, AppendError> {
        for _ in 0..ORPHANS_PER_STEP {
            let Some(partition) = self.orphaned.last() else {
                break;
            };
            let meta = EntryMeta {
                partition: *partition,
                kind: EntryKind::PartitionDropped,
                machine: 0,
                base_offset: Offset::ZERO,
                count: 0,
                max_timestamp: -1,
            };
            match self.log.append(&[(meta, &[])]) {
                Ok(_) => {
                    self.orphaned.pop();
                }
                Err(AppendError::Busy) => return Ok(false),
                Err(error) => {
                    self.orphaned.clear();
                    return Err(error);
                }
            }
        }
        Ok(!self.orphaned.is_empty())
    }

    /// Checkpoints, seals and closes the log; blocks.
    ///
    /// # Errors
    /// The failure that closed the log before.
    pub fn close(self) -> Result<(), String> {
        let Core {
            id,
            log_id,
            log,
            mut topics,
            mut users,
            mut partitions,
            mut groups,
            ..
        } = self;
        let (mut producer_ids, mut effects) = (self.producer_ids, self.effects);
        log.close(&mut CoreMachine {
            topics: &mut topics,
            users: &mut users,
            owns_metadata: id.0 == 0,
            log_id,
            partitions: &mut partitions,
            producer_ids: &mut producer_ids,
            groups: &mut groups,
            effects: &mut effects,
        })
    }

    /// Memory for a frame, at the cost of cached blocks when there is no other. What the log
    /// needs to write what waits is never given away.
    fn alloc(&mut self, bytes: usize) -> Option<BufMut> {
        if self.make_room(bytes.saturating_add(LOG_RESERVE_BYTES)) {
            self.log.alloc(bytes)
        } else {
            None
        }
    }

    /// Whether this many bytes are free, after letting go of cached blocks if need be.
    fn make_room(&mut self, bytes: usize) -> bool {
        loop {
            let pool = self.log.pool();
            if pool.limit_bytes().saturating_sub(pool.used_bytes()) >= bytes {
                return true;
            }
            if !self.log.shrink_cache() {
                return false;
            }
        }
    }

    /// Whether the log takes this many more bytes of records without answering
    /// [`AppendError::Busy`].
    #[must_use]
    pub fn has_room(&mut self, bytes: usize) -> bool {
        let pending = self.log.pending_bytes();
        if pending == 0 {
            // Nothing will give memory back but this append: let the log say what it makes of it.
            return true;
        }
        pending.saturating_add(bytes) <= self.pending_limit_bytes
            && self.log.has_queue_room(bytes)
            && self.make_room(bytes.saturating_add(LOG_RESERVE_BYTES / 4))
    }

    /// The next producer id, and the block that must be durable before it may be told.
    fn grant_producer_id(&mut self) -> Result<(i64, Sequence), AppendError> {
        let grant = self.producer_ids.prepare();
        if grant.record.is_some() {
            self.producer_ids_unlogged = grant.record;
        }
        // A record that the log refused stays here: ids of its block wait until it is taken.
        if let Some(record) = &self.producer_ids_unlogged {
            let meta = EntryMeta {
                partition: PartitionId::NONE,
                kind: EntryKind::Machine,
                machine: PRODUCER_IDS,
                base_offset: Offset::ZERO,
                count: 0,
                max_timestamp: -1,
            };
            self.producer_ids_logged = self.log.append(&[(meta, record.as_slice())])?;
            self.producer_ids_unlogged = None;
        }
        Ok((grant.id, self.producer_ids_logged))
    }

    /// Whether this core's log owns the partition, by its copy of the topics.
    #[must_use]
    pub fn owns(&self, partition: PartitionId) -> bool {
        let index = usize::try_from(partition.index()).expect("a u32 fits usize");
        self.topics
            .by_number(partition.topic())
            .and_then(|topic| topic.partitions.get(index))
            .is_some_and(|log| *log == self.log_id)
    }
}

/// A way to a core for the tasks of its thread; one that belongs to a connection also knows over
/// which listener that came. Cheap to clone.
#[derive(Clone)]
pub struct CoreHandle(Rc<Shared>, Listener);

struct Shared {
    id: CoreId,
    state: RefCell<Core>,
    waiters: RefCell<Waiters>,
    /// Wakes the driver: something was appended, or a read waits to be started.
    work: Signal,
    /// Copies of the log's own numbers, so that a wait that is over costs no borrow.
    written: Cell<Sequence>,
    durable: Cell<Sequence>,
    reads_done: Cell<u64>,
    failure: RefCell<Option<StorageFailed>>,
    appended: Cell<Sequence>,
    topologies: Arc<Topologies>,
    settings: Arc<Settings>,
    security: Arc<Security>,
    metrics: Arc<CoreMetrics>,
    steps: StepWatch,
    stages: Stages,
    draining: Cell<bool>,
    drain: Notify,
    /// Taken by one task at a time, in the order they came: the one whose turn it is to have
    /// memory.
    memory_turn: Semaphore,
    /// Whose turn it is to append.
    shares: RefCell<Shares>,
    mailboxes: Arc<[Arc<Mailbox<Message>>]>,
    /// By core id.
    doors: Arc<[Door<CoreHandle>]>,
    asked: RefCell<HashMap<u64, oneshot::Sender<Result<MetadataRecord, ControlError>>>>,
    next_request: Cell<u64>,
    /// Bounds the control commands of this core that wait for an answer.
    control_turns: Semaphore,
    group_waits: RefCell<GroupWaits>,
    request_memory: Arc<Budget>,
    answer_memory: Arc<Budget>,
    opening_memory: Arc<Budget>,
    /// To the task that keeps the groups' timers: look again.
    groups_changed: Signal,
}

impl CoreHandle {
    /// Wraps a core. `mailboxes` and `doors` by core id.
    #[must_use]
    pub fn new(
        core: Core,
        topologies: Arc<Topologies>,
        settings: Arc<Settings>,
        security: Arc<Security>,
        metrics: Arc<CoreMetrics>,
        mailboxes: Arc<[Arc<Mailbox<Message>>]>,
        doors: Arc<[Door<CoreHandle>]>,
    ) -> CoreHandle {
        let failure = core.log.failure().map(|cause| StorageFailed {
            cause: cause.to_owned(),
        });
        let shared = Shared {
            id: core.id,
            written: Cell::new(core.log.written()),
            durable: Cell::new(core.log.durable()),
            reads_done: Cell::new(core.log.reads_done()),
            failure: RefCell::new(failure),
            appended: Cell::new(core.log.appended()),
            state: RefCell::new(core),
            waiters: RefCell::new(Waiters::default()),
            work: Signal::default(),
            request_memory: Budget::new(settings.request_memory_bytes),
            answer_memory: Budget::new(settings.answer_memory_bytes),
            opening_memory: Budget::new(OPENING_MEMORY_BYTES),
            topologies,
            settings,
            security,
            metrics,
            steps: StepWatch::default(),
            stages: Stages::default(),
            draining: Cell::new(false),
            drain: Notify::new(),
            memory_turn: Semaphore::new(1),
            shares: RefCell::default(),
            mailboxes,
            doors,
            asked: RefCell::new(HashMap::new()),
            next_request: Cell::new(0),
            control_turns: Semaphore::new(CONTROL_COMMANDS),
            group_waits: RefCell::default(),
            groups_changed: Signal::default(),
        };
        CoreHandle(Rc::new(shared), Listener::default())
    }

    /// Runs synchronous code on the core's state. What it appends to the log is written at the
    /// end of this turn of the core. Costs two readings of the clock, for `longest_step`.
    ///
    /// A panic in it ends the process: a half-made change of state must neither be served nor
    /// be checkpointed, and a restart recovers what is durable.
    ///
    /// # Panics
    /// When called from inside itself.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let shared = &*self.0;
        let start = Instant::now();
        let (result, appended, longest) = {
            let mut core = shared.state.borrow_mut();
            let whole = WholeOrNothing;
            let result = f(&mut core);
            std::mem::forget(whole);
            (result, core.log.appended(), core.log.longest_part())
        };
        if shared.appended.replace(appended) != appended {
            shared.work.raise();
        }
        shared.steps.note(&shared.metrics, start.elapsed(), longest);
        result
    }

    /// Which core this is.
    #[must_use]
    pub fn id(&self) -> CoreId {
        self.0.id
    }

    /// Carries out a control command: decided and made durable on core 0, applied by every
    /// core when this returns.
    ///
    /// Cancellation: the command is carried out all the same.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn control(
        &self,
        command: impl Into<ControlCommand>,
    ) -> Result<MetadataRecord, ControlError> {
        let shared = &*self.0;
        if self.is_draining() {
            return Err(ControlError::Stopping);
        }
        let _turn = shared.control_turns.acquire().await;
        let request = shared.next_request.get();
        shared.next_request.set(request + 1);
        let (reply, answer) = oneshot::channel();
        shared.asked.borrow_mut().insert(request, reply);
        shared.mailboxes[0]
            .post(Message::Control {
                asker: shared.id,
                request,
                command: command.into(),
            })
            .await;
        answer.await.unwrap_or(Err(ControlError::Stopping))
    }

    /// A producer id that this node never gave out before, durably noted as given.
    ///
    /// # Errors
    /// When the log is closed, or has no room.
    pub async fn new_producer_id(&self) -> Result<i64, StorageFailed> {
        loop {
            match self.with(Core::grant_producer_id) {
                Ok((id, logged)) => {
                    self.durable(logged).await?;
                    return Ok(id);
                }
                Err(AppendError::Busy) => self.log_moved().await,
                Err(error) => {
                    return Err(StorageFailed {
                        cause: error.to_string(),
                    });
                }
            }
        }
    }

    /// The same way, for a connection that came over such a listener.
    #[must_use]
    pub fn over(&self, listener: Listener) -> CoreHandle {
        CoreHandle(Rc::clone(&self.0), listener)
    }

    /// Over which listener the connection came.
    #[must_use]
    pub fn listener(&self) -> Listener {
        self.1
    }

    /// Brokers, as the connection's listener names them, and who owns which log.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.0.topologies.over(self.1)
    }

    /// Keys, certificates, and the threads that work with them.
    #[must_use]
    pub fn security(&self) -> &Security {
        &self.0.security
    }

    /// The node as every listener shows it, for who keeps it longer or takes it to another thread.
    #[must_use]
    pub fn topologies(&self) -> Arc<Topologies> {
        Arc::clone(&self.0.topologies)
    }

    /// The way to a core, for what belongs to it.
    ///
    /// # Panics
    /// When there is no such core.
    #[must_use]
    pub fn door(&self, core: CoreId) -> &Door<CoreHandle> {
        &self.0.doors[usize::from(core.0)]
    }

    /// For requests that wait to be answered.
    #[must_use]
    pub fn request_memory(&self) -> &Arc<Budget> {
        &self.0.request_memory
    }

    /// For answers that wait to be taken.
    #[must_use]
    pub fn answer_memory(&self) -> &Arc<Budget> {
        &self.0.answer_memory
    }

    /// For batches that are being decompressed.
    #[must_use]
    pub fn opening_memory(&self) -> &Arc<Budget> {
        &self.0.opening_memory
    }

    /// The node's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// This core's counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<CoreMetrics> {
        &self.0.metrics
    }

    /// Notes a synchronous step outside [`CoreHandle::with`].
    #[track_caller]
    pub fn stepped(&self, took: std::time::Duration) {
        self.0.steps.note(&self.0.metrics, took, Part::default());
    }

    /// Where the time of Produce requests goes.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.0.stages
    }

    /// Whether the node is stopping: connections finish what they have begun and close.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.get()
    }
}

/// What the driver, the mailbox task and the thread of a core need beyond the adapters.
impl CoreHandle {
    pub(in crate::node) fn start_draining(&self) {
        self.0.draining.set(true);
        self.0.drain.notify_waiters();
        self.0.asked.borrow_mut().clear();
        self.0.waiters.borrow_mut().end_progress();
    }

    pub(in crate::node) fn about_to_sleep(&self) {
        self.0.steps.refresh();
    }

    pub(in crate::node) fn work(&self) -> &Signal {
        &self.0.work
    }

    pub(in crate::node) fn commit_waiters(&self) -> usize {
        self.0.waiters.borrow().commit_waiting()
    }

    pub(in crate::node) fn mailboxes(&self) -> &[Arc<Mailbox<Message>>] {
        &self.0.mailboxes
    }

    pub(in crate::node) fn answer(
        &self,
        request: u64,
        result: Result<MetadataRecord, ControlError>,
    ) {
        if let Some(reply) = self.0.asked.borrow_mut().remove(&request) {
            // The asker may have gone away meanwhile.
            let _ = reply.send(result);
        }
    }

    pub(in crate::node) fn wake_partitions(&self, partitions: &[PartitionId]) {
        let mut waiters = self.0.waiters.borrow_mut();
        for partition in partitions {
            waiters.partition_moved(*partition);
        }
    }

    /// Tells the waiters what the log did. Called by the driver after each poll that moved.
    pub(in crate::node) fn publish(&self, moved: &[PartitionId]) {
        let shared = &*self.0;
        {
            let core = shared.state.borrow();
            shared.written.set(core.log.written());
            shared.durable.set(core.log.durable());
            shared.reads_done.set(core.log.reads_done());
            if let Some(cause) = core.log.failure() {
                shared
                    .failure
                    .borrow_mut()
                    .get_or_insert_with(|| StorageFailed {
                        cause: cause.to_owned(),
                    });
            }
        }
        let mut waiters = shared.waiters.borrow_mut();
        waiters.written_reached(shared.written.get());
        waiters.durable_reached(shared.durable.get());
        waiters.reads_reached(shared.reads_done.get());
        waiters.log_moved();
        for partition in moved {
            waiters.partition_moved(*partition);
        }
        if shared.failure.borrow().is_some() {
            waiters.wake_all();
        }
    }

    pub(in crate::node) fn failure(&self) -> Option<StorageFailed> {
        self.0.failure.borrow().clone()
    }

    /// Takes the core out, when this is the last handle.
    pub(in crate::node) fn into_core(self) -> Result<Core, CoreHandle> {
        let CoreHandle(shared, listener) = self;
        Rc::try_unwrap(shared)
            .map(|shared| shared.state.into_inner())
            .map_err(|shared| CoreHandle(shared, listener))
    }
}

/// Ends the process when it is dropped, which only a panic makes happen.
struct WholeOrNothing;

impl Drop for WholeOrNothing {
    fn drop(&mut self) {
        tracing::error!("a step on the core's state panicked; ending the process to recover");
        std::process::abort();
    }
}

impl std::fmt::Debug for CoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CoreHandle({})", self.0.id)
    }
}
