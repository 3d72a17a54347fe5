//! The asynchronous runtime of a core, behind one door: a current-thread tokio runtime with
//! local tasks, driven by `tokio-uring`; and what a core asks of the operating system beside
//! it: listening sockets, waiting for a file descriptor, a CPU of its own.
//!
//! Sockets are readiness-driven tokio sockets: an io_uring accept keeps its listening socket
//! alive for a moment after the process has ended, and the next process finds the port taken.
//! The log owns a ring of its own; this runtime waits for that ring's file descriptor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Entries of the runtime's own ring. Sockets are driven by readiness, so it stays empty.
const RUNTIME_RING_ENTRIES: u32 = 8;

/// Why a core's runtime cannot start.
#[derive(Debug, thiserror::Error)]
#[error(
    "making the runtime of a core failed: {0}; it needs io_uring, epoll and a few file descriptors (ulimit -n)"
)]
pub struct RuntimeError(#[source] io::Error);

/// Runs a future, and the local tasks it spawns, on a runtime of the calling thread. Tasks that
/// are left when it ends are dropped.
///
/// # Errors
/// When the runtime cannot be made. Ask `ringlog_storage::io::uring::preflight` first: it says
/// what forbids io_uring and how to allow it.
pub fn run_core<F: Future>(future: F) -> Result<F::Output, RuntimeError> {
    let mut builder = tokio_uring::builder();
    builder.entries(RUNTIME_RING_ENTRIES);
    let runtime = tokio_uring::Runtime::new(&builder).map_err(RuntimeError)?;
    Ok(runtime.block_on(future))
}

/// Starts a task on this core.
///
/// # Panics
/// When the calling thread runs no core.
pub fn spawn_local<F: Future + 'static>(task: F) -> JoinHandle<F::Output> {
    tokio::task::spawn_local(task)
}

/// A socket that has its address and does not listen yet. May be handed to another thread.
#[derive(Debug)]
pub struct BoundSocket {
    socket: Socket,
    address: SocketAddr,
}

/// Why an address could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address} failed: {error}; {advice}")]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
    advice: &'static str,
}

impl BindError {
    fn new(address: SocketAddr, error: io::Error) -> BindError {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop the program that has it, or choose another port",
            io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
            io::ErrorKind::PermissionDenied => "choose a port above 1023, or allow this one",
            _ => "choose another address",
        };
        BindError {
            address,
            error,
            advice,
        }
    }
}

impl BoundSocket {
    /// Takes an address (port 0: any free port). Connections left over from an earlier process
    /// do not stand in the way; another listener does.
    ///
    /// # Errors
    /// When the address cannot be taken.
    pub fn bind(address: SocketAddr) -> Result<BoundSocket, BindError> {
        let bind = || {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            let actual = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok(BoundSocket {
                socket,
                address: actual,
            })
        };
        bind().map_err(|error| BindError::new(address, error))
    }

    /// The same socket once more: of several listeners on it each connection goes to one.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn share(&self) -> Result<BoundSocket, BindError> {
        let socket = self.socket.try_clone();
        Ok(BoundSocket {
            socket: socket.map_err(|error| BindError::new(self.address, error))?,
            address: self.address,
        })
    }

    /// The address, with the port it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, on the runtime of the calling thread.
    ///
    /// # Errors
    /// When another socket listens there.
    pub fn listen(self, backlog: i32) -> Result<TcpListener, BindError> {
        let address = self.address;
        let listen = || {
            self.socket.listen(backlog)?;
            TcpListener::from_std(self.socket.into())
        };
        listen().map_err(|error| BindError::new(address, error))
    }
}

/// A file descriptor of which this core wants to know when it can be read.
#[derive(Debug)]
pub struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Watches a duplicate of the source's descriptor: what is behind it stays open until both
    /// are dropped.
    ///
    /// # Errors
    /// When the process has no descriptor left, or the runtime cannot watch it.
    pub fn watch(source: &impl AsRawFd) -> io::Result<Readable> {
        // SAFETY: `source` owns an open descriptor and is borrowed until the end of this call,
        // so the descriptor stays open while it is duplicated.
        let borrowed = unsafe { BorrowedFd::borrow_raw(source.as_raw_fd()) };
        let owned = borrowed.try_clone_to_owned()?;
        // SAFETY: the `AsyncFd` owns the `OwnedFd`, whose descriptor never changes and stays
        // open until the registration is gone with it.
        let watched = unsafe { AsyncFd::register(owned) }.map_err(io::Error::from)?;
        Ok(Readable(watched))
    }

    /// Ready when it became readable since the last time this was ready. The caller takes what
    /// is there after each time.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0
            .poll_read_ready(cx)
            .map_ok(|mut guard| guard.clear_ready())
    }

    /// Waits until it becomes readable.
    ///
    /// Cancellation: nothing is lost.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// CPUs this process may run on.
///
/// # Errors
/// When the kernel does not say.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// What a core asks the scheduler for: to run soon rather than long. A thread that wakes with a
/// shorter slice than the running one's takes the CPU at once (EEVDF), where it else waits for
/// that one's slice or the next tick: up to 4 ms for each acknowledgement behind it. 100 µs is the
/// least the kernel grants. See `sched(7)`, Linux 6.12.
const SLICE_NS: u64 = 100_000;

/// Asks for short slices for the calling thread; needs no privilege. Older kernels accept it and
/// do nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn prefer_short_slices() -> io::Result<()> {
    // Lossless: the size of a small struct.
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    let mut attributes = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: the pointer names room for a struct of the length that is passed; 0 is this thread.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), SIZE, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a struct of numbers, zeroed and then filled by the kernel.
    let mut attributes = unsafe { attributes.assume_init() };
    attributes.size = SIZE;
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: the pointer names a live struct whose length it states itself; 0 is this thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the calling thread run only where no other wants the CPU: whoever wakes takes it at once. At
/// niceness 19 it would keep it for a slice.
///
/// # Errors
/// When the kernel refuses.
pub fn run_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer names a live struct; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the calling thread run wherever the process's first thread may, which no core pins.
///
/// # Errors
/// When the kernel refuses.
pub fn unpin_thread() -> io::Result<()> {
    let first = rustix::process::getpid();
    Ok(sched_setaffinity(None, &sched_getaffinity(Some(first))?)?)
}

/// `mi_option_purge_delay` of mimalloc 2 and 3; the binding names only some options.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Never.
const NO_PURGE: libc::c_long = -1;

/// Keeps memory that was freed, for what is allocated next: the process is as large as it was at
/// its largest, which its limits bound. Given back, memory has to be had again page by page on a
/// core's thread, while clients wait. `MIMALLOC_PURGE_DELAY` in the environment has precedence.
/// To be called before threads are made.
pub fn keep_freed_memory() {
    // SAFETY: sets a number in a table of the allocator, which checks the index; no other thread
    // reads the table yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, NO_PURGE) }
}

/// From now on memory comes in small pages, as it is touched. A huge page is cleared whole by whoever
/// touches it first, with the host's memory behind it in a virtual machine: 5 ms of a core's thread
/// were seen. To be called when the arenas of buffers are there: they keep their huge pages, which
/// spare the disk's requests segments. Whoever runs without is only less even, so a refusal is none.
pub fn take_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay allowed for the heap");
    }
}

/// How often the kernel took the CPU from the calling thread to give it to another.
#[must_use]
pub fn preemptions() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer names room for the struct, which the call fills.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    if result != 0 {
        return 0;
    }
    // SAFETY: the call succeeded, so it filled the struct.
    let usage = unsafe { usage.assume_init() };
    usage.ru_nivcsw.cast_unsigned()
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// When the kernel refuses.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_port_can_be_taken_again_at_once_and_a_second_listener_is_refused_with_advice() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = run_core(async move {
            let bound = BoundSocket::bind(any).unwrap();
            let address = bound.address();
            let listener = bound.listen(8).unwrap();
            let client = std::thread::spawn(move || TcpStream::connect(address).unwrap());
            let (stream, _) = listener.accept().await.unwrap();
            let second = BoundSocket::bind(address).and_then(|bound| bound.listen(8));
            assert!(
                second
                    .unwrap_err()
                    .to_string()
                    .contains("choose another port")
            );
            drop(stream);
            drop(client.join().unwrap());
            address
        })
        .unwrap();
        run_core(async move {
            BoundSocket::bind(address).unwrap().listen(8).unwrap();
        })
        .unwrap();
    }

    #[test]
    fn a_thread_keeps_its_niceness_when_it_asks_for_short_slices() {
        std::thread::spawn(|| {
            use rustix::process::{getpriority_process, setpriority_process};
            // Niceness belongs to a thread; giving up more of it needs no privilege.
            setpriority_process(None, 19).unwrap();
            prefer_short_slices().unwrap();
            assert_eq!(getpriority_process(None).unwrap(), 19);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_made_by_a_pinned_one_is_let_go_again_and_runs_when_the_cpu_is_idle() {
        let cpus = allowed_cpus().unwrap();
        std::thread::spawn(move || {
            pin_thread(cpus[0]).unwrap();
            unpin_thread().unwrap();
            assert_eq!(allowed_cpus().unwrap(), cpus);
            run_when_idle().unwrap();
            // SAFETY: 0 is the calling thread.
            assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_IDLE);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_is_pinned_to_the_cpu_it_asked_for() {
        let cpus = allowed_cpus().unwrap();
        let last = *cpus.last().unwrap();
        std::thread::spawn(move || {
            pin_thread(last).unwrap();
            assert_eq!(allowed_cpus().unwrap(), vec![last]);
        })
        .join()
        .unwrap();
        assert_eq!(allowed_cpus().unwrap(), cpus);
    }
}
