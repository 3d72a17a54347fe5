//! How long a core's driver polls before it sleeps. Waking a sleeping virtual CPU costs 15 to
//! 50 µs, as much as half a durable write; polling costs the CPU to whoever else wants it.
//!
//! ```text
//!  a block in flight, few wait ──► poll until it is durable, up to `spin`
//!  durable, and whoever waited tends to answer at once ──► poll on, up to LINGER
//!  everything else ──► sleep
//! ```
//! A client that waits for each answer sends its next request within some 60 µs of it. Whether
//! there is one shows in what came before: lingering goes on as long as work tends to arrive
//! within the time, also while the core slept through it, and stops after a few times in vain. So
//! an idle or a steadily paced node does not poll for nothing.

use std::time::{Duration, Instant};

/// Polling pays when few wait for a short write: with more of them the next block fills while
/// this one is written, and the CPU is better left to whoever fills it.
const MAX_WAITERS: usize = 4;

/// How long to poll on after the last block became durable.
const LINGER: Duration = Duration::from_micros(150);

/// Lingering stops after so many times in vain, and begins again with the first client that
/// would have been heard.
const TRUST: u32 = 4;

/// What the driver's polling is decided by.
#[derive(Debug)]
pub struct Polling {
    /// How long to poll while a block is in flight; zero: never poll.
    spin: Duration,
    awake_since: Instant,
    /// When the last block became durable and nothing was in flight any more, until work comes.
    quiet_since: Option<Instant>,
    trust: u32,
}

impl Polling {
    /// For a core that may poll for `spin`.
    #[must_use]
    pub fn new(spin: Duration, now: Instant) -> Polling {
        Polling {
            spin,
            awake_since: now,
            quiet_since: None,
            trust: TRUST,
        }
    }

    /// The driver has slept.
    pub fn woke(&mut self, now: Instant) {
        self.awake_since = now;
    }

    /// A turn of the driver: whether blocks became durable in it, and how many are in flight
    /// after it.
    pub fn turned(&mut self, moved: bool, in_flight: usize, now: Instant) {
        if moved {
            self.awake_since = now;
        }
        if in_flight == 0 {
            if moved {
                self.quiet_since = Some(now);
            }
        } else if let Some(since) = self.quiet_since.take() {
            if now.duration_since(since) <= LINGER {
                self.trust = TRUST;
            } else {
                self.trust = self.trust.saturating_sub(1);
            }
        }
    }

    /// Whether to poll on rather than sleep, with so many in flight and waiting.
    #[must_use]
    pub fn holds(&self, in_flight: usize, waiters: usize, now: Instant) -> bool {
        let span = if in_flight > 0 {
            self.spin
        } else if self.trust > 0 {
            self.spin.min(LINGER)
        } else {
            Duration::ZERO
        };
        !span.is_zero() && waiters <= MAX_WAITERS && now.duration_since(self.awake_since) < span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN: Duration = Duration::from_millis(1);
    const MICROSECOND: Duration = Duration::from_micros(1);

    /// One block: work comes, is in flight, becomes durable. Returns when.
    fn one_block(polling: &mut Polling, at: Instant) -> Instant {
        polling.woke(at);
        polling.turned(false, 1, at);
        let durable = at + 200 * MICROSECOND;
        assert!(polling.holds(1, 1, durable));
        polling.turned(true, 0, durable);
        durable
    }

    #[test]
    fn a_client_that_answers_at_once_is_waited_for_and_one_that_does_not_soon_is_not() {
        let start = Instant::now();
        let mut polling = Polling::new(SPIN, start);
        let mut now = start;
        for _ in 0..100 {
            now = one_block(&mut polling, now + 60 * MICROSECOND);
            assert!(polling.holds(0, 0, now + 100 * MICROSECOND));
            assert!(!polling.holds(0, 0, now + 2 * LINGER), "not for long");
        }
        for _ in 0..TRUST {
            assert!(polling.holds(0, 0, now));
            now = one_block(&mut polling, now + 10 * SPIN);
        }
        assert!(!polling.holds(0, 0, now), "in vain too often");
        now = one_block(&mut polling, now + 60 * MICROSECOND);
        assert!(polling.holds(0, 0, now), "it would have been heard");
    }

    #[test]
    fn with_many_waiting_or_no_time_to_poll_the_driver_sleeps() {
        let start = Instant::now();
        let polling = Polling::new(SPIN, start);
        assert!(polling.holds(1, MAX_WAITERS, start));
        assert!(!polling.holds(1, MAX_WAITERS + 1, start));
        assert!(!polling.holds(1, 1, start + SPIN));
        let never = Polling::new(Duration::ZERO, start);
        assert!(!never.holds(1, 0, start));
    }
}
