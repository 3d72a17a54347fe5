//! Tries every client with every feature, prints the table and writes it into the page of the
//! documentation. Ends with 1 when something failed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context, Result};
use clap::Parser;
use ringlog_tests::matrix::table::{Column, markdown};
use ringlog_tests::matrix::{Cell, Client, run};

/// Lines between which the page has the table.
const BEGIN: &str =
    "<!-- begin of the table: cargo run -p ringlog-tests --bin matrix -- --write -->";
const END: &str = "<!-- end of the table -->";

/// Clients against a node: what passes, what fails, what was not run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Writes the table into docs/CLIENTS.md.
    #[arg(long)]
    write: bool,
    /// Clients that are tried at the same time.
    #[arg(long, default_value_t = 2)]
    together: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let columns = try_all(arguments.together)?;
    let table = markdown(&columns);
    println!("{table}");
    if arguments.write {
        write(&table)?;
    }
    let results = columns
        .iter()
        .filter_map(|(_, column)| column.as_ref().ok());
    let failed = results
        .flat_map(|results| results.cells.values())
        .any(|cell| matches!(cell, Cell::Failed(_)));
    Ok(ExitCode::from(u8::from(failed)))
}

/// Every client, so many at a time.
fn try_all(together: usize) -> Result<Vec<Column>> {
    let waiting = Mutex::new(Client::ALL.to_vec());
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let workers = (0..together.max(1)).map(|_| {
            scope.spawn(|| -> Result<()> {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.pop());
                    let Some(client) = next else {
                        return Ok(());
                    };
                    eprintln!("{} …", client.name());
                    let column = run(client).with_context(|| client.name())?;
                    if let Ok(mut done) = done.lock() {
                        done.insert(client, column);
                    }
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        for worker in workers {
            worker.join().ok().context("a client's thread panicked")??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let done = done
        .into_inner()
        .ok()
        .context("a client's thread panicked")?;
    Ok(done.into_iter().collect())
}

fn write(table: &str) -> Result<()> {
    let page = page()?;
    let text =
        std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("where the table begins")?;
    let (_, behind) = rest.split_once(END).context("where the table ends")?;
    let text = format!("{before}{BEGIN}\n\n{table}\n{END}{behind}");
    std::fs::write(&page, text).with_context(|| format!("writing {}", page.display()))
}

fn page() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root
        .context("the tests lie in a workspace")?
        .join("docs/CLIENTS.md"))
}
