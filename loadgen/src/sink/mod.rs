//! The ceiling's other side: a process that takes the generator's frames as a node would, and
//! keeps nothing.
//!
//! Blocking threads, one per connection: receive, one CRC-32C over the records, a valid Produce
//! response. What a node does beyond that is what it is measured for. The slow calls are answered
//! well enough for a generator to start: [`answers`]; the bytes of Produce: [`produce`].

pub mod answers;
pub mod produce;
pub mod serve;
