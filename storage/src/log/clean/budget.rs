//! How much the cleaner may read and write: a rate, and more of it while nobody else writes.

use std::time::Duration;

/// While nothing is being written by anybody else the cleaner goes this much faster.
const IDLE_FACTOR: u64 = 4;

/// What may be used at once after a rest.
const BURST: Duration = Duration::from_millis(50);

/// Bytes that may be moved now. What is moved may overdraw it; then it has to recover.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_second: u64,
    bytes: i64,
    at: Duration,
}

impl Budget {
    /// A budget of so many bytes in a second; zero: the cleaner is off.
    pub fn new(bytes_per_second: u64, now: Duration) -> Budget {
        Budget {
            bytes_per_second,
            bytes: 0,
            at: now,
        }
    }

    pub fn is_off(&self) -> bool {
        self.bytes_per_second == 0
    }

    /// Whether something may be moved now.
    pub fn has_some(&mut self, now: Duration, is_idle: bool) -> bool {
        let factor = if is_idle { IDLE_FACTOR } else { 1 };
        let rate = self.bytes_per_second.saturating_mul(factor);
        let earned = bytes(rate, now.saturating_sub(self.at));
        self.at = now;
        self.bytes = self.bytes.saturating_add(earned).min(bytes(rate, BURST));
        self.bytes > 0
    }

    pub fn spend(&mut self, bytes: usize) {
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// How long until something may be moved, at the lower rate.
    pub fn wait(&self) -> Duration {
        let missing = u64::try_from(1 - self.bytes.min(1)).unwrap_or(0);
        let nanos = u128::from(missing) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(MOMENT)
    }
}

/// Nobody is woken up sooner.
const MOMENT: Duration = Duration::from_millis(1);

fn bytes(per_second: u64, time: Duration) -> i64 {
    let bytes = u128::from(per_second) * time.as_nanos() / 1_000_000_000;
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_no_more_than_the_rate_is_moved_and_four_times_that_when_idle() {
        const PIECE: usize = 1 << 20;
        for (is_idle, factor) in [(false, 1), (true, 4)] {
            let mut budget = Budget::new(16 << 20, Duration::ZERO);
            let mut moved = 0;
            for millisecond in 1..=1000 {
                if budget.has_some(Duration::from_millis(millisecond), is_idle) {
                    budget.spend(PIECE);
                    moved += PIECE;
                }
            }
            let wanted = factor * (16 << 20);
            assert!(moved <= wanted + PIECE, "{moved} of {wanted}");
            assert!(moved >= wanted - 2 * PIECE, "{moved} of {wanted}");
        }
        assert!(Budget::new(0, Duration::ZERO).is_off());
    }

    #[test]
    fn it_says_when_to_come_back() {
        let mut budget = Budget::new(1 << 20, Duration::ZERO);
        assert!(budget.has_some(Duration::from_secs(1), false));
        budget.spend(1 << 20);
        let wait = budget.wait();
        assert!(!budget.has_some(Duration::from_secs(1), false));
        assert!(budget.has_some(Duration::from_secs(1) + wait + MOMENT, false));
    }
}
