//! `loadgen compare`: brokers beside each other, the same load in alternating slices.
//!
//! Rooms: [`side`] who is compared, [`mod@bench`] one slice of load on one side, [`flat_out`] and
//! [`one_at_a_time`] the phases, [`report`] figures and words, [`run`] all of it.
//!
//! Invariant: a slice of every side belongs to each round, the order of the sides turns from
//! round to round, and a ratio is formed within a round: the machine of one minute is not that of
//! the next.

pub mod bench;
pub mod flat_out;
pub mod one_at_a_time;
pub mod report;
pub mod run;
pub mod side;
