//! How much a Fetch waits for: `min_bytes`, of all cores together where several are asked.
//!
//! Each core notes what it found so far; the one with which there is enough says so to all, and each
//! answers with what it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::request::FetchRequest;
use crate::kafka::limits::FETCH_ANSWER_BYTES;

/// What one core waits for.
#[derive(Clone, Debug)]
pub struct Enough {
    least_bytes: usize,
    /// The most that is wanted of this core.
    most_bytes: usize,
    shared: Option<(Arc<Tally>, usize)>,
}

/// What several cores found, and the sign that it is enough.
#[derive(Debug)]
pub struct Tally {
    found: Box<[AtomicUsize]>,
    least_bytes: usize,
    is_enough: watch::Sender<bool>,
}

fn least_bytes(request: &FetchRequest) -> usize {
    // More than the answer may have is not waited for, as in Kafka.
    let least = request.min_bytes.min(request.max_bytes);
    usize::try_from(least).unwrap_or(0).min(FETCH_ANSWER_BYTES)
}

impl Enough {
    /// Of a request that is answered by one core.
    #[must_use]
    pub fn of(request: &FetchRequest) -> Enough {
        Enough {
            least_bytes: least_bytes(request),
            most_bytes: usize::MAX,
            shared: None,
        }
    }

    /// Bytes with which this core has enough.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Some((tally, place)) = &self.shared else {
            return self.least_bytes;
        };
        let others = tally.found_but(*place);
        // What it may not have is not waited for.
        (self.least_bytes.saturating_sub(others)).min(self.most_bytes)
    }

    /// Notes what this core found so far, for the others.
    pub fn note(&self, bytes: usize) {
        let Some((tally, place)) = &self.shared else {
            return;
        };
        tally.found[*place].store(bytes, Ordering::SeqCst);
        let all = tally.found_but(*place) + bytes;
        if bytes > 0 && (all >= self.least_bytes || bytes >= self.most_bytes) {
            tally.say();
        }
    }
}

impl Tally {
    /// Of a request that so many cores answer.
    #[must_use]
    pub fn new(request: &FetchRequest, cores: usize) -> Arc<Tally> {
        Arc::new(Tally {
            found: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            least_bytes: least_bytes(request),
            is_enough: watch::channel(false).0,
        })
    }

    /// What the core in a place waits for, of which at most so many bytes are wanted.
    #[must_use]
    pub fn part(self: &Arc<Self>, place: usize, most_bytes: usize) -> Enough {
        Enough {
            least_bytes: self.least_bytes,
            most_bytes,
            shared: Some((Arc::clone(self), place)),
        }
    }

    /// There is enough, or another reason to wait no longer.
    pub fn say(&self) {
        self.is_enough.send_replace(true);
    }

    /// Whether that was said.
    #[must_use]
    pub fn is_said(&self) -> bool {
        *self.is_enough.borrow()
    }

    /// Waits until it is.
    ///
    /// Cancellation: nothing is lost.
    pub async fn said(&self) {
        // The sender is here.
        let _ = self.is_enough.subscribe().wait_for(|said| *said).await;
    }

    fn found_but(&self, place: usize) -> usize {
        let others = self.found.iter().enumerate();
        let others = others.filter(|(other, _)| *other != place);
        others.map(|(_, found)| found.load(Ordering::SeqCst)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(min_bytes: i32, max_bytes: i32) -> FetchRequest {
        FetchRequest {
            min_bytes,
            max_bytes,
            ..FetchRequest::default()
        }
    }

    #[test]
    fn what_several_cores_found_counts_together() {
        let tally = Tally::new(&request(100, 1000), 3);
        let parts: Vec<Enough> = (0..3).map(|place| tally.part(place, 333)).collect();
        assert_eq!(parts[0].bytes(), 100);
        parts[1].note(40);
        assert_eq!((parts[0].bytes(), parts[1].bytes()), (60, 100));
        parts[2].note(59);
        assert!(!tally.is_said());
        assert_eq!(parts[0].bytes(), 1);
        // What was found is found anew, not added.
        parts[1].note(40);
        assert!(!tally.is_said());
        parts[1].note(41);
        assert!(tally.is_said(), "41 and 59 are 100");
    }

    #[test]
    fn a_core_that_has_all_it_may_have_is_enough() {
        let tally = Tally::new(&request(1000, 1000), 4);
        let part = tally.part(0, 250);
        assert_eq!(part.bytes(), 250);
        part.note(249);
        assert!(!tally.is_said());
        part.note(250);
        assert!(tally.is_said());
    }

    #[test]
    fn nobody_waits_for_more_than_an_answer_has() {
        assert_eq!(Enough::of(&request(5000, 300)).bytes(), 300);
        assert_eq!(
            Enough::of(&request(i32::MAX, i32::MAX)).bytes(),
            FETCH_ANSWER_BYTES
        );
        assert_eq!(Enough::of(&request(-1, 300)).bytes(), 0);
    }
}
