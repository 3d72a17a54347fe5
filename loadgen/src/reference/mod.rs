//! What a figure stands beside: the device alone, a sink that stores nothing, the loopback device,
//! and commands of other people.
//!
//! Invariant: every reference runs in slices that alternate with the load, never before or after
//! all of it: the machine of one minute is not that of the next.

pub mod ceiling;
pub mod device;
pub mod external;
pub mod loopback;
pub mod ratio;
