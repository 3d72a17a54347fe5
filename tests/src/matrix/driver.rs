//! A client in a process of its own, which does what it is told, one line for each command.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::client::{Absent, Client, quiet};

/// Longer than any command waits by itself; reached only when a client hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a driver ends with when its client is not installed.
const MISSING_LIBRARY: i32 = 3;

/// How a driver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done, and this was found.
    Done(String),
    /// This client cannot do that.
    Unsupported(String),
}

/// A running driver. When dropped, its processes are gone.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    errors: PathBuf,
    version: String,
}

impl Driver {
    /// Starts one, which writes a history `NAME.jsonl` in a directory, and what it complains of in
    /// `NAME.log` beside it.
    ///
    /// # Errors
    /// When it does not start although it is installed. Inside: what it needs and is not here.
    pub fn start(
        client: Client,
        bootstrap: &str,
        directory: &Path,
        name: &str,
    ) -> Result<Result<Driver, Absent>> {
        Driver::start_with(client, bootstrap, directory, name, &[])
    }

    /// The same, with these variables in its environment.
    ///
    /// # Errors
    /// As [`Driver::start`].
    pub fn start_with(
        client: Client,
        bootstrap: &str,
        directory: &Path,
        name: &str,
        environment: &[(&str, &str)],
    ) -> Result<Result<Driver, Absent>> {
        let mut command = match client.command() {
            Ok(command) => command,
            Err(absent) => return Ok(Err(absent)),
        };
        let errors = directory.join(format!("{name}.log"));
        command
            .envs(environment.iter().copied())
            .arg(bootstrap)
            .arg(directory.join(format!("{name}.jsonl")))
            .stderr(File::create(&errors)?)
            // With whatever it starts it is killed as one.
            .process_group(0);
        quiet(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let commands = child.stdin.take().context("its input is a pipe")?;
        let answers = lines(BufReader::new(
            child.stdout.take().context("its output is a pipe")?,
        ));
        let mut driver = Driver {
            child,
            commands,
            answers,
            errors,
            version: String::new(),
        };
        match driver.ask("version") {
            Ok(Answer::Done(version)) => driver.version = version,
            Ok(Answer::Unsupported(why)) => bail!("{} has no version: {why}", client.name()),
            Err(error) => {
                let ended = driver.child.wait()?;
                if ended.code() == Some(MISSING_LIBRARY) {
                    let what = format!("{error:#}");
                    let installable = true;
                    return Ok(Err(Absent { what, installable }));
                }
                return Err(error);
            }
        }
        Ok(Ok(driver))
    }

    /// Which version of the client it drives.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Gives a command and waits until it is done.
    ///
    /// # Errors
    /// When it fails, the driver ends, or there is no answer.
    pub fn ask(&mut self, command: &str) -> Result<Answer> {
        self.tell(command)?;
        self.answer().with_context(|| command.to_owned())
    }

    /// Gives a command that the client has to be able to do.
    ///
    /// # Errors
    /// As [`Driver::ask`], and when it cannot do that.
    pub fn must(&mut self, command: &str) -> Result<String> {
        match self.ask(command)? {
            Answer::Done(found) => Ok(found),
            Answer::Unsupported(why) => bail!("{command}: {why}"),
        }
    }

    fn tell(&mut self, command: &str) -> Result<()> {
        // A driver that ended is told apart when its answer is missing.
        let _ = writeln!(self.commands, "{command}").and_then(|()| self.commands.flush());
        Ok(())
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = match self.answers.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("no answer within {PATIENCE:?}: {}", self.complaints())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the driver ended: {}", self.complaints())
            }
        };
        let (verdict, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verdict {
            "ok" => Ok(Answer::Done(rest.to_owned())),
            "unsupported" => Ok(Answer::Unsupported(rest.to_owned())),
            _ => bail!("{line}\n{}", self.complaints()),
        }
    }

    /// All that it complained of.
    #[must_use]
    pub fn all_complaints(&self) -> String {
        let text = std::fs::read(&self.errors).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of what it complained of.
    fn complaints(&self) -> String {
        const LINES: usize = 15;
        let text = self.all_complaints();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Kills it, with whatever it started, where it stands.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill9(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(
            ended.is_none(),
            "the driver had ended with {ended:?}: {}",
            self.complaints()
        );
        self.kill_group();
        Ok(())
    }

    fn kill_group(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // Whoever is left of it; none, when it had ended with all that it started.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Lines as they come, from a thread that ends with them.
fn lines(from: impl std::io::BufRead + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
