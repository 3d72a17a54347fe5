//! Processes as the kernel counts them: CPU time, and children that end with this program.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// CPU seconds a process has used, user and system, all threads.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = stat_ticks(&text).with_context(|| format!("finding CPU times in {path}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Fields 14 and 15, counted behind the command's name, which may hold anything but `)`.
fn stat_ticks(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A child process that does not outlive its handle.
pub struct Companion {
    name: &'static str,
    child: Child,
}

impl Companion {
    /// Starts a child in a process group of its own: Ctrl-C at a terminal reaches this program,
    /// which ends its children in good order.
    pub fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Companion> {
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting the {name}"))?;
        Ok(Companion { name, child })
    }

    /// This program's own path.
    pub fn program() -> anyhow::Result<Command> {
        Ok(Command::new(
            std::env::current_exe().context("finding this program's own file")?,
        ))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("asking after the {}", self.name))
    }

    /// Waits until `path` is there: the sign that the child is ready.
    pub fn wait_for_file(&mut self, path: &Path, patience: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            if path.exists() {
                return std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()));
            }
            if let Some(status) = self.ended()? {
                bail!("the {} ended before it was ready: {status}", self.name);
            }
            if Instant::now() > deadline {
                bail!("the {} was not ready within {patience:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end and waits; kills it when it takes longer than `patience`.
    pub fn stop(&mut self, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && self.ended()?.is_none()
        {
            // The child may have ended meanwhile: then there is nobody to tell.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child
            .kill()
            .with_context(|| format!("killing the {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("waiting for the {}", self.name))?;
        Ok(None)
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_command_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0 20 0 1 0";
        assert_eq!(stat_ticks(stat), Some(345));
        assert_eq!(stat_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_uses_cpu_time() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(before);
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > before);
    }
}
