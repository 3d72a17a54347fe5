//! Waiting for a condition, never for luck: every wait ends, with what was waited for in the error.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for a debug build on a loaded machine; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until the condition gives something, and returns that.
///
/// # Errors
/// After [`PATIENCE`], or when looking itself fails.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, look)
}

/// [`until`] with a deadline of its own.
///
/// # Errors
/// After `patience`, or when looking itself fails.
pub fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {patience:?} for {what}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
