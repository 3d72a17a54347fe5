//! Groups as their members meet them, and in any order of what may happen.

mod any_order;
mod expiry;
mod members;
mod offsets;
mod rig;
