//! Writing over a torn tail, so that a start finds a clean end.
//!
//! Invariant: only blocks are written over that nothing states to have been durable, and only in
//! a log without damage: where something durable is missing, what is a tail cannot be told.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::RepairError;
use super::finding::LogCheck;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Zeroes the torn tail that `found` names in the log's directory, durably. Returns how many
/// bytes.
///
/// # Errors
/// When the log has damage, or a file cannot be written: see [`RepairError`].
pub fn repair(directory: &Path, found: &LogCheck) -> Result<u64, RepairError> {
    let log = found.log;
    let findings = found.damage().count();
    if findings > 0 {
        return Err(RepairError::Damaged { log, findings });
    }
    let mut zeroed = 0;
    for (name, position, bytes) in &found.tail.blocks {
        let failed = |cause| RepairError::Io {
            log,
            what: format!("writing over {bytes} bytes at byte {position} of {name}"),
            cause,
        };
        let file = OpenOptions::new().write(true).open(directory.join(name));
        let file = file.map_err(failed)?;
        // A block may say that it is longer than its file: the file keeps its length.
        let end = file.metadata().map_err(failed)?.len();
        let end = end.min(position.saturating_add(*bytes));
        let mut at = *position;
        while at < end {
            let step = (end - at).min(ZEROS.len() as u64);
            // At most the length of the zeros.
            let zeros = &ZEROS[..step as usize];
            file.write_all_at(zeros, at).map_err(failed)?;
            at += step;
            zeroed += step;
        }
        file.sync_data().map_err(failed)?;
    }
    Ok(zeroed)
}
