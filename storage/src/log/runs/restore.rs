//! Runs at a start: those that the checkpoint names are opened, others are left over and go. And
//! segments that the checkpoint names, whose rows a run has, and that are not there.

use std::time::Duration;

use ringlog_types::{PartitionId, Sequence};

use super::state::Run;
use crate::format::checksum::Key;
use crate::format::manifest::{Manifest, RunInfo};
use crate::format::run_header::{RunHeader, run_file_name, run_number_of};
use crate::format::run_page::RunRow;
use crate::io::{FileId, Io, Op};
use crate::log::report::{Damage, RecoveryReport};
use crate::log::walk::{read_pieces, run};
use crate::log::{Log, Machine};

/// Pages of a run that are asked for at once when all of it is read.
const SCAN_PAGES: u32 = 32;

/// Turns given to the counting of rows of segments that are not there.
const GHOST_TURNS: usize = 10_000;

impl<I: Io> Log<I> {
    /// Opens the runs that a checkpoint names. One that is not there, or not whole, is made anew from
    /// its segments.
    ///
    /// # Errors
    /// The device's own.
    pub(in crate::log) fn adopt_runs(
        &mut self,
        manifest: &Manifest,
        checkpoint: Sequence,
    ) -> std::io::Result<()> {
        let there = self.submitter.io.list()?;
        let mut files: Vec<Option<FileId>> = Vec::new();
        for info in &manifest.runs {
            let name = run_file_name(info.number);
            if !there.iter().any(|(at, _)| *at == name) {
                files.push(None);
                continue;
            }
            let open = Op::Open {
                name,
                create: false,
            };
            let opened = run(&mut self.submitter.io, open);
            opened.result?;
            files.push(opened.file);
        }
        let pieces: Vec<_> = files
            .iter()
            .flatten()
            .map(|file| (*file, 0, self.unit))
            .collect();
        let mut heads = read_pieces(&mut self.submitter.io, &pieces)?.into_iter();
        for (info, file) in manifest.runs.iter().zip(files) {
            let head = file.and_then(|_| heads.next());
            self.adopt_run(*info, file, head.as_deref());
        }
        for row in &manifest.dropped {
            self.runs.dropped.insert(row.partition, row.counted);
            self.runs.moved.insert(row.partition);
        }
        let moved = manifest
            .partitions
            .iter()
            .filter(|row| row.counted < row.start);
        self.runs.moved.extend(moved.map(|row| row.partition));
        let numbers = manifest.runs.iter().map(|info| info.number);
        self.runs_are_named(checkpoint, numbers.collect());
        Ok(())
    }

    fn adopt_run(&mut self, info: RunInfo, file: Option<FileId>, head: Option<&[u8]>) {
        let header = head.map(RunHeader::decode);
        let own = header.as_ref().and_then(|header| {
            let header = header.as_ref().ok()?;
            (header.log == self.id && header.number == info.number).then_some(header)
        });
        let key = own.map_or_else(|| Key::derive(0), RunHeader::key);
        let adopted = Run {
            info,
            name: run_file_name(info.number),
            file,
            key,
            root: None,
            broken: false,
            reads: 0,
        };
        let is_whole = own.is_some();
        self.runs.live.insert(info.number, adopted);
        if !is_whole {
            self.break_run(info.number, 0, &format!("its header is {header:?}"));
        }
    }

    /// Remembers files that no checkpoint names, to be removed, and which numbers are taken.
    ///
    /// # Errors
    /// The directory's own.
    pub(in crate::log) fn note_stray_runs(&mut self) -> std::io::Result<()> {
        for (name, _) in self.submitter.io.list()? {
            let Some(number) = run_number_of(&name) else {
                continue;
            };
            self.runs.next_number = self.runs.next_number.max(number + 1);
            if !self.runs.live.contains_key(&number) {
                self.runs.strays.push(name);
            }
        }
        Ok(())
    }

    /// Segments that are not there, and whose rows a run has: counts what the replay has shown to be
    /// dead. One of which rows are left is lost, and they are named.
    ///
    /// # Errors
    /// The runs cannot be read.
    pub(in crate::log) fn lay_ghosts(
        &mut self,
        machine: &mut dyn Machine,
        report: &mut RecoveryReport,
    ) -> Result<(), String> {
        self.runs
            .ghosts
            .retain(|_, ghost| ghost.covered.live.rows > 0);
        let mut turns = GHOST_TURNS;
        while !self.runs.ghosts.is_empty() && !self.runs.moved.is_empty() {
            self.turn(machine, &mut turns)?;
        }
        for (segment, ghost) in self.runs.ghosts.clone() {
            let mut offsets: Vec<(PartitionId, u64, u64)> = Vec::new();
            for row in self.rows_of(segment, machine)? {
                let Some(state) = self.partitions.get_mut(&row.partition) else {
                    continue;
                };
                let first = row.block.first.max(state.start);
                if row.block.end <= state.counted {
                    continue;
                }
                let bytes = u64::from(row.block.payload_bytes);
                state.covered.rows = state.covered.rows.saturating_sub(1);
                state.covered.bytes = state.covered.bytes.saturating_sub(bytes);
                if first < row.block.end {
                    state.add_damage(first, row.block.end);
                    self.stats.damaged_ranges += 1;
                    let end = row.block.end.0;
                    match offsets.last_mut() {
                        Some(last) if (last.0, last.2) == (row.partition, first.0) => last.2 = end,
                        _ => offsets.push((row.partition, first.0, end)),
                    }
                }
            }
            if offsets.is_empty() {
                continue; // Its run is damaged as well: readers find out.
            }
            let damage = Damage {
                segment,
                position: 0,
                first: ghost.blocks.0,
                end: ghost.blocks.1,
                offsets,
            };
            tracing::error!(log = %self.id, ?damage, "a segment that is needed is not there");
            report.damage.push(damage);
        }
        self.runs.ghosts.clear();
        Ok(())
    }

    fn turn(&mut self, machine: &mut dyn Machine, turns: &mut usize) -> Result<(), String> {
        *turns -= 1;
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if *turns == 0 {
            return Err("the index of segments that are not there cannot be read".to_owned());
        }
        if self.submitter.io.in_flight() == 0 {
            // Nothing would be waited for: what failed a moment ago is tried again at once, and
            // the turns bound how often.
            let now = self.submitter.io.monotonic();
            (self.runs.account_after, self.runs.retry_at) = (now, now);
        }
        self.submit();
        self.submitter.io.wait(Duration::from_millis(1));
        self.poll(machine);
        Ok(())
    }

    /// All rows of a segment in its run, but those in pages that are damaged. Blocks: for a start
    /// that finds a segment missing.
    fn rows_of(&mut self, segment: u64, machine: &mut dyn Machine) -> Result<Vec<RunRow>, String> {
        let mut rows = Vec::new();
        let mut turns = GHOST_TURNS;
        let mut at = 1;
        loop {
            // A merge may take its rows elsewhere meanwhile.
            let run = self
                .run_of(segment)
                .and_then(|run| self.runs.live.get(&run));
            let Some((number, pages)) = run
                .filter(|run| !run.broken)
                .map(|run| (run.info.number, run.info.pages))
            else {
                return Ok(Vec::new());
            };
            if at >= pages {
                return Ok(rows);
            }
            let Some(page) = self.page_in_memory(number, at) else {
                for next in at..pages.min(at + SCAN_PAGES) {
                    if self.page_in_memory(number, next).is_none() {
                        self.read_page(number, next);
                    }
                }
                self.turn(machine, &mut turns)?;
                continue;
            };
            let own = (0..page.count()).filter_map(|at| page.row(at));
            rows.extend(own.filter(|row| row.segment == segment && self.counts_in(number, row)));
            (at, turns) = (at + 1, GHOST_TURNS);
        }
    }
}
