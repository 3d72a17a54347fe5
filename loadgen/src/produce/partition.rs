//! A partition as its producer sees it: which batch is next, and which must be sent again first.
//!
//! An idempotent producer may not send batch n+1 while batch n waits to be sent again: the
//! broker would refuse the gap in the sequence. So the first failure stalls the partition, what
//! is in flight behind it is collected, and when nothing is in flight any more everything is sent
//! again in order.
//!
//! ```text
//!  Flowing ──failure──► Stalled (collecting) ──none in flight, pause over──► Flowing (repeats first)
//! ```

use std::collections::VecDeque;

use crate::verify::ledger::Ledger;

/// A batch on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which partition, as a place in the worker's list.
    pub partition: usize,
    /// Number among the run's batches of the partition.
    pub number: u64,
    /// First sequence, for idempotent producers.
    pub sequence: i32,
    /// When it was due.
    pub scheduled_ns: u64,
}

/// How long a stalled partition waits before it is tried again.
pub const RETRY_PAUSE_NS: u64 = 50_000_000;

/// The state of one partition.
pub struct Partition {
    /// Index within the topic.
    pub index: u32,
    /// What was acknowledged.
    pub ledger: Ledger,
    records_per_batch: u32,
    next_number: u64,
    next_sequence: i32,
    in_flight: usize,
    stalled_until_ns: Option<u64>,
    repeats: VecDeque<Pending>,
}

impl Partition {
    /// A partition nothing was sent to.
    #[must_use]
    pub fn new(index: u32, records_per_batch: u32) -> Partition {
        Partition {
            index,
            ledger: Ledger::new(records_per_batch),
            records_per_batch,
            next_number: 0,
            next_sequence: 0,
            in_flight: 0,
            stalled_until_ns: None,
            repeats: VecDeque::new(),
        }
    }

    /// Batches ever numbered.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.next_number
    }

    /// Whether a batch can be sent now.
    #[must_use]
    pub fn is_ready(&self, now_ns: u64) -> bool {
        match self.stalled_until_ns {
            None => true,
            Some(until) => self.in_flight == 0 && now_ns >= until,
        }
    }

    /// Whether batches wait to be sent again.
    #[must_use]
    pub fn has_repeats(&self) -> bool {
        !self.repeats.is_empty()
    }

    /// Whether nothing is in flight and nothing waits to be sent again.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.repeats.is_empty()
    }

    /// Whether a failure holds this partition back.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled_until_ns.is_some()
    }

    /// The batch to send again, if one waits; the caller sends it now.
    pub fn take_repeat(&mut self) -> Option<Pending> {
        self.stalled_until_ns = None;
        let repeat = self.repeats.pop_front()?;
        self.in_flight += 1;
        Some(repeat)
    }

    /// A new batch; the caller sends it now. `place` is this partition's place in the worker's
    /// list.
    pub fn take_new(&mut self, place: usize, scheduled_ns: u64) -> Pending {
        debug_assert!(self.repeats.is_empty(), "repeats go first");
        self.stalled_until_ns = None;
        let pending = Pending {
            partition: place,
            number: self.next_number,
            sequence: self.next_sequence,
            scheduled_ns,
        };
        self.next_number += 1;
        // Sequences count records and wrap to 0 behind the largest positive integer.
        let next =
            u64::from(self.next_sequence.cast_unsigned()) + u64::from(self.records_per_batch);
        self.next_sequence = (next & 0x7fff_ffff) as i32;
        self.in_flight += 1;
        pending
    }

    /// The broker has it.
    pub fn acknowledged(&mut self, pending: &Pending, base_offset: Option<u64>) {
        self.in_flight -= 1;
        self.ledger.acknowledge(pending.number, base_offset);
    }

    /// Whether the broker has it will never be known; it is not sent again.
    pub fn given_up(&mut self) {
        self.in_flight -= 1;
    }

    /// Holds the partition back for a while without anything to send again: its leader is another,
    /// or not ready.
    pub fn hold(&mut self, now_ns: u64) {
        self.stalled_until_ns = Some(now_ns + RETRY_PAUSE_NS);
    }

    /// Whether nothing is in flight, so that it may move to another connection without a change
    /// of order.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.in_flight == 0
    }

    /// When a stalled partition may be tried again.
    #[must_use]
    pub fn stalled_until_ns(&self) -> Option<u64> {
        self.stalled_until_ns
    }

    /// It must be sent again, and nothing else before it.
    pub fn failed(&mut self, pending: Pending, now_ns: u64) {
        self.in_flight -= 1;
        let place = self
            .repeats
            .partition_point(|other| other.number < pending.number);
        self.repeats.insert(place, pending);
        self.stalled_until_ns = Some(now_ns + RETRY_PAUSE_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_repeats_everything_behind_it_in_order_before_anything_new() {
        let mut partition = Partition::new(0, 10);
        let sent: Vec<_> = (0..4).map(|at| partition.take_new(0, at)).collect();
        partition.acknowledged(&sent[0], Some(0));
        // Answers come in any order here: a lost connection fails later ones first.
        partition.failed(sent[2], 1_000);
        assert!(!partition.is_ready(u64::MAX), "two are still in flight");
        partition.failed(sent[1], 2_000);
        partition.failed(sent[3], 2_000);
        assert!(!partition.is_ready(2_000), "the pause is not over");
        assert!(partition.is_ready(2_000 + RETRY_PAUSE_NS));
        let repeated: Vec<_> = std::iter::from_fn(|| partition.take_repeat()).collect();
        assert_eq!(repeated, sent[1..]);
        let new = partition.take_new(0, 9);
        assert_eq!((new.number, new.sequence), (4, 40));
        assert_eq!(partition.ledger.batches(), 1);
    }

    #[test]
    fn sequences_wrap_to_zero_behind_the_largest_integer() {
        let mut partition = Partition::new(0, 10);
        partition.next_sequence = i32::MAX - 4;
        partition.take_new(0, 0);
        assert_eq!(partition.take_new(0, 0).sequence, 5);
    }
}
