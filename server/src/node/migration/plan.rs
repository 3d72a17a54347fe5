//! `migration.toml`: which logs a migration replaces and which it makes, written down before
//! either is touched, removed when nothing of it is left.

use std::path::Path;

use ringlog_types::LogId;
use serde::{Deserialize, Serialize};

use super::error::MigrationError;
use crate::node::directory_error::{DirectoryError, io_error};
use crate::node::identity::{Identity, LogPlace, write_durably};

const PLAN: &str = "migration.toml";
const FORMAT_VERSION: u32 = 1;

/// A log's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlannedLog {
    id: u32,
    /// The name of the directory it is in; empty: the first.
    pub disk: String,
}

impl PlannedLog {
    fn new(identity: &Identity, log: &LogPlace) -> PlannedLog {
        let further = log.directory.checked_sub(1);
        let disk = further.map_or(String::new(), |at| identity.further[at].id.clone());
        PlannedLog { id: log.id.0, disk }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        LogId(self.id)
    }
}

/// A migration that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    format_version: u32,
    /// Epoch of the node when it is done.
    pub epoch: u32,
    /// Logs that go when it is done.
    pub old: Vec<PlannedLog>,
    /// Logs that go when it is not.
    pub new: Vec<PlannedLog>,
}

impl Plan {
    /// From one identity to the next.
    pub fn new(before: &Identity, after: &Identity) -> Plan {
        let logs = |of: &Identity| of.logs.iter().map(|log| PlannedLog::new(of, log)).collect();
        Plan {
            format_version: FORMAT_VERSION,
            epoch: after.epoch,
            old: logs(before),
            new: logs(after),
        }
    }

    pub fn read(first: &Path) -> Result<Option<Plan>, MigrationError> {
        let file = first.join(PLAN);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("reading", &file)(error).into()),
        };
        let refused = |reason| DirectoryError::Identity {
            path: file.clone(),
            reason,
        };
        let plan: Plan = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if plan.format_version != FORMAT_VERSION {
            let found = plan.format_version;
            let reason =
                format!("it has format version {found}, this build reads {FORMAT_VERSION}");
            return Err(refused(reason).into());
        }
        Ok(Some(plan))
    }

    pub fn write(&self, first: &Path) -> Result<(), MigrationError> {
        let text = toml::to_string(self).map_err(|error| DirectoryError::Identity {
            path: first.join(PLAN),
            reason: error.to_string(),
        })?;
        let head = "# The node's logs are being replaced; the next start finishes this or undoes \
                    it. Do not edit.\n";
        Ok(write_durably(first, PLAN, &format!("{head}{text}"))?)
    }

    /// Nothing of it is left.
    pub fn remove(first: &Path) -> Result<(), MigrationError> {
        let file = first.join(PLAN);
        std::fs::remove_file(&file).map_err(io_error("removing", &file))?;
        Ok(super::files::sync(first)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::identity::FurtherDirectory;

    #[test]
    fn what_is_planned_is_read_and_gone_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Plan::read(dir.path()).unwrap(), None);
        let before = Identity::new("c".to_owned(), 1, Vec::new());
        let mut after = before.clone();
        after.epoch = 2;
        after.further.push(FurtherDirectory {
            id: "b".to_owned(),
            path: "/b".into(),
        });
        after.logs = Identity::placed(1, 2, 2);
        let plan = Plan::new(&before, &after);
        plan.write(dir.path()).unwrap();
        assert_eq!(Plan::read(dir.path()).unwrap(), Some(plan.clone()));
        let disks: Vec<&str> = plan.new.iter().map(|log| log.disk.as_str()).collect();
        assert_eq!(disks, ["", "b"]);
        Plan::remove(dir.path()).unwrap();
        assert_eq!(Plan::read(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join(PLAN), "format_version = 7").unwrap();
        assert!(Plan::read(dir.path()).is_err());
    }
}
