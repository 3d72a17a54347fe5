//! `sim`: runs the storage engine on a simulated disk under many seeds, on every core.
//!
//! Each run is one thread's own and depends on its seed alone; what they print comes in the
//! order of the seeds. A failing seed prints the command that replays it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use clap::Parser;
use ringlog_storage::io::sim::{Faults, Injection};
use ringlog_storage::log::SeededBug;
use ringlog_tests::sim::compaction::{Compacted, CompactionMistake, run_compaction};
use ringlog_tests::sim::machines::{Lived, Mistake, run_machines};
use ringlog_tests::sim::{Failure, Outcome, Settings, run};
use tracing_subscriber::filter::LevelFilter;

/// A thread's runs take and give back megabytes for each life of a log.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulated crash recovery of the storage engine.
#[derive(Debug, Parser)]
#[command(after_help = fault_table())]
struct Arguments {
    /// Seeds, as FIRST..END.
    #[arg(long, default_value = "0..200")]
    seeds: String,
    /// Lives of the log in each run.
    #[arg(long, default_value_t = 8)]
    lives: u32,
    /// Most steps in a life.
    #[arg(long, default_value_t = 300)]
    steps: u32,
    /// What goes wrong.
    #[arg(long, value_enum, default_value_t = Profile::Failing)]
    faults: Profile,
    /// The same as `--faults power`.
    #[arg(long)]
    power_cuts_only: bool,
    /// A mistake the log is told to make: the run should fail.
    #[arg(long, value_parser = bug)]
    bug: Option<SeededBug>,
    /// The engine's machines on the log, not the log alone: topics, idempotent producers, durability
    /// levels, producer ids. With `--faults power` or `failing`.
    #[arg(long)]
    machines: bool,
    /// A mistake that the node of `--machines` is told to make: the run should fail.
    #[arg(long, value_parser = mistake, requires = "machines")]
    mistake: Option<Mistake>,
    /// Compacted partitions on the log: keys, tombstones, passes of compaction. With `--faults power`
    /// or `failing`.
    #[arg(long, conflicts_with = "machines")]
    compaction: bool,
    /// A mistake that the compaction of `--compaction` is told to make: the run should fail.
    #[arg(long, value_parser = compaction_mistake, requires = "compaction")]
    compaction_mistake: Option<CompactionMistake>,
    /// Threads that share the seeds; default: one for each core.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Clean no segments.
    #[arg(long)]
    no_cleaning: bool,
    /// Scrub sealed segments meanwhile.
    #[arg(long)]
    scrub: bool,
    /// Print every step, and between them what the log says itself.
    #[arg(long)]
    trace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// The power goes at any operation.
    Power,
    /// And writes, flushes and reads fail, and the disk is full.
    Failing,
    /// The power goes; writes are lost and go astray without a word, and bits rot.
    Silent,
    /// The same, ten times as often.
    Rotten,
    /// What fails and what lies, together.
    All,
}

impl Profile {
    const ALL: [Profile; 5] = [
        Profile::Power,
        Profile::Failing,
        Profile::Silent,
        Profile::Rotten,
        Profile::All,
    ];

    fn faults(self) -> Faults {
        match self {
            Profile::Power => Faults::power_cuts_only(),
            Profile::Failing => Settings::failing_disk(),
            Profile::Silent => Settings::silent_corruption(),
            Profile::Rotten => Settings::rotten_disk(),
            Profile::All => Settings::everything(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Profile::Power => "power",
            Profile::Failing => "failing",
            Profile::Silent => "silent",
            Profile::Rotten => "rotten",
            Profile::All => "all",
        }
    }
}

impl Arguments {
    fn profile(&self) -> Profile {
        if self.power_cuts_only {
            Profile::Power
        } else {
            self.faults
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.trace {
        let said = tracing_subscriber::fmt().without_time().with_ansi(false);
        said.with_max_level(LevelFilter::INFO)
            .with_target(false)
            .init();
    }
    let Some((first, end)) = range(&arguments.seeds) else {
        eprintln!("--seeds {}: not of the form FIRST..END", arguments.seeds);
        return ExitCode::from(2);
    };
    let faults = arguments.profile().faults();
    let is_honest = matches!(arguments.profile(), Profile::Power | Profile::Failing);
    if (arguments.machines || arguments.compaction) && !is_honest {
        eprintln!(
            "--machines, --compaction: a disk that lies is for the log alone, use --faults power or \
             failing"
        );
        return ExitCode::from(2);
    }
    let settings = Settings {
        lives: arguments.lives,
        steps: arguments.steps,
        faults,
        cleaning: !arguments.no_cleaning,
        bug: arguments.bug,
        scrub: arguments.scrub,
        trace: arguments.trace,
    };
    let cores = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let threads = arguments.threads.unwrap_or_else(cores).get();
    if arguments.machines {
        return run_all_machines((first, end), threads, &settings, &arguments);
    }
    if arguments.compaction {
        return run_all_compaction((first, end), threads, &settings, &arguments);
    }
    let started = Instant::now();
    let (mut total, mut failed) = (Outcome::default(), 0);
    let one = |seed| run(seed, &settings);
    each_in_order(first, end, threads, one, |result| match result {
        Ok(outcome) => total.add(&outcome),
        Err(failure) => {
            failed += 1;
            println!(
                "FAILED {failure}\n  replay: {}",
                replay(&failure, &arguments)
            );
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let seeds = end - first;
    println!(
        "{} passed, {failed} failed: {:.1} seeds/s on {threads} threads, {:.0} disk operations \
         per second, {:.0} groups/s; {} groups appended, {} acknowledged, {} starts, {} power \
         cuts, {} logs closed by a failure, {} runs of the cleaner, {} reads checked, {} disk \
         operations",
        seeds - failed,
        seeds as f64 / seconds,
        total.operations as f64 / seconds,
        total.groups as f64 / seconds,
        total.groups,
        total.acknowledged,
        total.starts,
        total.power_cuts,
        total.closed_by_failure,
        total.cleaned,
        total.reads,
        total.operations
    );
    let kinds = Injection::KINDS.iter().zip(total.injected);
    let injected = kinds.filter(|(_, count)| *count > 0);
    let injected: Vec<String> = injected
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    println!("injected: {}", injected.join(", "));
    if total.corruptions > 0 {
        println!(
            "{} silent corruptions: {} acknowledged groups and batches lost and reported, {} \
             reads named damage, {} acknowledged groups lost with the end of the log, {} logs \
             refused to open",
            total.corruptions, total.reported, total.damaged_reads, total.silent, total.refused
        );
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_all_machines(
    (first, end): (u64, u64),
    threads: usize,
    settings: &Settings,
    arguments: &Arguments,
) -> ExitCode {
    let started = Instant::now();
    let (mut total, mut failed) = (Lived::default(), 0);
    let one = |seed| run_machines(seed, settings, arguments.mistake);
    each_in_order(first, end, threads, one, |result| match result {
        Ok(lived) => total.add(&lived),
        Err(failure) => {
            failed += 1;
            println!(
                "FAILED {failure}\n  replay: {}",
                replay(&failure, arguments)
            );
        }
    });
    let seeds = end - first;
    println!(
        "{} passed, {failed} failed: {:.1} seeds/s on {threads} threads; {total:#?}",
        seeds - failed,
        seeds as f64 / started.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_all_compaction(
    (first, end): (u64, u64),
    threads: usize,
    settings: &Settings,
    arguments: &Arguments,
) -> ExitCode {
    let started = Instant::now();
    let (mut total, mut failed) = (Compacted::default(), 0);
    let one = |seed| run_compaction(seed, settings, arguments.compaction_mistake);
    each_in_order(first, end, threads, one, |result| match result {
        Ok(compacted) => total.add(&compacted),
        Err(failure) => {
            failed += 1;
            println!(
                "FAILED {failure}\n  replay: {}",
                replay(&failure, arguments)
            );
        }
    });
    let seeds = end - first;
    println!(
        "{} passed, {failed} failed: {:.1} seeds/s on {threads} threads; {total:#?}",
        seeds - failed,
        seeds as f64 / started.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What each profile injects, and how often in an operation of its kind.
fn fault_table() -> String {
    let mut table =
        "Injected, by --faults, in so many of a million operations (of a write, a read, \
                     a flush, any operation; rot: of a file and restart):\n"
            .to_owned();
    let profiles = Profile::ALL.map(|profile| (profile.name(), profile.faults()));
    let mut row = |name: &str, rate: fn(&Faults) -> f64| {
        let _ = write!(table, "  {name:<58}");
        for (_, faults) in &profiles {
            let _ = write!(table, "{:>9.0}", rate(faults) * 1e6);
        }
        table.push('\n');
    };
    row("write lost although it was answered", |f| f.lost_write);
    row("write elsewhere in its file", |f| f.misdirected_write);
    row("write cut short", |f| f.short_write);
    row("write fails, some of its sectors are written", |f| {
        f.write_error
    });
    row("read fails", |f| f.read_error);
    row("flush or directory flush fails", |f| f.flush_error);
    row("bit rot (data, headers, tables, footers, trailers)", |f| {
        f.bit_rot
    });
    row("disk full: create, reserve, write", |f| f.disk_full);
    row("completion overtaken by later ones", |f| f.reordered);
    row("slow: a hundred times as long", |f| f.slow);
    row("stuck: 30 seconds", |f| f.stuck);
    row(
        "wall clock jumps by up to a day, forwards or backwards",
        |f| f.clock_jump,
    );
    let names = profiles.each_ref().map(|(name, _)| format!("{name:>9}"));
    let _ = writeln!(table, "  {:<58}{}", "", names.concat());
    table.push_str(
        "Each life ends with a kill or a power cut, which tears what is under way and not flushed; in one \
         of three the power goes at any operation, also while the log is opened.",
    );
    table
}

/// Runs the seeds on `threads` threads and hands over what came of each, in their order.
fn each_in_order<T: Send>(
    first: u64,
    end: u64,
    threads: usize,
    run: impl Fn(u64) -> Result<T, Failure> + Sync,
    mut take: impl FnMut(Result<T, Failure>),
) {
    let next = AtomicU64::new(first);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (next, done, run) = (&next, done.clone(), &run);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || done.send((seed, run(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut due) = (BTreeMap::new(), first);
        for (seed, result) in results {
            early.insert(seed, result);
            while let Some(result) = early.remove(&due) {
                take(result);
                due += 1;
            }
        }
    });
}

fn bug(name: &str) -> Result<SeededBug, String> {
    let found = SeededBug::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, bug)| *bug).ok_or_else(|| {
        let known = SeededBug::ALL.map(|(name, _)| name).join(", ");
        format!("known are {known}")
    })
}

fn mistake(name: &str) -> Result<Mistake, String> {
    let found = Mistake::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, mistake)| *mistake).ok_or_else(|| {
        let known = Mistake::ALL.map(|(name, _)| name).join(", ");
        format!("known are {known}")
    })
}

fn compaction_mistake(name: &str) -> Result<CompactionMistake, String> {
    let all = CompactionMistake::ALL;
    let found = all.iter().find(|(known, _)| *known == name);
    found.map(|(_, mistake)| *mistake).ok_or_else(|| {
        let known = all.map(|(name, _)| name).join(", ");
        format!("known are {known}")
    })
}

fn replay(failure: &Failure, arguments: &Arguments) -> String {
    let Arguments { lives, steps, .. } = arguments;
    let (seed, next) = (failure.seed, failure.seed + 1);
    let faults = arguments.profile().name();
    let bug = SeededBug::ALL
        .iter()
        .find(|(_, bug)| Some(*bug) == arguments.bug);
    let mut bug = bug.map_or(String::new(), |(name, _)| format!(" --bug {name}"));
    if arguments.machines {
        bug.push_str(" --machines");
    }
    if arguments.compaction {
        bug.push_str(" --compaction");
    }
    let mistakes = CompactionMistake::ALL.iter();
    for (name, _) in mistakes.filter(|(_, one)| Some(*one) == arguments.compaction_mistake) {
        bug.push_str(" --compaction-mistake ");
        bug.push_str(name);
    }
    if arguments.scrub {
        bug.push_str(" --scrub");
    }
    let mistakes = Mistake::ALL.iter();
    for (name, _) in mistakes.filter(|(_, mistake)| Some(*mistake) == arguments.mistake) {
        bug.push_str(" --mistake ");
        bug.push_str(name);
    }
    let cleaning = if arguments.no_cleaning {
        " --no-cleaning"
    } else {
        ""
    };
    format!(
        "cargo run --release --bin sim -- --seeds {seed}..{next} --lives {lives} --steps \
         {steps} --faults {faults}{bug}{cleaning} --trace"
    )
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, end) = text.split_once("..")?;
    let (first, end) = (first.parse().ok()?, end.parse().ok()?);
    (first < end).then_some((first, end))
}
