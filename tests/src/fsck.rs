//! `ringlog fsck` as a user runs it, and what it printed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binaries;

/// What a check came to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its exit status.
    pub code: i32,
    /// What it printed with `--json`.
    pub report: Value,
}

/// Checks a data directory, with more arguments.
///
/// # Errors
/// When it does not run, or prints no JSON.
pub fn fsck(data_dir: &Path, arguments: &[&str]) -> Result<Checked> {
    let mut command = Command::new(binaries::ringlog()?);
    command.arg("fsck").arg(data_dir).arg("--json");
    let output = command.args(arguments).output().context("running fsck")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let report =
        serde_json::from_str(&printed).with_context(|| format!("{}: {printed}", output.status))?;
    let code = output.status.code().context("fsck was ended by a signal")?;
    Ok(Checked { code, report })
}

/// Offsets that a finding names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As log lines name the partition: topic number and index.
    pub partition: String,
    /// The index.
    pub index: u64,
    /// First offset.
    pub first: u64,
    /// Behind the last.
    pub end: u64,
}

impl Checked {
    /// Everything it calls damage.
    #[must_use]
    pub fn damage(&self) -> Vec<&Value> {
        let logs = self.report["logs"].as_array().into_iter().flatten();
        let findings = logs.flat_map(|log| log["findings"].as_array().into_iter().flatten());
        findings
            .filter(|finding| finding["severity"] == "damage")
            .collect()
    }

    /// Whether something is damage of this kind in this file.
    #[must_use]
    pub fn finds(&self, fault: &str, file: &str) -> bool {
        let mut damage = self.damage().into_iter();
        damage.any(|finding| finding["fault"] == fault && finding["file"] == file)
    }

    /// All offsets that damage is named with.
    #[must_use]
    pub fn named(&self) -> Vec<Named> {
        let damage = self.damage().into_iter();
        let ranges = damage.flat_map(|finding| finding["offsets"].as_array().into_iter().flatten());
        let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
        ranges
            .map(|range| {
                let index = number(&range["partition"]);
                Named {
                    partition: format!("{}/{index}", range["topic_number"]),
                    index,
                    first: number(&range["first"]),
                    end: number(&range["end"]),
                }
            })
            .collect()
    }

    /// The segments of a log that hold blocks, by number: file names.
    #[must_use]
    pub fn segments(&self, log: usize) -> Vec<String> {
        let segments = self.report["logs"][log]["segments"].as_array();
        let used = segments
            .into_iter()
            .flatten()
            .filter(|segment| segment["blocks"] != 0);
        used.filter_map(|segment| segment["file"].as_str().map(str::to_owned))
            .collect()
    }
}
