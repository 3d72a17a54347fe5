//! Checks what clients wrote down (`tests/src/history`): every `*.jsonl` file of a directory.
//! Ends with 1 when something is wrong, with 2 when the files cannot be read.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringlog_tests::history::{Follower, check};

/// Checks the histories that clients wrote.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory with the files.
    directory: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut follower = Follower::new(&arguments.directory);
    match follower.look(|_| {}) {
        Ok(()) => {
            let report = check(&follower.history());
            println!("{report}");
            ExitCode::from(u8::from(!report.faults.is_empty()))
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}
