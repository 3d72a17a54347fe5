//! Flags that the commands share.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::api::Api;
use super::failure::{EXIT_STATUSES, Failure};
use super::tls::Trust;

/// A command that talks to a node: `--url`, `--ca-cert` and the exit statuses.
pub(super) fn of_node(command: Command) -> Command {
    command
        .after_help(EXIT_STATUSES)
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .env("RINGLOG_URL")
                .default_value("http://127.0.0.1:9080")
                .hide_env_values(true)
                .help(
                    "Where the node answers HTTP, or HTTPS; name and password may stand before \
                     the host",
                ),
        )
        .arg(
            Arg::new("ca-cert")
                .long("ca-cert")
                .value_name("FILE")
                .env("RINGLOG_CA_CERT")
                .value_parser(value_parser!(PathBuf))
                .help(
                    "The authorities that may have signed the node's certificate, as PEM \
                     [default: those that the system trusts]",
                ),
        )
}

/// `--json`.
pub(super) fn json(help: &'static str) -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help(help)
}

/// A switch.
pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// A value.
pub(super) fn value(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// The topic, group or user that the command is about.
pub(super) fn subject(name: &'static str, help: &'static str) -> Arg {
    let shown = match name {
        "topic" => "TOPIC",
        "user" => "USER",
        _ => "GROUP",
    };
    Arg::new(name).value_name(shown).required(true).help(help)
}

/// The node that is meant.
pub(super) fn api(flags: &ArgMatches) -> Result<Api, Failure> {
    let file = flags.get_one::<PathBuf>("ca-cert").cloned();
    let trust = file.map_or(Trust::System, Trust::File);
    Api::new(text(flags, "url").unwrap_or_default(), trust)
}

/// A value, if it was given.
pub(super) fn text<'a>(flags: &'a ArgMatches, name: &str) -> Option<&'a str> {
    flags.get_one::<String>(name).map(String::as_str)
}

/// Every value that was given.
pub(super) fn texts<'a>(flags: &'a ArgMatches, name: &str) -> Vec<&'a str> {
    let given = flags.get_many::<String>(name);
    given.map_or(Vec::new(), |given| given.map(String::as_str).collect())
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Io {
        what: "writing to standard output",
        error,
    })
}

/// Writes JSON to standard output.
pub(super) fn print_json(json: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{json:#}\n"))
}
