//! The places where a migration can be cut off, by name. A test names one in
//! `RINGLOG_TEST_END_AT`, and the process kills itself there, as `kill -9` would.

/// What tests set.
const VARIABLE: &str = "RINGLOG_TEST_END_AT";

/// Where a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is to come is written down.
    Planned,
    /// One of the old logs has come to rest.
    FirstRetired,
    /// All have.
    Retired,
    /// One of the new logs has its segment files.
    FirstLinked,
    /// One of the new logs is whole.
    FirstImported,
    /// All are.
    Imported,
    /// The new logs are the node's.
    Switched,
    /// One of the old logs is removed.
    FirstRemoved,
    /// All are.
    Removed,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Planned => "planned",
            Step::FirstRetired => "first-retired",
            Step::Retired => "retired",
            Step::FirstLinked => "first-linked",
            Step::FirstImported => "first-imported",
            Step::Imported => "imported",
            Step::Switched => "switched",
            Step::FirstRemoved => "first-removed",
            Step::Removed => "removed",
        }
    }
}

/// The migration has come this far.
pub fn reached(step: Step) {
    let name = step.name();
    tracing::debug!(step = name, "migration");
    if std::env::var(VARIABLE).is_ok_and(|end| end == name) {
        tracing::warn!("{VARIABLE}={name}: ending here");
        let own = rustix::process::getpid();
        // Nothing can be done if it fails, and nothing is lost: the migration goes on.
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}
