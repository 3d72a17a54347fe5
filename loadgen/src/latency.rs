//! Latencies: recorded in a histogram of three significant digits, summarised as percentiles.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Nanoseconds, up to ten minutes; anything longer counts as ten minutes.
pub struct Latencies {
    histogram: Histogram<u64>,
}

const LONGEST_NS: u64 = 600_000_000_000;

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Values recorded.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .expect("1 ns to 10 min at three digits are valid bounds");
        Latencies { histogram }
    }
}

impl Latencies {
    /// Records one value.
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns.clamp(1, LONGEST_NS));
    }

    /// Adds another histogram's values.
    pub fn merge(&mut self, other: &Latencies) {
        self.histogram
            .add(&other.histogram)
            .expect("all histograms here have the same bounds");
    }

    /// The value below which this share (0 to 1) lies, in nanoseconds.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }

    /// Values recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The usual percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let us = |share| self.histogram.value_at_quantile(share) as f64 / 1e3;
        Percentiles {
            count: self.count(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.histogram.max() as f64 / 1e3,
        }
    }
}

/// The value below which `share` of the sorted values lies; 0 when there are none.
#[must_use]
pub fn quantile(sorted: &[u64], share: f64) -> u64 {
    if sorted.is_empty() {
        return 0;
    }
    // Rank rounding: a share within 0..=1 stays within the slice.
    let rank = (share * (sorted.len() - 1) as f64).round() as usize;
    sorted[rank.min(sorted.len() - 1)]
}

/// The median of a few figures; 0 when there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latencies = Latencies::default();
        for us in 1..=10_000_u64 {
            latencies.record(us * 1_000);
        }
        let percentiles = latencies.percentiles();
        assert!((percentiles.p50_us - 5_000.0).abs() < 10.0);
        assert!((percentiles.p999_us - 9_990.0).abs() < 20.0);
        assert!((percentiles.max_us - 10_000.0).abs() < 20.0);
    }

    #[test]
    fn medians_and_quantiles_of_few_values() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!(quantile(&[1, 2, 3], 0.5), 2);
        assert_eq!(quantile(&[1, 2, 3], 1.0), 3);
    }
}
