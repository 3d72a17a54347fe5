//! Reservations of one partition that are not durable yet, oldest first. Each has a number that
//! grows by one; a producer's reservations are chained by number from the newest back, so that
//! finding them costs as many steps as the producer has in flight, whoever else is writing.

use std::collections::VecDeque;

use ringlog_types::Offset;
use ringlog_types::batch::BatchHeader;

use super::producers::{Slot, Standing, Written, repeats};

/// Offsets that were given to a batch on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) base_offset: Offset,
    pub(super) producer: Option<ProducerReservation>,
}

/// What an idempotent producer's reservation has in addition.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProducerReservation {
    pub(super) slot: Slot,
    pub(super) standing: Standing,
    pub(super) first_sequence: i32,
    /// Number of the producer's reservation before this one; it may be durable by now.
    pub(super) previous: Option<u64>,
    pub(super) now_ms: i64,
}

/// The reservations.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Reservation>,
    /// Number of the oldest.
    first_number: u64,
}

/// What a producer's pending batches say of its next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Base offset of the pending batch that it repeats, and when that was reserved.
    pub(super) repeated: Option<(Offset, i64)>,
    /// Where the newest leaves the producer.
    pub(super) standing: Option<Standing>,
    /// The first pending sequence of the newest's epoch.
    pub(super) oldest_sequence: Option<i32>,
    /// Whether an epoch begins among them: then no committed batch is of the newest's epoch.
    pub(super) begins_epoch: bool,
}

impl Pending {
    /// The reservation's number.
    pub(super) fn push(&mut self, reservation: Reservation) -> u64 {
        let number = self.first_number + self.queue.len() as u64;
        self.queue.push_back(reservation);
        number
    }

    /// Takes the oldest, with its number.
    pub(super) fn pop_oldest(&mut self) -> Option<(u64, Reservation)> {
        let reservation = self.queue.pop_front()?;
        self.first_number += 1;
        Some((self.first_number - 1, reservation))
    }

    /// Takes the newest.
    pub(super) fn pop_newest(&mut self) -> Option<Reservation> {
        self.queue.pop_back()
    }

    /// The number, if its reservation is still pending.
    pub(super) fn if_pending(&self, number: Option<u64>) -> Option<u64> {
        number.filter(|number| *number >= self.first_number)
    }

    /// Walks a producer's reservations from its newest.
    pub(super) fn chain(&self, newest: Option<u64>, header: &BatchHeader) -> Chain {
        let mut chain = Chain {
            repeated: None,
            standing: None,
            oldest_sequence: None,
            begins_epoch: false,
        };
        let mut number = self.if_pending(newest);
        while let Some(reservation) = number.and_then(|number| self.get(number)) {
            let Some(producer) = reservation.producer else {
                break;
            };
            let epoch = chain.standing.get_or_insert(producer.standing).epoch;
            if epoch == producer.standing.epoch {
                chain.oldest_sequence = Some(producer.first_sequence);
            } else {
                chain.begins_epoch = true;
            }
            let written = Written {
                first_sequence: producer.first_sequence,
                last_sequence: producer.standing.last_sequence,
                base_offset: reservation.base_offset,
                max_timestamp: producer.now_ms,
            };
            if !chain.begins_epoch && repeats(&written, producer.standing.epoch, header) {
                chain.repeated = Some((reservation.base_offset, producer.now_ms));
                return chain;
            }
            number = self.if_pending(producer.previous);
        }
        chain
    }

    fn get(&self, number: u64) -> Option<&Reservation> {
        let index = usize::try_from(number.checked_sub(self.first_number)?).ok()?;
        self.queue.get(index)
    }
}
