//! Brings the cores up together and takes them down together. Runs on the main thread, on a
//! small runtime of its own, beside health and metrics: these answer while cores recover, and a
//! scrape does not hold a core.
//!
//! ```text
//! bind all ports ─► threads recover, in parallel ─► topics of core 0, epochs of all
//!       ─► each core gets topology and topics, listens ─► ready
//! stop: each core stops accepting, drains, closes its log ─► all ended
//! ```
//!
//! Invariant: no core takes a connection before every core has recovered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringlog_storage::io::uring::UringOptions;
use ringlog_storage::log::LogConfig;
use ringlog_types::{CoreId, LogId};
use tokio::sync::{mpsc, oneshot};

use super::accept::ConnectionHandler;
use super::directory::DataDirectory;
use super::errand::Door;
use super::errand_desk::ERRANDS_PER_CORE;
use super::mailbox::Mailbox;
use super::message::Message;
use super::status::{CoreStatus, NodeStatus};
use super::thread::{self, Metadata, Plan, Report, Start};
use super::topology::{Broker, Topologies, Topology};
use crate::config::Settings;
use crate::runtime::{self, BindError, BoundSocket};
use crate::security::Security;

/// Messages a core's mailbox holds.
const MAILBOX_CAPACITY: usize = 1024;

/// Why a node does not come up, or did not go down in order.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port could not be taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There are not enough ports above the first.
    #[error(
        "core {core} would listen on port {base} + {core}, which is beyond 65535; choose a lower \
         port with {option}"
    )]
    Ports {
        /// Which core.
        core: u16,
        /// Port of core 0.
        base: u16,
        /// What sets it.
        option: &'static str,
    },
    /// Something the system would not give.
    #[error("{what} failed: {error}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// The answer.
        error: std::io::Error,
    },
    /// A core ended on its own.
    #[error("core {core} ended: {reason}")]
    Core {
        /// Which.
        core: CoreId,
        /// Why.
        reason: String,
    },
}

/// How the logs of a node are written, from settings and device profile.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The logs' settings, by the directory they lie in.
    pub logs: Vec<LogConfig>,
    /// Each ring's options.
    pub uring: UringOptions,
}

/// A node that comes up, serves or goes down.
#[derive(Debug)]
pub struct Node {
    settings: Arc<Settings>,
    status: NodeStatus,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    reports: mpsc::UnboundedReceiver<Report>,
    starts: Vec<oneshot::Sender<Start>>,
    threads: Vec<JoinHandle<()>>,
    ended: usize,
    /// The log of each core.
    logs: Vec<LogId>,
    // Held until the last core has ended.
    _directory: DataDirectory,
}

impl Node {
    /// Takes the ports and starts a thread per core; they recover.
    ///
    /// # Errors
    /// When a port, a thread or a mailbox cannot be had.
    pub fn launch(
        settings: Arc<Settings>,
        security: Arc<Security>,
        directory: DataDirectory,
        kafka_addr: SocketAddr,
        storage: &Storage,
        handler: ConnectionHandler,
    ) -> Result<Node, NodeError> {
        let cores = directory.identity.cores();
        let sockets = bind_all(kafka_addr, cores, "--kafka-addr")?;
        let addresses: Vec<SocketAddr> = sockets.iter().map(BoundSocket::address).collect();
        let tls = settings.access.kafka_tls_addr;
        let tls_sockets = tls.map(|first| bind_all(first, cores, "--kafka-tls-addr"));
        let tls_sockets = tls_sockets.transpose()?.unwrap_or_default();
        let tls_addresses: Vec<SocketAddr> = tls_sockets.iter().map(BoundSocket::address).collect();
        let mut tls_sockets = tls_sockets.into_iter();
        let status = NodeStatus {
            cores: (0..cores)
                .map(|id| {
                    Ok(CoreStatus::new(
                        CoreId(id),
                        Arc::new(Mailbox::new(MAILBOX_CAPACITY)?),
                        Door::new(ERRANDS_PER_CORE)?,
                    ))
                })
                .collect::<std::io::Result<_>>()
                .map_err(|error| NodeError::System {
                    what: "making the mailboxes",
                    error,
                })?,
        };
        let placement = Placement::of(cores);
        tracing::info!("{}", placement.text);
        let logs = directory.identity.log_ids();
        let (report, reports) = mpsc::unbounded_channel();
        let (mut starts, mut threads) = (Vec::new(), Vec::new());
        let places = &directory.identity.logs;
        for ((socket, place), id) in sockets.into_iter().zip(places).zip(0u16..) {
            let (start, started) = oneshot::channel();
            let plan = Plan {
                id: CoreId(id),
                log_id: place.id,
                logs: logs.clone(),
                log_dir: directory.log_dir(*place),
                log_config: storage.logs[place.directory].clone(),
                uring: storage.uring.clone(),
                cpu: placement.cpu(id),
                spin: if placement.oversubscribed {
                    Duration::ZERO
                } else {
                    settings.spin
                },
                cluster_id: directory.identity.cluster_id.clone(),
                socket,
                tls_socket: tls_sockets.next(),
                handler,
                settings: Arc::clone(&settings),
                security: Arc::clone(&security),
                status: status.clone(),
                reports: report.clone(),
                start: started,
            };
            let thread = std::thread::Builder::new()
                .name(format!("ringlog-core-{id}"))
                .spawn(move || thread::run(plan))
                .map_err(|error| NodeError::System {
                    what: "starting a core's thread",
                    error,
                })?;
            starts.push(start);
            threads.push(thread);
        }
        let ended = 0;
        let _directory = directory;
        Ok(Node {
            settings,
            status,
            addresses,
            tls_addresses,
            reports,
            starts,
            threads,
            ended,
            logs,
            _directory,
        })
    }

    /// How the cores are.
    #[must_use]
    pub fn status(&self) -> &NodeStatus {
        &self.status
    }

    /// Where each core listens, by core id.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where each core listens for TLS, by core id; empty where none does.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Brings every core to serving: waits for recovery, gives each what it needs of the
    /// others.
    ///
    /// # Errors
    /// The first core that could not.
    pub async fn start(&mut self) -> Result<(), NodeError> {
        let mut metadata: Option<Metadata> = None;
        let mut offers: Option<String> = None;
        let mut epochs: BTreeMap<CoreId, u32> = BTreeMap::new();
        while epochs.len() < self.starts.len() {
            match self.report().await? {
                Report::Recovered {
                    core,
                    recovery,
                    uring,
                    metadata: own,
                } => {
                    // Cores differ when their directories lie on different disks.
                    if offers.as_ref() != Some(&uring) {
                        tracing::info!(%core, "{uring}");
                        offers = Some(uring);
                    }
                    if recovery.damage.is_empty() {
                        tracing::info!(%core, "recovered: {recovery}");
                    } else {
                        tracing::error!(%core, "recovered: {recovery}");
                    }
                    epochs.insert(core, recovery.epoch);
                    metadata = metadata.or(own);
                }
                Report::Serving { core } => unreachable!("core {core} serves before it may"),
                Report::Ended { core, result } => return Err(early_end(core, result)),
            }
        }
        let metadata = metadata.unwrap_or_else(|| unreachable!("core 0 sends its metadata"));
        let topologies = Arc::new(Topologies {
            plain: self.topology(&self.addresses, &epochs),
            tls: (!self.tls_addresses.is_empty())
                .then(|| self.topology(&self.tls_addresses, &epochs)),
        });
        let mut waiting = self.starts.len();
        for start in self.starts.drain(..) {
            let start_core = Start {
                topologies: Arc::clone(&topologies),
                metadata: metadata.clone(),
            };
            // A core that is gone says so in a report.
            let _ = start.send(start_core);
        }
        while waiting > 0 {
            match self.report().await? {
                Report::Serving { .. } => waiting -= 1,
                Report::Recovered { core, .. } => unreachable!("core {core} recovers twice"),
                Report::Ended { core, result } => return Err(early_end(core, result)),
            }
        }
        Ok(())
    }

    /// Waits until a core ends on its own: none should.
    pub async fn failed(&mut self) -> NodeError {
        loop {
            match self.report().await {
                Ok(Report::Ended { core, result }) => return early_end(core, result),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Stops every core that still runs and waits until all have ended.
    ///
    /// # Errors
    /// The first core that could not close its log in order.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        // Cores that still recover find nobody who starts them, and close.
        self.starts.clear();
        for core in self.status.cores.iter() {
            let patience = self.settings.drain_timeout;
            let _ = tokio::time::timeout(patience, core.mailbox.post(Message::Stop)).await;
        }
        let mut first = Ok(());
        while self.ended < self.threads.len() {
            match self.report().await? {
                Report::Ended { core, result } => {
                    if let (Ok(()), Err(reason)) = (&first, result) {
                        first = Err(NodeError::Core { core, reason });
                    }
                }
                Report::Recovered { .. } | Report::Serving { .. } => {}
            }
        }
        for thread in self.threads {
            // What a thread had to say is in its last report.
            let _ = thread.join();
        }
        first
    }

    async fn report(&mut self) -> Result<Report, NodeError> {
        let check = Duration::from_secs(1);
        loop {
            match tokio::time::timeout(check, self.reports.recv()).await {
                Ok(Some(report)) => {
                    if let Report::Ended { core, .. } = &report {
                        self.ended += 1;
                        let core = &self.status.cores[usize::from(core.0)];
                        core.enter(super::status::Phase::Stopped);
                    }
                    return Ok(report);
                }
                Ok(None) => return Err(self.panicked()),
                Err(_) => {
                    let gone = self
                        .threads
                        .iter()
                        .filter(|thread| thread.is_finished())
                        .count();
                    if gone > self.ended && self.reports.is_empty() {
                        return Err(self.panicked());
                    }
                }
            }
        }
    }

    fn panicked(&self) -> NodeError {
        let dead = self
            .status
            .cores
            .iter()
            .zip(&self.threads)
            .find(|(core, thread)| {
                thread.is_finished() && core.phase() != super::status::Phase::Stopped
            });
        let core = dead.map_or(CoreId(0), |(core, _)| core.id);
        NodeError::Core {
            core,
            reason: "its thread panicked; the log above says where".to_owned(),
        }
    }

    fn topology(&self, addresses: &[SocketAddr], epochs: &BTreeMap<CoreId, u32>) -> Topology {
        let brokers = addresses
            .iter()
            .zip(0u16..)
            .map(|(address, id)| Broker {
                id: CoreId(id),
                host: advertised_host(&self.settings, *address),
                port: address.port(),
            })
            .collect();
        let owned = |(core, epoch): (&CoreId, &u32)| {
            let log = self.logs[usize::from(core.0)];
            (log, *core, i32::try_from(*epoch).unwrap_or(i32::MAX))
        };
        Topology::new(brokers, epochs.iter().map(owned).collect())
    }
}

fn early_end(core: CoreId, result: Result<(), String>) -> NodeError {
    let reason = result
        .err()
        .unwrap_or_else(|| "it stopped without being told to".to_owned());
    NodeError::Core { core, reason }
}

fn bind_all(
    first: SocketAddr,
    cores: u16,
    option: &'static str,
) -> Result<Vec<BoundSocket>, NodeError> {
    (0..cores)
        .map(|core| {
            let mut address = first;
            if first.port() != 0 {
                let port = first.port().checked_add(core);
                address.set_port(port.ok_or(NodeError::Ports {
                    core,
                    base: first.port(),
                    option,
                })?);
            }
            Ok(BoundSocket::bind(address)?)
        })
        .collect()
}

/// The host clients are told: the one that was set, the address listened on, or, for an
/// address that means any, this machine's name.
fn advertised_host(settings: &Settings, address: SocketAddr) -> String {
    if let Some(host) = &settings.advertised_host {
        return host.clone();
    }
    if !address.ip().is_unspecified() {
        return address.ip().to_string();
    }
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Which core runs on which CPU.
struct Placement {
    cpus: Vec<usize>,
    oversubscribed: bool,
    text: String,
}

impl Placement {
    fn of(cores: u16) -> Placement {
        let cores = usize::from(cores);
        match runtime::allowed_cpus() {
            Ok(cpus) if cores <= cpus.len() => {
                let text = format!("{cores} cores, pinned to CPUs {:?}", &cpus[..cores]);
                Placement {
                    cpus,
                    oversubscribed: false,
                    text,
                }
            }
            Ok(cpus) => {
                let text = format!(
                    "{cores} cores on {} CPUs: they share them, so threads are not pinned and do \
                     not poll",
                    cpus.len()
                );
                Placement {
                    cpus: Vec::new(),
                    oversubscribed: true,
                    text,
                }
            }
            Err(error) => {
                let text = format!(
                    "{cores} cores, not pinned: the kernel does not say where this process may run ({error})"
                );
                Placement {
                    cpus: Vec::new(),
                    oversubscribed: true,
                    text,
                }
            }
        }
    }

    fn cpu(&self, core: u16) -> Option<usize> {
        self.cpus.get(usize::from(core)).copied()
    }
}
