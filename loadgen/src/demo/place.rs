//! Where a demo happens: a fresh directory on a real disk, removed at the end, and a line about
//! the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ringlog_tuning::block_device::BlockDevice;
use serde::Serialize;

/// Space that must be free: the data of the longest slice several times over, the device probe's
/// file, and a node's reserve.
const NEEDED_BYTES: u64 = 10 << 30;

/// A directory that is removed when this is dropped.
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// Makes `dir`, or a directory beside the current one. It must not be there, must lie on a
    /// disk, and the disk must have room.
    pub fn make(dir: Option<&Path>) -> anyhow::Result<Place> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => PathBuf::from(format!("ringlog-demo-{}", std::process::id())),
        };
        std::fs::create_dir(&dir).with_context(|| {
            format!(
                "making {}: the demo wants a directory of its own",
                dir.display()
            )
        })?;
        // From here on the directory is ours to remove.
        let place = Place { dir };
        if let Err(error) = BlockDevice::of(&place.dir) {
            bail!(
                "{error:#}. An acknowledgement from memory would show nothing: \
                 give a directory on a disk with --dir"
            );
        }
        let space = rustix::fs::statvfs(&place.dir).context("asking for free space")?;
        let free = space.f_bavail * space.f_frsize;
        ensure!(
            free >= NEEDED_BYTES,
            "{} GB are free in {}, the demo takes up to {}: make room, or give another --dir",
            free / 1_000_000_000,
            place.dir.display(),
            NEEDED_BYTES / 1_000_000_000,
        );
        Ok(place)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("loadgen: {} stays behind: {error}", self.dir.display());
        }
    }
}

/// What the figures were measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// CPUs this process may use.
    pub cpus: usize,
    /// Their model.
    pub cpu_model: String,
    /// Kernel release.
    pub kernel: String,
    /// Filesystem type.
    pub filesystem: String,
    /// Block device.
    pub device: String,
}

impl Machine {
    /// Asks the machine; `filesystem` is what the device probe found.
    pub fn describe(dir: &Path, filesystem: &str) -> anyhow::Result<Machine> {
        let device = BlockDevice::of(dir)?;
        let cache = match device.has_volatile_cache() {
            Some(true) => "volatile write cache",
            Some(false) => "no volatile write cache",
            None => "write cache unknown",
        };
        let model = device
            .model()
            .map_or_else(String::new, |model| format!("{model}, "));
        Ok(Machine {
            cpus: crate::pinning::allowed_cpus()?.len(),
            cpu_model: cpu_model(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            filesystem: filesystem.to_owned(),
            device: format!("{} ({model}{cache})", device.name()),
        })
    }

    /// One line.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{} CPUs ({}), Linux {}, {} on {}",
            self.cpus, self.cpu_model, self.kernel, self.filesystem, self.device
        )
    }
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |line: &&str| line.starts_with("model name") || line.starts_with("CPU part");
    let line = text
        .lines()
        .find(named)
        .and_then(|line| line.split_once(':'));
    line.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, model)| model.trim().to_owned(),
    )
}
