//! Where the bytes to be checked come from: a directory on disk, or the image of a simulated one.
//!
//! Invariant: a checker reads through this and cannot write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::io::medium::Image;

/// The files of one log.
pub trait Source {
    /// Names and lengths.
    ///
    /// # Errors
    /// The directory's own.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Reads up to `bytes` bytes at `position`: fewer only where the file ends.
    ///
    /// # Errors
    /// The device's own.
    fn read(&self, name: &str, position: u64, bytes: usize) -> io::Result<Vec<u8>>;
}

/// A log's directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The log whose files lie in `path`.
    #[must_use]
    pub fn new(path: &Path) -> Directory {
        let path = path.to_owned();
        Directory { path }
    }
}

impl Source for Directory {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, entry.metadata()?.len()));
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, name: &str, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path.join(name))?;
        let mut read = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match file.read_at(&mut read[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        read.truncate(filled);
        Ok(read)
    }
}

impl Source for Image {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let files = self.iter();
        Ok(files
            .map(|(name, content)| (name.clone(), content.len() as u64))
            .collect())
    }

    fn read(&self, name: &str, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let content = self.get(name).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(position).unwrap_or(usize::MAX);
        let from = from.min(content.len());
        let to = from.saturating_add(bytes).min(content.len());
        Ok(content[from..to].to_vec())
    }
}
