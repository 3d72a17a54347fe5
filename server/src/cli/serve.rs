//! `ringlog serve`: reads the settings, brings a node up, waits for a signal, takes it down.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::ArgMatches;
use ringlog_storage::io::uring::{self, UringOptions};
use ringlog_storage::log::LogConfig;
use ringlog_tuning::profile::Profile;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::subscriber::set_global_default;
use tracing_subscriber::EnvFilter;

use crate::config::{Layers, LogFormat, Settings};
use crate::node::directory::DataDirectory;
use crate::node::migration;
use crate::node::supervisor::{Node, Storage};
use crate::runtime::{self, BoundSocket};
use crate::security::Security;
use crate::security::certificates::CurrentCertificate;
use crate::{http, kafka};

/// Exit status when the command line or the configuration is wrong.
const WRONG_USE: u8 = 2;
/// Exit status after a second signal, as a shell reports one that was not handled.
const INTERRUPTED: i32 = 130;

/// Connections to the HTTP port that may wait to be accepted.
const HTTP_BACKLOG: i32 = 128;

/// Serves until a signal says stop.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let (layers, settings) = match read_settings(flags) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("ringlog: {error:#}");
            return ExitCode::from(WRONG_USE);
        }
    };
    if flags.get_flag("print_config") {
        print!("{}", layers.to_toml());
        return ExitCode::SUCCESS;
    }
    runtime::keep_freed_memory();
    start_logging(settings.log_format);
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_settings(flags: &ArgMatches) -> anyhow::Result<(Layers, Settings)> {
    let file = flags.get_one::<String>("config").map(Path::new);
    let layers = Layers::read(flags, |variable| std::env::var(variable).ok(), file)?;
    let settings = Settings::from_layers(&layers)?;
    Ok((layers, settings))
}

/// Lines go to standard error; `RUST_LOG` sets how much. Where that takes none (its disk is full, its
/// reader gone) they are lost, and the node goes on. Called twice (a node inside another program), the
/// first one stays.
fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // It would say that it cannot say anything, on standard error, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // Not `try_init`: it would also take what dependencies say by the `log` crate, such as rustls about
    // each client's mistakes, as many lines as they make.
    let _ = match format {
        LogFormat::Text => set_global_default(lines.with_target(false).finish()),
        LogFormat::Json => set_global_default(lines.json().finish()),
    };
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    let began = Instant::now();
    tracing::info!(
        "Ringlog {}, process {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    if let Some(path) = &settings.ready_file {
        // One from an earlier process would say that this one is ready.
        forget(path).with_context(|| format!("removing the ready file {}", path.display()))?;
    }
    warn_of_open_doors(&settings);
    let security = Arc::new(Security::open(&settings)?);
    uring::preflight().context("Ringlog needs io_uring")?;
    let cpus = runtime::allowed_cpus().map_or(1, |cpus| cpus.len());
    let default_cores = u16::try_from(cpus).unwrap_or(u16::MAX);
    let mut directory = DataDirectory::take(&settings.data_dirs, settings.cores, default_cores)?;
    let storage = storage(&settings, &directory)?;
    migration::settle(&mut directory, &storage)?;
    report(&settings, &directory, cpus);
    let supervisor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making the supervisor's runtime")?;
    supervisor.block_on(async {
        let mut signals = Signals::new()?;
        if let Some(certificate) = security.certificate() {
            let hangups = signal(SignalKind::hangup()).context("listening for signals")?;
            tokio::spawn(read_again(hangups, Arc::clone(certificate)));
        }
        let socket = BoundSocket::bind(settings.http_addr)?;
        let http_address = socket.address();
        let listener = socket.listen(HTTP_BACKLOG)?;
        let settings = Arc::new(settings);
        let kafka_addr = settings.kafka_addr;
        let launched = Node::launch(
            Arc::clone(&settings),
            Arc::clone(&security),
            directory,
            kafka_addr,
            &storage,
            kafka_connection,
        );
        let mut node = launched?;
        let http = {
            let (status, settings) = (node.status().clone(), Arc::clone(&settings));
            tokio::spawn(async move { http::serve(listener, status, &settings, security).await })
        };
        let outcome = tokio::select! {
            started = node.start() => started.map(|()| Waited::Started),
            () = signals.next() => Ok(Waited::Stop),
        };
        match outcome {
            Ok(Waited::Stop) => {
                tracing::info!("stopping before the node was ready");
                return Ok(stop(node, &mut signals).await?);
            }
            Ok(Waited::Started) => runtime::take_small_pages(),
            Err(error) => {
                // The other cores close their logs; the first reason is the one to tell.
                let _ = stop(node, &mut signals).await;
                return Err(error.into());
            }
        }
        announce(&settings, &node, http_address, began)?;
        let outcome = tokio::select! {
            () = signals.next() => Ok(()),
            error = node.failed() => Err(error),
            ended = http => {
                tracing::error!(?ended, "the HTTP face ended");
                Ok(())
            }
        };
        tracing::info!(
            "stopping: finishing requests, closing the logs (a second signal ends at once)"
        );
        let stopped = stop(node, &mut signals).await;
        outcome?;
        stopped?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Reads the certificate again at each SIGHUP: those that others renew must not take a restart.
async fn read_again(mut hangups: Signal, certificate: Arc<CurrentCertificate>) {
    while hangups.recv().await.is_some() {
        match certificate.read_again() {
            Ok(()) => tracing::info!(
                "read the certificate {} again; new connections get it",
                certificate.files().chain.display()
            ),
            Err(error) => tracing::error!("the certificate stays as it was: {error}"),
        }
    }
}

enum Waited {
    Started,
    Stop,
}

async fn stop(node: Node, signals: &mut Signals) -> Result<(), crate::node::supervisor::NodeError> {
    tokio::select! {
        stopped = node.stop() => stopped,
        () = signals.next() => {
            tracing::warn!("ended by a second signal; what was acknowledged is recovered at the next start");
            std::process::exit(INTERRUPTED);
        }
    }
}

/// Gives a connection to the Kafka face.
fn kafka_connection(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    core: crate::node::core::CoreHandle,
) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(kafka::connection::serve(stream, peer, core))
}

/// How logs are written: the settings, and for each directory what its device profile says, if
/// there is one.
fn storage(settings: &Settings, directory: &DataDirectory) -> anyhow::Result<Storage> {
    let mut common = LogConfig {
        segment_bytes: settings.segment_bytes,
        scrub_bytes_per_second: settings.scrub_bytes_per_second,
        pool_segments: settings.pool_segments,
        cache_bytes: settings.cache_bytes,
        clean_bytes_per_second: settings.clean_bytes_per_second,
        ..LogConfig::default()
    };
    // Segments that a checkpoint lies behind can be let go, cleaned and compacted.
    common.checkpoint_bytes = common.checkpoint_bytes.min(4 * settings.segment_bytes);
    // What waits for the disk and what readers ask for share the core's memory with requests.
    common.pending_bytes = common.pending_bytes.min(settings.memory_per_core_bytes / 4);
    common.cold_cache_bytes = common
        .cold_cache_bytes
        .min(settings.memory_per_core_bytes / 12);
    let added = directory.change().map_or(Vec::new(), |change| change.added);
    let paths = directory.paths().iter().chain(&added);
    let logs = paths.map(|path| with_profile(common.clone(), path));
    let logs = logs.collect::<anyhow::Result<_>>()?;
    let uring = UringOptions {
        arena_bytes: settings.registered_bytes,
        memory_limit_bytes: settings.memory_per_core_bytes,
        allow_buffered: settings.allow_buffered_io,
        ..UringOptions::default()
    };
    Ok(Storage { logs, uring })
}

/// What the profile of the device under a directory says goes before the defaults.
fn with_profile(mut log: LogConfig, path: &Path) -> anyhow::Result<LogConfig> {
    match Profile::load(path)
        .with_context(|| format!("reading the profile in {}", path.display()))?
    {
        Some(profile) => {
            log.target_block_bytes = profile.target_block_bytes;
            log.depth = profile.depth;
            log.in_flight_bytes = profile.target_block_bytes * profile.depth;
            log.queue_bytes = log.in_flight_bytes;
            log.eager_depth = profile.eager_depth;
            log.flush = profile.flush;
            tracing::info!(
                "device profile of {}: blocks of {} bytes, {} in flight, {:?}",
                path.display(),
                log.target_block_bytes,
                log.depth,
                log.flush
            );
        }
        None => tracing::info!(
            "no device profile: blocks of {} bytes, {} in flight; `ringlog tune probe {}` measures \
             what suits the device",
            log.target_block_bytes,
            log.depth,
            path.display()
        ),
    }
    Ok(log)
}

fn report(settings: &Settings, directory: &DataDirectory, cpus: usize) {
    let identity = &directory.identity;
    let made = if directory.new { "made" } else { "found" };
    tracing::info!(
        "data {} {made}, one log for each of {} cores, cluster {}",
        directories(directory.paths()),
        identity.cores(),
        identity.cluster_id
    );
    let kernel = rustix::system::uname();
    tracing::info!(
        "kernel {}, {cpus} CPUs allowed, memlock limit {}, {} MiB of memory per core",
        kernel.release().to_string_lossy(),
        memlock_limit(),
        settings.memory_per_core_bytes >> 20
    );
    let wanted = settings
        .memory_per_core_bytes
        .saturating_mul(usize::from(identity.cores()));
    let memory = physical_memory_bytes();
    if wanted > memory / 4 * 3 {
        tracing::warn!(
            "the cores may take {} MiB in all, this machine has {} MiB: lower memory_per_core, or \
             the node may be killed when it is used up",
            wanted >> 20,
            memory >> 20
        );
    }
}

fn directories(paths: &[PathBuf]) -> String {
    let listed: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let noun = if listed.len() == 1 {
        "directory"
    } else {
        "directories"
    };
    format!("{noun} {}", listed.join(", "))
}

fn physical_memory_bytes() -> usize {
    let system = rustix::system::sysinfo();
    // An unsigned long, as is the unit: both fit usize.
    (system.totalram as usize).saturating_mul(system.mem_unit as usize)
}

fn memlock_limit() -> String {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    limit
        .current
        .map_or("none".to_owned(), |bytes| format!("{} KiB", bytes >> 10))
}

/// At every start, so that nobody forgets.
fn warn_of_open_doors(settings: &Settings) {
    let Some(open) = &settings.access.insecure else {
        return;
    };
    for line in open {
        tracing::warn!("INSECURE: {line}");
    }
    if open.is_empty() {
        tracing::warn!(
            "INSECURE: --insecure is given, and nothing is open by it at present; leave it out"
        );
    }
}

fn announce(
    settings: &Settings,
    node: &Node,
    http: SocketAddr,
    began: Instant,
) -> anyhow::Result<()> {
    let listed = |addresses: &[SocketAddr]| -> Vec<String> {
        let mut listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        // Behind a single port they are the same.
        listed.dedup();
        listed
    };
    let (kafka, tls) = (listed(node.addresses()), listed(node.tls_addresses()));
    let scheme = if settings.access.http_tls {
        "https"
    } else {
        "http"
    };
    tracing::info!(
        "Kafka on {}; HTTP on {scheme}://{http}/metrics",
        kafka.join(", ")
    );
    if !tls.is_empty() {
        tracing::info!("Kafka over TLS on {}", tls.join(", "));
    }
    if let Some(path) = &settings.ready_file {
        let ready = serde_json::json!({
            "pid": std::process::id(),
            "kafka": kafka,
            "kafka_tls": tls,
            "http": http.to_string(),
        });
        write_whole(path, &ready.to_string())
            .with_context(|| format!("writing the ready file {}", path.display()))?;
    }
    tracing::info!("ready after {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn forget(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whoever waits for the file finds it whole.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(aside, path)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("listening for signals");
        // A write beyond the limit of `ulimit -f` is to fail like any other, with a log line and
        // a closed log, not to end the process. Handled once, it is handled for good.
        let _ = listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
