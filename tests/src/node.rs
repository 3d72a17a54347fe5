//! A real node: the `ringlog` binary in a process of its own, on free ports and a data directory
//! of its own, with everything it logs in a file.
//!
//! ```text
//! Node::start ─► spawn, wait for the ready file ─► tests ─► kill9 | terminate ─► restart ─► …
//! ```
//!
//! Invariant: when a node is dropped its process is gone and its directory is removed; what it
//! logged last has been printed, for the test runner to show beside a failure.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde::Deserialize;

use crate::binaries;
use crate::deadline::until;
use crate::random::Random;
use crate::workdir::WorkDir;

/// How a node is started.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    cores: u16,
    port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl NodeOptions {
    /// So many cores, on free ports, with small segments: tests make many nodes, and each writes
    /// its free segments ahead. Nothing expires meanwhile: their records say that they are old.
    #[must_use]
    pub fn new(cores: u16) -> NodeOptions {
        // By the environment, so that a test's own arguments go before them.
        NodeOptions::with_default_settings(cores)
            .environment("RINGLOG_SEGMENT_BYTES", "16MiB")
            .environment("RINGLOG_POOL_SEGMENTS", "1")
            .environment("RINGLOG_RETENTION_CHECK_MS", "86400000")
    }

    /// The settings a user gets who sets nothing.
    #[must_use]
    pub fn with_default_settings(cores: u16) -> NodeOptions {
        NodeOptions {
            cores,
            port: 0,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// More arguments of `ringlog serve`.
    #[must_use]
    pub fn arguments<'a>(mut self, more: impl IntoIterator<Item = &'a str>) -> NodeOptions {
        self.arguments.extend(more.into_iter().map(str::to_owned));
        self
    }

    /// A variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> NodeOptions {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The port of core 0 in place of any free one; core n gets the n-th behind it.
    #[must_use]
    pub fn port(mut self, port: u16) -> NodeOptions {
        self.port = port;
        self
    }
}

/// Where a node listens, as it says in its ready file.
#[derive(Clone, Debug, Deserialize)]
struct Addresses {
    kafka: Vec<SocketAddr>,
    kafka_tls: Vec<SocketAddr>,
    http: SocketAddr,
}

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    directory: WorkDir,
    data_dir: PathBuf,
    child: Option<Child>,
    addresses: Addresses,
}

impl Node {
    /// Starts a node with the usual options of tests and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready: with its log.
    pub fn start(cores: u16) -> Result<Node> {
        Node::with(NodeOptions::new(cores))
    }

    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready: with its log.
    pub fn with(options: NodeOptions) -> Result<Node> {
        let directory = WorkDir::new()?;
        let data_dir = directory.join("data");
        Node::start_in(directory, data_dir, options)
    }

    /// The same with the data elsewhere, where the caller removes it.
    ///
    /// # Errors
    /// When it does not become ready: with its log.
    pub fn on(data_dir: &Path, options: NodeOptions) -> Result<Node> {
        Node::start_in(WorkDir::new()?, data_dir.to_owned(), options)
    }

    fn start_in(directory: WorkDir, data_dir: PathBuf, options: NodeOptions) -> Result<Node> {
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut node = Node {
            options,
            directory,
            data_dir,
            child: None,
            addresses: Addresses {
                kafka: Vec::new(),
                kafka_tls: Vec::new(),
                http: unknown,
            },
        };
        node.spawn()?;
        Ok(node)
    }

    /// Starts it again on the same data directory, after [`Node::kill9`] or [`Node::terminate`].
    ///
    /// # Errors
    /// When it still runs, or does not become ready.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the node still runs");
        self.spawn()
    }

    /// The same with other options from now on.
    ///
    /// # Errors
    /// When it still runs, or does not become ready.
    pub fn restart_with(&mut self, options: NodeOptions) -> Result<()> {
        self.options = options;
        self.restart()
    }

    /// Starts it with other options, which end it before it is ready, and waits for its end.
    ///
    /// # Errors
    /// When it runs already, or does not end.
    pub fn start_to_its_end(&mut self, options: NodeOptions) -> Result<ExitStatus> {
        ensure!(self.child.is_none(), "the node still runs");
        self.options = options;
        let mut child = self.command()?.spawn()?;
        let ended = until("the node to end", || Ok(child.try_wait()?));
        self.child = ended.is_err().then_some(child);
        ended.with_context(|| format!("log of the node:\n{}", self.log_tail()))
    }

    /// Starts it again and kills it after so long, wherever it is then.
    ///
    /// # Errors
    /// When it runs already, or ends by itself.
    pub fn start_and_kill9(&mut self, after: Duration) -> Result<()> {
        ensure!(self.child.is_none(), "the node still runs");
        self.child = Some(self.command()?.spawn()?);
        std::thread::sleep(after);
        self.kill9()
    }

    fn spawn(&mut self) -> Result<()> {
        let ready = self.ready_file();
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let mut command = self.command()?;
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let found = until("the node's ready file", || {
            if let Some(status) = child.try_wait()? {
                bail!("the node ended with {status} before it was ready");
            }
            // Written whole or not yet there; a file being written does not parse.
            let text = std::fs::read(&ready).unwrap_or_default();
            Ok(serde_json::from_slice::<Addresses>(&text).ok())
        });
        self.child = Some(child);
        self.addresses = found.with_context(|| format!("log of the node:\n{}", self.log_tail()))?;
        let cores = usize::from(self.options.cores);
        ensure!(
            self.addresses.kafka.len() == cores,
            "{cores} cores, {:?}",
            self.addresses
        );
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = serve_command(&self.data_dir, log)?;
        command
            .args(["--cores", &self.options.cores.to_string()])
            .args(["--kafka-addr", &format!("127.0.0.1:{}", self.options.port)])
            .args(["--http-addr", "127.0.0.1:0"])
            .arg("--ready-file")
            .arg(self.ready_file())
            .args(&self.options.arguments)
            .envs(
                self.options
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            );
        Ok(command)
    }

    fn ready_file(&self) -> PathBuf {
        self.directory.join("ready.json")
    }

    /// Every core's address, as clients want them: `host:port,host:port`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        joined(&self.addresses.kafka)
    }

    /// The same of the listeners for TLS.
    #[must_use]
    pub fn tls_bootstrap(&self) -> String {
        joined(&self.addresses.kafka_tls)
    }

    /// Where a core listens.
    #[must_use]
    pub fn kafka(&self, core: usize) -> SocketAddr {
        self.addresses.kafka[core]
    }

    /// Where a core listens for TLS, if it does.
    #[must_use]
    pub fn kafka_tls(&self, core: usize) -> SocketAddr {
        self.addresses.kafka_tls[core]
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Where its data lies.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// A path beside the data, for what a test wants to keep as long as the node.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the node does not run")?.id())
    }

    /// From now on a write of the running node behind so many bytes of a file fails, as on a
    /// device that gave up: the kernel refuses it (EFBIG), the node cannot tell the difference.
    ///
    /// # Errors
    /// When it does not run.
    pub fn limit_file_size(&self, bytes: u64) -> Result<()> {
        let pid = i32::try_from(self.pid()?).ok().and_then(Pid::from_raw);
        let limit = Rlimit {
            current: Some(bytes),
            maximum: None,
        };
        prlimit(pid, Resource::Fsize, limit).context("limiting the size of files")?;
        Ok(())
    }

    /// Kills it where it stands.
    ///
    /// # Errors
    /// When it does not run, or had ended before.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        if let Some(status) = child.try_wait()? {
            bail!(
                "the node ended by itself with {status}:\n{}",
                self.log_tail()
            );
        }
        child.kill().context("sending SIGKILL")?;
        child.wait().context("waiting for the killed node")?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or does not stop.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the node does not run")?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process(pid, Signal::TERM).context("sending SIGTERM")?;
        let ended = until("the node to stop", || Ok(child.try_wait()?));
        self.child = ended.is_err().then_some(child);
        ended.with_context(|| format!("log of the node:\n{}", self.log_tail()))
    }

    /// After a start that failed: the process that ended by itself is no longer waited for.
    ///
    /// # Errors
    /// When it still runs.
    pub fn forget_ended(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take()
            && child.try_wait()?.is_none()
        {
            self.child = Some(child);
            bail!("the node still runs");
        }
        Ok(())
    }

    /// That it runs, and was not ended by something.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("the node does not run")?;
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "the node ended with {status} (signal {:?}):\n{}",
                status.signal(),
                self.log_tail()
            ),
        }
    }

    /// How long its log is: a place to look for later lines from.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log_position(&self) -> Result<usize> {
        Ok(self.log()?.len())
    }

    /// Waits for a log line behind `from` that holds all of the words, and returns it.
    ///
    /// # Errors
    /// When none comes within the deadline.
    pub fn log_line(&self, from: usize, words: &[&str]) -> Result<String> {
        let found = until(&format!("a log line with {words:?}"), || {
            let log = self.log()?;
            let lines = log.get(from..).unwrap_or_default().lines();
            let mut holding = lines.filter(|line| words.iter().all(|word| line.contains(word)));
            Ok(holding.next().map(str::to_owned))
        });
        found.with_context(|| format!("log of the node:\n{}", self.log_tail()))
    }

    /// Everything it has logged, over restarts.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(self.log_path()).context("reading the node's log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    fn log_tail(&self) -> String {
        const LINES: usize = 60;
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

fn joined(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(",")
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which a test that cares about has found out.
            let _ = child.kill();
            let _ = child.wait();
        }
        // Kept by the test runner, and shown when the test fails.
        println!(
            "--- log of the node in {}\n{}",
            self.directory.path().display(),
            self.log_tail()
        );
    }
}

/// `ringlog serve` on a data directory, with its log going to a file, and without settings from
/// this process's own environment.
///
/// # Errors
/// When the binary cannot be found or built.
pub fn serve_command(data_dir: &Path, log: File) -> Result<Command> {
    let binary = binaries::ringlog()?;
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        let own = name.to_string_lossy().starts_with("RINGLOG_");
        if own {
            command.env_remove(name);
        }
    }
    command.arg("serve").arg("--data-dir").arg(data_dir);
    // A `ringlog.toml` is looked for in the working directory: there is none beside the data.
    if let Some(beside) = data_dir.parent() {
        command.current_dir(beside);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

/// The first of so many ports in a row that are free at the moment, and that the kernel gives to nobody
/// who does not ask for them: a client that tries to reach a node while it is away could get its port.
///
/// # Errors
/// When none are found.
pub fn free_ports(count: u16) -> Result<u16> {
    const ATTEMPTS: usize = 100;
    const LOWEST: u16 = 10_000;
    let given_out = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .context("which ports the kernel gives out")?;
    let given_out = given_out.split_whitespace().next().map(str::parse::<u16>);
    let end = given_out
        .context("a range of ports")??
        .saturating_sub(count);
    ensure!(LOWEST < end, "the kernel gives out all ports from {end}");
    // The lower bits of the clock and the process: tests beside each other begin elsewhere.
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = since_epoch.map_or(0, |elapsed| u64::from(elapsed.subsec_nanos()));
    let mut random = Random::new(nanoseconds ^ (u64::from(std::process::id()) << 32));
    for _ in 0..ATTEMPTS {
        let port = LOWEST + u16::try_from(random.below(u64::from(end - LOWEST)))?;
        let bound = (port..port + count).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if bound.collect::<std::io::Result<Vec<_>>>().is_ok() {
            return Ok(port);
        }
    }
    bail!("no {count} free ports in a row")
}
