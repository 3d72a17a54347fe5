//! What came out of a producing run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::latency::Percentiles;
use crate::verify::expectation::Expectation;
use crate::verify::readback::VerifyReport;

/// Figures of a run; latencies and rates of the measured window.
#[derive(Clone, Debug, Serialize)]
pub struct ProduceReport {
    /// The run's id.
    pub run: String,
    /// Length of the measured window.
    pub seconds: f64,
    /// Events acknowledged (acks 0: written to the socket) within the window.
    pub events: u64,
    /// Events per second.
    pub events_per_second: f64,
    /// Keys and values, uncompressed, in MB/s.
    pub payload_mb_per_second: f64,
    /// Record batches as sent, in MB/s.
    pub batch_mb_per_second: f64,
    /// From the time a batch was due to its acknowledgement.
    pub latency: Percentiles,
    /// Events acknowledged in the whole run, warmup and drain included.
    pub acknowledged_events: u64,
    /// Batches that may or may not have been stored.
    pub unknown_batches: u64,
    /// Batches that were sent again.
    pub retried_batches: u64,
    /// Connections that were lost.
    pub disconnects: u64,
    /// Batches that were due within the window and never sent: the broker was slower than the
    /// rate.
    pub behind_batches: u64,
    /// Errors by name, with their number.
    pub errors: BTreeMap<String, u64>,
    /// Size of a batch in bytes.
    pub batch_bytes: u64,
    /// Records in a batch.
    pub records_per_batch: u32,
    /// Connections used.
    pub connections: usize,
    /// Reading back, where it was asked for.
    pub verification: Option<VerifyReport>,
    /// Every latency in nanoseconds in order of arrival, where it was asked for.
    #[serde(skip)]
    pub latencies_ns: Vec<u64>,
    /// When each of those arrived, from the beginning of the measured window.
    #[serde(skip)]
    pub acknowledged_ns: Vec<u64>,
    /// What a verifier must find.
    #[serde(skip)]
    pub expectation: Expectation,
}

impl ProduceReport {
    /// A paragraph for people.
    #[must_use]
    pub fn text(&self) -> String {
        let latency = &self.latency;
        let mut text = format!(
            "{:.0} events/s, {:.1} MB/s payload, {:.1} MB/s batches ({} events in {:.2} s, \
             batches of {} events and {} bytes, {} connections)\n",
            self.events_per_second,
            self.payload_mb_per_second,
            self.batch_mb_per_second,
            self.events,
            self.seconds,
            self.records_per_batch,
            self.batch_bytes,
            self.connections,
        );
        // Without acknowledgements (acks 0) there is nothing to wait for.
        if latency.count > 0 {
            text.push_str(&format!(
                "latency p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs\n",
                latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us,
            ));
        }
        if self.unknown_batches + self.retried_batches + self.disconnects + self.behind_batches > 0
        {
            text.push_str(&format!(
                "{} batches with unknown outcome, {} sent again, {} connections lost, \
                 {} batches due but never sent\n",
                self.unknown_batches, self.retried_batches, self.disconnects, self.behind_batches,
            ));
        }
        for (error, count) in &self.errors {
            text.push_str(&format!("{count} × {error}\n"));
        }
        if let Some(verification) = &self.verification {
            text.push_str(&verification.summary());
            text.push('\n');
            for fault in &verification.faults {
                text.push_str(&format!("  {fault}\n"));
            }
        }
        text
    }
}
