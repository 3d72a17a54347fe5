//! What the kernel says about a process: CPU time and resident memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// CPU time a process has used in all its threads.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading stat")?;
    // The name, in brackets, may hold anything; the numbers begin behind it.
    let (_, numbers) = stat.rsplit_once(") ").context("stat without a name")?;
    let field = |index: usize| -> Result<u64> {
        let field = numbers.split(' ').nth(index).context("a short stat")?;
        Ok(field.parse()?)
    };
    let ticks = field(11)? + field(12)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
}

/// Resident memory of a process.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.context("status without VmRSS")?.trim();
    let kibibytes = line
        .strip_suffix(" kB")
        .with_context(|| format!("VmRSS in {line:?}"))?;
    Ok(kibibytes.trim().parse::<u64>()? * 1024)
}

/// Lifts this process's limit of open files as far as it may.
///
/// # Errors
/// When even the hard limit is below `needed`.
pub fn allow_open_files(needed: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} open files are needed, the hard limit is {:?}",
        limit.maximum
    );
    let wanted = Rlimit {
        current: limit.maximum.or(Some(needed)),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).context("lifting the limit of open files")
}
