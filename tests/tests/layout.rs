//! The walls of the house: which crate may know which, which file may import which, and where
//! `unsafe` may stand. Read from the sources and manifests, so that a wall cannot be moved without
//! this test being moved with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ringlog_tests::rust_source::{Mention, is_name, mentions, tokens};

/// Each crate, where it lies, and which of the others it may depend on.
const CRATES: [(&str, &str, &[&str]); 9] = [
    ("ringlog-types", "storage/types", &[]),
    ("ringlog-storage", "storage", &["ringlog-types"]),
    ("ringlog-engine", "server/engine", &["ringlog-types"]),
    (
        "ringlog-machines",
        "server/machines",
        &["ringlog-types", "ringlog-storage", "ringlog-engine"],
    ),
    (
        "ringlog-tuning",
        "tuning",
        &["ringlog-types", "ringlog-storage"],
    ),
    (
        "ringlog-server",
        "server",
        &[
            "ringlog-types",
            "ringlog-storage",
            "ringlog-engine",
            "ringlog-machines",
            "ringlog-tuning",
        ],
    ),
    (
        "ringlog-loadgen",
        "loadgen",
        &[
            "ringlog-types",
            "ringlog-storage",
            "ringlog-tuning",
            "ringlog-server",
        ],
    ),
    (
        "ringlog-benches",
        "benches",
        &[
            "ringlog-types",
            "ringlog-storage",
            "ringlog-engine",
            "ringlog-server",
            "ringlog-tuning",
        ],
    ),
    (
        "ringlog-tests",
        "tests",
        &[
            "ringlog-types",
            "ringlog-storage",
            "ringlog-engine",
            "ringlog-machines",
        ],
    ),
];

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: [&str; 4] = [
    "storage/src/io/",
    "storage/src/buffer.rs",
    "storage/src/buffer/",
    "server/src/runtime.rs",
];

/// Past this a file is two.
const MOST_LINES: usize = 1000;

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests lie in a workspace")
}

/// Every Rust file below a folder, by its path from the root.
fn rust_files(folder: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root()?.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = folder
            .read_dir()
            .with_context(|| format!("listing {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path.strip_prefix(root()?)?.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "no Rust files below {folder}");
    Ok(found)
}

/// Files of a crate's library and binaries, without those that are there for its tests only.
fn crate_files(folder: &str) -> Result<Vec<String>> {
    let mut files = rust_files(&format!("{folder}/src"))?;
    files.retain(|file| !file.contains("/tests/") && !file.ends_with("/tests.rs"));
    Ok(files)
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(root()?.join(file)).with_context(|| format!("reading {file}"))
}

fn manifest(folder: &str) -> Result<toml::Table> {
    Ok(read(&format!("{folder}/Cargo.toml"))?.parse()?)
}

/// Names in a table of dependencies.
fn dependencies(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    let table = manifest.get(table).and_then(toml::Value::as_table);
    table
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn every_crate_of_the_workspace_is_known_here() -> Result<()> {
    let workspace = manifest(".")?;
    let members = workspace["workspace"]["members"]
        .as_array()
        .context("members")?;
    let members: BTreeSet<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    let known: BTreeSet<&str> = CRATES.iter().map(|(_, folder, _)| *folder).collect();
    assert_eq!(members, known);
    Ok(())
}

#[test]
fn crates_depend_only_on_those_below_them() -> Result<()> {
    for (name, folder, allowed) in CRATES {
        let found = dependencies(&manifest(folder)?, "dependencies");
        let found = found
            .iter()
            .filter(|dependency| dependency.starts_with("ringlog-"));
        let wrong: Vec<_> = found
            .filter(|found| !allowed.contains(&found.as_str()))
            .collect();
        ensure!(wrong.is_empty(), "{name} depends on {wrong:?}");
    }
    Ok(())
}

#[test]
fn the_engine_knows_no_socket_no_file_and_no_clock() -> Result<()> {
    let found = dependencies(&manifest("server/engine")?, "dependencies");
    let allowed = ["ringlog-types", "thiserror"].map(str::to_owned);
    let wrong: Vec<_> = found
        .iter()
        .filter(|name| !allowed.contains(name))
        .collect();
    ensure!(wrong.is_empty(), "the engine depends on {wrong:?}");
    const FORBIDDEN: [&str; 7] = [
        "fs",
        "net",
        "process",
        "thread",
        "env",
        "Instant",
        "SystemTime",
    ];
    for file in crate_files("server/engine")? {
        let words = tokens(&read(&file)?);
        for mention in mentions(&words) {
            let standard = mention.segments.first().is_some_and(|first| first == "std");
            let wrong = mention
                .segments
                .iter()
                .any(|word| FORBIDDEN.contains(&word.as_str()));
            ensure!(
                !(standard && wrong),
                "{file} uses {}",
                mention.segments.join("::")
            );
        }
        let wrong = words
            .iter()
            .find(|word| *word == "async" || *word == "await");
        ensure!(wrong.is_none(), "{file} is asynchronous");
    }
    Ok(())
}

#[test]
fn storage_knows_no_protocol() -> Result<()> {
    for folder in ["storage", "storage/types"] {
        let manifest = manifest(folder)?;
        for table in ["dependencies", "dev-dependencies"] {
            let found = dependencies(&manifest, table);
            let wrong = found
                .iter()
                .find(|name| name.contains("kafka") || name.contains("tokio"));
            ensure!(wrong.is_none(), "{folder} depends on {wrong:?}");
        }
        for file in crate_files(folder)? {
            let words = tokens(&read(&file)?);
            let wrong = words
                .iter()
                .find(|word| word.to_lowercase().contains("kafka"));
            ensure!(wrong.is_none(), "{file} names {wrong:?}");
        }
    }
    Ok(())
}

#[test]
fn the_faces_do_not_reach_past_the_node_to_the_disk() -> Result<()> {
    const FACES: [&str; 2] = ["server/src/kafka/", "server/src/http/"];
    for file in crate_files("server")? {
        if !FACES.iter().any(|face| file.starts_with(face)) {
            continue;
        }
        for mention in mentions(&tokens(&read(&file)?)) {
            let wrong = mention
                .segments
                .starts_with(&["ringlog_storage".into(), "io".into()]);
            ensure!(!wrong, "{file} uses {}", mention.segments.join("::"));
        }
    }
    Ok(())
}

#[test]
fn unsafe_stands_only_in_its_rooms() -> Result<()> {
    for (_, folder, _) in CRATES {
        for file in rust_files(folder)? {
            let allowed = UNSAFE_ROOMS.iter().any(|room| file.starts_with(room));
            let found = tokens(&read(&file)?).iter().any(|word| word == "unsafe");
            ensure!(allowed || !found, "{file} has `unsafe`");
        }
    }
    Ok(())
}

#[test]
fn no_file_is_too_long_and_each_says_what_it_is() -> Result<()> {
    const VAGUE: [&str; 4] = ["utils.rs", "util.rs", "common.rs", "helpers.rs"];
    for (_, folder, _) in CRATES {
        for file in rust_files(folder)? {
            let text = read(&file)?;
            let lines = text.lines().count();
            ensure!(lines <= MOST_LINES, "{file} has {lines} lines");
            let name = Path::new(&file)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            // Tests in a file of their own belong to the file beside them, which says what it is.
            let introduced = text.starts_with("//!") || name == "tests.rs";
            ensure!(introduced, "{file} does not begin with what it is (`//!`)");
            ensure!(
                !VAGUE.contains(&name.as_ref()),
                "{file}: a name that says nothing"
            );
        }
    }
    Ok(())
}

/// The modules of a crate: path to file.
struct Modules {
    files: BTreeMap<Vec<String>, String>,
}

impl Modules {
    fn of(folder: &str) -> Result<Modules> {
        let mut files = BTreeMap::new();
        for file in crate_files(folder)? {
            let inside = Path::new(&file).strip_prefix(format!("{folder}/src"))?;
            let in_binary = inside.starts_with("bin") || inside == Path::new("main.rs");
            if in_binary {
                continue;
            }
            let mut path: Vec<String> = inside
                .with_extension("")
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            if path
                .last()
                .is_some_and(|last| last == "mod" || last == "lib")
            {
                path.pop();
            }
            files.insert(path, file);
        }
        Ok(Modules { files })
    }

    /// The module that a path written in `from` leads to, as far as modules go, and what of the
    /// path is left.
    fn resolve(&self, from: &[String], mention: &Mention) -> Option<(Vec<String>, Vec<String>)> {
        let mut segments = mention.segments.as_slice();
        let mut module: Vec<String> = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.to_vec(),
            child => {
                let child: Vec<String> = [from, &[child.to_owned()]].concat();
                self.files.contains_key(&child).then(|| from.to_vec())?
            }
        };
        while let Some((first, rest)) = segments.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => {
                    module.pop()?;
                }
                name => {
                    let deeper: Vec<String> = [module.as_slice(), &[name.to_owned()]].concat();
                    if !self.files.contains_key(&deeper) {
                        break;
                    }
                    module = deeper;
                }
            }
            segments = rest;
        }
        Some((module, segments.to_vec()))
    }
}

/// Which file imports which, in one crate. A face that hands on names of its children (`pub use`)
/// does not import them; whoever takes such a name from the face imports the child.
fn imports(folder: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let modules = Modules::of(folder)?;
    let mut mentioned = BTreeMap::new();
    let mut handed_on: BTreeMap<(Vec<String>, String), Vec<String>> = BTreeMap::new();
    for (module, file) in &modules.files {
        let found = mentions(&tokens(&read(file)?));
        for mention in found.iter().filter(|mention| mention.reexport) {
            let Some((target, left)) = modules.resolve(module, mention) else {
                continue;
            };
            let inside = target.starts_with(module) && target != *module;
            if let (true, Some(name)) = (inside, left.first()) {
                handed_on.insert((module.clone(), name.clone()), target);
            }
        }
        mentioned.insert(module, found);
    }
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, file) in &modules.files {
        let into = edges.entry(file.clone()).or_default();
        for mention in &mentioned[module] {
            let Some((mut target, left)) = modules.resolve(module, mention) else {
                continue;
            };
            if mention.reexport && target.starts_with(module) {
                continue;
            }
            if let Some(name) = left.first().filter(|name| is_name(name)) {
                while let Some(behind) = handed_on.get(&(target.clone(), name.clone())) {
                    target = behind.clone();
                }
            }
            if let Some(other) = modules.files.get(&target).filter(|other| *other != file) {
                into.insert(other.clone());
            }
        }
    }
    Ok(edges)
}

/// The shortest circle through each file, if there is one.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in edges.get(way.last()?).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn no_two_files_import_each_other() -> Result<()> {
    let mut circles = BTreeSet::new();
    let mut edge_count = 0;
    for (_, folder, _) in CRATES {
        let edges = imports(folder)?;
        edge_count += edges.values().map(BTreeSet::len).sum::<usize>();
        for file in edges.keys() {
            if let Some(mut way) = circle(&edges, file) {
                let least = way
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, file)| (*file).clone());
                let least = least.map_or(0, |(index, _)| index);
                way.rotate_left(least);
                circles.insert(way.join(" -> "));
            }
        }
    }
    println!("{edge_count} imports between files");
    ensure!(
        edge_count > 100,
        "only {edge_count} imports were found: the reader is broken"
    );
    let listed: Vec<String> = circles.into_iter().collect();
    ensure!(
        listed.is_empty(),
        "files import each other in circles:\n{}",
        listed.join("\n")
    );
    Ok(())
}

#[test]
fn a_circle_would_be_found() {
    let edge = |from: &str, to: &[&str]| {
        (
            from.to_owned(),
            to.iter().map(|name| (*name).to_owned()).collect(),
        )
    };
    let edges = BTreeMap::from([edge("a", &["b"]), edge("b", &["c", "d"]), edge("c", &["a"])]);
    assert_eq!(circle(&edges, "a").map(|way| way.len()), Some(3));
    assert_eq!(circle(&edges, "d"), None);
    assert_eq!(circle(&edges, "b").map(|way| way.len()), Some(3));
}
