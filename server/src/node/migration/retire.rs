//! An old log, recovered, sealed, and taken out of service.

use ringlog_engine::groups::{GroupSettings, Groups};
use ringlog_engine::partitions::{Partitions, ProducerIds, ProducerLimits};
use ringlog_engine::topics::Topics;
use ringlog_engine::users::Users;
use ringlog_storage::io::uring::{UringIo, UringOptions};
use ringlog_storage::log::{Log, LogConfig, Retired};
use ringlog_types::LogId;

use super::error::MigrationError;
use super::machines::Machines;
use ringlog_machines::{CoreMachine, Effects};

/// What there is to know of an old log.
#[derive(Debug)]
pub(super) struct OldLog {
    /// Which.
    pub log: LogId,
    /// Its segments and partitions.
    pub retired: Retired,
    /// What its machines remember.
    pub machines: Machines,
}

/// Opens a log as its core would, and brings it to rest. `logs` are those of all cores.
pub(super) fn retire(
    log: LogId,
    logs: &[LogId],
    path: &std::path::Path,
    config: LogConfig,
    uring: &UringOptions,
) -> Result<OldLog, MigrationError> {
    let failed = |reason: String| MigrationError::Retire { log, reason };
    let io = UringIo::open(path, uring).map_err(|error| failed(error.to_string()))?;
    let mut topics = Topics::new(logs.to_vec());
    let mut users = Users::new();
    // What is remembered is for the new cores to cut down.
    let mut partitions = Partitions::with_limits(ProducerLimits::NONE);
    let mut producer_ids = ProducerIds::new(log);
    let mut groups = Groups::new(GroupSettings::default());
    let mut effects = Effects::default();
    let owns_metadata = logs.first() == Some(&log);
    let mut machine = CoreMachine {
        topics: &mut topics,
        users: &mut users,
        owns_metadata,
        log_id: log,
        partitions: &mut partitions,
        producer_ids: &mut producer_ids,
        groups: &mut groups,
        effects: &mut effects,
    };
    let opened = Log::open(io, log, config, &mut machine);
    let (open, recovery) = opened.map_err(|error| failed(error.to_string()))?;
    if recovery.damage.is_empty() {
        tracing::info!(%log, "recovered: {recovery}");
    } else {
        tracing::error!(%log, "recovered: {recovery}");
    }
    if !recovery.damaged_headers.is_empty() {
        let files = recovery.damaged_headers.join(", ");
        return Err(MigrationError::Unreadable { log, files });
    }
    let retired = open.retire(&mut machine).map_err(failed)?;
    for reason in &effects.refused {
        tracing::error!(%log, "{reason}");
    }
    Ok(OldLog {
        log,
        retired,
        machines: Machines {
            partitions,
            groups,
            metadata: owns_metadata.then_some((topics, users)),
        },
    })
}
