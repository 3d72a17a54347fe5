//! `ringlog fsck DIR`: checks the logs of a data directory that no node has open, says what is
//! wrong and where, and writes over a torn tail when asked to.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ringlog_storage::fsck::{
    CheckOptions, Directory, Fault, Finding, LogCheck, OffsetRange, Place, Severity, check, repair,
};
use ringlog_types::LogId;
use serde_json::{Value, json};

use crate::node::directory::DataDirectory;

/// Exit status when durable data is damaged.
const DAMAGED: u8 = 1;
/// Exit status when something could not be checked, or not be repaired.
const NOT_CHECKED: u8 = 2;

/// The subcommand.
pub(super) fn command() -> Command {
    let flag = |name, help| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Command::new("fsck")
        .about("Check the logs of a data directory while no node has it open")
        .after_help(
            "Ends with 0 when everything that was durable is whole (a torn tail, which nobody was \
             told of, is whole in this sense), with 1 when something is damaged, with 2 when it \
             could not be checked.",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .num_args(1..)
                .help(
                    "Data directory, as given to `ringlog serve --data-dir`; of several, the \
                     first (with node.toml) will do while the others are where they were",
                ),
        )
        .arg(flag("json", "Print one JSON object in place of text"))
        .arg(flag(
            "repair",
            "Write zeros over a torn tail, which a start would discard; never over anything that \
             was durable, and not at all in a log with damage",
        ))
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .action(ArgAction::SetTrue)
                .help("Print every segment"),
        )
}

/// Checks, and prints.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let directories = flags.get_many::<String>("dir").into_iter().flatten();
    let directories: Vec<PathBuf> = directories.map(PathBuf::from).collect();
    let directory = directories
        .first()
        .map_or(String::new(), |first| first.display().to_string());
    let options = Options {
        json: flags.get_flag("json"),
        repair: flags.get_flag("repair"),
        verbose: flags.get_flag("verbose"),
    };
    let (outcomes, refused) = match check_all(&directories, options.repair) {
        Ok(outcomes) => (outcomes, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    if options.json {
        println!("{}", to_json(&directory, &outcomes, refused.as_deref()));
    } else {
        for outcome in &outcomes {
            print!("{}", to_text(outcome, options.verbose));
        }
        if let Some(refused) = &refused {
            eprintln!("ringlog: {refused}");
        } else {
            println!("{}", summary(&outcomes));
        }
    }
    if refused.is_some() || outcomes.iter().any(Outcome::is_unchecked) {
        ExitCode::from(NOT_CHECKED)
    } else if outcomes.iter().any(Outcome::is_damaged) {
        ExitCode::from(DAMAGED)
    } else {
        ExitCode::SUCCESS
    }
}

struct Options {
    json: bool,
    repair: bool,
    verbose: bool,
}

/// What became of one log.
struct Outcome {
    log: LogId,
    path: PathBuf,
    checked: Result<LogCheck, String>,
    /// Bytes written over, or why none were. `None`: nobody asked.
    repaired: Option<Result<u64, String>>,
}

impl Outcome {
    fn is_damaged(&self) -> bool {
        self.checked.as_ref().is_ok_and(LogCheck::is_damaged)
    }

    fn is_unchecked(&self) -> bool {
        self.checked.is_err() || matches!(self.repaired, Some(Err(_)))
    }
}

fn check_all(directories: &[PathBuf], with_repair: bool) -> Result<Vec<Outcome>, anyhow::Error> {
    // Held to the end, so that no node starts meanwhile.
    let directory = DataDirectory::existing(directories)?;
    let logs = directory.identity.logs.iter();
    Ok(logs
        .map(|log| check_one(log.id, directory.log_dir(*log), with_repair))
        .collect())
}

fn check_one(log: LogId, path: PathBuf, with_repair: bool) -> Outcome {
    let look = || check(&Directory::new(&path), log, CheckOptions::default());
    let mut checked = look().map_err(|error| error.to_string());
    let mut repaired = None;
    if let (true, Ok(found)) = (with_repair, &checked) {
        let result = repair(&path, found).map_err(|error| error.to_string());
        if result.as_ref().is_ok_and(|bytes| *bytes > 0) {
            checked = look().map_err(|error| error.to_string());
        }
        repaired = Some(result);
    }
    Outcome {
        log,
        path,
        checked,
        repaired,
    }
}

fn to_text(outcome: &Outcome, verbose: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let log = outcome.log;
    // Writing to a string cannot fail.
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    let found = match &outcome.checked {
        Ok(found) => found,
        Err(reason) => {
            line(format_args!("log {log}: NOT CHECKED: {reason}"));
            return text;
        }
    };
    let checkpoint = found.checkpoint.map_or("none".to_owned(), |block| {
        format!("the one at block {block}")
    });
    line(format_args!(
        "log {log} in {}: {} segment files, {} blocks of {} bytes up to block {}, {} batches, {} \
         partitions, checkpoint: {checkpoint}",
        outcome.path.display(),
        found.segments.len(),
        found.blocks,
        found.block_bytes,
        found.end,
        found.batches,
        found.partitions.len(),
    ));
    if verbose {
        for segment in &found.segments {
            let number = segment.segment.map_or("-".to_owned(), |n| n.to_string());
            let blocks = segment.sequences.map_or(String::new(), |(first, last)| {
                format!(", {first} to {last}")
            });
            line(format_args!(
                "  {} segment {number}, {}, {} bytes, {} blocks of {} bytes{blocks}",
                segment.file,
                segment.role.name(),
                segment.file_bytes,
                segment.blocks,
                segment.block_bytes,
            ));
        }
    }
    for finding in &found.findings {
        line(format_args!("  {finding}"));
    }
    if let Some((file, position, _)) = found.tail.blocks.first() {
        line(format_args!(
            "  torn tail: {} blocks, {} bytes behind block {}, from byte {position} of {file}: \
             written and never acknowledged, the next start discards them",
            found.tail.blocks.len(),
            found.tail.bytes,
            found.end,
        ));
    }
    match &outcome.repaired {
        None => {}
        Some(Ok(0)) => line(format_args!("  nothing to repair")),
        Some(Ok(bytes)) => line(format_args!(
            "  repaired: {bytes} bytes of torn tail zeroed"
        )),
        Some(Err(reason)) => line(format_args!("  NOT REPAIRED: {reason}")),
    }
    text
}

fn summary(outcomes: &[Outcome]) -> String {
    let unchecked = outcomes.iter().filter(|outcome| outcome.checked.is_err());
    let unchecked = unchecked.count();
    let checked = || outcomes.iter().filter_map(|o| o.checked.as_ref().ok());
    let damage: usize = checked().map(|found| found.damage().count()).sum();
    let tail: u64 = checked().map(|found| found.tail.bytes).sum();
    let mut text = match damage {
        0 => format!("{} logs are whole", outcomes.len() - unchecked),
        1 => "1 place is DAMAGED".to_owned(),
        more => format!("{more} places are DAMAGED"),
    };
    if tail > 0 {
        text.push_str(&format!(", {tail} bytes of torn tail"));
    }
    if unchecked > 0 {
        text.push_str(&format!(", {unchecked} logs were NOT CHECKED"));
    }
    text
}

fn to_json(directory: &str, outcomes: &[Outcome], refused: Option<&str>) -> Value {
    let unchecked = refused.is_some() || outcomes.iter().any(Outcome::is_unchecked);
    let clean = !unchecked && !outcomes.iter().any(Outcome::is_damaged);
    let logs: Vec<Value> = outcomes.iter().map(log_to_json).collect();
    json!({ "directory": directory, "clean": clean, "error": refused, "logs": logs })
}

fn log_to_json(outcome: &Outcome) -> Value {
    let mut value = json!({
        "log": outcome.log.0,
        "path": outcome.path.display().to_string(),
        "error": outcome.checked.as_ref().err(),
    });
    if let Ok(found) = &outcome.checked {
        let tail = found.tail.blocks.iter().map(
            |(file, position, bytes)| json!({ "file": file, "position": position, "bytes": bytes }),
        );
        let segments = found.segments.iter().map(|segment| {
            json!({
                "file": segment.file,
                "file_bytes": segment.file_bytes,
                "segment": segment.segment,
                "role": segment.role.name(),
                "blocks": segment.blocks,
                "block_bytes": segment.block_bytes,
                "first_block": segment.sequences.map(|(first, _)| first.0),
                "last_block": segment.sequences.map(|(_, last)| last.0),
            })
        });
        value["damaged"] = found.is_damaged().into();
        value["blocks"] = found.blocks.into();
        value["block_bytes"] = found.block_bytes.into();
        value["batches"] = found.batches.into();
        value["end_block"] = found.end.0.into();
        value["checkpoint_block"] = found.checkpoint.map(|block| block.0).into();
        value["findings"] = found.findings.iter().map(finding_to_json).collect();
        value["torn_tail"] = tail.collect();
        value["segments"] = segments.collect();
        value["partitions"] = found.partitions.iter().map(range_to_json).collect();
    }
    match &outcome.repaired {
        None => {}
        Some(Ok(bytes)) => value["repaired_bytes"] = (*bytes).into(),
        Some(Err(reason)) => value["not_repaired"] = reason.as_str().into(),
    }
    value
}

fn finding_to_json(finding: &Finding) -> Value {
    let Finding {
        severity,
        fault,
        place,
        offsets,
        detail,
    } = finding;
    let Place {
        file,
        segment,
        position,
        blocks,
    } = place;
    let offsets: Vec<Value> = offsets.iter().map(range_to_json).collect();
    json!({
        "severity": match severity {
            Severity::Damage => "damage",
            Severity::Notice => "notice",
        },
        "fault": Fault::name(*fault),
        "file": file,
        "segment": segment,
        "position": position,
        "first_block": blocks.map(|(first, _)| first.0),
        "end_block": blocks.map(|(_, end)| end.0),
        "offsets": offsets,
        "detail": detail,
    })
}

fn range_to_json(range: &OffsetRange) -> Value {
    json!({
        "topic_number": range.partition.topic().0,
        "partition": range.partition.index(),
        "first": range.first.0,
        "end": range.end.0,
    })
}
