//! The page of a run shows the run's own figures.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ringlog_loadgen::html::produce::page;
use ringlog_loadgen::limit::LimitReport;
use ringlog_loadgen::produce::options::ProduceOptions;
use ringlog_loadgen::produce::progress::Progress;
use ringlog_loadgen::produce::run::run;
use ringlog_loadgen::sink::serve;

/// A table's row.
fn row(name: &str, value: &str) -> String {
    format!("<td>{name}</td><td>{value}</td>")
}

#[test]
fn a_page_has_the_figures_and_settings_of_its_run_and_a_plot_for_each_view() {
    let address = serve::start().unwrap().to_string();
    let mut options = ProduceOptions::new(&address, "a<b>");
    options.duration = Duration::from_millis(400);
    options.pin = false;
    options.keep_latencies = true;
    options.topic_configs = vec![("retention.ms".to_owned(), "4711".to_owned())];
    let report = run(&options, &Progress::default(), &AtomicBool::new(false)).unwrap();
    assert_eq!(report.acknowledged_ns.len(), report.latencies_ns.len());
    let in_order = report.acknowledged_ns.is_sorted();
    assert!(in_order, "one thread notes what arrives as it arrives");
    let limit = LimitReport {
        batch_bytes: report.batch_bytes,
        device_shape: None,
        device_mb_per_second: vec![4321.0],
        ceiling_mb_per_second: vec![8765.0],
        generator_cpu_per_gb: 0.0,
        sink_cpu_per_gb: 0.0,
        limit_mb_per_second: 4321.0,
    };
    let html = page(&options, &report, Some(&limit)).html().unwrap();
    assert!(html.contains(&row(
        "events/s",
        &format!("{:.0}", report.events_per_second)
    )));
    assert!(html.contains(&row(
        "latency p99, µs",
        &format!("{:.0}", report.latency.p99_us)
    )));
    assert!(html.contains(&row("topic", "a&lt;b&gt;")));
    assert!(html.contains(&row("topic settings", "retention.ms=4711")));
    assert!(html.contains("device alone, median 4321 MB/s"));
    assert!(html.contains("same frames into a sink, median 8765 MB/s"));
    assert!(html.contains(&report.run));
    assert_eq!(html.matches("<svg").count(), 3);
    // Needs nothing from elsewhere: the only address in it names the SVG language.
    let addresses = html.matches("http").count();
    assert_eq!(
        addresses,
        html.matches("http://www.w3.org/2000/svg").count()
    );
}
