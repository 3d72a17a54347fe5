//! `ringlog topic list, create, describe, alter, delete`.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::api::{Api, escaped};
use super::arguments::{
    api, json, of_node, print, print_json, subject, switch, text, texts, value,
};
use super::delete::delete_each;
use super::failure::Failure;
use super::table::table;

/// The subcommand.
pub(super) fn command() -> Command {
    let partitions = || {
        value("partitions", "N", "How many partitions")
            .value_parser(clap::value_parser!(i32).range(1..))
    };
    let config = || {
        value(
            "config",
            "NAME=VALUE",
            "A configuration entry; may be given more than once",
        )
        .action(ArgAction::Append)
    };
    let names = Arg::new("topic")
        .value_name("TOPIC")
        .required(true)
        .num_args(1..)
        .help("Names of topics");
    Command::new("topic")
        .about("List, make, describe, change and delete topics of a running node")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            of_node(Command::new("list").about("List topics"))
                .arg(json("Print JSON: a list of topics")),
        )
        .subcommand(
            of_node(Command::new("create").about("Make a topic"))
                .arg(subject("topic", "Its name"))
                .arg(partitions().help("How many partitions [default: the node's num_partitions]"))
                .arg(config())
                .arg(switch(
                    "if-not-exists",
                    "A topic of this name is no failure",
                ))
                .arg(json("Print what was made as JSON")),
        )
        .subcommand(
            of_node(Command::new("describe").about("Show a topic's partitions and configuration"))
                .arg(subject("topic", "Its name"))
                .arg(switch(
                    "all-configs",
                    "Also show configuration that nobody has set",
                ))
                .arg(json("Print JSON")),
        )
        .subcommand(
            of_node(
                Command::new("alter").about("Give a topic more partitions, or other configuration"),
            )
            .arg(subject("topic", "Its name"))
            .arg(partitions().help("How many partitions in all: more than it has"))
            .arg(config())
            .arg(
                value(
                    "delete-config",
                    "NAME",
                    "Bring an entry back to its default",
                )
                .action(ArgAction::Append),
            )
            .arg(json("Print the topic as it is then, as JSON")),
        )
        .subcommand(
            of_node(Command::new("delete").about("Delete topics with all their records, for good"))
                .arg(names)
                .arg(switch(
                    "if-exists",
                    "A topic that is not there is no failure",
                ))
                .arg(json("Print the names of those that were deleted, as JSON")),
        )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    match flags.subcommand() {
        Some(("list", flags)) => list(flags),
        Some(("create", flags)) => create(flags),
        Some(("describe", flags)) => {
            let topic = text(flags, "topic").unwrap_or_default();
            describe(flags, topic, flags.get_flag("all-configs"))
        }
        Some(("alter", flags)) => alter(flags),
        Some(("delete", flags)) => delete(flags),
        _ => unreachable!("clap asks for a subcommand"),
    }
}

/// Everything in a list that the node gives in pages.
pub(super) fn pages(api: &Api, path: &str, list: &str) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let mut page: Value = api.get(&format!("{path}{after}"))?;
        if let Some(Value::Array(part)) = page.get_mut(list).map(Value::take) {
            all.extend(part);
        }
        match page["next"].as_str() {
            Some(next) => {
                let mark = if path.contains('?') { '&' } else { '?' };
                after = format!("{mark}after={}", escaped(next));
            }
            None => return Ok(all),
        }
    }
}

fn list(flags: &ArgMatches) -> Result<(), Failure> {
    let topics = pages(&api(flags)?, "/topics", "topics")?;
    if flags.get_flag("json") {
        return print_json(&Value::Array(topics));
    }
    let rows = topics
        .iter()
        .map(|topic| columns(topic, &["name", "partitions", "id"]));
    print(&table(
        &["NAME", "PARTITIONS", "ID"],
        &rows.collect::<Vec<_>>(),
    ))
}

/// Fields of an object, as cells.
pub(super) fn columns(object: &Value, fields: &[&str]) -> Vec<String> {
    let cell = |field: &&str| match &object[*field] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    fields.iter().map(cell).collect()
}

/// `--config` and `--delete-config`.
fn configs(flags: &ArgMatches) -> Result<Map<String, Value>, Failure> {
    let mut configs = Map::new();
    for entry in texts(flags, "config") {
        let (name, value) = entry.split_once('=').ok_or_else(|| {
            Failure::WrongUse(format!("--config is {entry:?}; NAME=VALUE is expected"))
        })?;
        configs.insert(name.to_owned(), Value::from(value));
    }
    Ok(configs)
}

fn create(flags: &ArgMatches) -> Result<(), Failure> {
    let topic = text(flags, "topic").unwrap_or_default();
    let mut wanted = json!({"name": topic, "configs": configs(flags)?});
    if let Some(partitions) = flags.get_one::<i32>("partitions") {
        wanted["partitions"] = Value::from(*partitions);
    }
    let api = api(flags)?;
    let made = match api.send(Method::POST, "/topics", &wanted) {
        Ok(made) => made,
        Err(failure) if failure.is_conflict() && flags.get_flag("if-not-exists") => {
            return match flags.get_flag("json") {
                true => describe(flags, topic, false),
                false => print(&format!("topic {topic} is there already\n")),
            };
        }
        Err(failure) => return Err(failure),
    };
    let made: Value = api.parse(&made)?;
    if flags.get_flag("json") {
        return print_json(&made);
    }
    print(&format!(
        "made topic {topic} with {} partitions\n",
        made["partitions"]
    ))
}

fn describe(flags: &ArgMatches, topic: &str, all_configs: bool) -> Result<(), Failure> {
    let api = api(flags)?;
    let path = format!("/topics/{}", escaped(topic));
    let mut found: Value = api.get(&path)?;
    if all_configs {
        let configs: Value = api.get(&format!("{path}/configs"))?;
        let entries = configs["configs"].as_array().into_iter().flatten();
        let entries = entries
            .filter_map(|entry| Some((entry["name"].as_str()?.to_owned(), entry["value"].clone())));
        found["configs"] = Value::Object(entries.collect());
    }
    if flags.get_flag("json") {
        return print_json(&found);
    }
    let partitions: Vec<&Value> = found["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let id = found["id"].as_str().unwrap_or_default();
    let mut said = format!("topic {topic}, {} partitions, id {id}\n", partitions.len());
    for (name, value) in found["configs"].as_object().into_iter().flatten() {
        said.push_str(&format!(
            "  {name} = {}\n",
            value.as_str().unwrap_or_default()
        ));
    }
    let heads = ["PARTITION", "CORE", "EPOCH", "START", "END"];
    let fields = [
        "partition",
        "core",
        "leader_epoch",
        "start_offset",
        "end_offset",
    ];
    let rows: Vec<_> = partitions
        .into_iter()
        .map(|one| columns(one, &fields))
        .collect();
    said.push_str(&table(&heads, &rows));
    print(&said)
}

fn alter(flags: &ArgMatches) -> Result<(), Failure> {
    let topic = text(flags, "topic").unwrap_or_default();
    let mut configs = configs(flags)?;
    for name in texts(flags, "delete-config") {
        configs.insert(name.to_owned(), Value::Null);
    }
    let partitions = flags.get_one::<i32>("partitions");
    if configs.is_empty() && partitions.is_none() {
        let what = "--partitions, --config or --delete-config says what to change; none was given";
        return Err(Failure::WrongUse(what.to_owned()));
    }
    let api = api(flags)?;
    let path = format!("/topics/{}", escaped(topic));
    // Both are checked before one is done: neither stands in the other's way then.
    for only_checked in [true, false] {
        if let Some(partitions) = partitions {
            let wanted = json!({"partitions": partitions, "validate_only": only_checked});
            api.send(Method::PATCH, &path, &wanted)?;
        }
        if !configs.is_empty() {
            let place = format!("{path}/configs?validate_only={only_checked}");
            api.send(Method::PATCH, &place, &Value::Object(configs.clone()))?;
        }
    }
    describe(flags, topic, false)
}

fn delete(flags: &ArgMatches) -> Result<(), Failure> {
    delete_each(
        flags,
        "topic",
        |topic| format!("/topics/{}", escaped(topic)),
        |topic| format!("deleted topic {topic}\n"),
    )
}
