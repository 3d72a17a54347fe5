//! The life of one core's thread: pin, recover, wait for the others, serve, drain, close.
//!
//! Invariant: a core takes connections only after every core has recovered, and a thread that
//! ends has closed its log or says why it could not. Called by the supervisor.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringlog_engine::groups::Groups;
use ringlog_engine::partitions::{Partitions, ProducerIds};
use ringlog_engine::topics::{Durability, MetadataRecord, Topic, Topics};
use ringlog_engine::users::Users;
use ringlog_storage::io::uring::{UringIo, UringOptions};
use ringlog_storage::log::clean::CleanTask;
use ringlog_storage::log::{Log, LogConfig, RecoveryReport};
use ringlog_types::{CoreId, LogId, PartitionId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::accept::{self, ConnectionHandler, Listening};
use super::control::ControlPlane;
use super::core::{Core, CoreHandle};
use super::driver::Driver;
use super::helper::Helper;
use super::mailbox::Mailbox;
use super::message::Message;
use super::status::{NodeStatus, Phase};
use super::topology::Topologies;
use super::{cleaner, errand_desk, first_users, group_upkeep, inbox, retention};
use crate::config::Settings;
use crate::runtime::{self, BoundSocket, Readable};
use crate::security::Security;
use ringlog_machines::{CoreMachine, Effects};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What a thread needs to become a core.
pub struct Plan {
    /// Which core.
    pub id: CoreId,
    /// The log it owns.
    pub log_id: LogId,
    /// Every log of the node.
    pub logs: Vec<LogId>,
    /// The log's directory.
    pub log_dir: PathBuf,
    /// How the log writes.
    pub log_config: LogConfig,
    /// How its ring is made.
    pub uring: UringOptions,
    /// The CPU it has for itself, if it has one.
    pub cpu: Option<usize>,
    /// How long it polls before it sleeps.
    pub spin: Duration,
    /// The cluster's id: goes into the metadata of a new node.
    pub cluster_id: String,
    /// Where it listens.
    pub socket: BoundSocket,
    /// And where for TLS.
    pub tls_socket: Option<BoundSocket>,
    /// Who speaks on its connections.
    pub handler: ConnectionHandler,
    /// The node's settings.
    pub settings: Arc<Settings>,
    /// Keys and certificates.
    pub security: Arc<Security>,
    /// How the cores are.
    pub status: NodeStatus,
    /// Where it says what it does.
    pub reports: mpsc::UnboundedSender<Report>,
    /// What it learns when every core has recovered.
    pub start: oneshot::Receiver<Start>,
}

/// What a core tells the supervisor.
#[derive(Debug)]
pub enum Report {
    /// Its log is open.
    Recovered {
        /// Who.
        core: CoreId,
        /// What recovery found and did.
        recovery: Box<RecoveryReport>,
        /// What the ring and the filesystem offer.
        uring: String,
        /// Core 0: topics and users.
        metadata: Option<Metadata>,
    },
    /// It takes connections.
    Serving {
        /// Who.
        core: CoreId,
    },
    /// Its thread ends.
    Ended {
        /// Who.
        core: CoreId,
        /// Whether its log was closed in order.
        result: Result<(), String>,
    },
}

/// The metadata as core 0 has them when it has recovered.
#[derive(Clone, Debug)]
pub struct Metadata {
    topics: Arc<[u8]>,
    users: Arc<[u8]>,
}

/// What a core learns when every core has recovered.
#[derive(Debug)]
pub struct Start {
    /// Brokers and logs.
    pub topologies: Arc<Topologies>,
    /// Topics and users.
    pub metadata: Metadata,
}

/// Runs a core on the calling thread until the node stops. Everything it has to say goes to
/// `plan.reports`.
pub fn run(plan: Plan) {
    let (id, reports) = (plan.id, plan.reports.clone());
    let result = live(plan);
    // A supervisor that is gone has ended the process already.
    let _ = reports.send(Report::Ended { core: id, result });
}

fn live(mut plan: Plan) -> Result<(), String> {
    if let Some(cpu) = plan.cpu
        && let Err(error) = runtime::pin_thread(cpu)
    {
        tracing::warn!(core = %plan.id, cpu, %error, "the thread could not be pinned");
    }
    if let Err(error) = runtime::prefer_short_slices() {
        tracing::info!(core = %plan.id, %error, "the scheduler grants no short slices; other \
            programs on this CPU delay acknowledgements by up to a tick");
    }
    let opened = open(&plan)?;
    let core = opened.core;
    plan.status.cores[usize::from(plan.id.0)].enter(Phase::Recovered);
    let metadata = (plan.id.0 == 0).then(|| Metadata {
        topics: core.topics.checkpoint().into(),
        users: core.users.checkpoint().into(),
    });
    let report = Report::Recovered {
        core: plan.id,
        recovery: Box::new(opened.recovery),
        uring: opened.uring,
        metadata,
    };
    let _ = plan.reports.send(report);
    let (_, unused) = oneshot::channel();
    let start = std::mem::replace(&mut plan.start, unused);
    let Ok(start) = start.blocking_recv() else {
        // Another core could not recover: nothing was served, nothing needs to be finished.
        return core.close();
    };
    let core = runtime::run_core(serve(core, plan, start)).map_err(|error| error.to_string())??;
    core.close()
}

struct Opened {
    core: Core,
    recovery: RecoveryReport,
    uring: String,
}

fn open(plan: &Plan) -> Result<Opened, String> {
    std::fs::create_dir_all(&plan.log_dir).map_err(|error| {
        format!(
            "making the directory {} failed: {error}",
            plan.log_dir.display()
        )
    })?;
    let io = UringIo::open(&plan.log_dir, &plan.uring).map_err(|error| error.to_string())?;
    let uring = io.report().to_string();
    let mut topics = Topics::new(plan.logs.clone());
    topics.limit(plan.settings.topics);
    let mut users = Users::new();
    let mut partitions = Partitions::with_limits(plan.settings.producers);
    let mut producer_ids = ProducerIds::new(plan.log_id);
    let mut groups = Groups::new(plan.settings.groups);
    let mut effects = Effects::default();
    let mut machine = CoreMachine {
        topics: &mut topics,
        users: &mut users,
        owns_metadata: plan.id.0 == 0,
        log_id: plan.log_id,
        partitions: &mut partitions,
        producer_ids: &mut producer_ids,
        groups: &mut groups,
        effects: &mut effects,
    };
    let pending_limit_bytes = plan.log_config.pending_bytes;
    let opened = Log::open(io, plan.log_id, plan.log_config.clone(), &mut machine);
    let (log, recovery) = opened.map_err(|error| error.to_string())?;
    for reason in &effects.refused {
        tracing::error!(core = %plan.id, "{reason}");
    }
    let core = Core::new(
        plan.id,
        plan.log_id,
        log,
        topics,
        users,
        partitions,
        producer_ids,
        groups,
        pending_limit_bytes,
    );
    Ok(Opened {
        core,
        recovery,
        uring,
    })
}

/// From the start to the end of serving. Gives the core back to be closed.
async fn serve(mut core: Core, plan: Plan, start: Start) -> Result<Core, String> {
    let status = plan.status.clone();
    let own = &status.cores[usize::from(plan.id.0)];
    if plan.id.0 != 0 {
        core.topics
            .restore(&start.metadata.topics)
            .map_err(|error| format!("taking over the topics of core 0 failed: {error}"))?;
        core.users
            .restore(&start.metadata.users)
            .map_err(|error| format!("taking over the users of core 0 failed: {error}"))?;
    }
    let orphaned = orphaned_partitions(&core);
    if !orphaned.is_empty() {
        let count = orphaned.len();
        tracing::info!(core = %plan.id, count, "dropping partitions whose topic was deleted");
        core.add_orphaned(orphaned);
    }
    core.log.set_metadata_version(core.topics.version());
    let now = core.group_time();
    core.groups.resume(now);
    let now_ms = core.now_ms();
    core.partitions.resume(now_ms);
    if plan.id.0 == 0 {
        warn_of_weaker_topics(&core.topics);
    }
    let ring = Readable::watch(core.log.io())
        .map_err(|error| format!("waiting for the log's ring failed: {error}"))?;
    let mailboxes: Arc<[Arc<Mailbox<Message>>]> = status
        .cores
        .iter()
        .map(|core| Arc::clone(&core.mailbox))
        .collect();
    let handle = CoreHandle::new(
        core,
        start.topologies,
        Arc::clone(&plan.settings),
        Arc::clone(&plan.security),
        Arc::clone(&own.metrics),
        Arc::clone(&mailboxes),
        status.cores.iter().map(|core| core.door.clone()).collect(),
    );
    let control = Rc::new(ControlPlane::new(handle.clone()));
    let driver = Driver::new(
        handle.clone(),
        Rc::clone(&control),
        status.clone(),
        ring,
        plan.spin,
    );
    let mut tasks = Tasks {
        driver: runtime::spawn_local(driver.run()),
        inbox: runtime::spawn_local(inbox::run(
            handle.clone(),
            Rc::clone(&control),
            Arc::clone(&own.mailbox),
        )),
        errands: runtime::spawn_local(errand_desk::run(handle.clone(), own.door.clone())),
        outbox: {
            let control = Rc::clone(&control);
            runtime::spawn_local(async move { control.outbox.post_all(&mailboxes).await })
        },
        retention: runtime::spawn_local(retention::run(handle.clone())),
        groups: runtime::spawn_local(group_upkeep::run(handle.clone())),
        cleaner: {
            let helper = Helper::start(plan.id, CleanTask::run);
            let helper = helper.map_err(|error| format!("starting the helper thread: {error}"))?;
            runtime::spawn_local(cleaner::run(handle.clone(), helper))
        },
    };
    if plan.id.0 == 0 && handle.with(|core| core.topics.cluster_id().is_none()) {
        let record = MetadataRecord::ClusterCreated {
            cluster_id: plan.cluster_id,
        };
        control.log(None, &record).await;
    }
    let listen = |socket: BoundSocket| socket.listen(BACKLOG).map_err(|error| error.to_string());
    let listening = Listening {
        plain: listen(plan.socket)?,
        tls: plan.tls_socket.map(listen).transpose()?,
    };
    let mut connections = JoinSet::new();
    let accepting = async {
        if plan.id.0 == 0 {
            first_users::make(&handle).await;
        }
        own.enter(Phase::Serving);
        let _ = plan.reports.send(Report::Serving { core: plan.id });
        accept::accept(listening, &handle, plan.handler, &mut connections).await;
    };
    let ended = serve_until_stopped(&mut tasks, accepting).await;
    own.enter(Phase::Draining);
    handle.start_draining();
    accept::finish(&handle, &mut connections, plan.settings.drain_timeout).await;
    tasks.finish_errands().await;
    tasks.end().await;
    drop(control);
    ended?;
    let core = handle
        .into_core()
        .map_err(|_| "a task did not let go of its core".to_owned())?;
    Ok(core)
}

/// Serves until the mailbox says stop, or a task without which the core cannot go on ends.
async fn serve_until_stopped(
    tasks: &mut Tasks,
    accepting: impl Future<Output = ()>,
) -> Result<(), String> {
    tokio::select! {
        stopped = &mut tasks.inbox => match stopped {
            Ok(result) => result,
            Err(error) => Err(format!("the mailbox task ended: {error}")),
        },
        ended = &mut tasks.driver => Err(match ended {
            Ok(Ok(())) => "the driver ended".to_owned(),
            Ok(Err(error)) => format!("waiting for the log's ring failed: {error}"),
            Err(error) => format!("the driver ended: {error}"),
        }),
        ended = &mut tasks.errands => Err(format!("the task of errands ended: {ended:?}")),
        ended = &mut tasks.outbox => Err(format!("the outbox task ended: {ended:?}")),
        ended = &mut tasks.cleaner => Err(format!("the cleaner's task ended: {ended:?}")),
        ended = &mut tasks.groups => Err(format!("the groups' task ended: {ended:?}")),
        ended = &mut tasks.retention => Err(format!("the retention task ended: {ended:?}")),
        () = accepting => Ok(()),
    }
}

/// The core's own tasks.
struct Tasks {
    driver: JoinHandle<std::io::Result<()>>,
    inbox: JoinHandle<Result<(), String>>,
    errands: JoinHandle<Result<(), String>>,
    outbox: JoinHandle<()>,
    retention: JoinHandle<()>,
    groups: JoinHandle<()>,
    cleaner: JoinHandle<()>,
}

impl Tasks {
    /// Waits until errands that were begun are over; the node stops.
    async fn finish_errands(&mut self) {
        if !self.errands.is_finished() {
            // How it ended does not matter: nothing begins any more.
            let _ = (&mut self.errands).await;
        }
    }

    /// Ends them, and waits until they have let go of the core.
    async fn end(self) {
        end(self.inbox).await;
        end(self.errands).await;
        end(self.outbox).await;
        end(self.retention).await;
        end(self.groups).await;
        end(self.cleaner).await;
        end(self.driver).await;
    }
}

async fn end<T>(task: JoinHandle<T>) {
    task.abort();
    if !task.is_finished() {
        // How it ended does not matter: it was told to.
        let _ = task.await;
    }
}

/// Says once per start which topics acknowledge what is not on stable storage.
fn warn_of_weaker_topics(topics: &Topics) {
    const NAMED: usize = 10;
    let weaker = topics
        .iter()
        .filter(|topic| topic.config.durability() < Durability::Flushed);
    let weaker: Vec<&Topic> = weaker.collect();
    if weaker.is_empty() {
        return;
    }
    let named = weaker.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|topic| format!("{} ({})", topic.name, topic.config.durability().name()))
        .collect();
    tracing::warn!(
        "{} topics acknowledge records before they are on stable storage, by their \
         ringlog.durability: {}{}",
        weaker.len(),
        named.join(", "),
        if weaker.len() > NAMED { ", …" } else { "" }
    );
}

/// Partitions in the log whose topic is gone, or never came to be: a core may have been stopped
/// between core 0's record and its own.
fn orphaned_partitions(core: &Core) -> Vec<PartitionId> {
    core.log
        .partitions()
        .filter(|partition| !core.owns(*partition))
        .collect()
}
