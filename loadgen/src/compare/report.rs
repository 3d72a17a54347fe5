//! A comparison's figures, for programs and in words. Every line that has a figure says what an
//! acknowledgement of that side means, as far as the side's label and settings say it.

use std::fmt::Write;

use serde::Serialize;

use crate::compare::flat_out::{FlatOut, SideFigures};
use crate::compare::one_at_a_time::OneAtATime;
use crate::compare::side::Side;
use crate::latency::median;
use crate::reference::ratio::Ratio;

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub struct CompareReport {
    /// Who was compared; the others are set against the first.
    pub sides: Vec<Side>,
    /// What every side was asked for, in words.
    pub load: String,
    /// Rounds of a throughput phase.
    pub rounds: usize,
    /// Length of a slice.
    pub slice_seconds: f64,
    /// Flat out, by shape.
    pub flat_out: Vec<FlatOut>,
    /// One event at a time.
    pub one_at_a_time: OneAtATime,
    /// The device's best shape, if it was measured.
    pub device_shape: Option<String>,
    /// Events read back and found once, in order, unaltered, by side.
    pub verified_events: Vec<u64>,
    /// Faults, in words.
    pub faults: Vec<String>,
    /// How long it all took.
    pub seconds: f64,
}

impl CompareReport {
    /// Whether nothing acknowledged was lost, doubled, reordered or altered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{}; {} rounds, slices of {:.1} s",
            self.load, self.rounds, self.slice_seconds
        )?;
        for (place, side) in self.sides.iter().enumerate() {
            let (name, settings) = (letter(place), side.settings());
            writeln!(
                out,
                "  {name}  {} ({}; {settings})",
                side.label, side.bootstrap
            )?;
        }
        if let Some(shape) = &self.device_shape {
            writeln!(out, "  device: best of the grid, {shape}")?;
        }
        for phase in &self.flat_out {
            self.write_flat_out(out, phase)?;
        }
        self.write_one_at_a_time(out)?;
        writeln!(out)?;
        for (side, events) in self.sides.iter().zip(&self.verified_events) {
            let events = *events;
            if events > 0 {
                writeln!(out, "verified: {events} events of {}", side.label)?;
            } else {
                writeln!(out, "not read back: {}", side.label)?;
            }
        }
        if !self.is_clean() {
            writeln!(out, "FAULTS FOUND")?;
        }
        for fault in &self.faults {
            writeln!(out, "  {fault}")?;
        }
        Ok(())
    }

    fn write_flat_out(&self, out: &mut String, phase: &FlatOut) -> std::fmt::Result {
        writeln!(
            out,
            "\n{}-byte values in batches of {} KiB ({} events)",
            phase.record_bytes,
            phase.batch_bytes.div_ceil(1024),
            phase.records_per_batch
        )?;
        for (place, (side, figures)) in self.sides.iter().zip(&phase.sides).enumerate() {
            write!(out, "  {}  {}", letter(place), figures_text(figures))?;
            if place > 0 {
                write!(out, "  A is {} of it", phase.ratio_to(place).text())?;
            }
            writeln!(out, "  {}", side.label)?;
        }
        if let Some(limit) = phase.limit_mb_per_second() {
            let share = Ratio::paired(&phase.sides[0].mb_per_second, limit);
            writeln!(
                out,
                "     device {:.0} MB/s, ceiling {:.0} MB/s: A is {} of the lower",
                median(&phase.device_mb_per_second),
                median(&phase.ceiling_mb_per_second),
                share.text()
            )?;
        }
        Ok(())
    }

    fn write_one_at_a_time(&self, out: &mut String) -> std::fmt::Result {
        let phase = &self.one_at_a_time;
        let rounds = phase.sides.first().map_or(0, |side| side.p50_us.len());
        writeln!(
            out,
            "\none event at a time ({rounds} slices of 100 operations each)"
        )?;
        for (place, (side, latency)) in self.sides.iter().zip(&phase.sides).enumerate() {
            write!(
                out,
                "  {}  p50 {:>6.0} µs  p99 {:>6.0} µs",
                letter(place),
                median(&latency.p50_us),
                latency.p99_us
            )?;
            if place > 0 {
                let (middle, least, most) = phase.beyond_first_us(place);
                write!(
                    out,
                    "  {middle:+.0} µs beyond A ({least:+.0} to {most:+.0})"
                )?;
            }
            writeln!(out, "  {}", side.label)?;
        }
        Ok(())
    }
}

fn figures_text(figures: &SideFigures) -> String {
    format!(
        "{:>7.3} million events/s {:>6.0} MB/s  p50 {:>6.0} µs  p99 {:>7.0} µs",
        median(&figures.events_per_second) / 1e6,
        median(&figures.mb_per_second),
        median(&figures.p50_us),
        median(&figures.p99_us)
    )
}

/// A, B, C …: the command line takes no more sides than there are letters.
fn letter(place: usize) -> char {
    (b'A'..=b'Z').nth(place).map_or('?', char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_with_a_figure_names_its_side_and_ratios_stand_against_the_first() {
        let figures = |events: f64| SideFigures {
            events_per_second: vec![events; 2],
            mb_per_second: vec![events / 1e4; 2],
            p50_us: vec![400.0; 2],
            p99_us: vec![900.0; 2],
        };
        let report = CompareReport {
            sides: vec![
                "durable@h:1".parse().unwrap(),
                "not durable@h:2?flush.messages=9".parse().unwrap(),
            ],
            load: "acks=all".to_owned(),
            rounds: 2,
            slice_seconds: 1.0,
            flat_out: vec![FlatOut {
                record_bytes: 100,
                batch_bytes: 16 << 10,
                records_per_batch: 150,
                sides: vec![figures(6e6), figures(2e6)],
                ..FlatOut::default()
            }],
            one_at_a_time: OneAtATime::default(),
            device_shape: None,
            verified_events: vec![77, 0],
            faults: Vec::new(),
            seconds: 1.0,
        };
        let text = report.text();
        let line = |begin: &str| {
            let mut lines = text.lines().filter(|line| line.trim().starts_with(begin));
            lines.next_back().unwrap_or_default().to_owned()
        };
        let (own, other) = (line("A  "), line("B  "));
        assert!(own.contains("6.000 million events/s") && own.ends_with("durable"));
        assert!(other.contains("A is 3.00 (3.00–3.00) of it") && other.ends_with("not durable"));
        assert!(text.contains("topics with flush.messages=9"));
        assert!(text.contains("verified: 77 events of durable\nnot read back: not durable"));
    }
}
