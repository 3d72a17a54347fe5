//! The `loadgen` command.

use std::process::ExitCode;

/// The node that `loadgen demo` starts is this same program, so it gets the allocator the
/// `ringlog` binary has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringlog_loadgen::cli::commands::run(std::env::args_os())
}
