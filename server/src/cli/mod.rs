//! The `ringlog` command. `run` is all of it, so that another program can be the same node.

mod client;
mod fsck;
mod serve;
mod tune;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, Command};

use crate::config::options::add_flags;

/// Runs the command line `args` (without the program's name): what `ringlog` does.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let all = std::iter::once(OsString::from("ringlog")).chain(args);
    let matches = match command().try_get_matches_from(all) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match matches.subcommand() {
        Some(("serve", flags)) => serve::run(flags),
        Some(("fsck", flags)) => fsck::run(flags),
        Some(("tune", tune)) => match tune.subcommand() {
            Some(("probe", flags)) => tune::run_probe(flags),
            Some(("check", flags)) => tune::run_check(flags),
            _ => unreachable!("clap asks for a subcommand"),
        },
        Some((name, flags)) => client::run(name, flags)
            .unwrap_or_else(|| unreachable!("every subcommand is named here or there")),
        None => unreachable!("clap asks for a subcommand"),
    }
}

fn command() -> Command {
    let serve = Command::new("serve")
        .about("Run a node: Kafka clients connect to --kafka-addr, metrics are on --http-addr")
        .after_help(
            "Every setting can also be given as an environment variable, or as a key in a TOML \
             file (the flag's name with underscores). A flag goes before the environment, the \
             environment before the file, the file before the default.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("RINGLOG_CONFIG")
                .help("Configuration file [default: ringlog.toml in the working directory, if it is there]"),
        )
        .arg(
            Arg::new("print_config")
                .long("print-config")
                .action(clap::ArgAction::SetTrue)
                .help("Print every setting with where it comes from, as a configuration file, and end"),
        );
    let probe = Command::new("probe")
        .about("Measure the device under a directory and write a profile that `ringlog serve` picks up")
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .help("Data directory (made if it is not there); the profile is written into it"),
        )
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("N")
                .default_value("20")
                .value_parser(clap::value_parser!(u64).range(1..=600))
                .help("Time to measure for"),
        );
    let check = Command::new("check")
        .about("Look at the host's settings that cost throughput, latency or durability, and say what to change")
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .default_value(".")
                .help("Data directory, or any directory on its disk"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(clap::ArgAction::SetTrue)
                .help("Print the findings as JSON"),
        );
    Command::new("ringlog")
        .about("Ringlog: an event log whose acknowledged events are on disk")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(add_flags(serve))
        .subcommands(client::commands())
        .subcommand(fsck::command())
        .subcommand(
            Command::new("tune")
                .about("Fit a node to its machine")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(check)
                .subcommand(probe),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(args: &[&str]) -> String {
        format!("{:?}", run(args.iter().map(OsString::from)))
    }

    #[test]
    fn the_command_is_sound_and_wrong_use_is_told_apart_from_help() {
        command().debug_assert();
        assert_eq!(exit(&["--help"]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(
            exit(&["serve", "--no-such-flag"]),
            format!("{:?}", ExitCode::from(2))
        );
        assert_eq!(
            exit(&["serve", "--print-config"]),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            exit(&["tune", "check", "/no/such/directory"]),
            format!("{:?}", ExitCode::FAILURE)
        );
        assert_eq!(
            exit(&["tune", "check", "--json"]),
            format!("{:?}", ExitCode::SUCCESS)
        );
        let beyond = ["serve", "--print-config", "--http-addr", "0.0.0.0:80"];
        assert_eq!(exit(&beyond), format!("{:?}", ExitCode::from(2)));
    }
}
