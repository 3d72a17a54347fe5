//! Who owns which log, and where clients reach the owners. One copy per node, made when every
//! core has recovered and listens, unchanged until the node stops.

use ringlog_types::{CoreId, LogId};

/// A core as Kafka clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The core; also the broker's node id.
    pub id: CoreId,
    /// Where clients are told to connect.
    pub host: String,
    /// And the port.
    pub port: u16,
}

/// Which of a core's listeners a connection came over. What a client is told of the brokers are
/// their ports of the same kind, as Kafka's listeners do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listener {
    /// Bytes as they are.
    #[default]
    Plain,
    /// TLS.
    Tls,
}

/// The node as each kind of listener shows it.
#[derive(Clone, Debug)]
pub struct Topologies {
    /// Always there.
    pub plain: Topology,
    /// If the node listens for TLS.
    pub tls: Option<Topology>,
}

impl Topologies {
    /// What a connection over such a listener is told.
    #[must_use]
    pub fn over(&self, listener: Listener) -> &Topology {
        match (listener, &self.tls) {
            (Listener::Tls, Some(tls)) => tls,
            _ => &self.plain,
        }
    }
}

/// The node's cores and logs.
#[derive(Clone, Debug)]
pub struct Topology {
    brokers: Vec<Broker>,
    /// Owner and leader epoch of each log, in the order of log ids.
    logs: Vec<(LogId, CoreId, i32)>,
}

impl Topology {
    /// `brokers` by core id; of each log its owner and leader epoch.
    #[must_use]
    pub fn new(brokers: Vec<Broker>, mut logs: Vec<(LogId, CoreId, i32)>) -> Topology {
        assert!(
            brokers
                .iter()
                .enumerate()
                .all(|(index, broker)| usize::from(broker.id.0) == index),
            "brokers are listed in the order of their ids"
        );
        logs.sort_unstable_by_key(|(log, ..)| *log);
        Topology { brokers, logs }
    }

    /// Every core, in the order of ids.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The core that owns a log. A log that this node does not have belongs to core 0, which
    /// then answers that it has no such partition.
    #[must_use]
    pub fn log_owner(&self, log: LogId) -> CoreId {
        self.log(log).map_or(CoreId(0), |(core, _)| core)
    }

    /// Leader epoch of the partitions in a log: how often the log was opened. −1 for a log
    /// that this node does not have.
    #[must_use]
    pub fn leader_epoch(&self, log: LogId) -> i32 {
        self.log(log).map_or(-1, |(_, epoch)| epoch)
    }

    fn log(&self, log: LogId) -> Option<(CoreId, i32)> {
        let at = self.logs.binary_search_by_key(&log, |(log, ..)| *log);
        at.ok().map(|at| (self.logs[at].1, self.logs[at].2))
    }
}
