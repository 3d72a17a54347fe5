//! `ringlog produce TOPIC`: records from standard input, a line each. While a request is under way
//! lines gather; the next request takes them all.

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use serde_json::Value;
use ureq::http::Method;

use super::api::{Answer, Api, escaped};
use super::arguments::{api, json, of_node, print, subject, text, value};
use super::failure::Failure;

/// Lines in one request, and their bytes.
const REQUEST_LINES: usize = 10_000;
const REQUEST_BYTES: usize = 1 << 20;

/// Lines that wait to be sent.
const WAITING_LINES: usize = 4_096;

/// How long a node that has no room is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// The subcommand.
pub(super) fn command() -> Command {
    of_node(
        Command::new("produce")
            .about("Write records to a topic: one for each line of standard input"),
    )
    .arg(subject("topic", "The topic"))
    .arg(
        value(
            "input",
            "FORMAT",
            "lines: a line is a value, perhaps with its key before it. json: a line is a record as \
             JSON, with key, value, headers, partition, timestamp; what `ringlog consume --json` \
             prints can be written so",
        )
        .value_parser(["lines", "json"])
        .default_value("lines"),
    )
    .arg(value(
        "key-separator",
        "TEXT",
        "What stands between key and value in a line; a line without it has no key",
    ))
    .arg(value("key", "KEY", "The key of records that have none"))
    .arg(
        value(
            "partition",
            "N",
            "The partition of records that name none [default: by the key's hash, as Kafka's \
             producers choose]",
        )
        .value_parser(clap::value_parser!(u32)),
    )
    .arg(json(
        "Print the partition and offset of each record, a JSON object a line",
    ))
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let sender = Sender::new(flags)?;
    let (lines, taken) = sync_channel(WAITING_LINES);
    let reader = std::thread::spawn(move || read(&lines));
    let mut written = 0;
    while let Some(body) = gather(&taken) {
        written += sender.send(&body)?;
    }
    // The reader has ended: it lets go of its end of the channel last.
    match reader.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let what = "reading standard input";
            return Err(Failure::Io { what, error });
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
    if !flags.get_flag("json") {
        eprintln!("{written} records written");
    }
    Ok(())
}

/// Lines of standard input, without their ends.
fn read(lines: &SyncSender<Vec<u8>>) -> io::Result<()> {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if lines.send(line).is_err() {
            // Writing failed, and that is told.
            return Ok(());
        }
    }
}

/// What has been read, with a line end behind each line; waits for the first one.
fn gather(lines: &Receiver<Vec<u8>>) -> Option<Vec<u8>> {
    let mut body = lines.recv().ok()?;
    body.push(b'\n');
    let mut count = 1;
    while count < REQUEST_LINES
        && body.len() < REQUEST_BYTES
        && let Ok(line) = lines.try_recv()
    {
        body.extend_from_slice(&line);
        body.push(b'\n');
        count += 1;
    }
    Some(body)
}

struct Sender {
    api: Api,
    path: String,
    media_type: &'static str,
    prints: bool,
}

impl Sender {
    fn new(flags: &ArgMatches) -> Result<Sender, Failure> {
        let is_json = text(flags, "input") == Some("json");
        let mut query = Vec::new();
        if let Some(separator) = text(flags, "key-separator") {
            if is_json {
                let what = "--key-separator is for lines; JSON records have their key in them";
                return Err(Failure::WrongUse(what.to_owned()));
            }
            query.push(format!("key_separator={}", escaped(separator)));
        }
        if let Some(key) = text(flags, "key") {
            query.push(format!("key={}", escaped(key)));
        }
        if let Some(partition) = flags.get_one::<u32>("partition") {
            query.push(format!("partition={partition}"));
        }
        let topic = escaped(text(flags, "topic").unwrap_or_default());
        Ok(Sender {
            api: api(flags)?,
            path: format!("/topics/{topic}/records?{}", query.join("&")),
            media_type: match is_json {
                true => "application/x-ndjson",
                false => "text/plain",
            },
            prints: flags.get_flag("json"),
        })
    }

    /// Writes records; how many they were.
    fn send(&self, body: &[u8]) -> Result<usize, Failure> {
        if self.media_type != "text/plain" && body.trim_ascii().is_empty() {
            return Ok(0);
        }
        let answer: Value = self.api.parse(&self.patiently(body)?)?;
        let records: Vec<&Value> = answer["records"].as_array().into_iter().flatten().collect();
        if self.prints {
            let lines: Vec<String> = records.iter().map(|record| format!("{record}\n")).collect();
            print(&lines.concat())?;
        }
        Ok(records.len())
    }

    fn patiently(&self, body: &[u8]) -> Result<Answer, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let headers = [("content-type", self.media_type)];
            match self
                .api
                .call(Method::POST, &self.path, &headers, Some(body))
            {
                Err(failure) if failure.is_passing() && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }
}
