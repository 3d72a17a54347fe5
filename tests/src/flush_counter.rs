//! The block device's own count of the flushes it was asked for: the witness that an acknowledged
//! event was flushed. A kill proves nothing there, since directly written data survives it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The devices that a directory's filesystem lies on.
#[derive(Debug)]
pub struct FlushCounter {
    devices: BTreeSet<PathBuf>,
}

impl FlushCounter {
    /// The devices below `dir`; `None` where the kernel does not name any (a filesystem in memory,
    /// on a network or over other filesystems).
    ///
    /// # Errors
    /// When the directory cannot be looked at.
    pub fn below(dir: &Path) -> Result<Option<FlushCounter>> {
        let device = dir
            .metadata()
            .with_context(|| format!("looking at {}", dir.display()))?
            .dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let Ok(named) = Path::new(&format!("/sys/dev/block/{major}:{minor}")).canonicalize() else {
            return Ok(None);
        };
        let mut devices = BTreeSet::new();
        whole_disks(&named, &mut devices)?;
        Ok((!devices.is_empty()).then_some(FlushCounter { devices }))
    }

    /// Flushes the devices have completed, together.
    ///
    /// # Errors
    /// When the kernel does not count them (before 5.5).
    pub fn read(&self) -> Result<u64> {
        // Documentation/block/stat.rst: the sixteenth field.
        const FLUSHES: usize = 15;
        let mut total = 0;
        for device in &self.devices {
            let stat = std::fs::read_to_string(device.join("stat"))?;
            let field = stat.split_whitespace().nth(FLUSHES);
            let field = field.with_context(|| format!("{} counts no flushes", device.display()))?;
            total += field.parse::<u64>()?;
        }
        Ok(total)
    }
}

/// Flushes are counted for whole disks, not for partitions, and not for devices that the kernel
/// maps onto others.
fn whole_disks(device: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    if device.join("partition").exists() {
        let disk = device.parent();
        return whole_disks(
            disk.with_context(|| format!("{} is alone", device.display()))?,
            found,
        );
    }
    let slaves = std::fs::read_dir(device.join("slaves"));
    let slaves: Vec<PathBuf> = match slaves {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.path().canonicalize().ok())
            .collect(),
        Err(_) => Vec::new(),
    };
    if slaves.is_empty() {
        ensure!(
            device.join("stat").exists(),
            "{} has no stat",
            device.display()
        );
        found.insert(device.to_owned());
        return Ok(());
    }
    slaves
        .iter()
        .try_for_each(|slave| whole_disks(slave, found))
}
