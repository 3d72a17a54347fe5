//! The monotonic clock in nanoseconds: one per machine, so that stamps of one process can be
//! compared with receipts in another.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds on `CLOCK_MONOTONIC`.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at 0 and does not run backwards.
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

/// A duration as whole nanoseconds. Saturates after 584 years.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A span of nanoseconds for the kernel.
#[must_use]
pub fn timespec(span_ns: u64) -> Timespec {
    Timespec {
        tv_sec: (span_ns / 1_000_000_000).cast_signed(),
        tv_nsec: (span_ns % 1_000_000_000).cast_signed(),
    }
}
