//! Clients that were written elsewhere: kcat, and the Python libraries through the scripts in
//! `tests/clients`.
//!
//! Where one is not installed, a test says so and passes, unless `RINGLOG_REQUIRE_CLIENTS` is set
//! (the CI script installs them and sets it): then it fails.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What a test that may be skipped came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and everything held.
    Passed,
    /// What it needs is not installed.
    Skipped,
}

/// The kcat program, when installed.
///
/// # Errors
/// When it is not installed but required.
pub fn kcat() -> Result<Option<PathBuf>> {
    match ["kcat", "kafkacat"]
        .into_iter()
        .find(|name| answers(name, "-V"))
    {
        Some(name) => Ok(Some(PathBuf::from(name))),
        None => missing("kcat").map(|()| None),
    }
}

/// Says that a test is skipped for want of something.
///
/// # Errors
/// When clients are required.
pub fn missing(what: &str) -> Result<()> {
    if std::env::var_os("RINGLOG_REQUIRE_CLIENTS").is_some() {
        bail!("{what} is not installed, and RINGLOG_REQUIRE_CLIENTS is set");
    }
    announce(&format!("SKIPPED: {what} not installed (run .ci/run)"));
    Ok(())
}

/// Prints a line past the test runner, which keeps what passing tests print to itself: nobody
/// should take a skipped test for one that ran.
pub fn announce(line: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    // Nothing can be done when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{name}: {line}");
}

/// Runs a program with an input, and returns what it printed.
///
/// # Errors
/// When it fails: with its output.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let output = output(command, input)?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// Runs a program with an input to its end, well or not.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends before it has read everything tells why by its status.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        child.wait_with_output()
    })
    .with_context(|| format!("waiting for {command:?}"))
}

/// What a client script ends with when its library is not installed.
const MISSING_LIBRARY: i32 = 3;

/// Runs one feature of a Python client script against a cluster.
///
/// # Errors
/// When a check in it fails, or when it cannot run but has to.
pub fn python_feature(script: &str, bootstrap: &str, feature: &str) -> Result<Outcome> {
    python_feature_with(script, bootstrap, feature, &[])
}

/// The same, with these variables in the script's environment.
///
/// # Errors
/// When a check in it fails, or when it cannot run but has to.
pub fn python_feature_with(
    script: &str,
    bootstrap: &str,
    feature: &str,
    environment: &[(&str, &str)],
) -> Result<Outcome> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(python) = python(tests) else {
        return missing("Python 3").map(|()| Outcome::Skipped);
    };
    let script_path = tests.join("clients").join(script);
    let mut command = Command::new(python);
    command
        .args(["-u", "-B"])
        .arg(script_path)
        .args([bootstrap, feature])
        .envs(environment.iter().copied());
    let output = output(&mut command, b"")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(MISSING_LIBRARY) {
        let library = format!("Python library of {script} ({})", printed.trim());
        return missing(&library).map(|()| Outcome::Skipped);
    }
    print!("{printed}");
    ensure!(
        output.status.success(),
        "{script} {feature} ended with {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Outcome::Passed)
}

/// The features a Python client script has, or `None` where it cannot run.
///
/// # Errors
/// When it fails although its library is there.
pub fn python_features(script: &str) -> Result<Option<Vec<String>>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(python) = python(tests) else {
        return missing("Python 3").map(|()| None);
    };
    let mut command = Command::new(python);
    command
        .arg("-B")
        .arg(tests.join("clients").join(script))
        .arg("--list");
    let output = output(&mut command, b"")?;
    if output.status.code() == Some(MISSING_LIBRARY) {
        return missing(&format!("Python library of {script}")).map(|()| None);
    }
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout)?;
    Ok(Some(names.lines().map(str::to_owned).collect()))
}

/// The environment that the CI script makes, or else whatever is installed.
fn python(tests: &Path) -> Option<PathBuf> {
    let own = tests.join(".venv/bin/python");
    [own, PathBuf::from("python3")]
        .into_iter()
        .find(|python| answers(python, "--version"))
}

/// Whether a program is there and runs.
fn answers(program: impl AsRef<OsStr>, argument: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
