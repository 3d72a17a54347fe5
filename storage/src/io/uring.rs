//! The seam on a real disk: an io_uring of its own with O_DIRECT, per-write `RWF_DSYNC`, and
//! files and buffers registered where the machine allows it.
//!
//! ```text
//!   submit ──► accepted (queue) ──kick──► ring ──► completions
//!                 └────────── flight: buffers, names, iovecs ──────┘
//! ```
//! Invariants: what the kernel may touch is owned by a flight until its completion, also when
//! this is dropped; never more operations are in the ring than its completion queue holds; every
//! completion passes the completion queue, so that the ring's descriptor is readable whenever
//! [`Io::completions`] would return something. Called by the log only.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use io_uring::{EnterFlags, squeue, types};

use super::{Completion, FileId, Geometry, Io, Op, Token};
use crate::buffer::Pool;
use directory::Directory;
pub use error::UringError;
use files::{Files, Target};
use flight::{Flight, RingTraits, Work};
pub use report::{Registration, UringReport};
use ring::Ring;
use slab::Slab;
use written::Written;

mod directory;
mod error;
mod files;
mod flight;
mod report;
mod ring;
mod slab;
mod written;

/// How long dropping waits for operations in the ring before it gives up their memory.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How to set a ring up.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// Submission entries. More operations than that wait in memory.
    pub entries: u32,
    /// Length of the pool's arena, which is registered with the ring and then stays resident.
    pub arena_bytes: usize,
    /// Most memory the pool hands out.
    pub memory_limit_bytes: usize,
    /// Work through the page cache where the filesystem has no O_DIRECT, instead of refusing.
    pub allow_buffered: bool,
    /// Register files and the arena, where the machine allows it.
    pub register: bool,
}

impl Default for UringOptions {
    fn default() -> UringOptions {
        UringOptions {
            entries: 256,
            arena_bytes: 48 << 20,
            memory_limit_bytes: 256 << 20,
            allow_buffered: false,
            register: true,
        }
    }
}

/// Whether a ring can be made here at all.
///
/// # Errors
/// Exactly what forbids it and how to allow it.
pub fn preflight() -> Result<(), UringError> {
    ring::make(4).map(drop)
}

/// Disk, clock and entropy of one log, for real.
pub struct UringIo {
    ring: io_uring::IoUring,
    wait_with_timeout: bool,
    traits: RingTraits,
    directory: Directory,
    files: Files,
    pool: Pool,
    arena_registered: bool,
    flights: Slab,
    /// Accepted and not yet in the ring, by number.
    queue: VecDeque<usize>,
    /// In the ring and not yet taken from it.
    in_ring: usize,
    /// Reused between calls.
    taken: Vec<(usize, i32)>,
    report: UringReport,
}

impl UringIo {
    /// Opens `dir` (made when missing) and a ring for it. The ring belongs to the calling thread.
    ///
    /// # Errors
    /// No ring, no directory, or no O_DIRECT there: each says what to do.
    pub fn open(dir: &Path, options: &UringOptions) -> Result<UringIo, UringError> {
        let directory = Directory::open(dir, options.allow_buffered)?;
        let Ring {
            ring,
            features,
            missing,
            writev_fixed,
            ftruncate,
            wait_with_timeout,
        } = ring::make(options.entries)?;
        let geometry = directory.geometry;
        let pool = Pool::new(
            geometry.block_bytes,
            options.arena_bytes,
            options.memory_limit_bytes,
        );
        let (files, files_registration) = Files::new(&ring, options.register);
        let buffers = if options.register {
            register_arena(&ring, &pool)
        } else {
            Registration::NotAsked
        };
        let report = UringReport {
            filesystem: directory.filesystem.clone(),
            kernel: ring::kernel_release(),
            geometry,
            device_offset_align: directory.told.map(|(offset, _)| offset),
            device_memory_align: directory.told.map(|(_, memory)| memory),
            features,
            missing,
            files: files_registration,
            buffers,
            arena_bytes: pool.arena_bytes(),
        };
        Ok(UringIo {
            ring,
            wait_with_timeout,
            traits: RingTraits {
                directory: directory.fd.as_raw_fd(),
                direct: geometry.direct,
                writev_fixed,
                ftruncate,
            },
            directory,
            files,
            arena_registered: report.buffers == Registration::Registered,
            pool,
            flights: Slab::default(),
            queue: VecDeque::new(),
            in_ring: 0,
            taken: Vec::new(),
            report,
        })
    }

    /// What was found when this was opened.
    #[must_use]
    pub fn report(&self) -> &UringReport {
        &self.report
    }

    /// The log's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Moves accepted operations into the submission queue, in order, as far as there is room.
    fn fill_ring(&mut self) {
        while let Some(&number) = self.queue.front() {
            if self.in_ring >= self.ring.params().cq_entries() as usize
                || (self.ring.submission().is_full() && !self.enter())
            {
                return;
            }
            let flight = self
                .flights
                .get(number)
                .expect("a queued number stands for a flight");
            let target = match (&flight.work, flight.file()) {
                (Work::Close { .. }, Some(file)) => {
                    if !self.files.may_close(file) {
                        return; // The next completion goes on here.
                    }
                    // Entries before this one may name the file by the slot that is about to be
                    // emptied; the kernel looks slots up when it takes the entry.
                    if self.files.is_registered(file) {
                        let unsent = !self.ring.submission().is_empty();
                        if unsent && !self.enter() {
                            return;
                        }
                    }
                    let fd = self.files.start_close(&self.ring, file);
                    fd.map(|number| Target {
                        number,
                        registered: false,
                    })
                }
                (_, Some(file)) => self.files.target(file),
                (_, None) => Some(Target {
                    number: -1,
                    registered: false,
                }),
            };
            let flight = self
                .flights
                .get(number)
                .expect("a queued number stands for a flight");
            let target = target.unwrap_or_else(|| {
                flight.refuse(io::Error::from_raw_os_error(libc::EBADF));
                Target {
                    number: -1,
                    registered: false,
                }
            });
            let mut entry = flight.entry(target, &self.traits).user_data(number as u64);
            if matches!(flight.work, Work::Close { .. }) {
                // Who lets go of a removed file last gives its space back, and sleeps for it: where the
                // filesystem discards at once (ext4, XFS with `discard`), 5 to 15 ms for an index file.
                entry = entry.flags(squeue::Flags::ASYNC);
            }
            if let Some((file, offset, bytes)) = flight.writes()
                && let Some(written) = self.files.written(file)
                && written.is_extended_by(offset, bytes)
            {
                entry = entry.flags(squeue::Flags::ASYNC);
                flight.by_worker = true;
                self.files.handed_over(file);
            }
            // SAFETY: everything the entry points to is owned by its flight, at a stable address;
            // the flight stays in the slab until its completion was taken, and drop drains the
            // ring or leaks the slab.
            unsafe { self.ring.submission().push(&entry) }
                .expect("there is room: looked at above, and only this function pushes");
            self.queue.pop_front();
            self.in_ring += 1;
        }
    }

    /// Submits what is in the submission queue. Returns whether the kernel took something.
    fn enter(&mut self) -> bool {
        loop {
            match self.ring.submit() {
                Ok(taken) => return taken > 0,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Out of memory for requests, or completions wait to be taken: the entries
                    // stay where they are until the next attempt.
                    Some(libc::EAGAIN | libc::EBUSY) => return false,
                    _ => panic!("io_uring_enter refused well-formed entries: {error}"),
                },
            }
        }
    }

    /// Lets the kernel post completions that wait for its attention (cooperative task work, or
    /// an overflowed completion queue).
    fn flush_completions(&mut self) {
        let submission = self.ring.submission();
        if !submission.taskrun() && !submission.cq_overflow() {
            return;
        }
        drop(submission);
        // SAFETY: no argument is passed; GETEVENTS with nothing to wait for only posts
        // completions.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(0, 0, EnterFlags::GETEVENTS.bits(), None)
        };
        // Interrupted or busy: what was not posted is posted by the next call.
        debug_assert!(
            entered.as_ref().map_or_else(
                |error| matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ),
                |_| true
            ),
            "entering the ring failed: {entered:?}"
        );
    }

    /// Takes one completion: what it means, or nothing when the operation goes on.
    fn finish(&mut self, number: usize, result: i32) -> Option<Completion> {
        let flight = self
            .flights
            .get(number)
            .expect("a completion belongs to a flight");
        if std::mem::take(&mut flight.by_worker)
            && let Some(file) = flight.file()
        {
            self.files.came_back(file);
        }
        if matches!(-result, libc::EAGAIN | libc::EINTR) && flight.repeats() {
            self.queue.push_front(number);
            return None;
        }
        if flight.reads_on(result, self.directory.geometry.block_bytes) {
            self.queue.push_front(number);
            return None;
        }
        let Flight { token, work, .. } = self
            .flights
            .remove(number)
            .expect("a completion belongs to a flight");
        let mut completion = Completion {
            token,
            result: moved(result),
            buf: None,
            file: None,
        };
        match work {
            Work::Open { create, .. } => {
                let written = if create {
                    Written::NOTHING
                } else {
                    Written::ALL
                };
                if let Ok(fd) = completion.result {
                    completion.result = Ok(0);
                    // SAFETY: the kernel just opened this descriptor for us; nobody else has it.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
                    match self.files.insert(&self.ring, fd, written) {
                        Ok(file) => completion.file = Some(file),
                        Err(error) => completion.result = Err(error),
                    }
                }
            }
            Work::Close { file } => self.files.finish_close(file),
            Work::Allocate { file, bytes } => {
                completion.result = self.set_length(file, bytes, completion.result);
            }
            Work::Truncate { file, bytes } => {
                if let Some(written) = self.files.written(file) {
                    written.cut(bytes);
                }
                if !self.traits.ftruncate && completion.result.is_ok() {
                    completion.result = self.set_length(file, bytes, Ok(0));
                }
            }
            Work::Read { buf, filled, .. } => {
                completion.result = completion.result.map(|_| filled);
                completion.buf = Some(buf);
            }
            Work::Refused { error, buf } => {
                completion.result = error.map_or(Ok(0), Err);
                completion.buf = buf;
            }
            Work::Write { .. } | Work::Flush { .. } | Work::SyncDir | Work::Remove { .. } => {}
        }
        Some(completion)
    }

    /// After `fallocate`: filesystems without it get a length and no reservation, and a file
    /// that was longer is cut.
    fn set_length(&self, file: FileId, bytes: u64, result: io::Result<usize>) -> io::Result<usize> {
        let supported = match result {
            Ok(_) => true,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => false,
            Err(error) => return Err(error),
        };
        let fd = self
            .files
            .fd(file)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        if !supported || u64::try_from(rustix::fs::fstat(fd)?.st_size) != Ok(bytes) {
            rustix::fs::ftruncate(fd, bytes)?;
        }
        Ok(0)
    }
}

impl Io for UringIo {
    fn geometry(&self) -> Geometry {
        self.directory.geometry
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.directory.list()
    }

    fn submit(&mut self, op: Op, token: Token) {
        let flight = Flight::new(op, token, self.arena_registered.then_some(&self.pool));
        let number = self.flights.insert(flight);
        self.queue.push_back(number);
    }

    fn kick(&mut self) {
        loop {
            self.fill_ring();
            if self.ring.submission().is_empty() || !self.enter() {
                return;
            }
        }
    }

    fn completions(&mut self, out: &mut Vec<Completion>) {
        self.flush_completions();
        let mut taken = std::mem::take(&mut self.taken);
        taken.extend(
            self.ring
                .completion()
                // The number came from a usize.
                .map(|entry| (entry.user_data() as usize, entry.result())),
        );
        for (number, result) in taken.drain(..) {
            self.in_ring -= 1;
            out.extend(self.finish(number, result));
        }
        self.taken = taken;
        if !self.queue.is_empty() || !self.ring.submission().is_empty() {
            self.kick();
        }
    }

    fn wait(&mut self, timeout: Duration) {
        // Waiting submits what is in the submission queue: one call into the kernel, not two.
        self.fill_ring();
        let deadline = Instant::now() + timeout;
        while self.in_ring > 0 && self.ring.completion().is_empty() {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.wait_in_kernel(rest) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // The time is over, or completions must be taken first.
                Err(_) => return,
            }
            if rest.is_zero() {
                return;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.flights.count()
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        match since {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // The kernel's monotonic clock starts at 0 and its nanoseconds stay below one second.
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    fn entropy(&mut self) -> u128 {
        let mut bytes = [0_u8; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            // SAFETY: the pointer and length name the rest of a live array.
            let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            match usize::try_from(got) {
                Ok(got) => filled += got,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    // Without flags the call only fails when interrupted; kernels before 3.17
                    // do not have it, nor io_uring.
                    assert!(
                        error.raw_os_error() == Some(libc::EINTR),
                        "the kernel gives no random bytes: {error}"
                    );
                }
            }
        }
        u128::from_le_bytes(bytes)
    }
}

impl UringIo {
    fn wait_in_kernel(&mut self, timeout: Duration) -> io::Result<()> {
        if self.wait_with_timeout {
            let timespec = types::Timespec::from(timeout);
            let arguments = types::SubmitArgs::new().timespec(&timespec);
            self.ring
                .submitter()
                .submit_with_args(1, &arguments)
                .map(drop)
        } else {
            self.enter();
            use rustix::event::{PollFd, PollFlags, poll};
            use std::os::fd::BorrowedFd;
            let timespec =
                rustix::event::Timespec::try_from(timeout).unwrap_or(rustix::event::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                });
            // SAFETY: the ring keeps its descriptor open for longer than this call.
            let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
            let mut fds = [PollFd::new(&ring, PollFlags::IN)];
            poll(&mut fds, Some(&timespec))?;
            Ok(())
        }
    }
}

impl fmt::Debug for UringIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringIo")
            .field("directory", &self.directory.path)
            .field("accepted", &self.flights.count())
            .field("in_ring", &self.in_ring)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl AsRawFd for UringIo {
    /// The ring's descriptor: readable for poll and epoll when completions wait.
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl Drop for UringIo {
    /// Waits for what the kernel still works on; what never entered the ring is given up.
    fn drop(&mut self) {
        self.queue.clear();
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.in_ring > 0 && Instant::now() < deadline {
            if !self.ring.submission().is_empty() {
                self.enter();
            }
            if self.ring.completion().is_empty() {
                // Whatever it returns: the loop looks at the queue and at the clock.
                let _ = self.wait_in_kernel(Duration::from_millis(100));
            }
            self.flush_completions();
            while let Some(entry) = self.ring.completion().next() {
                self.in_ring -= 1;
                // Dropping the flight releases its memory. A file that was just opened is closed.
                let flight = self.flights.remove(entry.user_data() as usize);
                if let (
                    Some(Flight {
                        work: Work::Open { .. },
                        ..
                    }),
                    fd @ 0..,
                ) = (flight, entry.result())
                {
                    // SAFETY: the kernel just opened this descriptor for us.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        if self.in_ring > 0 {
            tracing::error!(
                operations = self.in_ring,
                "disk operations did not end within {DRAIN_LIMIT:?}; their memory is not released"
            );
            std::mem::forget(std::mem::take(&mut self.flights));
            std::mem::forget(self.pool.clone());
        }
    }
}

fn moved(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

fn register_arena(ring: &io_uring::IoUring, pool: &Pool) -> Registration {
    let Some((start, bytes)) = pool.arena() else {
        return Registration::NotAsked;
    };
    let arena = libc::iovec {
        iov_base: start.as_ptr().cast(),
        iov_len: bytes,
    };
    // SAFETY: the arena is one live mapping; the pool is kept by the same struct as the ring, and
    // the kernel holds the pages of a registered buffer itself.
    match unsafe { ring.submitter().register_buffers(&[arena]) } {
        Ok(()) => Registration::Registered,
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Registration::Refused(format!(
            "{bytes} bytes do not fit the limit of locked memory, {}; raise it with `ulimit -l` \
             or LimitMEMLOCK=",
            ring::memlock_limit()
        )),
        Err(error) => Registration::Refused(format!("registering {bytes} bytes: {error}")),
    }
}

#[cfg(test)]
mod tests;
