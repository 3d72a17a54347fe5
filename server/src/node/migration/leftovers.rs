//! What a migration that was cut off left behind: before its switch the logs that it was making,
//! behind it the logs that it replaced.

use super::error::MigrationError;
use super::files::remove_directory;
use super::plan::{Plan, PlannedLog};
use super::steps::{Step, reached};
use crate::node::directory::{DataDirectory, log_name};

/// Removes what an earlier attempt left, if there was one.
pub(super) fn clear(directory: &mut DataDirectory) -> Result<(), MigrationError> {
    let Some(plan) = Plan::read(directory.path())? else {
        return Ok(());
    };
    let epoch = directory.identity.epoch;
    if epoch == plan.epoch {
        tracing::info!(
            epoch,
            "a migration to these logs was cut off behind its switch: removing the old ones"
        );
        remove_old(directory, &plan)
    } else if epoch + 1 == plan.epoch {
        tracing::info!(
            epoch = plan.epoch,
            "a migration was cut off before its switch: removing what it had begun"
        );
        undo(directory, &plan)
    } else {
        Err(MigrationError::Mixed {
            planned: plan.epoch,
            found: epoch,
        })
    }
}

/// Behind the switch.
pub(super) fn remove_old(directory: &DataDirectory, plan: &Plan) -> Result<(), MigrationError> {
    remove(directory, &plan.old, || reached(Step::FirstRemoved))?;
    reached(Step::Removed);
    Plan::remove(directory.path())
}

/// Before the switch. The numbers of the logs that were being made are not given again: where one
/// of them cannot be removed, because its directory was not given this time, no later log is
/// taken for it.
pub(super) fn undo(directory: &mut DataDirectory, plan: &Plan) -> Result<(), MigrationError> {
    remove(directory, &plan.new, || {})?;
    let mut identity = directory.identity.clone();
    let behind = plan.new.iter().map(|log| log.log().0 + 1);
    identity.next_log = behind.fold(identity.next_log, u32::max);
    directory.become_identity(identity)?;
    Plan::remove(directory.path())
}

fn remove(
    directory: &DataDirectory,
    logs: &[PlannedLog],
    after_first: impl Fn(),
) -> Result<(), MigrationError> {
    for (number, planned) in logs.iter().enumerate() {
        let log = planned.log();
        assert!(
            !directory.identity.log_ids().contains(&log),
            "a log of the node is not removed"
        );
        match directory.path_of(&planned.disk)? {
            Some(path) => remove_directory(&path.join(log_name(log)))?,
            None => tracing::warn!(
                %log, directory = planned.disk,
                "what is left of this log cannot be removed: its directory was not given"
            ),
        }
        if number == 0 {
            after_first();
        }
    }
    Ok(())
}
