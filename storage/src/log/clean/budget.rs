//! How much the cleaner may read and write: a rate, and more of it while nobody else writes; and
//! when: between the producers' blocks, as long as there is such a moment now and then.

use std::time::Duration;

/// While nothing is being written by anybody else the cleaner goes this much faster.
const IDLE_FACTOR: u64 = 4;

/// What may be used at once after a rest. More would be moved in one go, and the producers' blocks
/// that come meanwhile would all wait for it.
const BURST: Duration = Duration::from_millis(10);

/// What others write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// A block is on its way.
    Busy,
    /// Nothing at the moment.
    Between,
    /// Nothing for a while.
    Idle,
}

/// Bytes that may be moved now. What is moved may overdraw it; then it has to recover.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_second: u64,
    bytes: i64,
    at: Duration,
    /// Since when it has some.
    since: Option<Duration>,
    /// What was moved last.
    moved: usize,
}

impl Budget {
    /// A budget of so many bytes in a second; zero: the cleaner is off.
    pub fn new(bytes_per_second: u64, now: Duration) -> Budget {
        Budget {
            bytes_per_second,
            bytes: 0,
            at: now,
            since: None,
            moved: 0,
        }
    }

    pub fn is_off(&self) -> bool {
        self.bytes_per_second == 0
    }

    /// Whether something may be moved now.
    pub fn has_some(&mut self, now: Duration, others: Others) -> bool {
        let factor = if others == Others::Idle {
            IDLE_FACTOR
        } else {
            1
        };
        let rate = self.bytes_per_second.saturating_mul(factor);
        let earned = bytes(rate, now.saturating_sub(self.at));
        self.at = now;
        self.bytes = self.bytes.saturating_add(earned).min(bytes(rate, BURST));
        if self.bytes <= 0 {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        others != Others::Busy || now >= since + self.patience()
    }

    /// How long a moment in which nothing is being written is waited for: as long again as its
    /// rate takes for what was moved last. So beside a log that is never at rest the cleaner still
    /// has half of its rate, and small operations do not wait as long as large ones.
    fn patience(&self) -> Duration {
        self.time_for(u64::try_from(self.moved).unwrap_or(u64::MAX))
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub fn spend(&mut self, bytes: usize) {
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.since = None;
        self.moved = bytes;
    }

    /// How long until something may be moved, at the lower rate.
    pub fn wait(&self) -> Duration {
        let missing = u64::try_from(1 - self.bytes.min(1)).unwrap_or(0);
        self.time_for(missing).max(MOMENT)
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
        const PIECE: usize = 256 << 10;
        for (others, factor) in [(Others::Between, 1), (Others::Idle, 4)] {
            let mut budget = Budget::new(16 << 20, Duration::ZERO);
            let mut moved = 0;
            for millisecond in 1..=1000 {
                if budget.has_some(Duration::from_millis(millisecond), others) {
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
    fn it_waits_for_a_moment_between_blocks_but_not_for_long() {
        const RATE: u64 = 16 << 20;
        const BYTES: usize = 64 << 10;
        let mut budget = Budget::new(RATE, Duration::ZERO);
        let mut now = Duration::from_secs(1);
        assert!(budget.has_some(now, Others::Busy), "nothing was moved yet");
        for bytes in [BYTES, BYTES / 16, BYTES] {
            budget.spend(bytes);
            now += Duration::from_secs(1);
            let patience = budget.patience();
            assert!(!budget.has_some(now, Others::Busy));
            assert!(!budget.has_some(now + patience / 2, Others::Busy));
            assert!(budget.has_some(now + patience / 2, Others::Between));
            assert!(budget.has_some(now + patience, Others::Busy));
        }
    }

    #[test]
    fn beside_a_log_that_is_never_at_rest_it_has_half_of_its_rate() {
        const RATE: usize = 16 << 20;
        for piece in [4 << 10, 256 << 10] {
            let mut budget = Budget::new(RATE as u64, Duration::ZERO);
            let mut moved = 0;
            for step in 1..=100_000 {
                if budget.has_some(Duration::from_micros(step * 10), Others::Busy) {
                    budget.spend(piece);
                    moved += piece;
                }
            }
            assert!(moved >= RATE / 2 - piece, "{moved} in pieces of {piece}");
            assert!(moved <= RATE + piece, "{moved} in pieces of {piece}");
        }
    }

    #[test]
    fn it_says_when_to_come_back() {
        let mut budget = Budget::new(1 << 20, Duration::ZERO);
        assert!(budget.has_some(Duration::from_secs(1), Others::Between));
        budget.spend(1 << 20);
        let wait = budget.wait();
        assert!(!budget.has_some(Duration::from_secs(1), Others::Between));
        assert!(budget.has_some(Duration::from_secs(1) + wait + MOMENT, Others::Between));
    }
}
