//! Reading histories while they are written: each look takes what has been added to the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::event::Entry;
use super::files::{History, parse};

/// What has been read of a client's file.
#[derive(Debug, Default)]
struct Followed {
    bytes: u64,
    entries: Vec<Entry>,
}

/// Every `*.jsonl` file in a directory, as far as it has been read.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    clients: BTreeMap<PathBuf, Followed>,
}

impl Follower {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(directory: &Path) -> Follower {
        Follower {
            directory: directory.to_owned(),
            clients: BTreeMap::new(),
        }
    }

    /// Reads what has been added, also of files that are new, and hands it to somebody who counts: of
    /// each client in its order.
    ///
    /// # Errors
    /// When a file cannot be read, or holds what is no line of a history.
    pub fn look(&mut self, mut added: impl FnMut(&Entry)) -> Result<()> {
        let listed = std::fs::read_dir(&self.directory)
            .with_context(|| format!("listing {}", self.directory.display()))?;
        for entry in listed {
            let path = entry?.path();
            if path.extension().is_none_or(|found| found != "jsonl") {
                continue;
            }
            let mut file =
                File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            let client = self.clients.entry(path.clone()).or_default();
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(client.bytes))?;
            file.read_to_end(&mut bytes)
                .with_context(|| format!("reading {}", path.display()))?;
            let (entries, taken) =
                parse(&bytes).with_context(|| format!("in {}", path.display()))?;
            entries.iter().for_each(&mut added);
            client.entries.extend(entries);
            client.bytes += u64::try_from(taken)?;
        }
        Ok(())
    }

    /// What has been read.
    #[must_use]
    pub fn history(&self) -> History {
        let clients = self.clients.values();
        History::of(clients.map(|client| client.entries.clone()).collect())
    }
}
