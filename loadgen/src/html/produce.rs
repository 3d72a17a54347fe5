//! The page of a producing run: throughput and latency over its time, the limit beside it.

use crate::html::chart::{Chart, Series, number};
use crate::html::page::{Page, Section};
use crate::html::timeline::{Step, steps};
use crate::latency::{median, quantile};
use crate::limit::LimitReport;
use crate::produce::options::ProduceOptions;
use crate::produce::report::ProduceReport;
use crate::produce::schedule::Pace;

/// The page. `limit`: the physical limit of the same shape, measured behind the run.
#[must_use]
pub fn page(options: &ProduceOptions, report: &ProduceReport, limit: Option<&LimitReport>) -> Page {
    let steps = steps(
        report.seconds,
        &report.acknowledged_ns,
        &report.latencies_ns,
    );
    let mut sections = vec![throughput(report, &steps, limit)];
    if report.latency.count > 0 {
        sections.push(latency_over_time(&steps));
        sections.push(latency_by_share(&report.latencies_ns));
    }
    sections.push(settings(options, report));
    sections.push(figures(report));
    let mut cards = vec![
        (number(report.events_per_second), "events/s".to_owned()),
        (
            number(report.batch_mb_per_second),
            "MB/s of batches".to_owned(),
        ),
        us_card(report.latency.p50_us, "p50"),
        us_card(report.latency.p99_us, "p99"),
    ];
    if let Some(verification) = &report.verification {
        let what = match verification.is_clean() {
            true => "acknowledged events read back, every one as it was sent",
            false => "events confirmed: VERIFICATION FAILED",
        };
        let confirmed = number(verification.confirmed_events as f64);
        cards.push((confirmed, what.to_owned()));
    }
    Page {
        title: format!("Producing to {}", options.bootstrap),
        lead: format!(
            "{} events in {:.1} s, {}, acks {:?}; run {}",
            report.events,
            report.seconds,
            pace(options),
            options.acks,
            report.run
        ),
        cards,
        sections,
        text: report.text(),
    }
}

fn us_card(us: f64, share: &str) -> (String, String) {
    (
        format!("{} µs", number(us)),
        format!("until acknowledged, {share}"),
    )
}

fn pace(options: &ProduceOptions) -> String {
    match options.pace {
        Pace::Max => "as fast as the window allows".to_owned(),
        Pace::EventsPerSecond(rate) => format!("open loop at {rate:.0} events/s"),
    }
}

fn throughput(report: &ProduceReport, steps: &[Step], limit: Option<&LimitReport>) -> Section {
    let mb = report.batch_bytes as f64 / 1e6;
    let points = steps.iter().map(|step| (step.at_s, step.per_second * mb));
    let mut series = vec![Series {
        name: "acknowledged".to_owned(),
        points: points.collect(),
    }];
    let mut note = "Batches acknowledged, in each step of the run.".to_owned();
    if let Some(limit) = limit {
        let level = |name: &str, figures: &[f64]| {
            let name = format!("{name}, median {:.0} MB/s", median(figures));
            Series::level(name, report.seconds, median(figures))
        };
        series.push(level("device alone", &limit.device_mb_per_second));
        series.push(level(
            "same frames into a sink",
            &limit.ceiling_mb_per_second,
        ));
        note.push_str(" The physical limit is the lower of the other two; it was measured right behind the run.");
    }
    Section {
        heading: "Throughput".to_owned(),
        note,
        chart: Some(Chart {
            x: "seconds",
            y: "MB/s",
            logarithmic: false,
            places: Vec::new(),
            series,
        }),
        table: Vec::new(),
    }
}

fn latency_over_time(steps: &[Step]) -> Section {
    let series = |name: &str, of: fn(&Step) -> f64| {
        let there = steps.iter().filter(|step| step.per_second > 0.0);
        Series {
            name: name.to_owned(),
            points: there.map(|step| (step.at_s, of(step))).collect(),
        }
    };
    Section {
        heading: "Latency over time".to_owned(),
        note: "From the time a batch was due to its acknowledgement.".to_owned(),
        chart: Some(Chart {
            x: "seconds",
            y: "µs",
            logarithmic: true,
            places: Vec::new(),
            series: vec![
                series("p50", |step| step.p50_us),
                series("p99", |step| step.p99_us),
            ],
        }),
        table: Vec::new(),
    }
}

/// Shares that are shown, each ten times closer to all of them than the one before.
const SHARES: [(&str, f64); 6] = [
    ("min", 0.0),
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

fn latency_by_share(latencies_ns: &[u64]) -> Section {
    let mut sorted = latencies_ns.to_vec();
    sorted.sort_unstable();
    let us: Vec<f64> = SHARES
        .iter()
        .map(|(_, share)| quantile(&sorted, *share) as f64 / 1e3)
        .collect();
    Section {
        heading: "Latency by share of the batches".to_owned(),
        note: "How long the quicker half, nine of ten, … of all batches took at most.".to_owned(),
        chart: Some(Chart {
            x: "share",
            y: "µs",
            logarithmic: true,
            places: SHARES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            series: vec![Series::numbered("latency", &us)],
        }),
        table: Vec::new(),
    }
}

fn settings(options: &ProduceOptions, report: &ProduceReport) -> Section {
    let configs = options.topic_configs.iter();
    let configs: Vec<String> = configs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let configs = match configs.is_empty() {
        true => "the broker's defaults".to_owned(),
        false => configs.join(", "),
    };
    let keys = match options.shape.keys {
        0 => "none".to_owned(),
        keys => format!("{keys} distinct"),
    };
    let rows = [
        ("topic", options.topic.clone()),
        ("topic settings", configs),
        ("partitions", options.partitions.to_string()),
        ("acks", format!("{:?}", options.acks)),
        ("value", format!("{} bytes", options.shape.record_bytes)),
        (
            "batch",
            format!(
                "{} events, {} bytes",
                report.records_per_batch, report.batch_bytes
            ),
        ),
        ("keys", keys),
        ("compression", format!("{:?}", options.shape.compression)),
        (
            "window",
            format!(
                "{} connections, {} in flight on each",
                report.connections, options.in_flight
            ),
        ),
        ("pace", pace(options)),
        ("idempotent", options.idempotent.to_string()),
        ("generator threads", options.threads.to_string()),
    ];
    let head = vec!["setting".to_owned(), "value".to_owned()];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    Section {
        heading: "Settings".to_owned(),
        table: std::iter::once(head).chain(rows).collect(),
        ..Section::default()
    }
}

fn figures(report: &ProduceReport) -> Section {
    let latency = &report.latency;
    let mut rows = vec![
        ("events/s", format!("{:.0}", report.events_per_second)),
        (
            "MB/s of batches",
            format!("{:.1}", report.batch_mb_per_second),
        ),
        (
            "MB/s of keys and values",
            format!("{:.1}", report.payload_mb_per_second),
        ),
        ("latency p50, µs", format!("{:.0}", latency.p50_us)),
        ("latency p90, µs", format!("{:.0}", latency.p90_us)),
        ("latency p99, µs", format!("{:.0}", latency.p99_us)),
        ("latency p99.9, µs", format!("{:.0}", latency.p999_us)),
        ("latency max, µs", format!("{:.0}", latency.max_us)),
        (
            "events acknowledged in all",
            report.acknowledged_events.to_string(),
        ),
        (
            "batches with unknown outcome",
            report.unknown_batches.to_string(),
        ),
        ("batches sent again", report.retried_batches.to_string()),
        ("connections lost", report.disconnects.to_string()),
        (
            "batches due but never sent",
            report.behind_batches.to_string(),
        ),
    ];
    let errors = report.errors.iter();
    rows.extend(errors.map(|(error, count)| (error.as_str(), count.to_string())));
    let head = vec!["figure".to_owned(), String::new()];
    let rows = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value]);
    Section {
        heading: "Figures".to_owned(),
        table: std::iter::once(head).chain(rows).collect(),
        ..Section::default()
    }
}
