//! Log lines about what clients send: each names the peer and the cause, and each is counted.
//!
//! Invariant: a flood of bad requests is not a flood of lines. Of each kind of error a core
//! writes `LINES` in `PERIOD`; how many more there were stands in the next line.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::node::core::CoreHandle;
use crate::node::metrics::ErrorKind;

/// Lines of a kind in a period.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(5);

thread_local! {
    /// One budget per kind, for the core of this thread.
    static BUDGETS: RefCell<[Budget; ErrorKind::ALL.len()]> = RefCell::default();
}

/// Counts an error, and writes a line about it if there is room for one.
pub fn complain(core: &CoreHandle, peer: SocketAddr, kind: ErrorKind, cause: impl Display) {
    core.metrics().error(kind);
    let now = Instant::now();
    let granted = BUDGETS.with(|budgets| budgets.borrow_mut()[kind as usize].take(now));
    let Some(left_out) = granted else { return };
    let (core, kind) = (core.id(), kind.label());
    if left_out == 0 {
        tracing::warn!(%core, %peer, kind, "{cause}");
    } else {
        tracing::warn!(%core, %peer, kind, left_out, "{cause}");
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Budget {
    /// Whether a line may be written; then, how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self
            .began
            .is_none_or(|began| now.duration_since(began) >= PERIOD)
        {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written == LINES {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_errors_is_a_few_lines_and_a_number() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let written = (0..1000).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(written, LINES as usize);
        let later = start + PERIOD;
        assert_eq!(budget.take(later), Some(980));
        assert_eq!(budget.take(later), Some(0));
    }
}
