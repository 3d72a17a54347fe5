//! Which CPU a generator thread runs on.

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Reads `0,2-3` as CPUs 0, 2 and 3.
pub fn parse_cpu_list(text: &str) -> anyhow::Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let number = |text: &str| {
            text.parse::<usize>()
                .with_context(|| format!("reading CPU list {text:?}: like 0,2-3"))
        };
        match part.split_once('-') {
            Some((from, to)) => cpus.extend(number(from)?..=number(to)?),
            None => cpus.push(number(part)?),
        }
    }
    ensure!(
        cpus.iter().all(|cpu| *cpu < CpuSet::MAX_CPU),
        "CPU numbers end at {}",
        CpuSet::MAX_CPU - 1
    );
    Ok(cpus)
}

/// What `--cpu` says: the CPUs to bind to (`None`: choose), and whether to bind at all.
pub fn parse_cpu_choice(choice: Option<&str>) -> anyhow::Result<(Option<Vec<usize>>, bool)> {
    match choice {
        None => Ok((None, true)),
        Some("none") => Ok((None, false)),
        Some(list) => Ok((Some(parse_cpu_list(list)?), true)),
    }
}

/// The CPUs this process may run on.
pub fn allowed_cpus() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("asking for the allowed CPUs")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// The CPU of each thread: the list in turn; without a list from the last allowed CPU downwards,
/// because nodes and interrupts tend to start at the first.
pub fn assign(list: Option<&[usize]>, threads: usize) -> anyhow::Result<Vec<usize>> {
    let cpus = match list {
        Some(list) => list.to_vec(),
        None => allowed_cpus()?.into_iter().rev().collect(),
    };
    ensure!(!cpus.is_empty(), "no CPU to run on");
    Ok((0..threads)
        .map(|thread| cpus[thread % cpus.len()])
        .collect())
}

/// Binds the calling thread to one CPU.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("binding a thread to CPU {cpu}"))
}

/// Lets timers of the calling thread fire when they are due, not up to 50 µs later.
pub fn exact_timers() {
    // Refused only by ancient kernels, where the default slack is what there is.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_cpu_list("0,2-4, 7").unwrap(), [0, 2, 3, 4, 7]);
        assert!(parse_cpu_list("").is_err());
        assert!(parse_cpu_list("a-b").is_err());
        assert!(parse_cpu_list("99999").is_err());
    }

    #[test]
    fn threads_without_a_list_start_at_the_last_cpu() {
        let allowed = allowed_cpus().unwrap();
        let assigned = assign(None, allowed.len() + 1).unwrap();
        assert_eq!(assigned.first(), allowed.last());
        assert_eq!(assigned.first(), assigned.last());
        assert_eq!(assign(Some(&[5]), 2).unwrap(), [5, 5]);
    }
}
