//! `loadgen demo`: a node on a real disk under load, everything verified, every figure beside the
//! physical limit.
//!
//! Rooms: [`place`] where it happens, [`node`] the node's process, [`stage`] one verified slice,
//! [`flat_out`], [`half_rate`], [`one_at_a_time`] the phases, [`report`] figures and words.

pub mod flat_out;
pub mod half_rate;
pub mod node;
pub mod one_at_a_time;
pub mod place;
pub mod report;
pub mod run;
pub mod stage;
