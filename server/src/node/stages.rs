//! Where the time of a Produce request goes, stage by stage.
//!
//! ```text
//! first byte ─ receive ─ decode ─ check ─ append ─ commit ─ answer ─► taken by the socket
//! ```
//!
//! One request in [`SAMPLED_EACH`], of whatever kind, carries a watch: reading the
//! clock seven times for each would cost a hundredth of the core at 16 KiB batches. What the
//! commit of a request consists of is counted for each block, by the log.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use ringlog_storage::log::Histogram;

/// One request in this many is timed.
pub const SAMPLED_EACH: u32 = 8;

/// A part of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From its first byte in the node to its last, waiting for memory included.
    Receive,
    /// Finding its parts, and the rules of its topics.
    Decode,
    /// Checksums and structure of its batches.
    Check,
    /// Waiting for room in the log, offsets, and the copy into the open block.
    Append,
    /// From there until the log came as far as the answer needs, and those before it were due.
    Commit,
    /// Encoding the answer, and the socket taking it.
    Answer,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Stage; 6] = [
        Stage::Receive,
        Stage::Decode,
        Stage::Check,
        Stage::Append,
        Stage::Commit,
        Stage::Answer,
    ];

    /// Its name as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Decode => "decode",
            Stage::Check => "check",
            Stage::Append => "append",
            Stage::Commit => "commit",
            Stage::Answer => "answer",
        }
    }
}

/// Nanoseconds that requests spent in each stage, by [`Stage::ALL`].
pub type StageTimes = [Histogram; Stage::ALL.len()];

/// A core's times.
#[derive(Debug, Default)]
pub struct Stages {
    times: RefCell<StageTimes>,
    drawn: Cell<u32>,
}

/// Times one request; without effect for those that are not sampled.
#[derive(Debug, Default)]
#[must_use]
pub struct Watch(Option<Instant>);

impl Watch {
    /// Itself, if it runs.
    pub fn running(self) -> Option<Watch> {
        self.0.is_some().then_some(self)
    }
}

impl Stages {
    /// A watch for the request whose first bytes are there. It runs for one in
    /// [`SAMPLED_EACH`].
    pub fn draw(&self) -> Watch {
        let drawn = self.drawn.get();
        self.drawn.set((drawn + 1) % SAMPLED_EACH);
        Watch((drawn == 0).then(Instant::now))
    }

    /// A stage has ended, and the next begins.
    pub fn lap(&self, watch: &mut Watch, stage: Stage) {
        if let Watch(Some(began)) = watch {
            let now = Instant::now();
            self.record(stage, now - *began);
            *began = now;
        }
    }

    fn record(&self, stage: Stage, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.times.borrow_mut()[stage as usize].record(nanoseconds);
    }

    /// The times so far.
    #[must_use]
    pub fn times(&self) -> Box<StageTimes> {
        Box::new(self.times.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_eight_is_timed_through_all_stages_and_the_first_is() {
        let stages = Stages::default();
        for _ in 0..=SAMPLED_EACH {
            let mut watch = stages.draw();
            for stage in Stage::ALL {
                stages.lap(&mut watch, stage);
            }
        }
        let times = stages.times();
        assert!(times.iter().all(|times| times.count() == 2), "{times:?}");
    }

    #[test]
    fn each_stage_has_a_place_and_a_name_of_its_own() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, place);
        }
        let mut labels: Vec<_> = Stage::ALL.iter().map(|stage| stage.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Stage::ALL.len());
    }
}
