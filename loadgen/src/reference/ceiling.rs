//! The ceiling: the generator's own frames into a sink process that stores nothing.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;

use crate::kafka::cluster::Cluster;
use crate::process::{Companion, cpu_seconds};
use crate::produce::options::ProduceOptions;
use crate::produce::progress::Progress;
use crate::produce::report::ProduceReport;
use crate::produce::run;

/// A running sink process, with an echo beside it.
pub struct SinkProcess {
    address: String,
    echo: String,
    process: Companion,
    runs: u32,
}

impl SinkProcess {
    /// Starts the sink; its port file goes into `dir`.
    pub fn start(dir: &Path) -> anyhow::Result<SinkProcess> {
        let port_file = dir.join("sink-ports");
        let mut command = Companion::program()?;
        // The sink ends when its standard input does, that is, with this process.
        command
            .arg("__sink")
            .arg("--port-file")
            .arg(&port_file)
            .stdin(Stdio::piped());
        let mut process = Companion::start("sink", &mut command)?;
        let ports = process.wait_for_file(&port_file, Duration::from_secs(10))?;
        std::fs::remove_file(&port_file).context("removing the sink's port file")?;
        let mut lines = ports.lines();
        let mut next = || {
            lines
                .next()
                .map(str::to_owned)
                .context("reading the sink's port file")
        };
        Ok(SinkProcess {
            address: next()?,
            echo: next()?,
            process,
            runs: 0,
        })
    }

    /// CPU seconds the sink has used.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.process.id())
    }

    /// The echo's address.
    #[must_use]
    pub fn echo(&self) -> &str {
        &self.echo
    }

    /// Sends for so long what `like` would send to a node.
    pub fn slice(
        &mut self,
        like: &ProduceOptions,
        duration: Duration,
        stop: &AtomicBool,
    ) -> anyhow::Result<ProduceReport> {
        self.runs += 1;
        let options = ProduceOptions {
            bootstrap: self.address.clone(),
            topic: format!("ceiling-{}", self.runs),
            topic_configs: Vec::new(),
            duration,
            warmup: Duration::ZERO,
            journal: None,
            ..like.clone()
        };
        let report = run::run(&options, &Progress::default(), stop)?;
        Cluster::connect(&self.address)?.delete_topic(&options.topic)?;
        Ok(report)
    }
}
