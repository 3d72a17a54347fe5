//! `ringlog consume TOPIC`: records to standard output, from where it is told on.
//!
//! With `--group` it begins where the group's offsets stand and commits behind what it printed. It
//! reads by itself, without joining the group: members would share the partitions with it.

use std::collections::HashMap;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgAction, ArgMatches, Command};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::{Api, escaped};
use super::arguments::{api, json, of_node, subject, switch, text, value};
use super::failure::Failure;
use super::readers::{self, Begin, Chunk};
use super::time::milliseconds;

/// The subcommand.
pub(super) fn command() -> Command {
    of_node(
        Command::new("consume")
            .about("Read a topic's records, and go on reading as they come"),
    )
    .arg(subject("topic", "The topic"))
    .arg(
        value("partition", "N", "A partition; may be given more than once [default: all]")
            .value_parser(clap::value_parser!(u64))
            .action(ArgAction::Append),
    )
    .arg(value(
        "from",
        "WHERE",
        "earliest, latest or an offset [default: earliest, or with --group its offsets where it has \
         some]",
    ))
    .arg(
        value(
            "from-time",
            "TIME",
            "The first record at or after a time: milliseconds since 1970, or RFC 3339 (UTC)",
        )
        .conflicts_with("from"),
    )
    .arg(value(
        "group",
        "GROUP",
        "Begin at this group's offsets, and commit what was printed. The command does not join the \
         group: one that has members is refused",
    ))
    .arg(
        value("count", "N", "End after so many records")
            .value_parser(clap::value_parser!(u64).range(1..)),
    )
    .arg(switch("exit", "End when all that is there has been read"))
    .arg(value(
        "key-separator",
        "TEXT",
        "Print each record's key, and this, before its value",
    ))
    .arg(
        json("Print each record with all it has, a JSON object a line")
            .conflicts_with("key-separator"),
    )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let topic = text(flags, "topic").unwrap_or_default();
    let api = api(flags)?;
    let begins = begins(&api, topic, flags)?;
    let chunks = readers::start(&api, topic, begins, flags.get_flag("exit"));
    let printer = Printer {
        as_json: flags.get_flag("json"),
        separator: text(flags, "key-separator"),
    };
    let mut left = flags.get_one::<u64>("count").copied();
    for chunk in chunks {
        let chunk = chunk?;
        let printed = printer.print(&chunk, left)?;
        if let Some(group) = text(flags, "group")
            && let Some(next_offset) = printed.next_offset
        {
            let offset =
                json!({"topic": topic, "partition": chunk.partition, "offset": next_offset});
            let path = format!("/groups/{}/offsets", escaped(group));
            api.send(Method::POST, &path, &json!({"offsets": [offset]}))?;
        }
        if let Some(left) = &mut left {
            *left -= printed.records;
            if *left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Where to begin in each partition.
fn begins(api: &Api, topic: &str, flags: &ArgMatches) -> Result<Vec<Begin>, Failure> {
    let general = match (text(flags, "from"), text(flags, "from-time")) {
        (Some(place @ ("earliest" | "latest")), _) => Some(format!("offset={place}")),
        (Some(offset), _) => match offset.parse::<u64>() {
            Ok(offset) => Some(format!("offset={offset}")),
            Err(_) => {
                let what = "earliest, latest or an offset is expected";
                return Err(Failure::WrongUse(format!("--from is {offset:?}; {what}")));
            }
        },
        (None, Some(time)) => {
            let ms = milliseconds("--from-time", time)?;
            Some(format!("timestamp={ms}"))
        }
        (None, None) => None,
    };
    let partitions = match flags.get_many::<u64>("partition") {
        Some(partitions) => partitions.copied().collect(),
        None => readers::partitions(api, topic)?,
    };
    let committed = match (&general, text(flags, "group")) {
        (None, Some(group)) => committed(api, group, topic)?,
        _ => HashMap::new(),
    };
    let begins = partitions.into_iter().map(|partition| {
        let query = match (&general, committed.get(&partition)) {
            (Some(query), _) => query.clone(),
            (None, Some(offset)) => format!("offset={offset}"),
            (None, None) => "offset=earliest".to_owned(),
        };
        Begin { partition, query }
    });
    Ok(begins.collect())
}

/// The group's offsets of a topic, by partition.
fn committed(api: &Api, group: &str, topic: &str) -> Result<HashMap<u64, i64>, Failure> {
    let found: Value = match api.get(&format!("/groups/{}", escaped(group))) {
        Ok(found) => found,
        // It is made by its first offset.
        Err(failure) if failure.is_not_found() => return Ok(HashMap::new()),
        Err(failure) => return Err(failure),
    };
    let places = found["partitions"].as_array().into_iter().flatten();
    let places = places.filter(|place| place["topic"] == topic);
    let places = places.filter_map(|place| {
        Some((
            place["partition"].as_u64()?,
            place["committed_offset"].as_i64()?,
        ))
    });
    Ok(places.collect())
}

/// A record, as the node gives it.
#[derive(Debug, Deserialize)]
struct Record {
    offset: i64,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

struct Printer<'a> {
    as_json: bool,
    separator: Option<&'a str>,
}

struct Printed {
    records: u64,
    /// Behind the last record that was printed.
    next_offset: Option<i64>,
}

impl Printer<'_> {
    /// Prints records, so many at most.
    fn print(&self, chunk: &Chunk, most: Option<u64>) -> Result<Printed, Failure> {
        let mut out = Vec::new();
        let mut printed = Printed {
            records: 0,
            next_offset: None,
        };
        let lines = chunk.lines.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            if most == Some(printed.records) {
                break;
            }
            let record: Record =
                serde_json::from_slice(line).map_err(|error| Failure::Strange {
                    url: "the node".to_owned(),
                    cause: error.to_string(),
                })?;
            if self.as_json {
                out.extend_from_slice(line);
            } else {
                if let Some(separator) = self.separator {
                    out.extend(bytes(record.key, record.key_base64));
                    out.extend_from_slice(separator.as_bytes());
                }
                out.extend(bytes(record.value, record.value_base64));
            }
            out.push(b'\n');
            printed.records += 1;
            printed.next_offset = Some(record.offset + 1);
        }
        let is_whole = most.is_none_or(|most| printed.records < most);
        if is_whole && printed.records > 0 {
            printed.next_offset = Some(chunk.next_offset);
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&out).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::Io {
            what: "writing to standard output",
            error,
        })?;
        Ok(printed)
    }
}

fn bytes(text: Option<String>, base64: Option<String>) -> Vec<u8> {
    match (text, base64) {
        (Some(text), _) => text.into_bytes(),
        // What the node wrote.
        (None, Some(base64)) => STANDARD.decode(base64).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}
