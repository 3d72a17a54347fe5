//! Checkpoints in steps: the rows of tables as they were at one moment, taken while the tables go
//! on changing, and the bytes they become. Used by the log and by the machines that stand on it.

mod pieces;
mod rows;

pub use pieces::Pieces;
pub use rows::{Next, Rows};
