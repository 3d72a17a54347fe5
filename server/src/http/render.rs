//! What `/metrics` shows, in Prometheus' format: the tables of `figures`, and what has labels of its own.

use std::fmt;
use std::ops::RangeInclusive;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use ringlog_engine::topics::Durability;
use ringlog_storage::log::Histogram;

use super::figures::{COUNTERS, GAUGES, HISTOGRAMS, LOG_COUNTERS, LOG_GAUGES, wide};
use super::{errands, steps};
use crate::node::message::Snapshot;
use crate::node::metrics::{API_KEYS, ErrorKind};
use crate::node::stages::Stage;
use crate::node::status::{CoreStatus, NodeStatus};

/// The figures of a node at one moment.
#[derive(Debug)]
pub(super) struct NodeFigures {
    node: NodeStatus,
    /// By core; `None`: it did not answer.
    snapshots: Vec<Option<Box<Snapshot>>>,
}

fn encode_histogram(
    mut encoder: MetricEncoder<'_>,
    histogram: &Histogram,
    bounds: RangeInclusive<u32>,
    unit: f64,
) -> fmt::Result {
    let buckets = buckets(histogram, bounds, unit);
    let sum = histogram.sum() as f64 * unit;
    encoder.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
}

/// Values below each power of two, as Prometheus wants them: not cumulated.
fn buckets(histogram: &Histogram, bounds: RangeInclusive<u32>, unit: f64) -> Vec<(f64, u64)> {
    let last = bounds.end() - bounds.start();
    let mut counts = vec![0u64; last as usize + 2];
    for (bound, count) in histogram.buckets() {
        // A bucket of the histogram never spans a power of two.
        let exponent = (bound + u64::from(bound < u64::MAX))
            .checked_next_power_of_two()
            .map_or(64, u64::ilog2);
        let place = exponent.saturating_sub(*bounds.start()).min(last + 1);
        counts[place as usize] += count;
    }
    let powers = bounds.map(|exponent| f64::from(exponent).exp2() * unit);
    powers
        .chain(std::iter::once(f64::INFINITY))
        .zip(counts)
        .collect()
}

impl NodeFigures {
    pub(super) fn new(node: NodeStatus, snapshots: Vec<Option<Box<Snapshot>>>) -> NodeFigures {
        NodeFigures { node, snapshots }
    }

    fn answering(&self) -> impl Iterator<Item = (&CoreStatus, &Snapshot)> {
        let pairs = self.node.cores.iter().zip(&self.snapshots);
        pairs.filter_map(|(core, snapshot)| Some((core, snapshot.as_deref()?)))
    }

    fn encode_node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut info = encoder.encode_descriptor(
            "ringlog_build",
            "Version of this build",
            None,
            MetricType::Info,
        )?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let ready = self.node.obstacles().is_empty();
        let help = "1 when every core serves and no log has failed";
        let metric = encoder.encode_descriptor("ringlog_ready", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(ready)).encode(metric)?;
        let each = |core: &CoreStatus| u64::from(core.failure().is_some());
        self.per_core(
            encoder,
            "ringlog_log_failed",
            "1 when the log has closed by a failure",
            each,
        )?;
        let answers =
            |core: &CoreStatus| u64::from(self.snapshots[usize::from(core.id.0)].is_some());
        self.per_core(
            encoder,
            "ringlog_core_answers",
            "1 when the core answered this scrape",
            answers,
        )?;
        // Of the node, whichever core says it.
        if let Some((_, snapshot)) = self.answering().next() {
            let help = "TLS handshakes and password hashes that are done or wait for a thread";
            let name = "ringlog_security_jobs";
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(wide(snapshot.security_jobs)).encode(metric)?;
        }
        let depth = |core: &CoreStatus| wide(core.mailbox.depth());
        self.per_core(
            encoder,
            "ringlog_mailbox_depth",
            "Messages in the core's mailbox",
            depth,
        )
    }

    fn per_core(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        figure: impl Fn(&CoreStatus) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for core in self.node.cores.iter() {
            ConstGauge::new(figure(core)).encode(metric.encode_family(&[("core", core.id.0)])?)?;
        }
        Ok(())
    }

    fn encode_cores(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, figure) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for core in self.node.cores.iter() {
                let labels = [("core", core.id.0)];
                ConstCounter::new(figure(&core.metrics)).encode(metric.encode_family(&labels)?)?;
            }
        }
        for (name, help, figure) in GAUGES {
            self.per_core(encoder, name, help, |core| figure(&core.metrics))?;
        }
        Ok(())
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests by Kafka API key";
        let mut metric =
            encoder.encode_descriptor("ringlog_requests", help, None, MetricType::Counter)?;
        for core in self.node.cores.iter() {
            for key in 0..i16::try_from(API_KEYS).unwrap_or(i16::MAX) {
                let count = core.metrics.requests(key);
                if count > 0 {
                    let labels = (
                        vec![("core", i64::from(core.id.0))],
                        vec![("api_key", i64::from(key))],
                    );
                    ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        let help =
            "Batches acknowledged, by what that means: the ringlog.durability of their topics";
        let name = "ringlog_acknowledged_batches";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for core in self.node.cores.iter() {
            for durability in Durability::ALL {
                let labels = ([("core", core.id.0)], [("durability", durability.name())]);
                let count = core.metrics.acknowledged_batches(durability);
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Requests and connections that ended badly, by kind";
        let mut metric =
            encoder.encode_descriptor("ringlog_errors", help, None, MetricType::Counter)?;
        for core in self.node.cores.iter() {
            for kind in ErrorKind::ALL {
                let labels = ([("core", core.id.0)], [("kind", kind.label())]);
                let count = core.metrics.errors(kind);
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_logs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, figure) in LOG_COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (core, snapshot) in self.answering() {
                let labels = [("core", core.id.0)];
                ConstCounter::new(figure(snapshot)).encode(metric.encode_family(&labels)?)?;
            }
        }
        for (name, help, figure) in LOG_GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (core, snapshot) in self.answering() {
                let labels = [("core", core.id.0)];
                ConstGauge::new(figure(snapshot)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Bytes of blocks by the kind of space they were written into";
        let name = "ringlog_written_bytes";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (core, snapshot) in self.answering() {
            for (space, bytes) in [
                ("recycled", snapshot.log.written_recycled_bytes),
                ("prewritten", snapshot.log.written_prewritten_bytes),
                ("unwritten", snapshot.log.written_unwritten_bytes),
            ] {
                let labels = ([("core", core.id.0)], [("space", space)]);
                ConstCounter::new(bytes).encode(metric.encode_family(&labels)?)?;
            }
        }
        self.encode_histograms(encoder)
    }

    fn encode_histograms(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_stages(encoder)?;
        for row in HISTOGRAMS {
            let kind = MetricType::Histogram;
            let mut metric = encoder.encode_descriptor(row.name, row.help, None, kind)?;
            for (core, snapshot) in self.answering() {
                let histogram = (row.histogram)(&snapshot.log);
                let labels = [("core", core.id.0)];
                let encoder = metric.encode_family(&labels)?;
                encode_histogram(encoder, histogram, row.bounds.clone(), row.unit)?;
            }
        }
        Ok(())
    }

    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "ringlog_produce_stage_seconds";
        let help = "Where the time of Produce requests goes (a sample of them); queue, write and \
                    settle are the parts of commit, by blocks";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (core, snapshot) in self.answering() {
            let requests = Stage::ALL.iter().zip(snapshot.stages.iter());
            let requests = requests.map(|(stage, times)| (stage.label(), times));
            let log = &snapshot.log;
            let blocks = [
                ("queue", &log.queue_latency),
                ("write", &log.device_latency),
                ("settle", &log.settle_latency),
            ];
            for (stage, times) in requests.chain(blocks) {
                let labels = ([("core", core.id.0)], [("stage", stage)]);
                encode_histogram(metric.encode_family(&labels)?, times, 8..=34, 1e-9)?;
            }
        }
        Ok(())
    }
}

impl Collector for NodeFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_node(&mut encoder)?;
        self.encode_cores(&mut encoder)?;
        errands::encode(&self.node, &mut encoder)?;
        steps::encode(&self.node, &mut encoder)?;
        self.encode_requests(&mut encoder)?;
        self.encode_logs(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_of_the_power_of_two_above_them() {
        let mut histogram = Histogram::default();
        for value in [0, 4095, 4096, 5000, 8191, 1 << 24, u64::MAX] {
            histogram.record(value);
        }
        let buckets = buckets(&histogram, 12..=24, 1.0);
        assert_eq!(buckets.len(), 14);
        assert_eq!(buckets[0], (4096.0, 2));
        assert_eq!(buckets[1], (8192.0, 3));
        assert_eq!(buckets[13], (f64::INFINITY, 2));
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 7);
    }
}
