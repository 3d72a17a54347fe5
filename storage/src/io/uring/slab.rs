//! The flights of a ring, found again by the number that travels through the kernel.
//!
//! Invariant: a number stands for one flight from its insertion to its removal.

use super::flight::Flight;

/// Flights by number; numbers are used again.
#[derive(Debug, Default)]
pub(super) struct Slab {
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    count: usize,
}

impl Slab {
    /// Keeps a flight and gives it a number.
    pub(super) fn insert(&mut self, flight: Flight) -> usize {
        self.count += 1;
        match self.free.pop() {
            Some(number) => {
                self.flights[number] = Some(flight);
                number
            }
            None => {
                self.flights.push(Some(flight));
                self.flights.len() - 1
            }
        }
    }

    /// The flight with this number.
    pub(super) fn get(&mut self, number: usize) -> Option<&mut Flight> {
        self.flights.get_mut(number)?.as_mut()
    }

    /// Takes a flight out.
    pub(super) fn remove(&mut self, number: usize) -> Option<Flight> {
        let flight = self.flights.get_mut(number)?.take()?;
        self.free.push(number);
        self.count -= 1;
        Some(flight)
    }

    /// Flights that are kept.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}
