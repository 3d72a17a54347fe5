//! The programs under test. A package's tests get the paths of their own binaries from cargo, but
//! not of other packages', so they are looked for beside the test itself and built when they are
//! missing or older than their sources.
//!
//! `RINGLOG_BIN` and `RINGLOG_LOADGEN_BIN` name other ones, for example of a release build.
//! `RINGLOG_TEST_AS_BUILT` says that those beside the test are not older than their sources, as behind
//! `cargo test --workspace --no-run`, which makes them but leaves no word of what they were made of.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// The node.
///
/// # Errors
/// When it cannot be found or built.
pub fn ringlog() -> Result<PathBuf> {
    program("RINGLOG_BIN", "ringlog")
}

/// The load generator.
///
/// # Errors
/// When it cannot be found or built.
pub fn loadgen() -> Result<PathBuf> {
    program("RINGLOG_LOADGEN_BIN", "loadgen")
}

/// Cargo's build directory, by where this test lies in it.
///
/// # Errors
/// When this test does not lie in one.
pub fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile.parent();
    Ok(target
        .with_context(|| format!("{} has no parent", profile.display()))?
        .to_owned())
}

/// `TARGET/PROFILE`, where binaries lie; tests lie one deeper, in `deps`.
fn profile_dir() -> Result<PathBuf> {
    let test = std::env::current_exe().context("finding this test's own file")?;
    let deps = test
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == "deps"));
    let profile = deps.and_then(Path::parent).or_else(|| test.parent());
    Ok(profile
        .with_context(|| format!("{} has no parent", test.display()))?
        .to_owned())
}

fn program(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(variable) {
        let path = PathBuf::from(given);
        ensure!(
            path.is_file(),
            "{variable} names {}, which is not a file",
            path.display()
        );
        return Ok(path);
    }
    static BUILT: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_if_needed().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))?;
    Ok(profile_dir()?.join(name))
}

fn build_if_needed() -> Result<()> {
    let profile = profile_dir()?;
    let as_built = std::env::var_os("RINGLOG_TEST_AS_BUILT").is_some();
    let is_there = |name| match as_built {
        true => profile.join(name).is_file(),
        false => is_current(&profile, name),
    };
    if ["ringlog", "loadgen"].into_iter().all(is_there) {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // The whole workspace, so that cargo settles on the same features of the dependencies as
    // `cargo test --workspace` does, and compiles none of them again.
    build.args([
        "build",
        "--workspace",
        "--bin",
        "ringlog",
        "--bin",
        "loadgen",
    ]);
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => {}
        Some(name) => {
            build.args(["--profile", name]);
        }
        None => bail!("{} is not a profile's directory", profile.display()),
    }
    build
        .arg("--target-dir")
        .arg(target_dir()?)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = build.output().context("running cargo build")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "building the programs under test failed:\n{errors}"
    );
    Ok(())
}

/// Whether a binary is there and not older than anything it was made of: cargo writes that down
/// beside it, as a make rule.
fn is_current(profile: &Path, name: &str) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    let Ok(made) = modified(&profile.join(name)) else {
        return false;
    };
    let Ok(rule) = std::fs::read_to_string(profile.join(format!("{name}.d"))) else {
        return false;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let manifests = root
        .iter()
        .flat_map(|root| [root.join("Cargo.lock"), root.join("Cargo.toml")]);
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    // A space inside a path is written with a backslash before it.
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources
        .split_whitespace()
        .map(|path| PathBuf::from(path.replace('\0', " ")));
    let older = |path: &Path| modified(path).is_ok_and(|at: SystemTime| at <= made);
    sources.all(|path| older(&path)) && manifests.into_iter().all(|path| older(&path))
}
