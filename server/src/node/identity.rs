//! What a data directory is, as it stands in `node.toml`: the node's name, its logs by core, and
//! the further directories they lie in. Plain values and their text; the first directory, which
//! holds the file, is directory 0.
//!
//! ```text
//! version 1   logs = 2                        logs 0 and 1, in this directory
//! version 2   epoch, next_log, [[logs]] id, directory, [[directories]] id, path
//! ```
//!
//! Invariant: the file is replaced whole, durably. Which file stands there decides which logs are
//! the node's: a change of logs becomes effective by it, under the next epoch.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringlog_types::LogId;
use serde::{Deserialize, Serialize};

use super::directory_error::{DirectoryError, io_error};

/// The file.
pub const IDENTITY: &str = "node.toml";

/// A directory beyond the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherDirectory {
    /// Its name, which stands in it as well: mounted elsewhere it is still the same.
    pub id: String,
    /// Where it was when the node started last, for people and for tools.
    pub path: PathBuf,
}

/// A log and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPlace {
    /// The log: never given twice in a node.
    #[serde(with = "log_id")]
    pub id: LogId,
    /// The directory: 0 is the first, 1 the first of the further ones.
    pub directory: usize,
}

/// What a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id, as Kafka clients see it.
    pub cluster_id: String,
    /// 1 for a new node; one more each time it gets other logs.
    pub epoch: u32,
    /// Logs from here on were never this node's.
    pub next_log: u32,
    /// Directories beyond the first.
    pub further: Vec<FurtherDirectory>,
    /// The log of each core.
    pub logs: Vec<LogPlace>,
}

#[derive(Deserialize)]
struct AnyVersion {
    format_version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    #[serde(rename = "format_version")]
    _format_version: u32,
    logs: u32,
    cluster_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version2 {
    format_version: u32,
    cluster_id: String,
    epoch: u32,
    next_log: u32,
    logs: Vec<LogPlace>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    directories: Vec<FurtherDirectory>,
}

/// The version that is written.
pub const FORMAT_VERSION: u32 = 2;

impl Identity {
    /// A node that begins: one log for each core, spread over this many directories.
    #[must_use]
    pub fn new(cluster_id: String, cores: u16, further: Vec<FurtherDirectory>) -> Identity {
        let next_log = u32::from(cores);
        let logs = Identity::placed(0, cores, further.len() + 1);
        Identity {
            cluster_id,
            epoch: 1,
            next_log,
            further,
            logs,
        }
    }

    /// Logs for each core from the number `first` on, in the directories by turns.
    #[must_use]
    pub fn placed(first: u32, cores: u16, directories: usize) -> Vec<LogPlace> {
        (0..cores)
            .map(|core| LogPlace {
                id: LogId(first + u32::from(core)),
                directory: usize::from(core) % directories,
            })
            .collect()
    }

    /// How many cores it has.
    #[must_use]
    pub fn cores(&self) -> u16 {
        u16::try_from(self.logs.len()).expect("a node has at most 1024 cores")
    }

    /// The logs, by core.
    #[must_use]
    pub fn log_ids(&self) -> Vec<LogId> {
        self.logs.iter().map(|log| log.id).collect()
    }

    /// Reads it from the first directory; `None` where there is none.
    ///
    /// # Errors
    /// Another version, or text without sense.
    pub fn read(directory: &Path) -> Result<Option<Identity>, DirectoryError> {
        let file = directory.join(IDENTITY);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("reading", &file)(error)),
        };
        let refused = |reason: String| DirectoryError::Identity {
            path: file.clone(),
            reason,
        };
        let wrong = |error: toml::de::Error| refused(error.to_string());
        let AnyVersion { format_version } = toml::from_str(&text).map_err(wrong)?;
        let identity = match format_version {
            1 => {
                let old: Version1 = toml::from_str(&text).map_err(wrong)?;
                let cores = u16::try_from(old.logs);
                let cores = cores.map_err(|_| refused(format!("it has {} logs", old.logs)))?;
                Identity::new(old.cluster_id, cores, Vec::new())
            }
            FORMAT_VERSION => {
                let new: Version2 = toml::from_str(&text).map_err(wrong)?;
                Identity {
                    cluster_id: new.cluster_id,
                    epoch: new.epoch,
                    next_log: new.next_log,
                    further: new.directories,
                    logs: new.logs,
                }
            }
            found => {
                return Err(DirectoryError::Version {
                    path: directory.to_owned(),
                    found,
                });
            }
        };
        identity.check().map_err(refused)?;
        Ok(Some(identity))
    }

    fn check(&self) -> Result<(), String> {
        if self.logs.is_empty() || u16::try_from(self.logs.len()).is_err() {
            return Err(format!("it says that there are {} logs", self.logs.len()));
        }
        let directories = self.further.len() + 1;
        let mut ids: Vec<u32> = self.logs.iter().map(|log| log.id.0).collect();
        ids.sort_unstable();
        let sorted = ids.windows(2).all(|pair| pair[0] < pair[1]);
        if !sorted || ids.last().is_some_and(|last| *last >= self.next_log) {
            return Err(format!("its logs {ids:?} cannot be"));
        }
        if let Some(log) = self.logs.iter().find(|log| log.directory >= directories) {
            return Err(format!("log {} lies in no directory", log.id));
        }
        Ok(())
    }

    /// Writes it into the first directory. After a crash the old one stands there or this one.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, directory: &Path) -> Result<(), DirectoryError> {
        let text = toml::to_string(&Version2 {
            format_version: FORMAT_VERSION,
            cluster_id: self.cluster_id.clone(),
            epoch: self.epoch,
            next_log: self.next_log,
            logs: self.logs.clone(),
            directories: self.further.clone(),
        });
        let text = text.map_err(|error| DirectoryError::Identity {
            path: directory.join(IDENTITY),
            reason: error.to_string(),
        })?;
        let head = "# What this data directory is. Do not edit.\n";
        write_durably(directory, IDENTITY, &format!("{head}{text}"))
    }
}

/// Write aside, flush, rename, flush the directory: after a power cut the file is whole or as it
/// was before.
///
/// # Errors
/// The system's.
pub fn write_durably(directory: &Path, name: &str, text: &str) -> Result<(), DirectoryError> {
    let file = directory.join(name);
    let aside = directory.join(format!("{name}.new"));
    let write = || {
        let mut new = File::create(&aside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&aside, &file)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(io_error("writing", &file))
}

/// A log as its number.
mod log_id {
    use ringlog_types::LogId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(log: &LogId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(log.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LogId, D::Error> {
        u32::deserialize(from).map(LogId)
    }
}

/// A cluster id as Kafka's tools write one: 16 bytes in URL-safe base 64 without padding.
#[must_use]
pub fn base_64(bytes: &[u8; 16]) -> String {
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
    fn what_is_written_is_read_and_version_1_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), None);
        let further = FurtherDirectory {
            id: "x".to_owned(),
            path: PathBuf::from("/mnt/b"),
        };
        let mut identity = Identity::new("c".to_owned(), 3, vec![further]);
        identity.epoch = 7;
        identity.write(dir.path()).unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), Some(identity.clone()));
        let places: Vec<usize> = identity.logs.iter().map(|log| log.directory).collect();
        assert_eq!(places, [0, 1, 0]);
        let old = "format_version = 1\nlogs = 2\ncluster_id = \"c\"\n";
        std::fs::write(dir.path().join(IDENTITY), old).unwrap();
        let read = Identity::read(dir.path()).unwrap().unwrap();
        assert_eq!(read, Identity::new("c".to_owned(), 2, Vec::new()));
    }

    #[test]
    fn an_identity_of_another_version_or_without_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(dir.path().join(IDENTITY), text).unwrap();
            Identity::read(dir.path()).unwrap_err()
        };
        let refused = read("format_version = 9\nsomething = \"else\"\n");
        assert!(matches!(refused, DirectoryError::Version { found: 9, .. }));
        let start = "format_version = 2\ncluster_id = \"x\"\nepoch = 1\nnext_log = 2\n";
        for senseless in [
            "",
            "format_version = 1\nlogs = 0\ncluster_id = \"x\"\n",
            &format!("{start}logs = []\n"),
            &format!("{start}logs = [{{ id = 2, directory = 0 }}]\n"),
            &format!("{start}logs = [{{ id = 1, directory = 1 }}]\n"),
            &format!("{start}logs = [{{ id = 1, directory = 0 }}, {{ id = 1, directory = 0 }}]\n"),
        ] {
            let refused = read(senseless);
            assert!(
                matches!(refused, DirectoryError::Identity { .. }),
                "{senseless}: {refused}"
            );
        }
    }

    #[test]
    fn cluster_ids_are_url_safe_base_64() {
        assert_eq!(base_64(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base_64(&[255; 16]), "_____________________w");
        let mut bytes = [0u8; 16];
        bytes[0] = 0b0000_0100;
        bytes[15] = 1;
        assert_eq!(base_64(&bytes), "BAAAAAAAAAAAAAAAAAAAAQ");
    }
}
