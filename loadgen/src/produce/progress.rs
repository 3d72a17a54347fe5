//! Counters that a person watches while a run goes on.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::now_ns;

/// What has happened so far. Relaxed: nobody decides by these.
#[derive(Default)]
pub struct Progress {
    /// Events acknowledged (produce) or received (consume).
    pub events: AtomicU64,
    /// Bytes of batches acknowledged or received.
    pub bytes: AtomicU64,
    /// The run is over.
    pub over: AtomicBool,
}

impl Progress {
    /// Counts events.
    pub fn add(&self, events: u64, bytes: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Prints a line per second to stderr until the run is over.
    pub fn watch(&self) {
        let started = now_ns();
        let (mut last_ns, mut last_events, mut last_bytes) = (started, 0, 0);
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
            let now = now_ns();
            if now - last_ns < 1_000_000_000 {
                continue;
            }
            let events = self.events.load(Ordering::Relaxed);
            let bytes = self.bytes.load(Ordering::Relaxed);
            let seconds = (now - last_ns) as f64 / 1e9;
            let line = format!(
                "{:6.1} s  {:>12.0} events/s  {:>9.1} MB/s  {:>14} events",
                (now - started) as f64 / 1e9,
                (events - last_events) as f64 / seconds,
                (bytes - last_bytes) as f64 / 1e6 / seconds,
                events,
            );
            let mut stderr = std::io::stderr().lock();
            // A closed stderr is no reason to end a measurement.
            let _ = if stderr.is_terminal() {
                write!(stderr, "\r{line}")
            } else {
                writeln!(stderr, "{line}")
            };
            let _ = stderr.flush();
            (last_ns, last_events, last_bytes) = (now, events, bytes);
        }
        if last_ns > started && std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}
