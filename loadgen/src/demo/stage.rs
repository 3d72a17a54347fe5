//! What every phase works with: the node, the references, and the slice of load that is verified
//! and cleared away before the next begins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::demo::node::Node;
use crate::kafka::cluster::Cluster;
use crate::process::cpu_seconds;
use crate::produce::options::ProduceOptions;
use crate::produce::progress::Progress;
use crate::produce::report::ProduceReport;
use crate::produce::run;
use crate::reference::ceiling::SinkProcess;
use crate::reference::device::DeviceReference;
use crate::verify::readback::verify;

/// Node, references, and the running total.
pub struct Stage<'a> {
    /// The node.
    pub node: &'a Node,
    /// The ceiling and the echo.
    pub sink: SinkProcess,
    /// The device.
    pub device: DeviceReference,
    /// What is sent, unless a phase says otherwise.
    pub base: ProduceOptions,
    /// Somebody wants it to end.
    pub stop: &'a AtomicBool,
    /// How long and how often.
    pub effort: Effort,
    /// Events acknowledged and confirmed so far.
    pub verified_events: u64,
    /// Faults found so far, in words.
    pub faults: Vec<String>,
    slices: u32,
}

/// Lengths and numbers of slices.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pairs of a throughput phase.
    pub pairs: usize,
    /// Pairs of the one-at-a-time phase.
    pub single_pairs: usize,
    /// Length of a load slice.
    pub load: Duration,
    /// Length of a reference slice.
    pub reference: Duration,
    /// A phase's slices are shortened to end within this time.
    pub phase: Duration,
}

/// A slice of load.
pub struct Slice {
    /// The generator's figures.
    pub report: ProduceReport,
    /// How long sending took, connecting included.
    pub seconds: f64,
    /// CPU seconds of the node.
    pub node_cpu_seconds: f64,
    /// CPU seconds of the generator.
    pub generator_cpu_seconds: f64,
}

impl<'a> Stage<'a> {
    /// Sets the stage.
    #[must_use]
    pub fn new(
        node: &'a Node,
        sink: SinkProcess,
        device: DeviceReference,
        base: ProduceOptions,
        stop: &'a AtomicBool,
        effort: Effort,
    ) -> Stage<'a> {
        Stage {
            node,
            sink,
            device,
            base,
            stop,
            effort,
            verified_events: 0,
            faults: Vec::new(),
            slices: 0,
        }
    }

    /// Sends to a topic of its own, reads it back, deletes it.
    pub fn load(&mut self, options: &ProduceOptions) -> anyhow::Result<Slice> {
        self.check_stop()?;
        self.slices += 1;
        let options = ProduceOptions {
            bootstrap: self.node.bootstrap().to_owned(),
            topic: format!("demo-{}", self.slices),
            ..options.clone()
        };
        let own = std::process::id();
        let (node_before, own_before) = (self.node.cpu_seconds()?, cpu_seconds(own)?);
        let started = Instant::now();
        let mut report = run::run(&options, &Progress::default(), self.stop)?;
        let seconds = started.elapsed().as_secs_f64();
        let node_cpu_seconds = self.node.cpu_seconds()? - node_before;
        let generator_cpu_seconds = cpu_seconds(own)? - own_before;
        let found = verify(&options.bootstrap, &report.expectation)
            .with_context(|| format!("verifying topic {}", options.topic))?;
        self.verified_events += found.confirmed_events;
        if !found.is_clean() {
            self.faults
                .push(format!("{}: {}", options.topic, found.summary()));
            self.faults
                .extend(found.faults.iter().map(|fault| format!("  {fault}")));
        }
        report.verification = Some(found);
        Cluster::connect(&options.bootstrap)?.delete_topic(&options.topic)?;
        self.check_stop()?;
        Ok(Slice {
            report,
            seconds,
            node_cpu_seconds,
            generator_cpu_seconds,
        })
    }

    /// An error once somebody wants it to end.
    pub fn check_stop(&self) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}
