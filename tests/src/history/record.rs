//! Writing lines from Rust: what a test itself learns about a log.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use super::event::{Entry, Event, Partition};

/// Now, as the lines of a history give it.
#[must_use]
pub fn now() -> u64 {
    let at = clock_gettime(ClockId::Monotonic);
    let parts = (u64::try_from(at.tv_sec), u64::try_from(at.tv_nsec));
    // The monotonic clock begins at zero, when the machine starts.
    parts.0.unwrap_or(0) * 1_000_000 + parts.1.unwrap_or(0) / 1_000
}

/// A file of lines.
#[derive(Debug)]
pub struct Recorder {
    file: File,
}

impl Recorder {
    /// Opens a file to add to it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Recorder> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        Ok(Recorder { file })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, event: Event) -> Result<()> {
        let mut line = serde_json::to_vec(&Entry { at: now(), event })?;
        line.push(b'\n');
        self.file.write_all(&line).context("writing a history")
    }

    /// Adds that a group has read a topic up to its ends, which somebody began to ask for at a time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_ended(
        &mut self,
        group: &str,
        topic: &str,
        ends: &BTreeMap<i32, i64>,
        since: u64,
    ) -> Result<()> {
        for (partition, offset) in ends {
            self.write(Event::Ended {
                group: group.to_owned(),
                partition: Partition {
                    topic: topic.to_owned(),
                    partition: *partition,
                },
                from: 0,
                offset: *offset,
                since,
            })?;
        }
        Ok(())
    }
}
