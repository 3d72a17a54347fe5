//! How far a log has come, or has to come before something may be said.
//!
//! Invariant: which of the two counts for a batch is its topic's durability, decided here and
//! nowhere else. Made by the adapters from what they appended, waited for in `core::waits`.

use ringlog_engine::topics::Durability;
use ringlog_types::Sequence;

/// The written prefix of a log and, never ahead of it, the durable one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Written: survives the end of the process.
    pub written: Sequence,
    /// Durable: survives a power cut.
    pub durable: Sequence,
}

impl Reach {
    /// Takes in what a batch of this durability waits for, whose block is `sequence`.
    pub fn wait_for(&mut self, sequence: Sequence, durability: Durability) {
        match durability {
            Durability::Buffered => {}
            Durability::Written => self.written = self.written.max(sequence),
            Durability::Flushed => self.durable = self.durable.max(sequence),
        }
    }

    /// Whether a log that has come so far has reached what `needed` asks for.
    #[must_use]
    pub fn covers(&self, needed: &Reach) -> bool {
        needed.durable <= self.durable && needed.written <= self.written.max(self.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_durability_waits_for_its_own_prefix_and_buffered_for_none() {
        let log = Reach {
            written: Sequence(9),
            durable: Sequence(5),
        };
        for (sequence, durability, reached) in [
            (5, Durability::Flushed, true),
            (6, Durability::Flushed, false),
            (9, Durability::Written, true),
            (10, Durability::Written, false),
            (11, Durability::Buffered, true),
        ] {
            let mut needed = Reach::default();
            needed.wait_for(Sequence(sequence), durability);
            assert_eq!(log.covers(&needed), reached, "{durability:?} {sequence}");
            // What else is waited for makes nothing sooner.
            needed.wait_for(Sequence(6), Durability::Flushed);
            assert!(!log.covers(&needed));
        }
    }
}
