//! What whoever appends an entry waits for. Below `builder`, `pending` and `flush`, which all
//! speak of it.

/// What whoever appends an entry waits for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// [`super::Log::written`]: the block may be written plain, and flushed later.
    Written,
    /// [`super::Log::durable`].
    Durable,
}
