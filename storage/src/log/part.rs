//! Where the time of a turn of the log goes, so that a step that holds its core for too long can be
//! told from others.
//!
//! Invariant: nothing is decided by these times; they come from the clock at the seam.

use std::time::Duration;

/// A part of a turn of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Taking what the device has done.
    #[default]
    Completed,
    /// The same of the cleaner's own operations.
    Cleaned,
    /// Applying blocks that became durable.
    Applied,
    /// Taking a checkpoint.
    Checkpoint,
    /// Bringing full segments to rest.
    Sealed,
    /// Making index runs, and taking off what died in them.
    Runs,
    /// Checking what came back for readers.
    Arrived,
    /// Looking for damage.
    Scrubbed,
    /// Laying out blocks and handing them to the kernel.
    Blocks,
    /// The next operation of the cleaner.
    Clean,
    /// Segment files for what comes.
    Upkeep,
    /// The kernel.
    Kicked,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 12] = [
        Part::Completed,
        Part::Cleaned,
        Part::Applied,
        Part::Checkpoint,
        Part::Sealed,
        Part::Runs,
        Part::Arrived,
        Part::Scrubbed,
        Part::Blocks,
        Part::Clean,
        Part::Upkeep,
        Part::Kicked,
    ];

    /// Its name as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Part::Completed => "log_completed",
            Part::Cleaned => "log_cleaned",
            Part::Applied => "log_applied",
            Part::Checkpoint => "log_checkpoint",
            Part::Sealed => "log_sealed",
            Part::Runs => "log_index_runs",
            Part::Arrived => "log_arrived",
            Part::Scrubbed => "log_scrubbed",
            Part::Blocks => "log_blocks",
            Part::Clean => "log_clean",
            Part::Upkeep => "log_upkeep",
            Part::Kicked => "log_kicked",
        }
    }
}

/// The last turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    at: Duration,
    took: [Duration; Part::ALL.len()],
}

impl Turn {
    /// One that begins now.
    pub fn begin(now: Duration) -> Turn {
        Turn {
            at: now,
            ..Turn::default()
        }
    }

    /// The time since the last part goes to this one.
    pub fn did(&mut self, part: Part, now: Duration) {
        self.took[part as usize] += now.saturating_sub(self.at);
        self.at = now;
    }

    /// What took longest.
    pub fn longest(&self) -> Part {
        let parts = Part::ALL.into_iter().zip(&self.took);
        let longest = parts.max_by_key(|(_, took)| **took);
        longest.map_or_else(Part::default, |(part, _)| part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_place_of_its_own_and_the_longest_is_found() {
        for (place, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, place);
            let mut turn = Turn::default();
            turn.took.fill(Duration::from_micros(1));
            turn.took[place] += Duration::from_nanos(1);
            assert_eq!(turn.longest(), part);
        }
    }
}
