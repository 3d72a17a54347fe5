//! `sim`: runs the storage engine on a simulated disk under many seeds.
//!
//! Prints seeds and operations per second; a failing seed prints the command that replays it.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ringlog_storage::io::sim::Faults;
use ringlog_tests::sim::{Outcome, Settings, run};

/// Simulated crash recovery of the storage engine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seeds, as FIRST..END.
    #[arg(long, default_value = "0..200")]
    seeds: String,
    /// Lives of the log in each run.
    #[arg(long, default_value_t = 8)]
    lives: u32,
    /// Most steps in a life.
    #[arg(long, default_value_t = 300)]
    steps: u32,
    /// Power cuts only: no failing or short writes.
    #[arg(long)]
    power_cuts_only: bool,
    /// Print every step.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some((first, end)) = range(&arguments.seeds) else {
        eprintln!("--seeds {}: not of the form FIRST..END", arguments.seeds);
        return ExitCode::from(2);
    };
    let faults = if arguments.power_cuts_only {
        Faults::power_cuts_only()
    } else {
        Settings::failing_disk()
    };
    let (lives, steps, trace) = (arguments.lives, arguments.steps, arguments.trace);
    let settings = Settings {
        lives,
        steps,
        faults,
        trace,
    };
    let started = Instant::now();
    let mut total = Outcome::default();
    let mut failed = 0;
    for seed in first..end {
        match run(seed, &settings) {
            Ok(outcome) => total.add(&outcome),
            Err(failure) => {
                failed += 1;
                println!("FAILED {failure}");
                let only = if arguments.power_cuts_only {
                    " --power-cuts-only"
                } else {
                    ""
                };
                println!(
                    "  replay: cargo run --release --bin sim -- --seeds {seed}..{} --lives {lives} \
                     --steps {steps}{only} --trace",
                    seed + 1
                );
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let seeds = end - first;
    println!(
        "{} passed, {failed} failed: {:.1} seeds/s, {:.0} groups/s; {} groups appended, {} \
         acknowledged, {} starts, {} power cuts, {} logs closed by a failure, {} reads checked",
        seeds - failed,
        seeds as f64 / seconds,
        total.groups as f64 / seconds,
        total.groups,
        total.acknowledged,
        total.starts,
        total.power_cuts,
        total.closed_by_failure,
        total.reads
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, end) = text.split_once("..")?;
    let (first, end) = (first.parse().ok()?, end.parse().ok()?);
    (first < end).then_some((first, end))
}
