//! The device profile: how the log should write here, and the figures that say so. A TOML file
//! in the data directory, written by the probe, read when a node starts.
//!
//! Invariant: a profile is used whole or not at all; one that is out of bounds is refused by name.

use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ringlog_storage::log::FlushMethod;
use serde::{Deserialize, Serialize};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "device-profile.toml";

const VERSION: u32 = 1;

/// Bounds within which a log works.
const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 4096..=16 << 20;
const DEPTH: std::ops::RangeInclusive<usize> = 1..=64;

/// How the log should write on this device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Format of the file.
    pub version: u32,
    /// A gathering block this large is written while others are in flight.
    pub target_block_bytes: usize,
    /// Most block writes in flight.
    pub depth: usize,
    /// With fewer writes in flight than this, whatever has gathered is written at once.
    pub eager_depth: usize,
    /// How writes become durable.
    #[serde(with = "flush_method")]
    pub flush: FlushMethod,
    /// Name of the block device, and its model where known.
    pub device: String,
    /// Type of the filesystem.
    pub filesystem: String,
    /// Release of the kernel.
    pub kernel: String,
    /// When it was measured, seconds since the Unix epoch.
    pub measured_at_unix_seconds: u64,
    /// How long measuring took.
    pub measured_for_seconds: f64,
    /// What was measured.
    #[serde(default)]
    pub measurements: Vec<Measurement>,
}

/// Figures of one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Bytes of each write.
    pub block_bytes: usize,
    /// Writes under way.
    pub depth: usize,
    /// What made them durable.
    #[serde(with = "flush_method")]
    pub flush: FlushMethod,
    /// Median over the rounds, in 10^6 bytes.
    pub megabytes_per_second: f64,
    /// Median time until a write is durable.
    pub p50_microseconds: f64,
    /// Its 99th percentile.
    pub p99_microseconds: f64,
    /// Writes that were measured.
    pub operations: u64,
}

impl Profile {
    /// The profile in `dir`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or says what cannot be.
    pub fn load(dir: &Path) -> anyhow::Result<Option<Profile>> {
        let path = path_in(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", path.display()));
            }
        };
        let advice = || {
            format!(
                "{} is no device profile of this version; remove it or measure again with \
                 `ringlog tune probe {}`",
                path.display(),
                dir.display()
            )
        };
        let profile: Profile = toml::from_str(&text).with_context(advice)?;
        profile.check().with_context(advice)?;
        Ok(Some(profile))
    }

    /// Writes the profile into `dir`, so that a reader sees the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let path = path_in(dir);
        let attempt = || format!("writing {}", path.display());
        let unfinished = path.with_extension("toml.new");
        let text = toml::to_string_pretty(self).with_context(attempt)?;
        let mut file = fs::File::create(&unfinished).with_context(attempt)?;
        file.write_all(text.as_bytes()).with_context(attempt)?;
        file.sync_all().with_context(attempt)?;
        fs::rename(&unfinished, &path).with_context(attempt)?;
        fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .with_context(attempt)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.version != VERSION {
            bail!("version is {}, this program knows {VERSION}", self.version);
        }
        if !BLOCK_BYTES.contains(&self.target_block_bytes) {
            bail!(
                "target_block_bytes is {}, not within {BLOCK_BYTES:?}",
                self.target_block_bytes
            );
        }
        if !DEPTH.contains(&self.depth) {
            bail!("depth is {}, not within {DEPTH:?}", self.depth);
        }
        if !(1..=self.depth).contains(&self.eager_depth) {
            bail!(
                "eager_depth is {}, not within 1..={}",
                self.eager_depth,
                self.depth
            );
        }
        Ok(())
    }

    /// The format this program writes.
    #[must_use]
    pub const fn current_version() -> u32 {
        VERSION
    }
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// Names of flush methods in the file.
mod flush_method {
    use ringlog_storage::log::FlushMethod;
    use serde::{Deserialize, Deserializer, Serializer, de};

    const DSYNC: &str = "dsync-each-write";
    const FLUSH: &str = "flush-after-writes";

    pub(super) fn serialize<S: Serializer>(
        method: &FlushMethod,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match method {
            FlushMethod::DsyncEachWrite => DSYNC,
            FlushMethod::FlushAfterWrites => FLUSH,
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FlushMethod, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            DSYNC => Ok(FlushMethod::DsyncEachWrite),
            FLUSH => Ok(FlushMethod::FlushAfterWrites),
            other => Err(de::Error::unknown_variant(other, &[DSYNC, FLUSH])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            version: VERSION,
            target_block_bytes: 1 << 20,
            depth: 4,
            eager_depth: 2,
            flush: FlushMethod::FlushAfterWrites,
            device: "vda".to_owned(),
            filesystem: "ext4".to_owned(),
            kernel: "6.1.0".to_owned(),
            measured_at_unix_seconds: 1_700_000_000,
            measured_for_seconds: 19.5,
            measurements: vec![Measurement {
                block_bytes: 4096,
                depth: 1,
                flush: FlushMethod::DsyncEachWrite,
                megabytes_per_second: 40.5,
                p50_microseconds: 100.0,
                p99_microseconds: 900.0,
                operations: 1000,
            }],
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_without_a_file_there_is_none() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(
            Profile::load(root.path()).expect("no file is no error"),
            None
        );
        profile().save(root.path()).expect("saved");
        assert_eq!(Profile::load(root.path()).expect("loaded"), Some(profile()));
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_file_and_the_field() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let broken = [
            (
                Profile {
                    version: 9,
                    ..profile()
                },
                "version is 9",
            ),
            (
                Profile {
                    target_block_bytes: 1,
                    ..profile()
                },
                "target_block_bytes",
            ),
            (
                Profile {
                    depth: 0,
                    ..profile()
                },
                "depth is 0",
            ),
            (
                Profile {
                    eager_depth: 5,
                    ..profile()
                },
                "eager_depth is 5",
            ),
        ];
        for (profile, field) in broken {
            profile.save(root.path()).expect("saved");
            let error = format!("{:#}", Profile::load(root.path()).expect_err("refused"));
            assert!(
                error.contains(field) && error.contains(FILE_NAME),
                "{error}"
            );
        }
        fs::write(root.path().join(FILE_NAME), "depth = \"many\"").expect("written");
        Profile::load(root.path()).expect_err("refused");
    }
}
