//! Which units of the arena are taken: one bit each.
//!
//! Large runs are searched from where the last one ended (next fit): frames and blocks are given
//! back roughly in the order in which they were taken, so the arena turns like a ring and the
//! search rarely looks twice. Small runs are searched from the start (first fit), so that they
//! crowd together there and leave long runs whole.
//!
//! Invariant: a unit is handed out at most once until it is released. Called by the arena only.

use std::ops::Range;

/// Runs up to this many units count as small.
const SMALL_UNITS: usize = 16;

const WORD_BITS: usize = u64::BITS as usize;

/// The bitmap: a set bit is a unit that is taken, or lies behind the end.
#[derive(Debug)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    units: usize,
    next: usize,
}

impl Bitmap {
    /// All of `units` units free.
    pub(super) fn new(units: usize) -> Bitmap {
        Bitmap {
            words: vec![0; units.div_ceil(WORD_BITS)],
            units,
            next: 0,
        }
    }

    /// Takes a run of `units` units and returns the first, or `None` when no run is that long.
    pub(super) fn take(&mut self, units: usize) -> Option<usize> {
        debug_assert!(units > 0, "a run has at least one unit");
        if units > self.units {
            return None;
        }
        let first = if units <= SMALL_UNITS {
            self.find_free_run(0..self.units, units)?
        } else {
            // A run that straddles the starting point is found in the second pass.
            let second_pass_end = (self.next + units - 1).min(self.units);
            let first = self
                .find_free_run(self.next..self.units, units)
                .or_else(|| self.find_free_run(0..second_pass_end, units))?;
            self.next = first + units;
            first
        };
        self.assign(first..first + units, true);
        Some(first)
    }

    /// Gives a run back.
    pub(super) fn release(&mut self, run: Range<usize>) {
        self.assign(run, false);
    }

    fn find_free_run(&self, within: Range<usize>, units: usize) -> Option<usize> {
        let mut position = within.start;
        loop {
            position = self.seek(position, within.end, false);
            let end = position + units;
            if end > within.end {
                return None;
            }
            let taken = self.seek(position, end, true);
            if taken == end {
                return Some(position);
            }
            position = taken;
        }
    }

    /// The first unit in `from..end` that is `taken`, or `end`.
    fn seek(&self, from: usize, end: usize, taken: bool) -> usize {
        let mut position = from;
        while position < end {
            let word = self.words[position / WORD_BITS];
            let sought = if taken { word } else { !word };
            let rest = sought >> (position % WORD_BITS);
            if rest != 0 {
                return (position + rest.trailing_zeros() as usize).min(end);
            }
            position = (position / WORD_BITS + 1) * WORD_BITS;
        }
        end
    }

    fn assign(&mut self, run: Range<usize>, taken: bool) {
        let mut position = run.start;
        while position < run.end {
            let bit = position % WORD_BITS;
            let count = (WORD_BITS - bit).min(run.end - position);
            let mask = (u64::MAX >> (WORD_BITS - count)) << bit;
            let word = &mut self.words[position / WORD_BITS];
            if taken {
                debug_assert_eq!(*word & mask, 0, "a unit is taken once");
                *word |= mask;
            } else {
                debug_assert_eq!(*word & mask, mask, "only what was taken is released");
                *word &= !mask;
            }
            position += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_cross_words_and_the_end_is_never_passed() {
        let mut bitmap = Bitmap::new(130);
        assert_eq!(bitmap.take(100), Some(0));
        assert_eq!(bitmap.take(31), None);
        assert_eq!(bitmap.take(30), Some(100));
        assert_eq!(bitmap.take(1), None);
        bitmap.release(0..100);
        assert_eq!(bitmap.take(100), Some(0));
    }

    #[test]
    fn a_free_run_that_straddles_the_search_start_is_found() {
        let mut bitmap = Bitmap::new(100);
        assert_eq!(bitmap.take(40), Some(0));
        assert_eq!(bitmap.take(40), Some(40));
        bitmap.release(0..40);
        bitmap.release(40..80);
        // The search starts at 80 and only 0..100 as a whole is long enough.
        assert_eq!(bitmap.take(90), Some(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn runs_never_overlap_and_none_means_there_is_no_such_run(
            units in 1_usize..300,
            steps in prop::collection::vec((any::<bool>(), 1_usize..80, any::<prop::sample::Index>()), 1..120),
        ) {
            let mut bitmap = Bitmap::new(units);
            let mut model = vec![false; units];
            let mut held: Vec<Range<usize>> = Vec::new();
            for (take, length, which) in steps {
                if take || held.is_empty() {
                    match bitmap.take(length) {
                        Some(first) => {
                            prop_assert!(model[first..first + length].iter().all(|taken| !taken));
                            model[first..first + length].fill(true);
                            held.push(first..first + length);
                        }
                        None => {
                            let longest = model.split(|taken| *taken).map(<[bool]>::len).max();
                            prop_assert!(longest.unwrap_or(0) < length);
                        }
                    }
                } else {
                    let run = held.swap_remove(which.index(held.len()));
                    model[run.clone()].fill(false);
                    bitmap.release(run);
                }
            }
        }
    }
}
