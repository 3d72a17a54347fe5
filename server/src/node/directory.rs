//! The data directories: held by one process at a time, and which node's they are.
//!
//! ```text
//! FIRST/lock                 flock, with the holder's process id in it; in every directory
//! FIRST/node.toml            identity: cluster id, the log of each core, the further directories
//! FIRST/migration.toml       a change of logs that is under way (see `migration`)
//! FURTHER/disk.toml          whose directory this is, and which
//! ANY/log-<id>/              one log each
//! ANY/device-profile.toml    what `ringlog tune probe` measured, if it did
//! ```
//!
//! Invariant: the identity is durable before the first log is made. A directory is known by what
//! stands in it, not by where it is mounted: none is taken for another, none is left out.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ringlog_types::LogId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

pub use super::directory_error::DirectoryError;
use super::directory_error::io_error;
use super::identity::{FurtherDirectory, Identity, LogPlace, base_64, write_durably};

const LOCK: &str = "lock";
const DISK: &str = "disk.toml";

/// What a directory beyond the first says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    format_version: u32,
    cluster_id: String,
    id: String,
}

/// A node's data directories, held by this process.
#[derive(Debug)]
pub struct DataDirectory {
    /// The first, then the further ones in the identity's order.
    paths: Vec<PathBuf>,
    /// Whether the node was made now.
    pub new: bool,
    /// What it is.
    pub identity: Identity,
    /// Directories that were given and are not the node's yet.
    added: Vec<PathBuf>,
    /// Cores that were asked for.
    asked: Option<u16>,
    _locks: Vec<File>,
}

/// Other logs than the node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Cores it is to have.
    pub cores: u16,
    /// Directories that come to those it has.
    pub added: Vec<PathBuf>,
}

impl DataDirectory {
    /// Takes the directories for this process, making what is not there. The first one given
    /// becomes the first of a new node; afterwards their order does not matter. `asked` is the
    /// number of cores somebody asked for, `default` the one a new node gets otherwise.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn take(
        given: &[PathBuf],
        asked: Option<u16>,
        default: u16,
    ) -> Result<DataDirectory, DirectoryError> {
        for path in given {
            std::fs::create_dir_all(path).map_err(io_error("making the data directory", path))?;
        }
        let locks = lock_all(given)?;
        let (first, identity) = match first_of(given)? {
            Some((first, identity)) => (first, identity),
            None => {
                let cores = asked.unwrap_or(default);
                return make(given, locks, cores);
            }
        };
        let found = find(given, &first, &identity)?;
        let mut directory = DataDirectory {
            paths: found.paths,
            new: false,
            identity,
            added: found.added,
            asked,
            _locks: locks,
        };
        if directory.identity.epoch == 1 && directory.change().is_some() && directory.is_empty()? {
            // A first start that failed (no O_DIRECT, say) leaves an identity without a log
            // behind it: then another number of cores may still be asked for.
            let cores = asked.unwrap_or(directory.identity.cores());
            let mut paths = directory.paths;
            paths.append(&mut directory.added);
            return make(&paths, directory._locks, cores);
        }
        directory.note_paths()?;
        Ok(directory)
    }

    /// Takes directories that are there for this process, as they are. Those that are not given
    /// are looked for where they were last.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn existing(given: &[PathBuf]) -> Result<DataDirectory, DirectoryError> {
        let not_there = || DirectoryError::NotThere {
            path: given.first().cloned().unwrap_or_default(),
        };
        // Asked before the lock, which would leave a file in a directory that is none of ours.
        let (first, identity) = first_of(given)?.ok_or_else(not_there)?;
        let mut given = given.to_vec();
        for known in &identity.further {
            let there = read_disk(&known.path)?.is_some_and(|disk| disk.id == known.id);
            let is_given = given.iter().any(|path| {
                read_disk(path).is_ok_and(|disk| disk.is_some_and(|disk| disk.id == known.id))
            });
            if there && !is_given {
                given.push(known.path.clone());
            }
        }
        let locks = lock_all(&given)?;
        let identity_again = Identity::read(&first)?.ok_or_else(not_there)?;
        let found = find(&given, &first, &identity_again)?;
        Ok(DataDirectory {
            paths: found.paths,
            new: false,
            identity: identity_again,
            added: Vec::new(),
            asked: None,
            _locks: locks,
        })
    }

    /// The first directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.paths[0]
    }

    /// Every directory of the node: the first, then the further ones.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Where a log lies.
    #[must_use]
    pub fn log_dir(&self, log: LogPlace) -> PathBuf {
        self.paths[log.directory].join(log_name(log.id))
    }

    /// What was asked for and the node is not.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        let cores = self.asked.unwrap_or(self.identity.cores());
        let added = self.added.clone();
        let changes = cores != self.identity.cores() || !added.is_empty();
        changes.then_some(Change { cores, added })
    }

    /// That the node's logs are there. A first start may have been cut off before it made them
    /// all; but where other logs lie and these do not, the identity is not of their time.
    ///
    /// # Errors
    /// The first that is not there.
    pub fn check_logs(&self) -> Result<(), DirectoryError> {
        let strange = self.strange_logs()?;
        for path in &strange {
            tracing::warn!(
                "{} is no log of this node, and is left alone",
                path.display()
            );
        }
        for log in &self.identity.logs {
            let path = self.log_dir(*log);
            if !path.is_dir() && (self.identity.epoch > 1 || !strange.is_empty()) {
                return Err(DirectoryError::NoLog { log: log.id, path });
            }
        }
        Ok(())
    }

    /// Directories of logs that are not the node's.
    fn strange_logs(&self) -> Result<Vec<PathBuf>, DirectoryError> {
        let own: Vec<PathBuf> = self
            .identity
            .logs
            .iter()
            .map(|log| self.log_dir(*log))
            .collect();
        let mut strange = Vec::new();
        for directory in &self.paths {
            let failed = || io_error("reading", directory);
            for entry in std::fs::read_dir(directory).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let number = name.strip_prefix("log-").map(str::parse::<u32>);
                if number.is_some_and(|number| number.is_ok()) && !own.contains(&entry.path()) {
                    strange.push(entry.path());
                }
            }
        }
        Ok(strange)
    }

    /// The added directories become the node's: each gets its name. Effective when the identity
    /// that `named` goes into is written.
    ///
    /// # Errors
    /// The system's.
    pub fn name_added(&mut self) -> Result<Vec<FurtherDirectory>, DirectoryError> {
        let added = std::mem::take(&mut self.added);
        let named = name_disks(&added, &self.identity.cluster_id)?;
        self.paths.extend(added);
        Ok(named)
    }

    /// A directory by its name, the first by an empty one; also one that was given and is not
    /// the node's.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn path_of(&self, id: &str) -> Result<Option<PathBuf>, DirectoryError> {
        if id.is_empty() {
            return Ok(Some(self.paths[0].clone()));
        }
        for path in self.paths[1..].iter().chain(&self.added) {
            if read_disk(path)?.is_some_and(|disk| disk.id == id) {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }

    /// The node is this from now on.
    ///
    /// # Errors
    /// The system's; which of the two it is, the next start finds out.
    pub fn become_identity(&mut self, identity: Identity) -> Result<(), DirectoryError> {
        identity.write(self.path())?;
        self.identity = identity;
        Ok(())
    }

    /// Whether no log has a file.
    fn is_empty(&self) -> Result<bool, DirectoryError> {
        for log in &self.identity.logs {
            let path = self.log_dir(*log);
            match std::fs::read_dir(&path).map(|mut files| files.next().is_some()) {
                Ok(false) => {}
                Ok(true) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("reading", &path)(error)),
            }
        }
        Ok(true)
    }

    /// Writes down where the further directories are now, if that has changed.
    fn note_paths(&mut self) -> Result<(), DirectoryError> {
        let mut identity = self.identity.clone();
        for (known, path) in identity.further.iter_mut().zip(&self.paths[1..]) {
            known.path = absolute(path)?;
        }
        if identity != self.identity {
            self.become_identity(identity)?;
        }
        Ok(())
    }
}

/// The name of a log's directory.
#[must_use]
pub fn log_name(log: LogId) -> String {
    format!("log-{log}")
}

/// Where the directories of an identity are, and what else was given.
struct FoundDirectories {
    paths: Vec<PathBuf>,
    added: Vec<PathBuf>,
}

/// The one given directory with an identity.
fn first_of(given: &[PathBuf]) -> Result<Option<(PathBuf, Identity)>, DirectoryError> {
    let mut first: Option<(PathBuf, Identity)> = None;
    for path in given {
        let Some(identity) = Identity::read(path)? else {
            continue;
        };
        if let Some((one, _)) = first {
            let other = path.clone();
            return Err(DirectoryError::TwoNodes { one, other });
        }
        first = Some((path.clone(), identity));
    }
    Ok(first)
}

fn find(
    given: &[PathBuf],
    first: &Path,
    identity: &Identity,
) -> Result<FoundDirectories, DirectoryError> {
    let mut places: Vec<Option<PathBuf>> = vec![None; identity.further.len()];
    let mut added = Vec::new();
    for path in given.iter().filter(|path| *path != first) {
        let disk = read_disk(path)?;
        let own = disk
            .as_ref()
            .filter(|disk| disk.cluster_id == identity.cluster_id);
        let known = own.and_then(|disk| {
            let mut known = identity.further.iter();
            known.position(|further| further.id == disk.id)
        });
        match known {
            Some(known) => places[known] = Some(path.clone()),
            None => {
                // A name of this node that it does not know is left from an attempt to add it.
                if own.is_none() {
                    check_free(path, disk.as_ref())?;
                }
                added.push(path.clone());
            }
        }
    }
    let mut paths = vec![first.to_owned()];
    for (place, further) in places.into_iter().zip(&identity.further) {
        let missing = || DirectoryError::Missing {
            id: further.id.clone(),
            path: further.path.clone(),
        };
        paths.push(place.ok_or_else(missing)?);
    }
    Ok(FoundDirectories { paths, added })
}

/// Makes a new node of directories without one.
fn make(given: &[PathBuf], locks: Vec<File>, cores: u16) -> Result<DataDirectory, DirectoryError> {
    for path in given {
        if Identity::read(path)?.is_none() {
            check_free(path, read_disk(path)?.as_ref())?;
        }
    }
    let cluster_id = base_64(uuid::Uuid::new_v4().as_bytes());
    let further = name_disks(&given[1..], &cluster_id)?;
    let identity = Identity::new(cluster_id, cores, further);
    identity.write(&given[0])?;
    Ok(DataDirectory {
        paths: given.to_vec(),
        new: true,
        identity,
        added: Vec::new(),
        asked: None,
        _locks: locks,
    })
}

/// That a directory that is to be taken has no logs in it.
fn check_free(path: &Path, disk: Option<&Disk>) -> Result<(), DirectoryError> {
    let failed = |error| io_error("reading", path)(error);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(|error| io_error("reading", path)(error))?;
        let is_log = entry.file_name().to_string_lossy().starts_with("log-");
        if !is_log || std::fs::read_dir(entry.path()).is_ok_and(|mut files| files.next().is_none())
        {
            continue;
        }
        let path = path.to_owned();
        return Err(match disk {
            Some(disk) => DirectoryError::OfAnother {
                path,
                cluster_id: disk.cluster_id.clone(),
            },
            None => DirectoryError::Unnamed { path, file: DISK },
        });
    }
    Ok(())
}

fn read_disk(path: &Path) -> Result<Option<Disk>, DirectoryError> {
    let file = path.join(DISK);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("reading", &file)(error)),
    };
    let disk: Disk = toml::from_str(&text).map_err(|error| DirectoryError::Identity {
        path: file.clone(),
        reason: error.to_string(),
    })?;
    if disk.format_version != 1 {
        return Err(DirectoryError::Version {
            path: path.to_owned(),
            found: disk.format_version,
        });
    }
    Ok(Some(disk))
}

fn name_disks(
    paths: &[PathBuf],
    cluster_id: &str,
) -> Result<Vec<FurtherDirectory>, DirectoryError> {
    let mut named = Vec::new();
    for path in paths {
        let disk = Disk {
            format_version: 1,
            cluster_id: cluster_id.to_owned(),
            id: base_64(uuid::Uuid::new_v4().as_bytes()),
        };
        let text = toml::to_string(&disk).map_err(|error| DirectoryError::Identity {
            path: path.join(DISK),
            reason: error.to_string(),
        })?;
        let head = "# Which directory of which node this is. Do not edit.\n";
        write_durably(path, DISK, &format!("{head}{text}"))?;
        named.push(FurtherDirectory {
            id: disk.id,
            path: absolute(path)?,
        });
    }
    Ok(named)
}

fn absolute(path: &Path) -> Result<PathBuf, DirectoryError> {
    std::fs::canonicalize(path).map_err(io_error("finding", path))
}

fn lock_all(given: &[PathBuf]) -> Result<Vec<File>, DirectoryError> {
    let mut seen = Vec::new();
    let mut locks = Vec::new();
    for path in given {
        let place = absolute(path)?;
        if seen.contains(&place) {
            return Err(DirectoryError::Twice { path: path.clone() });
        }
        seen.push(place);
        locks.push(lock(path)?);
    }
    Ok(locks)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn take(paths: &[&Path], asked: Option<u16>) -> Result<DataDirectory, DirectoryError> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        DataDirectory::take(&paths, asked, 2)
    }

    /// Every log of the node has a file, as after a first start.
    fn fill(directory: &DataDirectory) {
        for log in &directory.identity.logs {
            std::fs::create_dir(directory.log_dir(*log)).unwrap();
            std::fs::write(directory.log_dir(*log).join("segment"), b"x").unwrap();
        }
    }

    #[test]
    fn a_directory_keeps_its_identity_and_knows_what_is_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(&[dir.path()], Some(3)).unwrap();
        assert!(first.new);
        let identity = first.identity.clone();
        assert_eq!(identity.cores(), 3);
        assert_eq!(identity.cluster_id.len(), 22);
        fill(&first);
        drop(first);
        let again = take(&[dir.path()], None).unwrap();
        assert!(!again.new);
        assert_eq!(again.identity, identity);
        assert_eq!(again.change(), None);
        drop(again);
        let other = take(&[dir.path()], Some(4)).unwrap();
        let (cores, added) = (4, Vec::new());
        assert_eq!(other.change(), Some(Change { cores, added }));
        assert_eq!(other.identity, identity, "nothing has changed yet");
    }

    #[test]
    fn a_first_start_that_came_to_no_log_does_not_fix_the_number_of_cores() {
        let dir = tempfile::tempdir().unwrap();
        drop(take(&[dir.path()], Some(3)).unwrap());
        let again = take(&[dir.path()], Some(1)).unwrap();
        assert_eq!(again.identity.cores(), 1);
        assert_eq!(again.change(), None);
    }

    #[test]
    fn a_directory_in_use_is_refused_with_the_process_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(&[dir.path()], None).unwrap();
        // A second open file description, as another process would have.
        let refused = take(&[dir.path()], None).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(&format!("process {}", std::process::id()))
        );
        drop(held);
        take(&[dir.path()], None).unwrap();
    }

    #[test]
    fn only_a_directory_that_is_there_and_free_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let existing = || DataDirectory::existing(&[dir.path().to_owned()]);
        let refused = existing().unwrap_err();
        assert!(matches!(refused, DirectoryError::NotThere { .. }));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let held = take(&[dir.path()], Some(2)).unwrap();
        let refused = existing().unwrap_err();
        assert!(matches!(refused, DirectoryError::InUse { .. }));
        drop(held);
        assert_eq!(existing().unwrap().identity.cores(), 2);
    }

    #[test]
    fn logs_are_spread_over_directories_whatever_their_order() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = take(&[a.path(), b.path()], Some(3)).unwrap();
        let places: Vec<PathBuf> = first
            .identity
            .logs
            .iter()
            .map(|log| first.log_dir(*log))
            .collect();
        let expected = [
            a.path().join("log-0"),
            b.path().join("log-1"),
            a.path().join("log-2"),
        ];
        assert_eq!(places, expected);
        fill(&first);
        drop(first);
        let turned = take(&[b.path(), a.path()], None).unwrap();
        assert_eq!(turned.change(), None);
        let log = turned.identity.logs[1];
        assert_eq!(turned.log_dir(log), b.path().join("log-1"));
        drop(turned);
        // A tool that is given the first finds the other.
        let found = DataDirectory::existing(&[a.path().to_owned()]).unwrap();
        assert_eq!(found.paths().len(), 2);
    }

    #[test]
    fn a_missing_or_exchanged_directory_is_refused_by_name() {
        let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
        let path = |number: usize| dirs[number].path();
        fill(&take(&[path(0), path(1)], Some(2)).unwrap());
        fill(&take(&[path(2), path(3)], Some(2)).unwrap());
        let refused = take(&[path(0)], None).unwrap_err().to_string();
        let named = std::fs::canonicalize(path(1)).unwrap();
        assert!(refused.contains(&named.display().to_string()), "{refused}");
        let refused = take(&[path(0), path(3)], None).unwrap_err();
        assert!(matches!(refused, DirectoryError::OfAnother { .. }));
        let refused = take(&[path(0), path(2)], None).unwrap_err();
        assert!(matches!(refused, DirectoryError::TwoNodes { .. }));
        let refused = take(&[path(1)], None).unwrap_err();
        assert!(matches!(refused, DirectoryError::OfAnother { .. }));
        let refused = take(&[path(0), path(1), path(1)], None).unwrap_err();
        assert!(matches!(refused, DirectoryError::Twice { .. }));
        // An empty directory in the place of one: the node's own is still missing.
        let empty = tempfile::tempdir().unwrap();
        let refused = take(&[path(0), empty.path()], None).unwrap_err();
        assert!(matches!(refused, DirectoryError::Missing { .. }));
        assert_eq!(take(&[path(0), path(1)], None).unwrap().change(), None);
    }

    #[test]
    fn an_identity_of_another_time_than_the_logs_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let node = take(&[dir.path()], Some(2)).unwrap();
        node.check_logs().unwrap();
        fill(&node);
        let stranger = dir.path().join("log-7");
        std::fs::create_dir(&stranger).unwrap();
        node.check_logs().unwrap();
        let lost = node.log_dir(node.identity.logs[1]);
        std::fs::remove_dir_all(&lost).unwrap();
        let refused = node.check_logs().unwrap_err();
        assert!(matches!(
            refused,
            DirectoryError::NoLog { log: LogId(1), .. }
        ));
        std::fs::remove_dir(&stranger).unwrap();
        node.check_logs().unwrap();
    }

    #[test]
    fn another_directory_is_a_change() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(&take(&[a.path()], Some(2)).unwrap());
        let with = take(&[a.path(), b.path()], None).unwrap();
        let (cores, added) = (2, vec![b.path().to_owned()]);
        assert_eq!(with.change(), Some(Change { cores, added }));
        drop(with);
        assert_eq!(take(&[a.path()], None).unwrap().change(), None);
    }
}
