//! The storage engine under simulation: one seed is one run of several lives, each ended by a
//! clean close, a kill or a power cut, with faults in between, and checked after every start
//! against a model that knows what was acknowledged. And the same workload on the real engine,
//! recorded, with power cuts at any point of the recording.
//!
//! Invariant: a simulated run depends on its seed and its settings alone.

mod check;
mod cleaning;
pub mod compaction;
mod life;
mod machine;
pub mod machines;
mod mixed;
mod model;
mod power_cut;
mod random;
mod watch;
mod workload;

pub use life::{Failure, Outcome, Settings, run};
pub use mixed::mix_histories;
pub use power_cut::{Cuts, cut_power};
