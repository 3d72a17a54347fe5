//! The page of a demo: load and references slice by slice, latencies beside the device's.

use crate::demo::flat_out::{FlatOut, Limit};
use crate::demo::half_rate::HalfRate;
use crate::demo::one_at_a_time::OneAtATime;
use crate::demo::report::DemoReport;
use crate::html::chart::{Chart, Series, number};
use crate::html::page::{Page, Section};
use crate::latency::{Percentiles, median};
use crate::reference::ratio::Ratio;

/// The page.
#[must_use]
pub fn page(report: &DemoReport) -> Page {
    let mut cards: Vec<(String, String)> = report
        .flat_out
        .iter()
        .map(|phase| {
            let what = format!(
                "events/s in batches of {} KiB: {:.0} MB/s, {:.2} of the physical limit",
                phase.batch_bytes.div_ceil(1024),
                median(&phase.load_mb_per_second),
                phase.ratio().median
            );
            (number(median(&phase.load_events_per_second)), what)
        })
        .collect();
    cards.push((
        format!("{:.0} µs", report.one_at_a_time.event_p50_us),
        "until one event is durable, p50".to_owned(),
    ));
    let verdict = match report.is_clean() {
        true => "acknowledged events read back once, in order, unaltered",
        false => "events confirmed: FAULTS FOUND",
    };
    cards.push((number(report.verified_events as f64), verdict.to_owned()));
    let mut sections: Vec<Section> = report.flat_out.iter().map(flat_out).collect();
    sections.push(half_rate(&report.half_rate));
    sections.push(one_at_a_time(&report.one_at_a_time));
    sections.push(settings(report));
    Page {
        title: "Ringlog beside the limit of its machine".to_owned(),
        lead: format!("{}. {}", report.machine.text(), report.durability),
        cards,
        sections,
        text: report.text(),
    }
}

fn flat_out(phase: &FlatOut) -> Section {
    let limit = match phase.limit().0 {
        Limit::Device => "device",
        Limit::Ceiling => "ceiling",
    };
    let mut lines = vec![
        ("Ringlog".to_owned(), &phase.load_mb_per_second),
        ("device alone".to_owned(), &phase.device_mb_per_second),
        (
            "ceiling: same frames into a sink".to_owned(),
            &phase.ceiling_mb_per_second,
        ),
    ];
    for other in &phase.against {
        lines.push((other.command.clone(), &other.mb_per_second));
    }
    let mut table = vec![
        ["MB/s", "median", "least", "most", "Ringlog is"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (place, (name, figures)) in lines.iter().enumerate() {
        let ratio = Ratio::paired(&phase.load_mb_per_second, figures);
        table.push(vec![
            name.clone(),
            number(median(figures)),
            number(figures.iter().copied().fold(f64::INFINITY, f64::min)),
            number(figures.iter().copied().fold(0.0, f64::max)),
            if place == 0 {
                String::new()
            } else {
                format!("{} of it", ratio.text())
            },
        ]);
    }
    let series = lines.into_iter();
    Section {
        heading: format!(
            "Flat out: {}-byte values in batches of {} KiB",
            phase.record_bytes,
            phase.batch_bytes.div_ceil(1024)
        ),
        note: format!(
            "Slices that alternate on the same machine; the lower reference, here the {limit}, is \
             the physical limit. Ratios are formed slice by slice."
        ),
        chart: Some(Chart {
            x: "slice",
            y: "MB/s",
            logarithmic: false,
            places: slices(phase.load_mb_per_second.len()),
            series: series
                .map(|(name, figures)| Series::numbered(name, figures))
                .collect(),
        }),
        table,
    }
}

fn slices(count: usize) -> Vec<String> {
    (1..=count).map(|slice| slice.to_string()).collect()
}

fn half_rate(phase: &HalfRate) -> Section {
    let shares = |percentiles: &Percentiles| {
        [
            percentiles.p50_us,
            percentiles.p90_us,
            percentiles.p99_us,
            percentiles.p999_us,
            percentiles.max_us,
        ]
    };
    let names = ["p50", "p90", "p99", "p99.9", "max"];
    let (load, device) = (shares(&phase.load), shares(&phase.device));
    let mut table = vec![
        ["µs", "Ringlog", "device", "times"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, (load, device)) in names.iter().zip(load.iter().zip(&device)) {
        table.push(vec![
            (*name).to_owned(),
            number(*load),
            number(*device),
            format!("{:.1}", load / device.max(1e-9)),
        ]);
    }
    Section {
        heading: format!("Latency at half that rate: {} events/s", number(phase.rate)),
        note: format!(
            "Open loop, from due time to acknowledgement. The device writes one durable 64 KiB \
             block at a time.{}{}",
            if phase.rate_was_kept() {
                ""
            } else {
                " The rate was not kept."
            },
            if phase.inconclusive {
                " INCONCLUSIVE: the device was restless."
            } else {
                ""
            }
        ),
        chart: Some(Chart {
            x: "share",
            y: "µs",
            logarithmic: true,
            places: names.map(str::to_owned).to_vec(),
            series: vec![
                Series::numbered("Ringlog", &load),
                Series::numbered("device alone", &device),
            ],
        }),
        table,
    }
}

fn one_at_a_time(phase: &OneAtATime) -> Section {
    let row = |name: &str, p50: f64, p99: Option<f64>| {
        vec![
            name.to_owned(),
            number(p50),
            p99.map_or_else(String::new, number),
        ]
    };
    Section {
        heading: "One durable event at a time".to_owned(),
        note: format!(
            "The event is {:+.0} µs ({:+.0} to {:+.0}) beyond the sum of device and loopback, by \
             slices of 100 operations.",
            phase.above_sum_us, phase.above_sum_range_us.0, phase.above_sum_range_us.1
        ),
        chart: None,
        table: vec![
            ["µs", "p50", "p99"].map(str::to_owned).to_vec(),
            row("event", phase.event_p50_us, Some(phase.event_p99_us)),
            row(
                "durable 4 KiB write",
                phase.device_p50_us,
                Some(phase.device_p99_us),
            ),
            row("round trip over loopback", phase.loopback_p50_us, None),
        ],
    }
}

fn settings(report: &DemoReport) -> Section {
    let mut table = vec![["setting", "value"].map(str::to_owned).to_vec()];
    let mut row = |name: &str, value: String| table.push(vec![name.to_owned(), value]);
    row("machine", report.machine.text());
    row("node", format!("{} cores", report.node_cores));
    row(
        "generator",
        format!(
            "{} threads, {} connections, {} in flight on each",
            report.generator_threads, report.window.0, report.window.1
        ),
    );
    row("durability", report.durability.to_owned());
    row("device's best shape", report.device_shape.clone());
    for phase in &report.flat_out {
        let millions = (phase.events as f64 / 1e6).max(1e-9);
        row(
            &format!("CPU at {} KiB", phase.batch_bytes.div_ceil(1024)),
            format!(
                "{:.3} s per million events in the node, {:.3} s in the generator",
                phase.node_cpu_seconds / millions,
                phase.generator_cpu_seconds / millions
            ),
        );
    }
    Section {
        heading: "Settings".to_owned(),
        table,
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::flat_out::Against;
    use crate::demo::place::Machine;

    fn report() -> DemoReport {
        DemoReport {
            machine: Machine {
                cpus: 2,
                cpu_model: "a CPU".to_owned(),
                kernel: "6.18".to_owned(),
                filesystem: "ext4".to_owned(),
                device: "vda".to_owned(),
            },
            node_cores: 1,
            generator_threads: 1,
            window: (4, 5),
            durability: "every block on stable storage",
            device_shape: "1024 KiB blocks".to_owned(),
            flat_out: vec![FlatOut {
                batch_bytes: 1 << 20,
                record_bytes: 100,
                load_mb_per_second: vec![1_500.0, 1_700.0],
                load_events_per_second: vec![13e6, 15e6],
                device_mb_per_second: vec![4_000.0, 4_200.0],
                ceiling_mb_per_second: vec![3_000.0, 3_400.0],
                against: vec![Against {
                    command: "other".to_owned(),
                    mb_per_second: vec![750.0, 850.0],
                }],
                ..FlatOut::default()
            }],
            half_rate: HalfRate {
                rate: 7e6,
                load: Percentiles {
                    count: 10,
                    p99_us: 900.0,
                    ..Percentiles::default()
                },
                device: Percentiles {
                    p99_us: 300.0,
                    ..Percentiles::default()
                },
                ..HalfRate::default()
            },
            one_at_a_time: OneAtATime {
                event_p50_us: 191.0,
                ..OneAtATime::default()
            },
            verified_events: 4_711,
            faults: Vec::new(),
            seconds: 70.0,
        }
    }

    #[test]
    fn the_page_sets_each_figure_beside_its_reference() {
        let html = page(&report()).html().unwrap();
        for figure in [
            "<b>14.00 M</b>",
            "1600 MB/s, 0.50 of the physical limit",
            "<td>other</td><td>800</td><td>750</td><td>850</td><td>2.00 (2.00–2.00) of it</td>",
            "here the ceiling, is the physical limit",
            "<td>p99</td><td>900</td><td>300</td><td>3.0</td>",
            "<b>191 µs</b>",
            "<b>4711</b><span>acknowledged events read back",
        ] {
            assert!(html.contains(figure), "{figure} is missing");
        }
        assert_eq!(html.matches("<svg").count(), 2);
    }

    #[test]
    fn a_page_of_a_run_with_faults_says_so_at_the_top() {
        let mut report = report();
        report.faults.push("partition 3 lost".to_owned());
        let html = page(&report).html().unwrap();
        assert!(html.contains("<b>4711</b><span>events confirmed: FAULTS FOUND"));
        assert!(html.contains("partition 3 lost"));
    }
}
