//! Reading back: every acknowledged event is there once, in order, unaltered.
//!
//! Rooms: [`expectation`] what must be found, [`ledger`] the acknowledged batches of a
//! partition, [`content`] one batch against its template, [`checker`] the order and number of a
//! partition's batches, [`readback`] the fetch loop that feeds them.

pub mod checker;
pub mod content;
pub mod expectation;
pub mod ledger;
pub mod readback;
