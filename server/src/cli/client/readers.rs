//! Reads partitions for `ringlog consume`: a few threads, each with its share of the partitions, and
//! a bounded channel to the one that prints.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Method};

use super::api::{Api, escaped};
use super::failure::Failure;

/// Threads that read.
const THREADS: usize = 16;

/// How long a thread with one partition waits for records at the node.
const WAIT_MS: u32 = 10_000;

/// How long one with several waits before it asks all of them again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where to begin in a partition.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub partition: u64,
    /// The query that says so: `offset=…` or `timestamp=…`.
    pub query: String,
}

/// Records of a partition.
#[derive(Debug)]
pub(super) struct Chunk {
    pub partition: u64,
    /// A JSON object a line.
    pub lines: Vec<u8>,
    /// Where the partition is read on.
    pub next_offset: i64,
}

/// Starts reading; what is found, or went wrong, comes in the channel. It ends when every partition is
/// read to its end, if `to_end`, and else never.
pub(super) fn start(
    api: &Api,
    topic: &str,
    begins: Vec<Begin>,
    to_end: bool,
) -> Receiver<Result<Chunk, Failure>> {
    let (found, chunks) = sync_channel(THREADS);
    let threads = begins.len().clamp(1, THREADS);
    for thread in 0..threads {
        let share = begins.iter().skip(thread).step_by(threads).cloned();
        let share: Vec<Begin> = share.collect();
        let (api, topic, found) = (api.clone(), topic.to_owned(), found.clone());
        std::thread::spawn(move || {
            if let Err(failure) = read(&api, &topic, share, to_end, &found) {
                // Nobody listens: the command ends.
                let _ = found.send(Err(failure));
            }
        });
    }
    chunks
}

fn read(
    api: &Api,
    topic: &str,
    mut share: Vec<Begin>,
    to_end: bool,
    found: &SyncSender<Result<Chunk, Failure>>,
) -> Result<(), Failure> {
    while !share.is_empty() {
        let wait_ms = match share.len() {
            1 if !to_end => WAIT_MS,
            _ => 0,
        };
        let (mut at_end, mut is_quiet) = (Vec::new(), true);
        for (place, begin) in share.iter_mut().enumerate() {
            let (chunk, is_end) = ask(api, topic, begin, wait_ms)?;
            begin.query = format!("offset={}", chunk.next_offset);
            if is_end {
                at_end.push(place);
            }
            if !chunk.lines.is_empty() {
                is_quiet = false;
            }
            if found.send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
        if to_end {
            for place in at_end.into_iter().rev() {
                share.swap_remove(place);
            }
        } else if is_quiet && wait_ms == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Records from a place on, and whether they reach to the end.
fn ask(api: &Api, topic: &str, begin: &Begin, wait_ms: u32) -> Result<(Chunk, bool), Failure> {
    let (topic, partition) = (escaped(topic), begin.partition);
    let query = &begin.query;
    let path = format!("/topics/{topic}/partitions/{partition}/records?{query}&wait_ms={wait_ms}");
    let headers = [("accept", "application/x-ndjson")];
    let answer = loop {
        match api.call(Method::GET, &path, &headers, None) {
            Err(failure) if failure.is_passing() => std::thread::sleep(PAUSE),
            other => break other?,
        }
    };
    let next_offset = number(&answer.headers, "ringlog-next-offset");
    let end = number(&answer.headers, "ringlog-high-watermark");
    let chunk = Chunk {
        partition,
        lines: answer.body,
        next_offset,
    };
    Ok((chunk, next_offset >= end))
}

fn number(headers: &HeaderMap, name: &str) -> i64 {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

/// The partitions of a topic.
pub(super) fn partitions(api: &Api, topic: &str) -> Result<Vec<u64>, Failure> {
    let found: Value = api.get(&format!("/topics/{}", escaped(topic)))?;
    let count = found["partitions"].as_array().map_or(0, Vec::len);
    Ok((0..count as u64).collect())
}
