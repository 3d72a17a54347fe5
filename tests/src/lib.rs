//! What the black-box tests share: a real node in a directory of its own, the programs that talk
//! to it, and a small Kafka client of its own for what no proper client would send.
//!
//! Invariant: nothing here but `sim` uses the code under test. What the tests believe about the
//! wire and the device they work out for themselves, so that a mistake in the node is not made
//! here as well.

pub mod binaries;
pub mod certificates;
pub mod deadline;
pub mod flush_counter;
pub mod foreign;
pub mod fsck;
pub mod history;
pub mod http;
pub mod matrix;
pub mod node;
pub mod process;
pub mod random;
pub mod record_batch;
pub mod rust_source;
pub mod small_disk;
pub mod sound;
pub mod wire;
pub mod wire_tap;
pub mod workdir;

pub mod sim;
