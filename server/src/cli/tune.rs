//! `ringlog tune probe DIR`: measures, writes the profile, shows the table.
//! `ringlog tune check [DIR]`: looks at the host and says what to change on it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgMatches, Command};
use ringlog_tuning::host::check::{Plan, check};

use crate::config::options::add_flags;
use crate::config::{Layers, Settings};
use crate::runtime;

/// Runs the probe.
pub(super) fn run_probe(flags: &ArgMatches) -> ExitCode {
    let dir = Path::new(flags.get_one::<String>("dir").map_or("", String::as_str));
    let seconds = flags.get_one::<u64>("seconds").copied().unwrap_or(20);
    match probe(dir, Duration::from_secs(seconds)) {
        Ok(table) => {
            println!("{table}");
            println!(
                "profile written to {}; `ringlog serve` picks it up",
                dir.display()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringlog: probing {} failed: {error:#}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn probe(dir: &Path, budget: Duration) -> anyhow::Result<String> {
    std::fs::create_dir_all(dir)?;
    let (profile, table) = ringlog_tuning::probe::probe(dir, budget)?;
    profile.save(dir)?;
    Ok(table)
}

/// Runs the checks. Advice is no failure: the exit status says whether they could be run.
pub(super) fn run_check(flags: &ArgMatches) -> ExitCode {
    let dir = Path::new(flags.get_one::<String>("dir").map_or(".", String::as_str));
    match checked(dir, flags.get_flag("json")) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringlog: checking the host failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn checked(dir: &Path, as_json: bool) -> anyhow::Result<String> {
    let report = check(dir, plan()?)?;
    if as_json {
        let mut text = serde_json::to_string_pretty(&report).context("encoding the findings")?;
        text.push('\n');
        return Ok(text);
    }
    Ok(report.text())
}

/// What `ringlog serve` would register if it were started here without flags.
fn plan() -> anyhow::Result<Plan> {
    let no_flags = add_flags(Command::new("serve")).get_matches_from(["serve"]);
    let layers = Layers::read(&no_flags, |variable| std::env::var(variable).ok(), None)?;
    let settings = Settings::from_layers(&layers)?;
    let cpus = runtime::allowed_cpus().map_or(1, |cpus| cpus.len());
    Ok(Plan {
        registered_bytes: settings.registered_bytes,
        cores: settings.cores.map_or(cpus, usize::from),
    })
}
