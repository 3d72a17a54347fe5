//! A filesystem of its own and of a size that can be filled: an image file, mounted through a loop
//! device. Needs root, and a kernel that lets it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::deadline::until_within;
use crate::workdir::WorkDir;

const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted small filesystem; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mounted: PathBuf,
    // Removed after the unmount.
    _directory: WorkDir,
}

impl SmallDisk {
    /// Makes and mounts one of so many bytes; `Err` inside says why it cannot be had here.
    ///
    /// # Errors
    /// When not even its image can be made.
    pub fn mount(bytes: u64) -> Result<Result<SmallDisk, String>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Err("only root can mount a filesystem".to_owned()));
        }
        let directory = WorkDir::new()?;
        let (image, mounted) = (directory.join("image"), directory.join("disk"));
        File::create(&image)?.set_len(bytes)?;
        std::fs::create_dir(&mounted)?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0"]).arg(&image);
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&image).arg(&mounted);
        for mut command in [make, mount] {
            let output = match command.output() {
                Ok(output) => output,
                Err(error) => return Ok(Err(format!("{command:?}: {error}"))),
            };
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Ok(Err(format!("{command:?}: {why}")));
            }
        }
        Ok(Ok(SmallDisk {
            mounted,
            _directory: directory,
        }))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Takes space away.
    ///
    /// # Errors
    /// When it has less.
    pub fn put_ballast(&self, name: &str, bytes: u64) -> Result<()> {
        let file = File::create(self.mounted.join(name))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
            .context("reserving the ballast")?;
        Ok(file.sync_all()?)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When it is not there.
    pub fn drop_ballast(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.mounted.join(name))?;
        // The blocks of a removed file are free for others after the journal's commit.
        Ok(File::open(&self.mounted)?.sync_all()?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The kernel may hold files of a process that has just ended for a moment longer.
        let unmounted = until_within(PATIENCE, "the unmount", || {
            let output = Command::new("umount").arg(&self.mounted).output()?;
            let status = output.status;
            Ok(status.success().then_some(()))
        });
        if let Err(error) = unmounted {
            println!("{} stays mounted: {error:#}", self.mounted.display());
        }
    }
}
