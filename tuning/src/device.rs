//! The device alone: durable writes of one size at one depth to a pre-written file, through the
//! same seam as the log and with nothing else around. The physical limit that other figures
//! stand beside.
//!
//! Invariant: a write counts when it is durable, and its latency ends there.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use ringlog_storage::buffer::Buf;
use ringlog_storage::io::random::Random;
use ringlog_storage::io::uring::{UringIo, UringOptions, UringReport};
use ringlog_storage::io::{Completion, FileId, Io, Op, Token};
use ringlog_storage::log::FlushMethod;

/// Largest block that is measured.
const MAX_BLOCK_BYTES: usize = 1 << 20;

const MAX_DEPTH: usize = 8;

/// Writes in flight while the file is filled.
const FILL_DEPTH: usize = 4;

const FILE_PREFIX: &str = "device-probe-";

/// Longest that one operation may take before the device counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the device is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of each write.
    pub block_bytes: usize,
    /// Writes under way and not yet durable.
    pub depth: usize,
    /// What makes them durable.
    pub flush: FlushMethod,
}

/// The fixed grid of the physical limit: 64 KiB to 1 MiB, depth 1 to 8, a DSYNC with each write.
#[must_use]
pub fn grid() -> Vec<Shape> {
    let flush = FlushMethod::DsyncEachWrite;
    let depths = [1, 2, 4, 8];
    [64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20]
        .into_iter()
        .flat_map(|block_bytes| {
            depths.map(|depth| Shape {
                block_bytes,
                depth,
                flush,
            })
        })
        .collect()
}

/// What one run brought.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Bytes made durable.
    pub bytes: u64,
    /// Writes made durable.
    pub operations: u64,
    /// From the first submission to the last completion.
    pub elapsed: Duration,
    /// Of each write, from its submission until it is durable.
    pub latencies_ns: Vec<u64>,
}

impl Sample {
    /// Durable bytes per second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        if self.elapsed.is_zero() {
            0.0
        } else {
            self.bytes as f64 / self.elapsed.as_secs_f64()
        }
    }
}

/// A pre-written file on the device. Removed on drop.
#[derive(Debug)]
pub struct Device {
    io: UringIo,
    file: FileId,
    name: String,
    file_bytes: u64,
    next_offset: u64,
    payload: Buf,
    completions: Vec<Completion>,
}

impl Device {
    /// Makes a file of `file_bytes` in `dir` and writes all of it, so that later writes change
    /// no metadata.
    ///
    /// # Errors
    /// When the directory cannot be used, or writing fails.
    pub fn open(dir: &Path, file_bytes: u64, allow_buffered: bool) -> anyhow::Result<Device> {
        let options = UringOptions {
            entries: 64,
            arena_bytes: 2 * MAX_BLOCK_BYTES,
            memory_limit_bytes: 8 * MAX_BLOCK_BYTES,
            allow_buffered,
            register: true,
        };
        let mut io = UringIo::open(dir, &options)?;
        remove_leftovers(&mut io).with_context(|| format!("tidying up {}", dir.display()))?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{FILE_PREFIX}{}-{number}", std::process::id());
        let opened = run(
            &mut io,
            Op::Open {
                name: name.clone(),
                create: true,
            },
        )
        .with_context(|| format!("creating {name} in {}", dir.display()))?;
        let file = opened.file.context("an opened file has a number")?;
        let mut payload = io
            .pool()
            .alloc(MAX_BLOCK_BYTES)
            .context("memory for one block")?;
        // Not compressible, so that a device that compresses gains nothing.
        let mut random = Random::new(number);
        for word in payload.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next_u64().to_le_bytes());
        }
        let payload = payload.freeze();
        let file_bytes = file_bytes
            .max(MAX_BLOCK_BYTES as u64)
            .next_multiple_of(MAX_BLOCK_BYTES as u64);
        // From here on dropping removes the file.
        let mut device = Device {
            io,
            file,
            name,
            file_bytes,
            next_offset: 0,
            payload,
            completions: Vec::new(),
        };
        device
            .fill()
            .with_context(|| format!("pre-writing {file_bytes} bytes in {}", dir.display()))?;
        Ok(device)
    }

    /// What the ring found about the machine.
    #[must_use]
    pub fn report(&self) -> &UringReport {
        self.io.report()
    }

    /// Writes for about `duration`; every started write is finished and counted.
    ///
    /// # Errors
    /// When an operation fails, is short, or does not end.
    pub fn run(&mut self, shape: Shape, duration: Duration) -> anyhow::Result<Sample> {
        let end = self.io.monotonic() + duration;
        // At least one, however short the slice.
        self.measure(shape, |started, now| started == 0 || now < end)
    }

    /// Writes this many times.
    ///
    /// # Errors
    /// As [`Device::run`].
    pub fn run_operations(&mut self, shape: Shape, operations: usize) -> anyhow::Result<Sample> {
        self.measure(shape, |started, _| started < operations)
    }

    fn measure(
        &mut self,
        shape: Shape,
        goes_on: impl Fn(usize, Duration) -> bool,
    ) -> anyhow::Result<Sample> {
        let block_bytes = self.io.geometry().block_bytes;
        if shape.block_bytes == 0
            || shape.block_bytes > MAX_BLOCK_BYTES
            || !shape.block_bytes.is_multiple_of(block_bytes)
            || !(1..=MAX_DEPTH).contains(&shape.depth)
        {
            bail!(
                "{shape:?} cannot be measured: blocks are multiples of {block_bytes} up to \
                 {MAX_BLOCK_BYTES} bytes, depths 1 to {MAX_DEPTH}"
            );
        }
        let mut run = Run::new(shape.flush);
        let start = self.io.monotonic();
        let mut now = start;
        loop {
            while run.pending() < shape.depth && goes_on(run.started, now) {
                self.write(shape, run.start_write(now));
            }
            if run.wants_flush() {
                run.start_flush();
                self.io.submit(Op::Flush { file: self.file }, FLUSH);
            }
            if run.pending() == 0 {
                break;
            }
            now = self.complete_some(&mut run, shape.block_bytes)?;
        }
        Ok(Sample {
            bytes: run.latencies_ns.len() as u64 * shape.block_bytes as u64,
            operations: run.latencies_ns.len() as u64,
            elapsed: now - start,
            latencies_ns: run.latencies_ns,
        })
    }

    fn write(&mut self, shape: Shape, token: Token) {
        let bytes = shape.block_bytes as u64;
        if self.next_offset + bytes > self.file_bytes {
            self.next_offset = 0;
        }
        let bufs = vec![self.payload.slice(0..shape.block_bytes)];
        let durable = shape.flush == FlushMethod::DsyncEachWrite;
        let op = Op::Write {
            file: self.file,
            offset: self.next_offset,
            bufs,
            durable,
        };
        self.io.submit(op, token);
        self.next_offset += bytes;
    }

    fn complete_some(&mut self, run: &mut Run, block_bytes: usize) -> anyhow::Result<Duration> {
        self.io.wait(PATIENCE);
        self.io.completions(&mut self.completions);
        if self.completions.is_empty() {
            bail!("the device did not complete an operation within {PATIENCE:?}");
        }
        let now = self.io.monotonic();
        for completion in self.completions.drain(..) {
            let moved = completion.result.context("writing to the device")?;
            if completion.token == FLUSH {
                run.flushed(now);
            } else if moved == block_bytes {
                run.written(completion.token, now);
            } else {
                bail!("a write of {block_bytes} bytes stopped after {moved}; is the disk full?");
            }
        }
        Ok(now)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let (file, bytes) = (self.file, self.file_bytes);
        run(&mut self.io, Op::Allocate { file, bytes })?;
        let mut offset = 0;
        loop {
            while self.io.in_flight() < FILL_DEPTH && offset < bytes {
                let bufs = vec![self.payload.clone()];
                self.io.submit(
                    Op::Write {
                        file,
                        offset,
                        bufs,
                        durable: false,
                    },
                    Token(offset),
                );
                offset += MAX_BLOCK_BYTES as u64;
            }
            if self.io.in_flight() == 0 {
                break;
            }
            self.io.wait(PATIENCE);
            self.io.completions(&mut self.completions);
            for completion in self.completions.drain(..) {
                let moved = completion.result?;
                if moved != MAX_BLOCK_BYTES {
                    bail!("a write of {MAX_BLOCK_BYTES} bytes stopped after {moved}");
                }
            }
        }
        run(&mut self.io, Op::Flush { file })?;
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        while self.io.in_flight() > 0 {
            self.io.wait(PATIENCE);
            self.io.completions(&mut self.completions);
            if self.completions.is_empty() {
                return;
            }
            self.completions.clear();
        }
        // Nobody is left to hear of a failure; the next probe removes what stays.
        let _ = run(&mut self.io, Op::Close { file: self.file });
        let _ = run(
            &mut self.io,
            Op::Remove {
                name: self.name.clone(),
            },
        );
    }
}

/// The token of a flush; writes have their number.
const FLUSH: Token = Token(u64::MAX);

/// Bookkeeping of one run: which writes are written, which durable.
struct Run {
    method: FlushMethod,
    started: usize,
    /// Submitted and not completed, with the time of submission.
    writing: VecDeque<(Token, Duration)>,
    /// Times of submission of writes that wait for a flush to be submitted.
    written: Vec<Duration>,
    /// Times of submission of writes that the flush under way covers.
    flushing: Vec<Duration>,
    latencies_ns: Vec<u64>,
}

impl Run {
    fn new(method: FlushMethod) -> Run {
        Run {
            method,
            started: 0,
            writing: VecDeque::new(),
            written: Vec::new(),
            flushing: Vec::new(),
            latencies_ns: Vec::new(),
        }
    }

    fn pending(&self) -> usize {
        self.writing.len() + self.written.len() + self.flushing.len()
    }

    fn start_write(&mut self, now: Duration) -> Token {
        let token = Token(self.started as u64);
        self.started += 1;
        self.writing.push_back((token, now));
        token
    }

    fn written(&mut self, token: Token, now: Duration) {
        let Some(position) = self
            .writing
            .iter()
            .position(|(writing, _)| *writing == token)
        else {
            return;
        };
        if let Some((_, submitted)) = self.writing.remove(position) {
            match self.method {
                FlushMethod::DsyncEachWrite => self.latencies_ns.push(nanoseconds(now - submitted)),
                FlushMethod::FlushAfterWrites => self.written.push(submitted),
            }
        }
    }

    fn wants_flush(&self) -> bool {
        self.flushing.is_empty() && !self.written.is_empty()
    }

    fn start_flush(&mut self) {
        self.flushing = std::mem::take(&mut self.written);
    }

    fn flushed(&mut self, now: Duration) {
        let durable = self.flushing.drain(..);
        self.latencies_ns
            .extend(durable.map(|submitted| nanoseconds(now - submitted)));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn run(io: &mut UringIo, op: Op) -> anyhow::Result<Completion> {
    io.submit(op, Token(0));
    let mut completions = Vec::new();
    while completions.is_empty() {
        io.wait(PATIENCE);
        io.completions(&mut completions);
        if completions.is_empty() && io.in_flight() > 0 {
            bail!("the device did not complete an operation within {PATIENCE:?}");
        }
    }
    let mut completion = completions.remove(0);
    let moved = std::mem::replace(&mut completion.result, Ok(0))?;
    completion.result = Ok(moved);
    Ok(completion)
}

/// Files of processes that ended without removing them.
fn remove_leftovers(io: &mut UringIo) -> anyhow::Result<()> {
    for (name, _) in io.list()? {
        let owner = name
            .strip_prefix(FILE_PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            run(io, Op::Remove { name })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_device::BlockDevice;

    const MIB: u64 = 1 << 20;

    fn device(dir: &Path) -> Device {
        Device::open(dir, 4 * MIB, true).expect("the temporary directory can be written")
    }

    #[test]
    fn the_grid_is_the_fixed_one() {
        let grid = grid();
        assert_eq!(grid.len(), 20);
        assert!(
            grid.iter()
                .all(|shape| shape.flush == FlushMethod::DsyncEachWrite)
        );
        assert_eq!(
            grid.iter().map(|shape| shape.block_bytes).min(),
            Some(64 << 10)
        );
        assert_eq!(
            grid.iter().map(|shape| shape.block_bytes).max(),
            Some(1 << 20)
        );
    }

    #[test]
    fn as_many_operations_run_as_asked_with_both_methods_and_wrap_around_the_file() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut device = device(root.path());
        for flush in [FlushMethod::DsyncEachWrite, FlushMethod::FlushAfterWrites] {
            for depth in [1, 4, 8] {
                let shape = Shape {
                    block_bytes: 256 << 10,
                    depth,
                    flush,
                };
                let sample = device.run_operations(shape, 33).expect("measured");
                assert_eq!(sample.operations, 33);
                assert_eq!(sample.bytes, 33 * (256 << 10));
                assert_eq!(sample.latencies_ns.len(), 33);
                assert!(sample.latencies_ns.iter().all(|latency| *latency > 0));
                let longest = sample.latencies_ns.iter().max().copied().unwrap_or(0);
                assert!(sample.elapsed >= Duration::from_nanos(longest));
                assert!(sample.bytes_per_second() > 0.0);
            }
        }
    }

    #[test]
    fn a_run_ends_about_when_it_should_and_never_empty() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut device = device(root.path());
        let shape = Shape {
            block_bytes: 4096,
            depth: 2,
            flush: FlushMethod::DsyncEachWrite,
        };
        let sample = device
            .run(shape, Duration::from_millis(50))
            .expect("measured");
        assert!(sample.elapsed >= Duration::from_millis(50));
        assert!(sample.elapsed < Duration::from_secs(20));
        let sample = device.run(shape, Duration::ZERO).expect("measured");
        assert_eq!(sample.operations, 1);
    }

    #[test]
    fn each_durable_write_alone_is_a_flush_of_the_device() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut device = device(root.path());
        let block_device = match BlockDevice::of(root.path()) {
            Ok(found)
                if found.has_volatile_cache() == Some(true)
                    && found.writes_past_cache() == Some(false) =>
            {
                found
            }
            other => {
                println!("skipped: durable writes need no flush here ({other:?})");
                return;
            }
        };
        for flush in [FlushMethod::DsyncEachWrite, FlushMethod::FlushAfterWrites] {
            let before = block_device.flushes().expect("counted");
            let shape = Shape {
                block_bytes: 4096,
                depth: 1,
                flush,
            };
            device.run_operations(shape, 50).expect("measured");
            let flushes = block_device.flushes().expect("counted") - before;
            assert!(
                flushes >= 50,
                "{flush:?}: {flushes} flushes for 50 durable writes"
            );
        }
    }

    #[test]
    fn the_file_is_written_whole_before_and_removed_after() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let device = device(root.path());
        let names: Vec<_> = std::fs::read_dir(root.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(names.len(), 1);
        let content = std::fs::read(&names[0]).expect("readable");
        assert_eq!(content.len() as u64, 4 * MIB);
        assert!(
            content
                .chunks(512)
                .all(|sector| sector.iter().any(|byte| *byte != 0))
        );
        drop(device);
        assert_eq!(std::fs::read_dir(root.path()).expect("listed").count(), 0);
    }

    #[test]
    fn leftovers_of_dead_processes_are_removed_and_other_files_stay() {
        let root = tempfile::tempdir().expect("a temporary directory");
        // No process has this number: the kernel's limit is 2^22.
        let leftover = root.path().join(format!("{FILE_PREFIX}4999999-0"));
        let other = root.path().join("segment-1");
        std::fs::write(&leftover, "x").expect("written");
        std::fs::write(&other, "x").expect("written");
        drop(device(root.path()));
        assert!(!leftover.exists() && other.exists());
    }

    #[test]
    fn shapes_that_cannot_be_measured_are_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut device = device(root.path());
        let flush = FlushMethod::DsyncEachWrite;
        for (block_bytes, depth) in [(0, 1), (1000, 1), (2 << 20, 1), (4096, 0), (4096, 9)] {
            device
                .run_operations(
                    Shape {
                        block_bytes,
                        depth,
                        flush,
                    },
                    1,
                )
                .expect_err("cannot be measured");
        }
    }
}
