//! How long the steps of the cores took, for `/metrics`.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::node::metrics::CoreMetrics;
use crate::node::status::NodeStatus;
use crate::node::step_kind::StepKind;

type Longest = fn(&CoreMetrics) -> Duration;

const LONGEST_STEPS: [(&str, &str, Longest); 2] = [
    (
        "ringlog_longest_step_seconds",
        "Longest time one synchronous step held the core by itself",
        CoreMetrics::longest_step,
    ),
    (
        "ringlog_longest_preempted_step_seconds",
        "Longest time of a step during which the kernel gave the CPU to somebody else",
        CoreMetrics::longest_preempted_step,
    ),
];

/// Writes the longest steps of each core; and, of kinds of work of which a step was too long, how
/// many were and the longest.
///
/// # Errors
/// When the encoder cannot write.
pub fn encode(node: &NodeStatus, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, longest) in LONGEST_STEPS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for core in node.cores.iter() {
            let seconds = longest(&core.metrics).as_secs_f64();
            ConstGauge::new(seconds).encode(metric.encode_family(&[("core", core.id.0)])?)?;
        }
    }
    let mut long = Vec::new();
    for core in node.cores.iter() {
        let kinds = StepKind::all().filter(|kind| core.metrics.long_steps(*kind) > 0);
        long.extend(kinds.map(|kind| (core, kind)));
    }
    let help = "Steps that held the core by themselves for more than 500 us, by kind of work";
    let name = "ringlog_long_steps";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (core, kind) in &long {
        let labels = ([("core", core.id.0)], [("kind", kind.label())]);
        let count = core.metrics.long_steps(*kind);
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    let help = "Longest step that held the core by itself, by kind of work";
    let name = "ringlog_longest_step_of_kind_seconds";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (core, kind) in &long {
        let labels = ([("core", core.id.0)], [("kind", kind.label())]);
        let seconds = core.metrics.longest_of(*kind).as_secs_f64();
        ConstGauge::new(seconds).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
