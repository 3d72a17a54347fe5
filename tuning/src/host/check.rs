//! All checks on the real machine: reads what the kernel shows and hands it to the concerns.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use ringlog_storage::io::uring::{Registration, UringIo, UringOptions, preflight};

use super::finding::{Finding, HostReport, Text};
use super::{filesystem, interrupts, limits, memory, processor, queue, ring};
use crate::block_device::BlockDevice;

/// What a node on this machine would register with the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes of each core.
    pub registered_bytes: usize,
    /// Cores.
    pub cores: usize,
}

/// Looks at the host for a node whose data lies in `dir`, which must be there. Makes a small file
/// in it and removes it: alignment is told for files only.
///
/// # Errors
/// When the directory is not there. What else cannot be read is a finding.
pub fn check(dir: &Path, plan: Plan) -> anyhow::Result<HostReport> {
    ensure!(
        dir.is_dir(),
        "{} is no directory: name the node's data directory, or another one on its disk",
        dir.display()
    );
    let directory = fs::canonicalize(dir).with_context(|| format!("finding {}", dir.display()))?;
    let mut findings = device(&directory);
    findings.push(mount(&directory));
    let exempt = ring_and_direct_io(&directory, plan, &mut findings);
    let table = read("/proc/self/limits");
    let needed = (plan.registered_bytes as u64).saturating_mul(plan.cores as u64);
    findings.push(limits::memlock(text(&table), needed, exempt));
    findings.push(limits::open_files(text(&table)));
    findings.extend(processors());
    let enabled = read("/sys/kernel/mm/transparent_hugepage/enabled");
    findings.push(memory::huge_pages(text(&enabled)));
    let (swaps, swappiness) = (read("/proc/swaps"), read("/proc/sys/vm/swappiness"));
    findings.push(memory::swapping(text(&swaps), text(&swappiness)));
    Ok(HostReport {
        directory: directory.display().to_string(),
        findings,
    })
}

fn device(directory: &Path) -> Vec<Finding> {
    let device = BlockDevice::of(directory).map_err(|error| format!("{error:#}"));
    let (name, sysfs) = match &device {
        Ok(device) => (device.name(), Ok(device.directory())),
        Err(obstacle) => ("", Err(obstacle.clone())),
    };
    let of_queue = |name: &str| match &sysfs {
        Ok(sysfs) => read(sysfs.join("queue").join(name)),
        Err(obstacle) => Err(obstacle.clone()),
    };
    // The directory behind the link has the name that the driver gives its interrupts.
    let parent = sysfs.clone().and_then(|sysfs| {
        let link = sysfs.join("device");
        let parent =
            fs::canonicalize(&link).map_err(|error| format!("{}: {error}", link.display()))?;
        let name = parent.file_name().unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    });
    let table = read("/proc/interrupts");
    vec![
        queue::scheduler(name, text(&of_queue("scheduler"))),
        queue::write_cache(text(&of_queue("write_cache")), text(&of_queue("fua"))),
        interrupts::spread(text(&table), text(&parent)),
    ]
}

fn mount(directory: &Path) -> Finding {
    let found = read("/proc/self/mountinfo").and_then(|table| {
        let number = fs::metadata(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?
            .dev();
        let device = format!(
            "{}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        );
        let mount = filesystem::mount_of(&table, &device);
        mount.ok_or_else(|| format!("device {device} is not in /proc/self/mountinfo"))
    });
    match found {
        Ok(mount) => filesystem::mount(Ok(mount)),
        Err(obstacle) => filesystem::mount(Err(&obstacle)),
    }
}

/// Returns whether more memory was registered than the limit allows.
fn ring_and_direct_io(directory: &Path, plan: Plan, findings: &mut Vec<Finding>) -> bool {
    let sysctl = read("/proc/sys/kernel/io_uring_disabled");
    let made = preflight().map_err(|error| error.to_string());
    let made = match &made {
        Ok(()) => Ok(()),
        Err(obstacle) => Err(obstacle.as_str()),
    };
    findings.push(ring::allowed(text(&sysctl), made));
    let options = UringOptions {
        entries: 8,
        arena_bytes: plan.registered_bytes,
        memory_limit_bytes: plan.registered_bytes,
        allow_buffered: false,
        register: true,
    };
    let io = match UringIo::open(directory, &options) {
        Ok(io) => io,
        Err(error) => {
            findings.push(filesystem::no_direct_io(&error.to_string()));
            return false;
        }
    };
    let report = io.report();
    let told = report.device_offset_align.zip(report.device_memory_align);
    findings.push(filesystem::direct_io(report.geometry.block_bytes, told));
    findings.push(ring::features(&report.features, &report.missing));
    let refusal = match &report.buffers {
        Registration::Refused(refusal) => Some(refusal.as_str()),
        Registration::Registered | Registration::NotAsked => None,
    };
    findings.push(ring::registration(report.arena_bytes, refusal));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    refusal.is_none() && limit.is_some_and(|limit| limit < report.arena_bytes as u64)
}

fn processors() -> Vec<Finding> {
    let mut governors = Vec::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/cpufreq")
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("policy") {
            governors.push(read(entry.path().join("scaling_governor")));
        }
    }
    let governors: Vec<Text<'_>> = governors.iter().map(text).collect();
    let version = rustix::system::uname()
        .version()
        .to_string_lossy()
        .into_owned();
    let debugfs = read("/sys/kernel/debug/sched/preempt");
    let command_line = read("/proc/cmdline");
    vec![
        processor::governor(&governors),
        processor::preemption(&version, text(&debugfs), text(&command_line)),
    ]
}

/// A file of the kernel's, or why it cannot be read, with its name.
fn read(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn text(read: &Result<String, String>) -> Text<'_> {
    match read {
        Ok(text) => Ok(text),
        Err(obstacle) => Err(obstacle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    const PLAN: Plan = Plan {
        registered_bytes: 1 << 20,
        cores: 2,
    };

    #[test]
    fn every_concern_is_reported_once_and_nothing_is_left_in_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let report = check(dir.path(), PLAN).expect("checked");
        let mut settings: Vec<_> = report.findings.iter().map(|one| one.setting).collect();
        for wanted in [
            "I/O scheduler",
            "write cache",
            "filesystem",
            "direct I/O",
            "swapping",
        ] {
            assert!(settings.contains(&wanted), "{wanted} is missing");
        }
        let all = settings.len();
        settings.sort_unstable();
        settings.dedup();
        assert_eq!(settings.len(), all, "a setting is reported twice");
        for finding in &report.findings {
            let is_unknown = finding.verdict == Verdict::Unknown;
            assert_eq!(finding.value.is_none(), is_unknown, "{finding:?}");
            assert_eq!(finding.advice.is_some(), finding.verdict == Verdict::Advice);
        }
        let left = fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_and_not_made() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let missing = dir.path().join("data");
        let error = check(&missing, PLAN).expect_err("not there");
        assert!(error.to_string().contains("data is no directory"));
        assert!(!missing.exists());
    }
}
