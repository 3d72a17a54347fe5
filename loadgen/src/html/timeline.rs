//! Acknowledgements over time: how many in each step of the run, and how long they took.

use crate::latency::quantile;

/// About so many steps make a line that can be read.
const STEPS: f64 = 100.0;

/// No step is shorter: fewer acknowledgements say nothing.
const SHORTEST_STEP_S: f64 = 0.05;

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its middle, seconds from the beginning.
    pub at_s: f64,
    /// Acknowledgements per second.
    pub per_second: f64,
    /// Latency, median, microseconds; 0 where nothing was acknowledged.
    pub p50_us: f64,
    /// Latency, 99 of a hundred.
    pub p99_us: f64,
}

/// Cuts a run of `seconds` into steps. `acknowledged_ns`: when each acknowledgement came, from the
/// beginning; `latencies_ns`: how long it took. Those that came after the end are left out.
#[must_use]
pub fn steps(seconds: f64, acknowledged_ns: &[u64], latencies_ns: &[u64]) -> Vec<Step> {
    if seconds <= 0.0 {
        return Vec::new();
    }
    let count = (seconds / (seconds / STEPS).max(SHORTEST_STEP_S))
        .ceil()
        .max(1.0);
    // A nanosecond at least, and of a run that ends within centuries.
    let step_ns = ((seconds * 1e9 / count).round() as u64).max(1);
    let step_s = step_ns as f64 / 1e9;
    // Between 1 and a hundred.
    let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); count as usize];
    for (at, latency) in acknowledged_ns.iter().zip(latencies_ns) {
        let step = usize::try_from(at / step_ns).ok();
        if let Some(step) = step.and_then(|place| latencies.get_mut(place)) {
            step.push(*latency);
        }
    }
    (0_u32..)
        .zip(latencies)
        .map(|(place, mut latencies)| {
            latencies.sort_unstable();
            let us = |share| quantile(&latencies, share) as f64 / 1e3;
            Step {
                at_s: (f64::from(place) + 0.5) * step_s,
                per_second: latencies.len() as f64 / step_s,
                p50_us: us(0.5),
                p99_us: us(0.99),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_shows_as_steps_without_acknowledgements() {
        // One acknowledgement each millisecond, none in the second quarter of a second.
        let at: Vec<u64> = (0..1_000).filter(|ms| !(250..500).contains(ms)).collect();
        let at: Vec<u64> = at.iter().map(|ms| ms * 1_000_000).collect();
        let latencies = vec![300_000; at.len()];
        let steps = steps(1.0, &at, &latencies);
        assert_eq!(steps.len(), 20);
        for step in &steps {
            let paused = (0.25..0.5).contains(&step.at_s);
            let expected = if paused { (0.0, 0.0) } else { (1_000.0, 300.0) };
            assert!((step.per_second - expected.0).abs() < 1.0, "{step:?}");
            assert!((step.p50_us - expected.1).abs() < 1e-9, "{step:?}");
        }
    }

    #[test]
    fn what_came_after_the_end_and_runs_without_length_are_left_out() {
        let steps_of = |at: u64| steps(1.0, &[at], &[1_000]);
        let count = |steps: Vec<Step>| steps.iter().map(|step| step.per_second).sum::<f64>();
        assert!(count(steps_of(500_000_000)) > 0.0);
        assert_eq!(count(steps_of(1_500_000_000)), 0.0);
        assert!(steps(0.0, &[1], &[1]).is_empty());
    }
}
