//! What is worth cleaning. Decides only, from what is known of the sealed segments; pure.
//!
//! ```text
//! sparse     little of it lives: neighbours are copied together, and fewer files are needed
//! scattered  its partitions lie in many small pieces: copied once, each lies together, and a
//!            reader of one of them reads its bytes and not its neighbours'
//! ```
//! What goes by itself soon is not copied.

use std::ops::Range;

use ringlog_types::Sequence;

/// What is known of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its number.
    pub segment: u64,
    /// The first block of the log that it holds entries of: neighbours by this are neighbours
    /// in every partition.
    pub order: Sequence,
    /// Length of its file.
    pub file_bytes: u64,
    /// Bytes of its blocks.
    pub used_bytes: u64,
    /// Bytes of batches that readers may ask for.
    pub live_bytes: u64,
    /// Those of them that retention leaves long enough for copying to pay.
    pub lasting_bytes: u64,
    /// Partitions in it.
    pub partitions: usize,
    /// Bytes that a reader of one partition reads for each byte it wants.
    pub amplification: f64,
    /// `false`: it is being read by the cleaner, or holds damage, or was found to.
    pub is_cleanable: bool,
}

impl Candidate {
    /// Live bytes by bytes of blocks.
    #[must_use]
    pub fn live_share(&self) -> f64 {
        share(self.live_bytes, self.used_bytes)
    }

    fn is_lasting(&self) -> bool {
        self.lasting_bytes * 2 >= self.live_bytes && self.lasting_bytes > 0
    }
}

/// When to clean, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// A segment with a smaller share of live bytes is sparse.
    pub live_share: f64,
    /// A segment with a larger amplification is scattered.
    pub amplification: f64,
    /// Most segments in one run.
    pub most_segments: usize,
    /// Most partitions, summed over the segments of a run.
    pub most_partitions: usize,
    /// Length of a segment file.
    pub segment_bytes: u64,
}

/// Why a run is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To have its space back.
    Sparse,
    /// To read it with fewer bytes.
    Scattered,
}

/// The run of neighbours that is to be cleaned next. `candidates` are all sealed segments in
/// their order.
#[must_use]
pub fn choose(candidates: &[Candidate], rules: &Rules) -> Option<(Range<usize>, Reason)> {
    let sparse = sparse_run(candidates, rules).map(|run| (run, Reason::Sparse));
    sparse.or_else(|| scattered_run(candidates, rules).map(|run| (run, Reason::Scattered)))
}

/// The run that gives back most bytes for each byte read and written.
fn sparse_run(candidates: &[Candidate], rules: &Rules) -> Option<Range<usize>> {
    let mut best: Option<(f64, Range<usize>)> = None;
    for start in 0..candidates.len() {
        let is_sparse = |c: &Candidate| c.live_share() < rules.live_share && c.is_lasting();
        let longest = longest_run(candidates, start, rules, is_sparse);
        let (mut live, mut files, mut used) = (0, 0, 0);
        for (end, last) in longest.clone().zip(&candidates[longest]) {
            live += last.live_bytes;
            files += last.file_bytes;
            used += last.used_bytes;
            let targets = live.div_ceil(capacity(rules)) * rules.segment_bytes;
            let gain = files.saturating_sub(targets);
            let worth = share(gain, used + live);
            if gain > 0 && best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some((worth, start..end + 1));
            }
        }
    }
    best.map(|(_, run)| run)
}

/// The oldest run that fills at least half of the segment it becomes.
fn scattered_run(candidates: &[Candidate], rules: &Rules) -> Option<Range<usize>> {
    (0..candidates.len()).find_map(|start| {
        let is_scattered = |c: &Candidate| c.amplification >= rules.amplification && c.is_lasting();
        let run = longest_run(candidates, start, rules, is_scattered);
        let live: u64 = candidates[run.clone()].iter().map(|c| c.live_bytes).sum();
        (live * 2 >= rules.segment_bytes).then_some(run)
    })
}

/// From `start` on, what can be cleaned together and becomes one segment. One alone may always.
fn longest_run(
    candidates: &[Candidate],
    start: usize,
    rules: &Rules,
    wanted: impl Fn(&Candidate) -> bool,
) -> Range<usize> {
    let (mut live, mut partitions, mut end) = (0, 0, start);
    for candidate in &candidates[start..] {
        live += candidate.live_bytes;
        partitions += candidate.partitions;
        let fits = live <= capacity(rules)
            && partitions <= rules.most_partitions
            && end - start < rules.most_segments;
        if !candidate.is_cleanable || !wanted(candidate) || (end > start && !fits) {
            break;
        }
        end += 1;
    }
    start..end
}

/// Live bytes that surely fit a segment: the rest is for block headers, padding and the footer.
fn capacity(rules: &Rules) -> u64 {
    rules.segment_bytes - rules.segment_bytes / 8
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share of bytes needs no more than 52 bits"
)]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn rules() -> Rules {
        Rules {
            live_share: 0.5,
            amplification: 4.0,
            most_segments: 8,
            most_partitions: 1000,
            segment_bytes: 64 * MIB,
        }
    }

    fn candidate(segment: u64, live: u64) -> Candidate {
        Candidate {
            segment,
            order: Sequence(segment * 100),
            file_bytes: 64 * MIB,
            used_bytes: 63 * MIB,
            live_bytes: live * MIB,
            lasting_bytes: live * MIB,
            partitions: 8,
            amplification: 1.0,
            is_cleanable: true,
        }
    }

    #[test]
    fn sparse_neighbours_are_cleaned_together_when_that_gives_a_file_back() {
        let all = [60, 20, 10, 60, 30].map(|live| candidate(live, live));
        assert_eq!(choose(&all, &rules()), Some((1..3, Reason::Sparse)));
        let alone = [candidate(1, 60), candidate(2, 20), candidate(3, 60)];
        assert_eq!(choose(&alone, &rules()), None, "one file for one");
    }

    #[test]
    fn what_retention_takes_soon_is_left_alone() {
        let mut all = [candidate(1, 10), candidate(2, 10)];
        assert_eq!(choose(&all, &rules()), Some((0..2, Reason::Sparse)));
        for soon in &mut all {
            soon.lasting_bytes = 4 * MIB;
        }
        assert_eq!(choose(&all, &rules()), None);
        let scattered = Candidate {
            amplification: 8.0,
            lasting_bytes: 20 * MIB,
            ..candidate(1, 60)
        };
        assert_eq!(choose(&[scattered], &rules()), None);
    }

    #[test]
    fn scattered_segments_are_cleaned_one_after_the_other_unless_they_are_small() {
        let scattered = |segment, live| Candidate {
            amplification: 8.0,
            ..candidate(segment, live)
        };
        let full = [candidate(1, 60), scattered(2, 60), scattered(3, 60)];
        assert_eq!(choose(&full, &rules()), Some((1..2, Reason::Scattered)));
        let small = |segment| Candidate {
            file_bytes: 16 * MIB,
            used_bytes: 15 * MIB,
            ..scattered(segment, 15)
        };
        let few = [small(1), small(2)];
        assert_eq!(choose(&few, &rules()), None, "not half a segment yet");
        let more = [small(1), small(2), small(3), small(4), small(5)];
        assert_eq!(choose(&more, &rules()), Some((0..3, Reason::Scattered)));
    }

    #[test]
    fn a_run_ends_at_what_cannot_be_cleaned_and_at_its_limits() {
        let mut all = [10; 6].map(|live| candidate(live, live));
        all[3].is_cleanable = false;
        assert_eq!(choose(&all, &rules()), Some((0..3, Reason::Sparse)));
        let few = Rules {
            most_partitions: 17,
            ..rules()
        };
        assert_eq!(choose(&all, &few), Some((0..2, Reason::Sparse)));
    }
}
