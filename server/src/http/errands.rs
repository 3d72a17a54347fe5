//! What cores do for other threads, for `/metrics`.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::node::status::NodeStatus;

/// Writes how many errands each core was given, has, and refused.
///
/// # Errors
/// When the encoder cannot write.
pub(super) fn encode(node: &NodeStatus, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Commands that arrived at another thread and were begun here";
    let mut metric =
        encoder.encode_descriptor("ringlog_errands", help, None, MetricType::Counter)?;
    for core in node.cores.iter() {
        let count = core.metrics.errands.get();
        ConstCounter::new(count).encode(metric.encode_family(&[("core", core.id.0)])?)?;
    }
    let help = "Commands refused because the core had as many from other threads as it takes";
    let name = "ringlog_errands_refused";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for core in node.cores.iter() {
        let count = core.door.refused();
        ConstCounter::new(count).encode(metric.encode_family(&[("core", core.id.0)])?)?;
    }
    let help = "Commands from other threads that wait or are being carried out";
    let name = "ringlog_errands_in_progress";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for core in node.cores.iter() {
        // Some hundred.
        let count = i64::try_from(core.door.in_progress()).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(metric.encode_family(&[("core", core.id.0)])?)?;
    }
    Ok(())
}
