//! The batches the generator sends: made once, patched per send.
//!
//! Invariant: the tail of a template (everything behind the stamp) never changes, so that it is
//! sent from one place in memory and its checksum is computed once.

pub mod codec;
pub mod record;
pub mod splice;
pub mod stamp;
pub mod template;
