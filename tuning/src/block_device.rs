//! The block device below a path, and what the kernel counts for it.
//!
//! A killed process proves nothing about flushing, because O_DIRECT data survives it; the
//! device's own count of flush requests does. Called by the probe and by tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Zero-based fields of `/sys/block/*/stat` (Documentation/block/stat.rst).
const WRITE_REQUESTS: usize = 4;
const SECTORS_WRITTEN: usize = 6;
const FLUSH_REQUESTS: usize = 15;

/// A block device as sysfs shows it. Counters are the whole disk's where the filesystem lies on
/// a partition: partitions do not count flushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    name: String,
    directory: PathBuf,
}

impl BlockDevice {
    /// The device that holds the filesystem of `path`.
    ///
    /// # Errors
    /// When the path does not exist, or its filesystem lies on no single block device (tmpfs,
    /// overlay, btrfs, network).
    pub fn of(path: &Path) -> anyhow::Result<BlockDevice> {
        let metadata = fs::metadata(path)
            .with_context(|| format!("looking for the block device of {}", path.display()))?;
        let number = metadata.dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let link = format!("/sys/dev/block/{major}:{minor}");
        let Ok(device) = fs::canonicalize(&link) else {
            bail!(
                "{} lies on a filesystem without a block device of its own ({major}:{minor}); \
                 choose a directory on a disk",
                path.display()
            );
        };
        BlockDevice::at(device)
    }

    /// Name of the device, such as `vda` or `nvme0n1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where sysfs shows the device.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Maker's name of the device, where it has one.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        let model = fs::read_to_string(self.directory.join("device/model")).ok()?;
        let model = model.trim();
        (!model.is_empty()).then(|| model.to_owned())
    }

    /// Whether writes may stay in a volatile cache until a flush.
    #[must_use]
    pub fn has_volatile_cache(&self) -> Option<bool> {
        let mode = fs::read_to_string(self.directory.join("queue/write_cache")).ok()?;
        Some(mode.trim() == "write back")
    }

    /// Whether the device takes writes past its cache (FUA): a durable write then needs no flush
    /// request, and none is counted.
    #[must_use]
    pub fn writes_past_cache(&self) -> Option<bool> {
        let supported = fs::read_to_string(self.directory.join("queue/fua")).ok()?;
        Some(supported.trim() == "1")
    }

    /// Flush requests completed since the machine started.
    ///
    /// # Errors
    /// When the kernel does not count them (before Linux 5.5).
    pub fn flushes(&self) -> anyhow::Result<u64> {
        self.counter(FLUSH_REQUESTS)
    }

    /// Sectors of 512 bytes written since the machine started.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn sectors_written(&self) -> anyhow::Result<u64> {
        self.counter(SECTORS_WRITTEN)
    }

    /// Write requests completed since the machine started.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn writes(&self) -> anyhow::Result<u64> {
        self.counter(WRITE_REQUESTS)
    }

    fn at(mut directory: PathBuf) -> anyhow::Result<BlockDevice> {
        if directory.join("partition").exists() {
            directory.pop();
        }
        let name = directory.file_name().and_then(|name| name.to_str());
        let Some(name) = name.map(str::to_owned) else {
            bail!("{} does not name a block device", directory.display());
        };
        Ok(BlockDevice { name, directory })
    }

    fn counter(&self, field: usize) -> anyhow::Result<u64> {
        let path = self.directory.join("stat");
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "reading the counters of {} in {}",
                self.name,
                path.display()
            )
        })?;
        parse(&text, field).with_context(|| {
            format!(
                "{} has no field {} ({}); flushes are counted since Linux 5.5",
                path.display(),
                field + 1,
                text.trim()
            )
        })
    }
}

fn parse(text: &str, field: usize) -> Option<u64> {
    text.split_ascii_whitespace().nth(field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_what_the_kernel_writes() {
        let text = "  197874    34425 22917146   212521   198727    58647 85430592    95132 \
                    0    47868   316285     9139       67  3654424     2006    74882     6624\n";
        assert_eq!(parse(text, WRITE_REQUESTS), Some(198_727));
        assert_eq!(parse(text, SECTORS_WRITTEN), Some(85_430_592));
        assert_eq!(parse(text, FLUSH_REQUESTS), Some(74_882));
        let before_5_5 = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n";
        assert_eq!(parse(before_5_5, FLUSH_REQUESTS), None);
    }

    #[test]
    fn a_partition_stands_for_its_disk() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let partition = root.path().join("sda/sda1");
        fs::create_dir_all(&partition).expect("made");
        fs::write(partition.join("partition"), "1\n").expect("written");
        let device = BlockDevice::at(partition).expect("a device");
        assert_eq!(device.name(), "sda");
    }

    #[test]
    fn a_path_on_a_disk_has_counters_that_a_sync_moves() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let device = match BlockDevice::of(root.path()) {
            Ok(device) => device,
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        };
        let (sectors, flushes) = match (device.sectors_written(), device.flushes()) {
            (Ok(sectors), Ok(flushes)) => (sectors, flushes),
            other => {
                println!("skipped: {other:?}");
                return;
            }
        };
        let file = fs::File::create(root.path().join("a")).expect("created");
        fs::write(root.path().join("a"), vec![1; 1 << 20]).expect("written");
        file.sync_all().expect("synced");
        assert!(device.sectors_written().expect("readable") >= sectors + (1 << 20) / 512);
        if device.has_volatile_cache() == Some(true) {
            assert!(device.flushes().expect("readable") > flushes);
        }
    }

    #[test]
    fn a_path_that_does_not_exist_is_named() {
        let error = BlockDevice::of(Path::new("/does/not/exist")).expect_err("not there");
        assert!(format!("{error:#}").contains("/does/not/exist"));
    }
}
