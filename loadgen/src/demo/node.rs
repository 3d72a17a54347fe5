//! The node under load: this program again, as `ringlog serve`, with its data in a directory of
//! its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::kafka::client::connect;
use crate::process::{Companion, cpu_seconds};

/// Recovery of an empty directory and pre-writing take less, also on a slow disk.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// A drain takes up to ten seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub struct Node {
    process: Companion,
    bootstrap: String,
    http: String,
    log: PathBuf,
}

#[derive(Deserialize)]
struct Ready {
    kafka: Vec<String>,
    http: String,
}

/// Counters of a node, summed over its cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NodeCounters {
    /// Block bytes written into recycled segments.
    pub recycled_bytes: f64,
    /// Into space written ahead.
    pub prewritten_bytes: f64,
    /// Into space merely reserved.
    pub unwritten_bytes: f64,
    /// Blocks made durable.
    pub blocks: f64,
    /// Their bytes.
    pub block_bytes: f64,
    /// Durable writes and flushes.
    pub flushes: f64,
}

impl Node {
    /// Starts a node below `dir` and waits until it serves.
    pub fn start(dir: &Path, cores: usize) -> anyhow::Result<Node> {
        let log = dir.join("node.log");
        let ready_file = dir.join("ready.json");
        let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = Companion::program()?;
        for (variable, _) in std::env::vars_os() {
            // The demo shows the defaults, whatever this shell is set up for.
            if variable.to_string_lossy().starts_with("RINGLOG_") {
                command.env_remove(variable);
            }
        }
        command
            .args(["__ringlog", "serve", "--kafka-addr", "127.0.0.1:0"])
            .args(["--http-addr", "127.0.0.1:0", "--cores", &cores.to_string()])
            // Deleted topics' segments become free at the next look at retention.
            .args(["--retention-check-ms", "200"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone().context("sharing the node's log")?)
            .stderr(output);
        let mut process = Companion::start("node", &mut command)?;
        let ready = process
            .wait_for_file(&ready_file, START_PATIENCE)
            .with_context(|| format!("starting a node; it says:\n{}", tail(&log)))?;
        let ready: Ready = serde_json::from_str(&ready).context("reading the ready file")?;
        let bootstrap = ready
            .kafka
            .first()
            .context("a node listens for Kafka clients")?
            .clone();
        Ok(Node {
            process,
            bootstrap,
            http: ready.http,
            log,
        })
    }

    /// The first core's Kafka address.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// CPU seconds used so far.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.process.id())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// What the node counts.
    pub fn counters(&self) -> anyhow::Result<NodeCounters> {
        let text = get(&self.http, "/metrics").context("asking the node for its metrics")?;
        let sums = sums(&text);
        let of = |name: &str| sums.get(name).copied().unwrap_or(0.0);
        let space = |kind: &str| of(&format!("ringlog_written_bytes_total/{kind}"));
        Ok(NodeCounters {
            recycled_bytes: space("recycled"),
            prewritten_bytes: space("prewritten"),
            unwritten_bytes: space("unwritten"),
            blocks: of("ringlog_blocks_total"),
            block_bytes: of("ringlog_block_bytes_total"),
            flushes: of("ringlog_flushes_total"),
        })
    }

    /// Asks it to stop; a node that does not in time, or stops with an error, is one.
    pub fn stop(mut self) -> anyhow::Result<()> {
        match self.process.stop(STOP_PATIENCE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the node ended with {status}:\n{}", self.log_tail()),
            None => bail!(
                "the node did not stop within {STOP_PATIENCE:?}:\n{}",
                self.log_tail()
            ),
        }
    }
}

impl NodeCounters {
    /// What happened between two looks.
    #[must_use]
    pub fn since(&self, before: &NodeCounters) -> NodeCounters {
        NodeCounters {
            recycled_bytes: self.recycled_bytes - before.recycled_bytes,
            prewritten_bytes: self.prewritten_bytes - before.prewritten_bytes,
            unwritten_bytes: self.unwritten_bytes - before.unwritten_bytes,
            blocks: self.blocks - before.blocks,
            block_bytes: self.block_bytes - before.block_bytes,
            flushes: self.flushes - before.flushes,
        }
    }
}

/// Samples summed over their labels, under the metric's name; where there is a `space` label,
/// under `name/space`.
fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((sample, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let space = labels
            .split_once("space=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let key = match space {
            Some((space, _)) => format!("{name}/{space}"),
            None => name.to_owned(),
        };
        *sums.entry(key).or_default() += value;
    }
    sums
}

fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = connect(address)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .context("setting a timeout")?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .context("asking")?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .context("waiting for the answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer has a head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(
        status.contains(" 200 "),
        "{address}{path} answered {status:?}"
    );
    Ok(body.to_owned())
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_cores_and_kept_apart_by_space() {
        let text = "# HELP x y\n\
            ringlog_blocks_total{core=\"0\"} 4\n\
            ringlog_blocks_total{core=\"1\"} 5\n\
            ringlog_written_bytes_total{core=\"0\",space=\"recycled\"} 10\n\
            ringlog_written_bytes_total{core=\"1\",space=\"recycled\"} 20\n\
            ringlog_written_bytes_total{core=\"0\",space=\"unwritten\"} 7\n\
            ringlog_ready 1\n# EOF\n";
        let sums = sums(text);
        assert_eq!(sums["ringlog_blocks_total"], 9.0);
        assert_eq!(sums["ringlog_written_bytes_total/recycled"], 30.0);
        assert_eq!(sums["ringlog_written_bytes_total/unwritten"], 7.0);
        assert_eq!(sums["ringlog_ready"], 1.0);
    }
}
