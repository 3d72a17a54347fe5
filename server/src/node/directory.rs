//! The data directory: held by one process at a time, and what it is, written down once.
//!
//! ```text
//! DIR/lock                 flock, with the holder's process id in it
//! DIR/node.toml            identity: format version, number of logs, cluster id
//! DIR/log-<id>/            one log each
//! DIR/device-profile.toml  what `ringlog tune probe` measured, if it did
//! ```
//!
//! Invariant: the identity is durable before the first log is made, and never changes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ringlog_types::LogId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const LOCK: &str = "lock";
const IDENTITY: &str = "node.toml";
const FORMAT_VERSION: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system said no.
    #[error("{what} {path} failed: {error}; check that it exists and that this user may write it")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by process {holder}; stop that process, or choose \
         another directory with --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, as it wrote it down.
        holder: String,
    },
    /// Nobody made a data directory there.
    #[error(
        "{path} is no data directory: it has no {IDENTITY}; give the one a node was started with"
    )]
    NotThere {
        /// The directory.
        path: PathBuf,
    },
    /// The identity cannot be read.
    #[error("{path} cannot be read: {reason}; restore it from a backup, it is written only once")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Made by another version.
    #[error(
        "the data directory {path} has format version {found}, this build reads {FORMAT_VERSION}; \
         start the version of Ringlog that wrote it"
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Another number of cores than logs.
    #[error(
        "--cores {asked} was asked for, but the data directory {path} has {logs} logs, one per \
         core, and their number is fixed when a directory is made; start with --cores {logs} (or \
         without --cores), or with another --data-dir"
    )]
    Cores {
        /// The directory.
        path: PathBuf,
        /// Cores asked for.
        asked: u16,
        /// Logs there are.
        logs: u16,
    },
}

/// What a data directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    format_version: u32,
    /// Logs, and so cores.
    pub logs: u16,
    /// The cluster's id, as Kafka clients see it.
    pub cluster_id: String,
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Whether it was made now.
    pub new: bool,
    /// What it is.
    pub identity: Identity,
    _lock: File,
}

impl DataDirectory {
    /// Takes the directory for this process, making it if it is not there. `asked` is the
    /// number of cores somebody asked for, `default` the one a new directory gets otherwise.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn take(
        path: &Path,
        asked: Option<u16>,
        default: u16,
    ) -> Result<DataDirectory, DirectoryError> {
        std::fs::create_dir_all(path).map_err(io_error("making the data directory", path))?;
        let lock = lock(path)?;
        let file = path.join(IDENTITY);
        let (identity, new) = match read_identity(path, &file)? {
            Some(identity) if !changes_an_empty_node(path, &identity, asked)? => (identity, false),
            _ => {
                let logs = asked.unwrap_or(default);
                let cluster_id = cluster_id(uuid::Uuid::new_v4().as_bytes());
                let identity = Identity {
                    format_version: FORMAT_VERSION,
                    logs,
                    cluster_id,
                };
                write_durably(path, &file, &identity)?;
                (identity, true)
            }
        };
        match asked {
            Some(asked) if asked != identity.logs => Err(DirectoryError::Cores {
                path: path.to_owned(),
                asked,
                logs: identity.logs,
            }),
            _ => Ok(DataDirectory {
                path: path.to_owned(),
                new,
                identity,
                _lock: lock,
            }),
        }
    }

    /// Takes a directory that is there for this process, as it is.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn existing(path: &Path) -> Result<DataDirectory, DirectoryError> {
        let not_there = || DirectoryError::NotThere {
            path: path.to_owned(),
        };
        let file = path.join(IDENTITY);
        // Asked before the lock, which would leave a file in a directory that is none of ours.
        read_identity(path, &file)?.ok_or_else(not_there)?;
        let lock = lock(path)?;
        let identity = read_identity(path, &file)?.ok_or_else(not_there)?;
        Ok(DataDirectory {
            path: path.to_owned(),
            new: false,
            identity,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a log lies.
    #[must_use]
    pub fn log_dir(&self, log: LogId) -> PathBuf {
        self.path.join(log_name(log))
    }
}

/// A first start that failed (no O_DIRECT, say) leaves an identity without a log behind it:
/// then another number of cores may still be asked for.
fn changes_an_empty_node(
    directory: &Path,
    identity: &Identity,
    asked: Option<u16>,
) -> Result<bool, DirectoryError> {
    if asked.is_none_or(|asked| asked == identity.logs) {
        return Ok(false);
    }
    for log in 0..u32::from(identity.logs) {
        let path = directory.join(log_name(LogId(log)));
        match std::fs::read_dir(&path).map(|mut files| files.next().is_some()) {
            Ok(false) => {}
            Ok(true) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("reading", &path)(error)),
        }
    }
    Ok(true)
}

fn log_name(log: LogId) -> String {
    format!("log-{log}")
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::Io { what, path, error }
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("opening the lock", &path))?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known {
                holder.trim().to_owned()
            } else {
                "(unknown)".to_owned()
            };
            return Err(DirectoryError::InUse {
                path: directory.to_owned(),
                holder,
            });
        }
        Err(error) => return Err(io_error("locking", &path)(error.into())),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    written.map_err(io_error("writing the lock", &path))?;
    Ok(file)
}

fn read_identity(directory: &Path, file: &Path) -> Result<Option<Identity>, DirectoryError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("reading", file)(error)),
    };
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let refused = |error: toml::de::Error| DirectoryError::Identity {
        path: file.to_owned(),
        reason: error.to_string(),
    };
    let Version { format_version } = toml::from_str(&text).map_err(refused)?;
    if format_version != FORMAT_VERSION {
        return Err(DirectoryError::Version {
            path: directory.to_owned(),
            found: format_version,
        });
    }
    let identity: Identity = toml::from_str(&text).map_err(refused)?;
    if identity.logs == 0 {
        return Err(DirectoryError::Identity {
            path: file.to_owned(),
            reason: "it says that there are no logs".to_owned(),
        });
    }
    Ok(Some(identity))
}

/// Write aside, flush, rename, flush the directory: after a power cut the file is whole or not
/// there.
fn write_durably(directory: &Path, file: &Path, identity: &Identity) -> Result<(), DirectoryError> {
    let text = toml::to_string(identity).map_err(|error| DirectoryError::Identity {
        path: file.to_owned(),
        reason: error.to_string(),
    })?;
    let aside = file.with_extension("toml.new");
    let write = || {
        let mut new = File::create(&aside)?;
        new.write_all(b"# What this data directory is. Written once; do not edit.\n")?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&aside, file)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(io_error("writing", file))
}

/// A cluster id as Kafka's tools write one: 16 bytes in URL-safe base 64 without padding.
fn cluster_id(bytes: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_be_bytes(*bytes);
    // 22 digits of 6 bits hold 132 bits: the last digit carries 2 bits and 4 zeros.
    (0..22)
        .map(|digit| {
            let shifted = if digit < 21 {
                number >> (122 - 6 * digit)
            } else {
                number << 4
            };
            // Truncation is meant: the lower 6 bits are the digit.
            char::from(DIGITS[(shifted & 63) as usize])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_identity_and_refuses_another_number_of_cores() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirectory::take(dir.path(), Some(3), 2).unwrap();
        assert!(first.new);
        let identity = first.identity.clone();
        assert_eq!(identity.logs, 3);
        assert_eq!(identity.cluster_id.len(), 22);
        drop(first);
        let again = DataDirectory::take(dir.path(), None, 2).unwrap();
        assert!(!again.new);
        assert_eq!(again.identity, identity);
        std::fs::create_dir(again.log_dir(LogId(1))).unwrap();
        std::fs::write(again.log_dir(LogId(1)).join("segment"), b"x").unwrap();
        drop(again);
        let refused = DataDirectory::take(dir.path(), Some(4), 2).unwrap_err();
        assert!(matches!(
            refused,
            DirectoryError::Cores {
                asked: 4,
                logs: 3,
                ..
            }
        ));
        assert!(refused.to_string().contains("start with --cores 3"));
    }

    #[test]
    fn a_first_start_that_came_to_no_log_does_not_fix_the_number_of_cores() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDirectory::take(dir.path(), Some(3), 2).unwrap());
        let again = DataDirectory::take(dir.path(), Some(1), 2).unwrap();
        assert_eq!(again.identity.logs, 1);
    }

    #[test]
    fn a_directory_in_use_is_refused_with_the_process_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDirectory::take(dir.path(), None, 1).unwrap();
        // A second open file description, as another process would have.
        let refused = DataDirectory::take(dir.path(), None, 1).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(&format!("process {}", std::process::id()))
        );
        drop(held);
        DataDirectory::take(dir.path(), None, 1).unwrap();
    }

    #[test]
    fn only_a_directory_that_is_there_and_free_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let refused = DataDirectory::existing(dir.path()).unwrap_err();
        assert!(matches!(refused, DirectoryError::NotThere { .. }));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let held = DataDirectory::take(dir.path(), Some(2), 1).unwrap();
        let refused = DataDirectory::existing(dir.path()).unwrap_err();
        assert!(matches!(refused, DirectoryError::InUse { .. }));
        drop(held);
        let taken = DataDirectory::existing(dir.path()).unwrap();
        assert_eq!(taken.identity.logs, 2);
    }

    #[test]
    fn an_identity_of_another_version_or_without_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(dir.path().join(IDENTITY), text).unwrap();
        write("format_version = 9\nsomething = \"else\"\n");
        let refused = DataDirectory::take(dir.path(), None, 1).unwrap_err();
        assert!(matches!(refused, DirectoryError::Version { found: 9, .. }));
        write("format_version = 1\nlogs = 0\ncluster_id = \"x\"\n");
        assert!(DataDirectory::take(dir.path(), None, 1).is_err());
        write("");
        assert!(DataDirectory::take(dir.path(), None, 1).is_err());
    }

    #[test]
    fn cluster_ids_are_url_safe_base_64() {
        assert_eq!(cluster_id(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(cluster_id(&[255; 16]), "_____________________w");
        let mut bytes = [0u8; 16];
        bytes[0] = 0b0000_0100;
        bytes[15] = 1;
        assert_eq!(cluster_id(&bytes), "BAAAAAAAAAAAAAAAAAAAAQ");
    }
}
