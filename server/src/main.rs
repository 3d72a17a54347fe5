//! The `ringlog` command.

use std::process::ExitCode;

/// Per-thread heaps fit one thread per core; the system's allocator costs a lock where a buffer
/// is freed on another path than it was made.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringlog_server::cli::run(std::env::args_os().skip(1))
}
