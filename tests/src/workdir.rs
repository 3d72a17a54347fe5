//! Directories for data: on the disk that the build lies on, because `/tmp` is often memory, and
//! nothing in memory can be opened for direct I/O or tells anything about flushing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Where data directories are made: `RINGLOG_TEST_DIR`, or `tmp` in the build directory.
///
/// # Errors
/// When it cannot be made.
pub fn base() -> Result<PathBuf> {
    let base = match std::env::var_os("RINGLOG_TEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => crate::binaries::target_dir()?.join("tmp"),
    };
    std::fs::create_dir_all(&base).with_context(|| format!("making {}", base.display()))?;
    Ok(base)
}

/// A directory that is removed when dropped.
#[derive(Debug)]
pub struct WorkDir(TempDir);

impl WorkDir {
    /// Makes one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<WorkDir> {
        let made = tempfile::Builder::new()
            .prefix("ringlog-test-")
            .tempdir_in(base()?);
        Ok(WorkDir(made.context("making a temporary directory")?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path inside.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
