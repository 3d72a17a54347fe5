//! The page of a comparison: every side's rounds, shape by shape.

use crate::compare::flat_out::FlatOut;
use crate::compare::report::CompareReport;
use crate::html::chart::{Chart, Series, number};
use crate::html::page::{Page, Section};
use crate::latency::median;

/// The page.
#[must_use]
pub fn page(report: &CompareReport) -> Page {
    let mut sections: Vec<Section> = report
        .flat_out
        .iter()
        .map(|phase| flat_out(report, phase))
        .collect();
    sections.push(one_at_a_time(report));
    sections.push(sides(report));
    let first = report.sides.first().map_or("", |side| side.label.as_str());
    let cards = report.flat_out.iter().map(|phase| {
        let rates = phase
            .sides
            .first()
            .map(|side| median(&side.events_per_second));
        let what = format!(
            "events/s: {first}, {}-byte values in batches of {} KiB",
            phase.record_bytes,
            phase.batch_bytes.div_ceil(1024)
        );
        (number(rates.unwrap_or(0.0)), what)
    });
    Page {
        title: format!("{first}, beside others"),
        lead: format!(
            "{}; {} rounds of slices of {:.1} s, in turn on the same machine",
            report.load, report.rounds, report.slice_seconds
        ),
        cards: cards.collect(),
        sections,
        text: report.text(),
    }
}

fn flat_out(report: &CompareReport, phase: &FlatOut) -> Section {
    let head = ["", "events/s", "MB/s", "p50 µs", "p99 µs", "the first is"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let mut series = Vec::new();
    for (place, (side, figures)) in report.sides.iter().zip(&phase.sides).enumerate() {
        series.push(Series::numbered(&side.label, &figures.events_per_second));
        table.push(vec![
            side.label.clone(),
            number(median(&figures.events_per_second)),
            number(median(&figures.mb_per_second)),
            number(median(&figures.p50_us)),
            number(median(&figures.p99_us)),
            if place == 0 {
                String::new()
            } else {
                format!("{} of it", phase.ratio_to(place).text())
            },
        ]);
    }
    let rounds = phase
        .sides
        .first()
        .map_or(0, |side| side.events_per_second.len());
    Section {
        heading: format!(
            "{}-byte values in batches of {} KiB",
            phase.record_bytes,
            phase.batch_bytes.div_ceil(1024)
        ),
        note: phase
            .limit_mb_per_second()
            .map_or_else(String::new, |limit| {
                format!(
                    "Physical limit of the same rounds: {:.0} MB/s.",
                    median(limit)
                )
            }),
        chart: Some(Chart {
            x: "round",
            y: "events/s",
            logarithmic: true,
            places: (1..=rounds).map(|round| round.to_string()).collect(),
            series,
        }),
        table,
    }
}

fn one_at_a_time(report: &CompareReport) -> Section {
    let head = ["", "p50 µs", "p99 µs", "beyond the first, µs"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let sides = report.sides.iter().zip(&report.one_at_a_time.sides);
    for (place, (side, latency)) in sides.enumerate() {
        let (middle, least, most) = report.one_at_a_time.beyond_first_us(place);
        table.push(vec![
            side.label.clone(),
            number(median(&latency.p50_us)),
            number(latency.p99_us),
            if place == 0 {
                String::new()
            } else {
                format!("{middle:+.0} ({least:+.0} to {most:+.0})")
            },
        ]);
    }
    Section {
        heading: "One event at a time".to_owned(),
        note: "Slices of 100 operations, in turn; the difference is formed round by round."
            .to_owned(),
        chart: None,
        table,
    }
}

fn sides(report: &CompareReport) -> Section {
    let mut table = vec![
        ["side", "address", "settings", "events read back"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (side, verified) in report.sides.iter().zip(&report.verified_events) {
        table.push(vec![
            side.label.clone(),
            side.bootstrap.clone(),
            side.settings(),
            verified.to_string(),
        ]);
    }
    Section {
        heading: "Who was compared".to_owned(),
        table,
        ..Section::default()
    }
}
