//! Figures for programs.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Writes figures as JSON, where a file is named.
pub fn write_json(path: Option<&Path>, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(report).context("encoding the figures")?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
