//! Power cuts on what the real engine did: the workload runs on io_uring and a real directory,
//! every operation at the seam is recorded, and the disk is rebuilt as a cut at a recorded point
//! may have left it: everything flushed, and any subset of the sectors that were not.

use std::path::Path;
use std::time::Duration;

use ringlog_storage::io::Io;
use ringlog_storage::io::random::Random as DiskRandom;
use ringlog_storage::io::record::Recorder;
use ringlog_storage::io::sim::{Faults, SimDisk};
use ringlog_storage::io::uring::{UringIo, UringOptions};
use ringlog_storage::log::{FlushMethod, Log, LogConfig};
use ringlog_types::LogId;

use super::machine::Witness;
use super::model::Model;
use super::random::Random;
use super::workload::Workload;

const SEGMENT_BYTES: u64 = 1 << 20;

/// What a rig did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuts {
    /// Power cuts rebuilt and recovered from.
    pub cuts: u64,
    /// Operations recorded.
    pub events: usize,
    /// Bytes recorded.
    pub recorded_bytes: u64,
    /// Groups acknowledged in the recorded run.
    pub acknowledged: u64,
}

fn config(flush: FlushMethod) -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        pool_segments: 2,
        recycle_bytes: 4 * SEGMENT_BYTES,
        target_block_bytes: 64 << 10,
        depth: 4,
        eager_depth: 2,
        flush,
        checkpoint_bytes: 3 * SEGMENT_BYTES,
        idle_mark_after: Duration::from_millis(1),
        ..LogConfig::default()
    }
}

/// Runs the workload of `seed` in `directory`, then cuts the power `cuts` times.
///
/// # Errors
/// The first promise found broken, with the cut that shows it.
pub fn cut_power(
    directory: &Path,
    seed: u64,
    groups: u64,
    cuts: u64,
    flush: FlushMethod,
) -> Result<Cuts, String> {
    let mut work = Workload::new(Random::new(seed), false);
    let options = UringOptions {
        allow_buffered: true,
        ..UringOptions::default()
    };
    let io = UringIo::open(directory, &options).map_err(|error| error.to_string())?;
    let io = Recorder::new(io);
    let recording = io.recording();
    let mut witness = Witness::default();
    let opened = Log::open(io, LogId(0), config(flush), &mut witness);
    let (mut log, _) = opened.map_err(|error| error.to_string())?;
    // How far the recording was when the owner learned of how many acknowledgements.
    let mut learned = vec![(recording.position(), 0)];
    while work.appended < groups {
        for _ in 0..1 + work.random.below(6) {
            match work.random.below(20) {
                0 => work.trim(&mut log)?,
                1 if work.random.once_in(4) => work.drop_one(&mut log)?,
                _ => work.append(&mut log)?,
            }
        }
        log.submit();
        if work.random.once_in(2) {
            log.io_mut().wait(Duration::from_millis(20));
        }
        work.poll(&mut log, &mut witness);
        if let Some(failure) = log.failure() {
            return Err(format!("the log closed without a fault: {failure}"));
        }
        learned.push((recording.position(), work.model.acknowledged));
    }
    drop(log);
    let recording = recording.borrow();
    let mut done = Cuts {
        events: recording.len(),
        recorded_bytes: recording.recorded_bytes(),
        acknowledged: work.acknowledged,
        ..Cuts::default()
    };
    let groups = work.model.groups;
    for number in 0..cuts {
        let at = work.random.below(recording.len() as u64 + 1) as usize;
        let mut sectors = DiskRandom::new(work.random.bits());
        let image = recording.image_at(at, &mut sectors);
        let disk = SimDisk::from_image(number, Faults::none(), image);
        let mut after = Workload::new(Random::new(seed), false);
        after.model = Model {
            groups: groups.clone(),
            ..Model::default()
        };
        let known = learned
            .iter()
            .take_while(|(position, _)| *position <= at)
            .last();
        after.model.acknowledged = known.map_or(0, |(_, acknowledged)| *acknowledged);
        let failed = |what: String| {
            format!(
                "seed {seed}, cut {number} at event {at} of {}: {what}",
                recording.len()
            )
        };
        let mut witness = Witness::default();
        let (mut log, report) = Log::open(disk.io(), LogId(0), config(flush), &mut witness)
            .map_err(|error| failed(error.to_string()))?;
        // Nothing was corrupted, so nothing explains a loss: any is a failure.
        after
            .check_start(&mut log, &mut witness, &report)
            .map_err(failed)?;
        done.cuts += 1;
    }
    Ok(done)
}
