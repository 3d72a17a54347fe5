//! `ringlog group list, describe, delete, reset-offsets`.

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::api::escaped;
use super::arguments::{api, json, of_node, print, print_json, subject, text, texts, value};
use super::failure::Failure;
use super::reset;
use super::table::table;
use super::topic::{columns, pages};

/// The subcommand.
pub(super) fn command() -> Command {
    let states = [
        "Empty",
        "PreparingRebalance",
        "CompletingRebalance",
        "Stable",
    ];
    let names = Arg::new("group")
        .value_name("GROUP")
        .required(true)
        .num_args(1..)
        .help("Ids of groups");
    Command::new("group")
        .about(
            "List, describe and delete consumer groups of a running node, and reset their offsets",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            of_node(Command::new("list").about("List consumer groups"))
                .arg(value("state", "STATE", "Only those in this state").value_parser(states))
                .arg(json("Print JSON: a list of groups")),
        )
        .subcommand(
            of_node(Command::new("describe").about("Show a group's members, offsets and lag"))
                .arg(subject("group", "Its id"))
                .arg(json("Print JSON")),
        )
        .subcommand(
            of_node(
                Command::new("delete").about("Delete groups without members, with their offsets"),
            )
            .arg(names)
            .arg(json("Print the ids of those that were deleted, as JSON")),
        )
        .subcommand(reset::command())
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    match flags.subcommand() {
        Some(("list", flags)) => list(flags),
        Some(("describe", flags)) => describe(flags),
        Some(("delete", flags)) => delete(flags),
        Some(("reset-offsets", flags)) => reset::run(flags),
        _ => unreachable!("clap asks for a subcommand"),
    }
}

fn list(flags: &ArgMatches) -> Result<(), Failure> {
    let path = match text(flags, "state") {
        Some(state) => format!("/groups?state={}", escaped(state)),
        None => "/groups".to_owned(),
    };
    let groups = pages(&api(flags)?, &path, "groups")?;
    if flags.get_flag("json") {
        return print_json(&Value::Array(groups));
    }
    let rows = groups
        .iter()
        .map(|group| columns(group, &["group", "state", "protocol_type"]));
    print(&table(
        &["GROUP", "STATE", "TYPE"],
        &rows.collect::<Vec<_>>(),
    ))
}

fn describe(flags: &ArgMatches) -> Result<(), Failure> {
    let group = text(flags, "group").unwrap_or_default();
    let found: Value = api(flags)?.get(&format!("/groups/{}", escaped(group)))?;
    if flags.get_flag("json") {
        return print_json(&found);
    }
    let list = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    let (members, partitions) = (list("members"), list("partitions"));
    let state = found["state"].as_str().unwrap_or_default();
    let mut said = format!(
        "group {group}, {state}, {} members, lag {}, coordinated by core {}\n",
        members.len(),
        found["lag"],
        found["coordinator"]
    );
    if !members.is_empty() {
        let fields = ["member_id", "instance_id", "client_id", "client_host"];
        let rows: Vec<_> = members
            .iter()
            .map(|member| columns(member, &fields))
            .collect();
        said.push_str(&table(&["MEMBER", "INSTANCE", "CLIENT", "HOST"], &rows));
    }
    let heads = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
    let fields = [
        "topic",
        "partition",
        "committed_offset",
        "end_offset",
        "lag",
        "member_id",
    ];
    let rows: Vec<_> = partitions.iter().map(|one| columns(one, &fields)).collect();
    said.push_str(&table(&heads, &rows));
    print(&said)
}

fn delete(flags: &ArgMatches) -> Result<(), Failure> {
    let api = api(flags)?;
    let groups = texts(flags, "group");
    for group in &groups {
        api.delete(&format!("/groups/{}", escaped(group)))?;
    }
    if flags.get_flag("json") {
        return print_json(&json!(groups));
    }
    let said: Vec<String> = groups
        .iter()
        .map(|group| format!("deleted group {group}\n"))
        .collect();
    print(&said.concat())
}
