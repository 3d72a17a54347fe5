//! Paired ratios: each slice of load against the reference slice beside it.

use serde::Serialize;

use crate::latency::median;

/// The median of paired ratios with their range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ratio {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many.
    pub pairs: usize,
}

impl Ratio {
    /// Of `figures` to `references`, pair by pair.
    #[must_use]
    pub fn paired(figures: &[f64], references: &[f64]) -> Ratio {
        let ratios: Vec<f64> = figures
            .iter()
            .zip(references)
            .filter(|(_, reference)| **reference > 0.0)
            .map(|(figure, reference)| figure / reference)
            .collect();
        if ratios.is_empty() {
            return Ratio::default();
        }
        Ratio {
            median: median(&ratios),
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(0.0, f64::max),
            pairs: ratios.len(),
        }
    }

    /// `0.83 (0.79–0.90)`.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:.2} ({:.2}–{:.2})", self.median, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_formed_pair_by_pair() {
        let ratio = Ratio::paired(&[1.0, 3.0, 4.0], &[2.0, 4.0, 4.0]);
        assert_eq!(
            ratio,
            Ratio {
                median: 0.75,
                least: 0.5,
                most: 1.0,
                pairs: 3
            }
        );
        assert_eq!(Ratio::paired(&[1.0], &[0.0]), Ratio::default());
    }
}
