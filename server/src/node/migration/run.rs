//! The steps of a migration, in order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ringlog_storage::io::uring::{UringIo, UringOptions};
use ringlog_storage::log::{Import, Log, LogConfig, Retired};
use ringlog_types::LogId;

use super::error::MigrationError;
use super::files::{Given, give, make_directory, sync};
use super::leftovers;
use super::machines::split;
use super::plan::Plan;
use super::retire::{OldLog, retire};
use super::shares::{Share, share_out};
use super::steps::{Step, reached};
use crate::node::directory::{Change, DataDirectory};
use crate::node::identity::{Identity, LogPlace};
use crate::node::supervisor::Storage;

/// Numbers for logs: producer ids have 23 bits for them.
const LOG_LIMIT: u32 = 1 << 23;

/// A log that is made holds one checkpoint, and is written again from its first start on.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// Makes the node's logs what was asked for: finishes or undoes a migration that was cut off,
/// and carries out the one that is due, if one is. Blocks until it is done.
///
/// # Errors
/// See [`MigrationError`].
pub fn settle(directory: &mut DataDirectory, storage: &Storage) -> Result<(), MigrationError> {
    leftovers::clear(directory)?;
    directory.check_logs()?;
    match directory.change() {
        Some(change) => migrate(directory, &change, storage),
        None => Ok(()),
    }
}

fn migrate(
    directory: &mut DataDirectory,
    change: &Change,
    storage: &Storage,
) -> Result<(), MigrationError> {
    let began = Instant::now();
    let before = directory.identity.clone();
    let after = next(directory, change)?;
    tracing::info!(
        "migration before anything is served: from {} over {} to {} over {}; if it is cut off, \
         the next start finds the node as it was",
        counted(before.cores().into(), "core", "cores"),
        counted(before.further.len() + 1, "directory", "directories"),
        counted(after.cores().into(), "core", "cores"),
        counted(after.further.len() + 1, "directory", "directories"),
    );
    for log in &after.logs {
        let path = directory.log_dir(*log);
        if path.exists() {
            return Err(MigrationError::Occupied { path });
        }
    }
    let plan = Plan::new(&before, &after);
    plan.write(directory.path())?;
    reached(Step::Planned);
    let built = match build(directory, &after, storage) {
        Ok(built) => built,
        Err(error) => {
            // What cannot be removed now, the next start removes.
            if let Err(error) = leftovers::undo(directory, &plan) {
                tracing::warn!("what was begun could not be removed: {error}");
            }
            return Err(error);
        }
    };
    directory.become_identity(after)?;
    reached(Step::Switched);
    leftovers::remove_old(directory, &plan)?;
    tracing::info!(
        "migrated in {:.1} ms to epoch {}: {} topics with {} partitions, {} segments linked, {} \
         bytes copied to other filesystems; a log for each of {} cores: {:?}",
        began.elapsed().as_secs_f64() * 1e3,
        directory.identity.epoch,
        built.topics,
        built.partitions,
        built.linked,
        built.copied_bytes,
        directory.identity.cores(),
        directory
            .identity
            .logs
            .iter()
            .map(|log| log.id.0)
            .collect::<Vec<_>>(),
    );
    Ok(())
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The node as it is to be.
fn next(directory: &mut DataDirectory, change: &Change) -> Result<Identity, MigrationError> {
    let mut identity = directory.identity.clone();
    let first = identity.next_log;
    let behind = first.saturating_add(u32::from(change.cores));
    if behind > LOG_LIMIT {
        return Err(MigrationError::UsedUp {
            used: first,
            limit: LOG_LIMIT,
        });
    }
    identity.further.extend(directory.name_added()?);
    identity.epoch += 1;
    identity.next_log = behind;
    identity.logs = Identity::placed(first, change.cores, identity.further.len() + 1);
    Ok(identity)
}

/// What was done, for people.
struct Built {
    topics: usize,
    partitions: u64,
    linked: u64,
    copied_bytes: u64,
}

/// Every step up to the switch.
fn build(
    directory: &DataDirectory,
    after: &Identity,
    storage: &Storage,
) -> Result<Built, MigrationError> {
    let uring = UringOptions {
        // One log at a time is read or written by each thread, a little: nothing is registered.
        arena_bytes: 0,
        register: false,
        ..storage.uring.clone()
    };
    let before = &directory.identity;
    let (old_ids, new_ids) = (before.log_ids(), after.log_ids());
    let first = AtomicBool::new(true);
    let old = in_parallel(before.logs.clone(), |place| {
        let config = storage.logs[place.directory].clone();
        let path = directory.log_dir(place);
        let retired = retire(place.id, &old_ids, &path, config, &uring)?;
        if first.swap(false, Ordering::Relaxed) {
            reached(Step::FirstRetired);
        }
        Ok(retired)
    })?;
    reached(Step::Retired);
    let (machines, retired): (Vec<_>, Vec<(LogId, Retired)>) = old
        .into_iter()
        .map(|old: OldLog| (old.machines, (old.log, old.retired)))
        .unzip();
    let split = split(machines, &old_ids, &new_ids);
    let paths = before.logs.iter().map(|place| directory.log_dir(*place));
    let old: Vec<(LogId, PathBuf, &Retired)> = retired
        .iter()
        .zip(paths)
        .map(|((log, retired), path)| (*log, path, retired))
        .collect();
    let mut shares = share_out(&old, &split.before, &split.owners, &new_ids);
    for (share, state) in shares.iter_mut().zip(split.states) {
        share.import.state = state;
    }
    let made: Vec<(LogPlace, Share)> = after.logs.iter().copied().zip(shares).collect();
    let (linked, copied_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let (first_linked, first_imported) = (AtomicBool::new(true), AtomicBool::new(true));
    in_parallel(made, |(place, share)| {
        let path = directory.log_dir(place);
        let copied = take_in_files(&path, &share)?;
        let of_share = share.files.len() as u64;
        linked.fetch_add(of_share - copied.files, Ordering::Relaxed);
        copied_bytes.fetch_add(copied.bytes, Ordering::Relaxed);
        if first_linked.swap(false, Ordering::Relaxed) {
            reached(Step::FirstLinked);
        }
        let config = LogConfig {
            segment_bytes: FIRST_SEGMENT_BYTES,
            pool_segments: 1,
            checkpoint_bytes: u64::MAX,
            ..storage.logs[place.directory].clone()
        };
        import(place.id, &path, config, share.import, &uring)?;
        if first_imported.swap(false, Ordering::Relaxed) {
            reached(Step::FirstImported);
        }
        Ok(())
    })?;
    reached(Step::Imported);
    Ok(Built {
        topics: split.before.iter().len(),
        partitions: split.before.partition_count(),
        linked: linked.into_inner(),
        copied_bytes: copied_bytes.into_inner(),
    })
}

#[derive(Default)]
struct Copied {
    files: u64,
    bytes: u64,
}

/// Makes a new log's directory with the segment files in it.
fn take_in_files(path: &Path, share: &Share) -> Result<Copied, MigrationError> {
    make_directory(path)?;
    let mut copied = Copied::default();
    for (origin, file) in &share.files {
        if let Given::Copied(bytes) = give(file, &path.join(origin.file_name()))? {
            copied.files += 1;
            copied.bytes += bytes;
        }
    }
    sync(path)?;
    Ok(copied)
}

fn import(
    log: LogId,
    path: &Path,
    config: LogConfig,
    import: Import,
    uring: &UringOptions,
) -> Result<(), MigrationError> {
    let failed = |reason: String| MigrationError::Import { log, reason };
    let io = UringIo::open(path, uring).map_err(|error| failed(error.to_string()))?;
    let made = Log::import(io, log, config, import);
    made.map_err(|error| failed(error.to_string()))
}

/// Does the same for each, on a thread of its own, and waits for all; the first failure is the
/// one that is told.
fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, MigrationError> + Sync,
) -> Result<Vec<R>, MigrationError> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads = items
            .into_iter()
            .map(|item| scope.spawn(move || work(item)));
        let threads: Vec<_> = threads.collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}
