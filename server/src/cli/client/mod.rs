//! The commands that talk to a running node, over its HTTP API: what they can do, `curl` can do.
//!
//! | file | what |
//! |---|---|
//! | `api`, `tls` | requests to the node; whom TLS trusts |
//! | `failure` | what goes wrong, and the exit status for it |
//! | `arguments`, `time`, `table` | what the commands share: flags, times, columns |
//! | `topic`, `group`, `reset` | `ringlog topic …`, `ringlog group …` |
//! | `delete` | what deleting topics and users has in common |
//! | `user`, `password` | `ringlog user …`; where a password comes from |
//! | `produce`, `consume`, `readers` | `ringlog produce`, `ringlog consume` |

mod api;
mod arguments;
mod consume;
mod delete;
mod failure;
mod group;
mod password;
mod produce;
mod readers;
mod reset;
mod table;
mod time;
mod tls;
mod topic;
mod user;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

/// The subcommands.
pub(super) fn commands() -> [Command; 5] {
    [
        topic::command(),
        group::command(),
        user::command(),
        produce::command(),
        consume::command(),
    ]
}

/// Runs one of them; `None`: it is none of these.
pub(super) fn run(name: &str, flags: &ArgMatches) -> Option<ExitCode> {
    let outcome = match name {
        "topic" => topic::run(flags),
        "group" => group::run(flags),
        "user" => user::run(flags),
        "produce" => produce::run(flags),
        "consume" => consume::run(flags),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    })
}
