//! The results as a page for people.

use std::fmt::Write as _;

use super::client::{Absent, Client};
use super::outcome::{Cell, Feature};
use super::run::Results;

/// A client's column: its results, or why there are none.
pub type Column = (Client, Result<Results, Absent>);

/// The table and the reasons behind it, in Markdown.
#[must_use]
pub fn markdown(columns: &[Column]) -> String {
    let mut page = String::from("| |");
    let line = |page: &mut String, cells: Vec<String>| {
        for cell in cells {
            // Writing to a string does not fail.
            let _ = write!(page, " {cell} |");
        }
        page.push('\n');
    };
    line(
        &mut page,
        columns
            .iter()
            .map(|(client, _)| client.name().to_owned())
            .collect(),
    );
    page.push_str("|---|");
    page.push_str(&"---|".repeat(columns.len()));
    page.push_str("\n| version |");
    line(
        &mut page,
        columns.iter().map(|(_, column)| version(column)).collect(),
    );
    for feature in Feature::ALL {
        let _ = write!(page, "| {} |", feature.title());
        line(
            &mut page,
            columns
                .iter()
                .map(|(_, column)| mark(column, feature))
                .collect(),
        );
    }
    let reasons = reasons(columns);
    if !reasons.is_empty() {
        page.push_str("\nNot run, or failed:\n\n");
        page.push_str(&reasons);
    }
    page
}

fn version(column: &Result<Results, Absent>) -> String {
    match column {
        Ok(results) => results.version.clone(),
        Err(_) => "–".to_owned(),
    }
}

fn mark(column: &Result<Results, Absent>, feature: Feature) -> String {
    let cell = column
        .as_ref()
        .ok()
        .and_then(|results| results.cells.get(&feature));
    match cell {
        Some(Cell::Passed) => "pass",
        Some(Cell::Failed(_)) => "**FAIL**",
        Some(Cell::NotRun(_)) | None => "not run",
    }
    .to_owned()
}

/// A reason, and whom it holds for: clients, each with its features.
type Reason = (String, Vec<(&'static str, Vec<&'static str>)>);

/// Each reason once.
fn reasons(columns: &[Column]) -> String {
    let mut found: Vec<Reason> = Vec::new();
    let mut add = |reason: String, client: &'static str, feature: Option<&'static str>| {
        let known = found.iter().position(|(known, _)| *known == reason);
        let at = known.unwrap_or(found.len());
        if known.is_none() {
            found.push((reason, Vec::new()));
        }
        let clients = &mut found[at].1;
        match clients.last_mut().filter(|(last, _)| *last == client) {
            Some((_, features)) => features.extend(feature),
            None => clients.push((client, feature.into_iter().collect())),
        }
    };
    for (client, column) in columns {
        let name = client.name();
        let results = match column {
            Ok(results) => results,
            Err(absent) => {
                add(format!("not run: {}", absent.what), name, None);
                continue;
            }
        };
        for (feature, cell) in &results.cells {
            let reason = match cell {
                Cell::Passed => continue,
                Cell::Failed(why) => format!("failed: {why}"),
                Cell::NotRun(why) => format!("not run: {why}"),
            };
            add(reason.replace('\n', " "), name, Some(feature.title()));
        }
    }
    let mut page = String::new();
    for (reason, clients) in found {
        let whom = clients.iter().map(|(client, features)| match features[..] {
            [] => (*client).to_owned(),
            _ => format!("{client} ({})", features.join("; ")),
        });
        let whom: Vec<String> = whom.collect();
        let _ = writeln!(page, "* {reason}: {}", whom.join(", "));
    }
    page
}
