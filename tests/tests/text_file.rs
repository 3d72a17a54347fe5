//! The main job on a real file: 50 MB of text through `kcat -P` into eight partitions, SIGKILL
//! right after the last acknowledgement, restart, and `kcat -C` gives the same lines.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use ringlog_tests::foreign::{self, run};
use ringlog_tests::node::{Node, NodeOptions};
use ringlog_tests::random::Random;
use ringlog_tests::wire::Connection;

/// `RINGLOG_TEXT_FILE_MB` for larger files.
const DEFAULT_MEGABYTES: usize = 50;

/// Log-like lines of 20 to 400 bytes, some of them alike, none empty.
fn write_text(path: &Path, bytes: usize) -> Result<()> {
    const WORDS: [&str; 12] = [
        "order",
        "paid",
        "shipped",
        "user=4711",
        "żółw",
        "GET",
        "/index.html",
        "200",
        "timeout",
        "retry",
        "\"quoted text\"",
        "日本",
    ];
    let mut random = Random::new(50);
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let (mut written, mut line) = (0, String::new());
    while written < bytes {
        line.clear();
        line.push_str(&format!("2024-05-06T07:08:{:02}", random.below(60)));
        for _ in 0..random.below(40) {
            line.push(' ');
            line.push_str(WORDS[usize::try_from(random.below(12))?]);
        }
        line.push('\n');
        file.write_all(line.as_bytes())?;
        written += line.len();
    }
    Ok(file.flush()?)
}

/// Lines in sorted order: equal for two files exactly when they hold the same multiset of lines.
fn sorted_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_text_file_survives_a_kill_right_after_its_last_acknowledgement() -> Result<()> {
    let Some(kcat) = foreign::kcat()? else {
        return Ok(());
    };
    let megabytes = match std::env::var("RINGLOG_TEXT_FILE_MB") {
        Ok(text) => text.parse().context("RINGLOG_TEXT_FILE_MB")?,
        Err(_) => DEFAULT_MEGABYTES,
    };
    let mut node = Node::with(NodeOptions::with_default_settings(2))?;
    let path = node.scratch("lines.txt");
    write_text(&path, megabytes * 1_000_000)?;
    Connection::open(node.kafka(0))?.create_topic("lines", 8, &[])?;

    let mut produce = Command::new(&kcat);
    produce
        .args([
            "-P",
            "-b",
            &node.bootstrap(),
            "-t",
            "lines",
            "-X",
            "acks=all",
            "-l",
        ])
        .arg(&path);
    run(&mut produce, b"")?;
    node.kill9()?;
    node.restart()?;

    let mut consume = Command::new(&kcat);
    consume.args([
        "-C",
        "-q",
        "-e",
        "-b",
        &node.bootstrap(),
        "-t",
        "lines",
        "-o",
        "beginning",
    ]);
    let found = run(&mut consume, b"")?;
    let sent = std::fs::read(&path)?;
    let (sent, found) = (sorted_lines(&sent), sorted_lines(&found));
    println!("{} lines sent, {} found", sent.len(), found.len());
    if let Some((sent, found)) = sent.iter().zip(&found).find(|(sent, found)| sent != found) {
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        panic!(
            "the first difference in sorted order: {:?}, {:?}",
            text(sent),
            text(found)
        );
    }
    assert_eq!(sent.len(), found.len());
    Ok(())
}
