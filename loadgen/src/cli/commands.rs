//! What each subcommand does with its options: run, print, write JSON, decide the exit status.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cli::arguments::{
    Arguments, Command, ConsumeArguments, EndToEndArguments, ProduceArguments, Target,
    VerifyArguments,
};
use crate::cli::json::write_json;
use crate::consume::{self, ConsumeOptions};
use crate::html::{self, page::write_page};
use crate::kafka::cluster::Edge;
use crate::kafka::fetch::FetchLimits;
use crate::pinning::parse_cpu_choice;
use crate::produce::progress::Progress;
use crate::verify::readback::verify;
use crate::{compare, demo, end_to_end, interrupt, journal, limit, produce, sink};

/// The exit status for work that was carried out and found a fault: loss above all.
const FAULT: u8 = 2;

/// Reads the command line and does what it says.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let done = match arguments.command {
        Command::Produce(arguments) => run_produce(&arguments),
        Command::Consume(arguments) => run_consume(&arguments),
        Command::E2e(arguments) => run_end_to_end(&arguments),
        Command::Verify(arguments) => run_verify(&arguments),
        Command::Limit(arguments) => limit::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run::run(&arguments).map(status),
        Command::Compare(arguments) => compare::run::run(&arguments).map(status),
        Command::Sink { port_file } => {
            die_with_parent();
            sink::serve::run_process(&port_file).map(|()| ExitCode::SUCCESS)
        }
        Command::Ringlog { arguments } => {
            die_with_parent();
            Ok(ringlog_server::cli::run(arguments.into_iter()))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("loadgen: {error:#}");
        ExitCode::FAILURE
    })
}

fn status(clean: bool) -> ExitCode {
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAULT)
    }
}

/// A child of this program must not outlive it, however it ends.
fn die_with_parent() {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("loadgen: this process may outlive its parent: {error}");
    }
}

/// Runs `work` while a thread prints its progress, where somebody watches.
fn watched<T>(
    target: &Target,
    work: impl FnOnce(&Progress, &AtomicBool) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let stop = interrupt::flag()?;
    let progress = Progress::default();
    let watch = target.progress || std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        if watch {
            scope.spawn(|| progress.watch());
        }
        let result = work(&progress, &stop);
        progress.over.store(true, Ordering::Relaxed);
        result
    })
}

fn run_produce(arguments: &ProduceArguments) -> anyhow::Result<ExitCode> {
    let options = arguments.options()?;
    let target = &arguments.target;
    let mut report = watched(target, |progress, stop| {
        produce::run::run(&options, progress, stop)
    })?;
    if arguments.verify {
        report.verification = Some(verify(&options.bootstrap, &report.expectation)?);
    }
    print!("{}", report.text());
    let limit = match &arguments.limit {
        Some(dir) => Some(limit::measure(
            &options,
            behind(dir),
            &AtomicBool::new(false),
        )?),
        None => None,
    };
    print!(
        "{}",
        limit
            .as_ref()
            .map_or_else(String::new, limit::LimitReport::text)
    );
    write_json(target.json.as_deref(), &report)?;
    write_page(arguments.html.as_deref(), || {
        html::produce::page(&options, &report, limit.as_ref())
    })?;
    Ok(status(
        report
            .verification
            .is_none_or(|verification| verification.is_clean()),
    ))
}

/// The physical limit, measured behind a run.
fn behind(dir: &Path) -> limit::Beside<'_> {
    limit::Beside {
        dir: Some(dir),
        allow_buffered_io: false,
        slice: Duration::from_millis(500),
        pairs: 4,
    }
}

fn run_consume(arguments: &ConsumeArguments) -> anyhow::Result<ExitCode> {
    let target = &arguments.target;
    let options = ConsumeOptions {
        bootstrap: target.bootstrap.clone(),
        topic: target.topic.clone(),
        from: if arguments.latest {
            Edge::Latest
        } else {
            Edge::Earliest
        },
        connections: target.connections,
        limits: FetchLimits {
            min_bytes: i32::try_from(arguments.fetch_min_bytes)?,
            max_wait: arguments.fetch_max_wait.min(Duration::from_secs(60)),
            max_bytes: i32::try_from(arguments.fetch_max_bytes)?,
            partition_max_bytes: i32::try_from(arguments.partition_max_bytes)?,
        },
        warmup: target.warmup,
        duration: target.duration,
        until_end: arguments.until_end,
        latency: arguments.latency,
        cpus: parse_cpu_choice(target.cpu.as_deref())?.0,
    };
    let report = watched(target, |progress, stop| {
        consume::run(&options, progress, stop, &AtomicBool::new(false))
    })?;
    print!("{}", report.text());
    write_json(target.json.as_deref(), &report)?;
    Ok(ExitCode::SUCCESS)
}

fn run_end_to_end(arguments: &EndToEndArguments) -> anyhow::Result<ExitCode> {
    let device = arguments.device.as_deref();
    let arguments = &arguments.produce;
    let options = arguments.options()?;
    let target = &arguments.target;
    let mut report = watched(target, |progress, stop| {
        end_to_end::run_beside(&options, device, progress, stop)
    })?;
    if arguments.verify {
        let verification = verify(&options.bootstrap, &report.produce.expectation)?;
        report.produce.verification = Some(verification);
    }
    print!(
        "produced  {}received  {}",
        report.produce.text(),
        report.consume.received()
    );
    if let Some(device) = &report.device {
        println!("{}", device.text());
    }
    write_json(target.json.as_deref(), &report)?;
    let verification = report.produce.verification;
    Ok(status(
        verification.is_none_or(|verification| verification.is_clean()),
    ))
}

fn run_verify(arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let expectation = journal::read(&arguments.from)?;
    let report = verify(&arguments.bootstrap, &expectation)?;
    println!("{}", report.summary());
    for fault in &report.faults {
        println!("  {fault}");
    }
    write_json(arguments.json.as_deref(), &report)?;
    Ok(status(report.is_clean()))
}
