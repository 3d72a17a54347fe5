//! `ringlog group reset-offsets`: where a group without members goes on. Like Kafka's
//! `kafka-consumer-groups --reset-offsets`, it shows what it would do, and does it with `--execute`.

use clap::{ArgAction, ArgGroup, ArgMatches, Command};
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::{Api, escaped};
use super::arguments::{
    api, json, of_node, print, print_json, subject, switch, text, texts, value,
};
use super::failure::Failure;
use super::table::table;
use super::time::milliseconds;

/// Offsets in one request.
const PART: usize = 5_000;

/// The subcommand.
pub(super) fn command() -> Command {
    let number = |name, value_name, help| {
        value(name, value_name, help)
            .value_parser(clap::value_parser!(i64))
            .allow_negative_numbers(true)
    };
    of_node(
        Command::new("reset-offsets")
            .about("Set where a group without members goes on; shows it only, without --execute"),
    )
    .arg(subject("group", "The group's id"))
    .arg(
        value(
            "topic",
            "TOPIC[:P,P…]",
            "A topic, or some of its partitions; may be given more than once",
        )
        .action(ArgAction::Append),
    )
    .arg(switch(
        "all-topics",
        "Every partition that the group has an offset of",
    ))
    .group(
        ArgGroup::new("which")
            .args(["topic", "all-topics"])
            .required(true)
            .multiple(true),
    )
    .arg(switch("to-earliest", "To the first record"))
    .arg(switch("to-latest", "Behind the last record"))
    .arg(number(
        "to-offset",
        "OFFSET",
        "To this offset, within the partition's bounds",
    ))
    .arg(number(
        "shift-by",
        "N",
        "So many records on from the committed offset, or back",
    ))
    .arg(value(
        "to-time",
        "TIME",
        "To the first record at or after a time: milliseconds since 1970, or RFC 3339 (UTC)",
    ))
    .group(
        ArgGroup::new("to")
            .args([
                "to-earliest",
                "to-latest",
                "to-offset",
                "shift-by",
                "to-time",
            ])
            .required(true),
    )
    .arg(switch("execute", "Do it"))
    .arg(json("Print the offsets as JSON"))
}

/// Where to.
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    ShiftBy(i64),
    Time(i64),
}

struct Change {
    topic: String,
    partition: u64,
    from: Option<i64>,
    to: i64,
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let group = text(flags, "group").unwrap_or_default();
    let target = target(flags)?;
    let api = api(flags)?;
    let path = format!("/groups/{}", escaped(group));
    let known = match api.get::<Value>(&path) {
        Ok(found) => found,
        // A group is made by its first offset.
        Err(failure) if failure.is_not_found() && !flags.get_flag("all-topics") => json!({}),
        Err(failure) => return Err(failure),
    };
    let mut changes = Vec::new();
    for (topic, partition) in places(&api, flags, &known)? {
        let from = committed(&known, &topic, partition);
        let to = offset(&api, &topic, partition, from, &target)?;
        changes.push(Change {
            topic,
            partition,
            from,
            to,
        });
    }
    let is_done = flags.get_flag("execute");
    if is_done {
        for part in changes.chunks(PART) {
            let offsets = part.iter().map(|change| {
                json!({"topic": change.topic, "partition": change.partition, "offset": change.to})
            });
            let body = json!({"offsets": offsets.collect::<Vec<_>>()});
            api.send(Method::POST, &format!("{path}/offsets"), &body)?;
        }
    }
    if flags.get_flag("json") {
        let offsets = changes.iter().map(|change| {
            json!({"topic": change.topic, "partition": change.partition,
                "committed_offset": change.from, "new_offset": change.to})
        });
        let offsets: Vec<Value> = offsets.collect();
        return print_json(&json!({"group": group, "executed": is_done, "offsets": offsets}));
    }
    let number = |offset: Option<i64>| offset.map_or("-".to_owned(), |offset| offset.to_string());
    let rows = changes.iter().map(|change| {
        let partition = change.partition.to_string();
        vec![
            change.topic.clone(),
            partition,
            number(change.from),
            number(Some(change.to)),
        ]
    });
    print(&table(
        &["TOPIC", "PARTITION", "COMMITTED", "NEW"],
        &rows.collect::<Vec<_>>(),
    ))?;
    if !is_done {
        eprintln!("nothing was changed; say --execute to set these offsets");
    }
    Ok(())
}

fn target(flags: &ArgMatches) -> Result<Target, Failure> {
    let number = |name: &str| flags.get_one::<i64>(name).copied();
    if flags.get_flag("to-earliest") {
        return Ok(Target::Earliest);
    }
    if flags.get_flag("to-latest") {
        return Ok(Target::Latest);
    }
    if let Some(offset) = number("to-offset") {
        return Ok(Target::Offset(offset));
    }
    if let Some(by) = number("shift-by") {
        return Ok(Target::ShiftBy(by));
    }
    let time = text(flags, "to-time").unwrap_or_default();
    milliseconds("--to-time", time).map(Target::Time)
}

/// The partitions that are meant.
fn places(api: &Api, flags: &ArgMatches, known: &Value) -> Result<Vec<(String, u64)>, Failure> {
    let mut places = Vec::new();
    if flags.get_flag("all-topics") {
        let known = known["partitions"].as_array().into_iter().flatten();
        let known = known.filter(|place| place["committed_offset"].is_i64());
        let known = known.filter_map(|place| {
            let topic = place["topic"].as_str()?.to_owned();
            Some((topic, place["partition"].as_u64()?))
        });
        places.extend(known);
    }
    for wanted in texts(flags, "topic") {
        // A topic's name has no colon.
        let (topic, partitions) = match wanted.split_once(':') {
            Some((topic, partitions)) => (topic, Some(partitions)),
            None => (wanted, None),
        };
        let found: Value = api.get(&format!("/topics/{}", escaped(topic)))?;
        let count = found["partitions"].as_array().map_or(0, Vec::len) as u64;
        let listed = match partitions {
            None => (0..count).collect(),
            Some(list) => {
                let listed = list.split(',').map(str::parse);
                listed.collect::<Result<Vec<u64>, _>>().map_err(|_| {
                    Failure::WrongUse(format!("--topic is {wanted:?}; TOPIC:0,1,… is expected"))
                })?
            }
        };
        places.extend(
            listed
                .into_iter()
                .map(|partition| (topic.to_owned(), partition)),
        );
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

fn committed(known: &Value, topic: &str, partition: u64) -> Option<i64> {
    let mut places = known["partitions"].as_array().into_iter().flatten();
    let place = places.find(|place| place["topic"] == topic && place["partition"] == partition);
    place?["committed_offset"].as_i64()
}

fn offset(
    api: &Api,
    topic: &str,
    partition: u64,
    from: Option<i64>,
    target: &Target,
) -> Result<i64, Failure> {
    let time = match target {
        Target::Time(ms) => format!("?timestamp={ms}"),
        _ => String::new(),
    };
    let path = format!(
        "/topics/{}/partitions/{partition}/offsets{time}",
        escaped(topic)
    );
    let found: Value = api.get(&path)?;
    let number = |name: &str| found[name].as_i64().unwrap_or_default();
    let (start, end) = (number("start_offset"), number("end_offset"));
    Ok(match target {
        Target::Earliest => start,
        Target::Latest => end,
        Target::Time(_) => number("offset"),
        Target::Offset(offset) => (*offset).clamp(start, end),
        Target::ShiftBy(by) => {
            let from = from.ok_or_else(|| {
                Failure::WrongUse(format!(
                    "the group has no offset of {topic} partition {partition} that --shift-by could \
                     count from"
                ))
            })?;
            from.saturating_add(*by).clamp(start, end)
        }
    })
}
