//! `ringlog tune probe DIR`: measures, writes the profile, shows the table.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;

/// Runs the probe.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
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
