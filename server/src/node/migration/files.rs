//! Segment files given to another log: a second name for the file where one filesystem has both
//! directories, else a copy. And directories made and removed so that a power cut finds them so.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::node::directory_error::{DirectoryError, io_error};

/// What giving a file cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A name.
    Linked,
    /// So many bytes.
    Copied(u64),
}

/// Gives the file `from` the name `to` as well, or copies it there.
pub(super) fn give(from: &Path, to: &Path) -> Result<Given, DirectoryError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(Given::Linked),
        Err(error) if cannot_link(&error) => {
            let copy = || {
                let bytes = std::fs::copy(from, to)?;
                File::open(to)?.sync_all()?;
                Ok(bytes)
            };
            let copied = copy().map_err(io_error("copying a segment to", to));
            copied.map(Given::Copied)
        }
        Err(error) => Err(io_error("linking", from)(error)),
    }
}

/// Another filesystem, one without links, or a file that has as many as it may have.
fn cannot_link(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        matches!(
            errno,
            Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK | Errno::NOSYS
        )
    })
}

/// Makes a directory that must not be there.
pub(super) fn make_directory(path: &Path) -> Result<(), DirectoryError> {
    std::fs::create_dir(path).map_err(io_error("making", path))?;
    path.parent().map_or(Ok(()), sync)
}

/// Removes a directory with everything in it; one that is not there is removed.
pub(super) fn remove_directory(path: &Path) -> Result<(), DirectoryError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("removing", path)(error)),
    }
    path.parent().map_or(Ok(()), sync)
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> Result<(), DirectoryError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("syncing", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_linked_within_a_filesystem_and_copied_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::write(&from, b"records").unwrap();
        assert_eq!(give(&from, &dir.path().join("to")).unwrap(), Given::Linked);
        // A name that is there already is not taken over.
        assert!(give(&from, &dir.path().join("to")).is_err());
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        let to = elsewhere.path().join("to");
        let given = give(&from, &to).unwrap();
        // The temporary directory may be in memory as well.
        if given != Given::Linked {
            assert_eq!(given, Given::Copied(7));
        }
        assert_eq!(std::fs::read(&to).unwrap(), b"records");
    }

    #[test]
    fn directories_are_made_once_and_removed_with_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log-1");
        make_directory(&log).unwrap();
        assert!(make_directory(&log).is_err());
        std::fs::write(log.join("segment"), b"x").unwrap();
        remove_directory(&log).unwrap();
        remove_directory(&log).unwrap();
        assert!(!log.exists());
    }
}
