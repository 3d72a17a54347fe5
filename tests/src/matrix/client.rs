//! The clients, and how the program that drives each is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A client that was written elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// The program.
    Kcat,
    /// librdkafka for Python.
    Confluent,
    /// Pure Python.
    KafkaPython,
    /// Python's asyncio.
    Aiokafka,
    /// Node.js.
    Kafkajs,
    /// Kafka's own.
    Java,
    /// Go.
    FranzGo,
}

/// Why a client cannot be driven here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// What is missing.
    pub what: String,
    /// Whether the CI script would have installed it: the language it is written in is there.
    pub installable: bool,
}

impl Client {
    /// All, in the order of the table.
    pub const ALL: [Client; 7] = [
        Client::Kcat,
        Client::Confluent,
        Client::KafkaPython,
        Client::Aiokafka,
        Client::Kafkajs,
        Client::Java,
        Client::FranzGo,
    ];

    /// As it calls itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Client::Kcat => "kcat",
            Client::Confluent => "confluent-kafka",
            Client::KafkaPython => "kafka-python",
            Client::Aiokafka => "aiokafka",
            Client::Kafkajs => "kafkajs",
            Client::Java => "kafka-clients (Java)",
            Client::FranzGo => "franz-go",
        }
    }

    /// The programs that its driver needs to be built and run, which nobody installs for a test.
    fn languages(self) -> &'static [&'static str] {
        match self {
            Client::Kcat | Client::Confluent | Client::KafkaPython | Client::Aiokafka => {
                &["python3"]
            }
            Client::Kafkajs => &["node", "npm"],
            Client::Java => &["java", "mvn"],
            Client::FranzGo => &["go"],
        }
    }

    /// What the CI script makes for it; where that is older than what it is made from, it is not
    /// what is to be tested.
    fn built(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Client::Kcat | Client::Confluent | Client::KafkaPython | Client::Aiokafka => None,
            Client::Kafkajs => Some((
                "kafkajs/node_modules/.package-lock.json",
                &["kafkajs/package-lock.json"],
            )),
            Client::Java => Some((
                "java/target/built",
                &[
                    "java/pom.xml",
                    "java/src/main/java/Driver.java",
                    "java/src/main/java/History.java",
                    "java/src/main/java/Member.java",
                ],
            )),
            Client::FranzGo => Some((
                "franz-go/build/driver",
                &[
                    "franz-go/go.mod",
                    "franz-go/main.go",
                    "franz-go/records.go",
                    "franz-go/admin.go",
                    "franz-go/credentials.go",
                    "franz-go/crowd.go",
                    "franz-go/history.go",
                ],
            )),
        }
    }

    /// The driver's command line, but for its arguments.
    ///
    /// # Errors
    /// When what it needs is not here.
    pub fn command(self) -> Result<Command, Absent> {
        let clients = directory();
        let absent = |what: String, installable| Absent { what, installable };
        for language in self.languages() {
            if which(language).is_none() {
                return Err(absent(format!("{language} is not installed"), false));
            }
        }
        if let Some((made, sources)) = self.built() {
            let made_at = modified(&clients.join(made));
            let current = made_at.is_some_and(|made_at| {
                let mut sources = sources.iter();
                sources
                    .all(|source| modified(&clients.join(source)).is_some_and(|at| at <= made_at))
            });
            if !current {
                return Err(absent(
                    format!("its driver is not built from what is there ({made})"),
                    true,
                ));
            }
        }
        Ok(match self {
            Client::Kcat => python(&clients, "kcat_driver.py"),
            Client::Confluent => python(&clients, "confluent_driver.py"),
            Client::KafkaPython => python(&clients, "kafka_python_driver.py"),
            Client::Aiokafka => python(&clients, "aiokafka_driver.py"),
            Client::Kafkajs => {
                let mut command = Command::new("node");
                command.arg(clients.join("kafkajs/driver.js"));
                command
            }
            Client::Java => java(&clients.join("java/target")),
            Client::FranzGo => Command::new(clients.join("franz-go/build/driver")),
        })
    }
}

/// Where the drivers are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn python(clients: &Path, script: &str) -> Command {
    let own = clients.with_file_name(".venv/bin/python");
    let python = if own.exists() {
        own
    } else {
        PathBuf::from("python3")
    };
    let mut command = Command::new(python);
    command.args(["-u", "-B"]).arg(clients.join(script));
    command
}

fn java(target: &Path) -> Command {
    let mut command = Command::new("java");
    // It lives for seconds: what a server's JVM does first would be most of what it does.
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    let classes = target.join("classes");
    let path = format!("{}:{}/lib/*", classes.display(), target.display());
    command.args(["-cp", &path, "Driver"]);
    command
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    path.metadata().ok()?.modified().ok()
}

fn which(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&paths).map(|folder| folder.join(program));
    found.into_iter().find(|path| path.is_file())
}

/// Settings of this process that a driver has no use for.
pub(crate) fn quiet(command: &mut Command) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
}
