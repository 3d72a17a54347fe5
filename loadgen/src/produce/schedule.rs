//! When the next batch is due.
//!
//! Open loop: due times stand on a grid that does not move when the broker is slow. A batch that
//! leaves late keeps its due time, and latency is counted from there, so that a stall is charged
//! to every batch it delayed and not only to the one that met it (no coordinated omission).

use std::time::Duration;

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub enum Pace {
    /// As fast as the window allows.
    Max,
    /// Events per second over all connections.
    EventsPerSecond(f64),
}

/// One connection's due times.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// Always due.
    Max,
    /// Due at `start + n × interval`.
    Grid {
        /// First due time.
        start_ns: f64,
        /// Distance.
        interval_ns: f64,
        /// How many are taken.
        taken: u64,
    },
}

impl Schedule {
    /// The schedule of connection `index` of `connections`, each sending batches of
    /// `records_per_batch`; the connections' grids interleave evenly.
    #[must_use]
    pub fn new(
        pace: Pace,
        records_per_batch: u32,
        index: usize,
        connections: usize,
        start_ns: u64,
    ) -> Schedule {
        match pace {
            Pace::Max => Schedule::Max,
            Pace::EventsPerSecond(rate) => {
                let together_ns = f64::from(records_per_batch) / rate * 1e9;
                Schedule::Grid {
                    start_ns: start_ns as f64 + together_ns * index as f64,
                    interval_ns: together_ns * connections as f64,
                    taken: 0,
                }
            }
        }
    }

    /// The next batch's due time, if that has come.
    #[must_use]
    pub fn due(&self, now_ns: u64) -> Option<u64> {
        match self {
            Schedule::Max => Some(now_ns),
            Schedule::Grid { .. } => self.next_ns().filter(|due| *due <= now_ns),
        }
    }

    /// Counts the due batch as taken.
    pub fn take(&mut self) {
        if let Schedule::Grid { taken, .. } = self {
            *taken += 1;
        }
    }

    /// When the next batch is due; `None` when it always is.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Schedule::Max => None,
            // Whole nanoseconds are below 2^53 for 104 days of uptime; beyond, a due time is
            // rounded to two.
            Schedule::Grid {
                start_ns,
                interval_ns,
                taken,
            } => Some((start_ns + interval_ns * *taken as f64) as u64),
        }
    }

    /// Batches that are due and not taken.
    #[must_use]
    pub fn backlog(&self, now_ns: u64) -> u64 {
        match (self, self.next_ns()) {
            (Schedule::Grid { interval_ns, .. }, Some(next)) if next <= now_ns => {
                ((now_ns - next) as f64 / interval_ns) as u64 + 1
            }
            _ => 0,
        }
    }
}

/// What part of a run is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here.
    pub from_ns: u64,
    /// To here: the end of sending.
    pub until_ns: u64,
}

impl Window {
    /// The window of a run that starts now.
    #[must_use]
    pub fn new(start_ns: u64, warmup: Duration, duration: Duration) -> Window {
        let from_ns = start_ns.saturating_add(crate::clock::nanos(warmup));
        Window {
            from_ns,
            until_ns: from_ns.saturating_add(crate::clock::nanos(duration)),
        }
    }

    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(&self, moment_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&moment_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stalled_sender_keeps_every_due_time_of_the_grid() {
        let mut schedule = Schedule::new(Pace::EventsPerSecond(1_000.0), 10, 0, 1, 5_000);
        assert_eq!(schedule.due(4_999), None);
        assert_eq!(schedule.due(5_000), Some(5_000));
        // Nothing is taken for 50 ms: five more batches fall due meanwhile.
        let late = 5_000 + 50_000_000;
        assert_eq!(schedule.backlog(late), 6);
        let mut due = Vec::new();
        while let Some(moment) = schedule.due(late) {
            due.push(moment);
            schedule.take();
        }
        assert_eq!(
            due,
            (0..6).map(|n| 5_000 + n * 10_000_000).collect::<Vec<_>>()
        );
        assert_eq!(schedule.backlog(late), 0);
    }

    proptest! {
        #[test]
        fn connections_together_keep_the_rate(
            connections in 1_usize..9, records in 1_u32..2_000, rate in 100.0_f64..5e6
        ) {
            let seconds = 10_u64;
            let mut sent = 0_u64;
            for index in 0..connections {
                let mut schedule =
                    Schedule::new(Pace::EventsPerSecond(rate), records, index, connections, 0);
                while schedule.due(seconds * 1_000_000_000).is_some() {
                    schedule.take();
                    sent += 1;
                }
            }
            let expected = rate * seconds as f64 / f64::from(records);
            prop_assert!((sent as f64 - expected).abs() <= 2.0, "{} of {}", sent, expected);
        }
    }

    #[test]
    fn the_window_leaves_out_warmup_and_drain() {
        let window = Window::new(100, Duration::from_nanos(50), Duration::from_nanos(200));
        assert!(!window.contains(149));
        assert!(window.contains(150));
        assert!(window.contains(349));
        assert!(!window.contains(350));
    }
}
