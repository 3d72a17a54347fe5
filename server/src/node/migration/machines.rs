//! What the machines of the old logs remember, split for the new ones. One rule for each
//! machine; a machine that joins a core gets its rule here.
//!
//! | machine | where its state goes |
//! |---|---|
//! | partitions, with their producers' windows | each partition to the log that owns it |
//! | topics | to core 0, every partition with its new log |
//! | users | to core 0 |
//! | groups, with their offsets | each group to the log at its place among the cores |
//! | producer ids | to nobody: new logs have new numbers, and these stand in front of their ids |

use ringlog_engine::groups::Groups;
use ringlog_engine::partitions::{Partitions, ProducerIds};
use ringlog_engine::topics::{Owners, Topics, spread};
use ringlog_engine::users::Users;
use ringlog_types::LogId;

use ringlog_machines::checkpoint_of;

/// What a log's machines remember.
#[derive(Clone, Debug)]
pub(super) struct Machines {
    /// Its partitions.
    pub partitions: Partitions,
    /// Its groups.
    pub groups: Groups,
    /// The topics and the users, if the log is core 0's.
    pub metadata: Option<(Topics, Users)>,
}

/// The split.
#[derive(Debug)]
pub(super) struct Split {
    /// The topics as they were.
    pub before: Topics,
    /// Which new log has each partition.
    pub owners: Owners,
    /// The machines' checkpoint for each new log.
    pub states: Vec<Vec<u8>>,
}

/// Splits what the machines of the logs `before` remember, for the logs `after`; both by core.
///
/// # Panics
/// When the first log has no topics, or there is no log to split for.
pub(super) fn split(machines: Vec<Machines>, before: &[LogId], after: &[LogId]) -> Split {
    let mut metadata = None;
    let mut partitions = Vec::with_capacity(machines.len());
    let mut groups = Vec::with_capacity(machines.len());
    for of_log in machines {
        metadata = metadata.or(of_log.metadata);
        partitions.push(of_log.partitions);
        groups.push(of_log.groups);
    }
    let (topics, users) = metadata.expect("core 0's log has the metadata");
    let owners = spread(&topics, before, after);
    let owner = |partition| {
        let log = owners.of(partition)?;
        after.iter().position(|new| *new == log)
    };
    let mut moved = topics.clone();
    moved.reassign(after.to_vec(), &owners);
    let split = Partitions::split(&partitions, after.len(), owner);
    let groups = Groups::split(&groups, after.len());
    let states = split.iter().zip(&groups).zip(after).enumerate();
    let states = states.map(|(core, ((partitions, groups), log))| {
        let metadata = (core == 0).then_some((&moved, &users));
        checkpoint_of(partitions, &ProducerIds::new(*log), groups, metadata)
    });
    Split {
        before: topics,
        states: states.collect(),
        owners,
    }
}
