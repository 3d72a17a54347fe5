//! Finds the value of each setting: flag before environment before file before default, and
//! remembers where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::options::{Kind, OPTIONS, OptionRow};

/// The file that is read when it lies in the working directory and no other is named.
const DEFAULT_FILE: &str = "ringlog.toml";

/// Between the values of a setting that has several.
const SEPARATOR: &str = "\n";

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration {path} failed: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration {path} is not valid: {reason}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// The file has a key that means nothing.
    #[error(
        "the configuration {path} sets {key}, which does not exist; `ringlog serve --print-config` \
         shows what can be set"
    )]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: String,
    },
    /// A value is not what it should be.
    #[error("{name} = {value:?} ({origin}): {reason}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// Where it was set.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag.
    Flag,
    /// An environment variable.
    Environment(String),
    /// A configuration file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("command line"),
            Origin::Environment(variable) => write!(f, "environment {variable}"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// Every setting's value as text, with its origin.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (Option<String>, Origin)>,
}

impl Layers {
    /// Reads all layers. `file`: a configuration file that was named; it must be there then.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(
        flags: &ArgMatches,
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> Result<Layers, ConfigError> {
        let (path, from_file) = read_file(file)?;
        let mut values = BTreeMap::new();
        for option in OPTIONS {
            let on_command_line = flags.value_source(option.name) == Some(ValueSource::CommandLine);
            let given = flags.get_many::<String>(option.name).into_iter().flatten();
            let given: Vec<&str> = given.map(String::as_str).collect();
            let variable = option.variable();
            let found = if on_command_line && !given.is_empty() {
                (Some(given.join(SEPARATOR)), Origin::Flag)
            } else if let Some(value) = environment(&variable) {
                let value = match option.kind {
                    Kind::Paths | Kind::Files => value.replace(':', SEPARATOR),
                    _ => value,
                };
                (Some(value), Origin::Environment(variable))
            } else if let Some(value) = from_file.get(option.name) {
                (Some(value.clone()), Origin::File(path.clone()))
            } else {
                (option.default.map(str::to_owned), Origin::Default)
            };
            values.insert(option.name, found);
        }
        let layers = Layers { values };
        layers.check_kinds()?;
        Ok(layers)
    }

    /// A setting's value as text, if it has one.
    ///
    /// # Panics
    /// When there is no such setting.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values[name].0.as_deref()
    }

    /// The values of a setting that may have several.
    ///
    /// # Panics
    /// When there is no such setting.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text(name)
            .into_iter()
            .flat_map(|text| text.split(SEPARATOR))
    }

    /// A setting's value as a number.
    ///
    /// # Errors
    /// When it is none, or out of `least..=most`.
    pub fn number(
        &self,
        name: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = parse_bytes(text)
            .ok_or_else(|| self.refuse(name, "a whole number is expected".to_owned()))?;
        if (least..=most).contains(&number) {
            Ok(Some(number))
        } else {
            Err(self.refuse(name, format!("a number from {least} to {most} is expected")))
        }
    }

    /// A setting that is `true` or `false`.
    #[must_use]
    pub fn switch(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// What is wrong with a setting's value.
    #[must_use]
    pub fn refuse(&self, name: &'static str, reason: String) -> ConfigError {
        let (value, origin) = self.values[name].clone();
        ConfigError::Value {
            name,
            value: value.unwrap_or_default(),
            origin,
            reason,
        }
    }

    /// Where a setting's value came from.
    ///
    /// # Panics
    /// When there is no such setting.
    #[must_use]
    pub fn origin(&self, name: &str) -> &Origin {
        &self.values[name].1
    }

    /// Names of the settings that somebody gave a value.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let values = self.values.iter();
        let given = values.filter(|(_, (_, origin))| *origin != Origin::Default);
        given.map(|(name, _)| *name)
    }

    /// All settings as a configuration file, each with where it came from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for option in OPTIONS {
            let (value, origin) = &self.values[option.name];
            let line = match value {
                Some(value) => format!("{} = {}", option.name, toml_value(option, value)),
                None => format!("# {} = (not set)", option.name),
            };
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{line:<44} # {origin}");
        }
        out
    }

    fn check_kinds(&self) -> Result<(), ConfigError> {
        for option in OPTIONS {
            let Some(value) = self.text(option.name) else {
                continue;
            };
            let reason = match option.kind {
                Kind::Text if value.is_empty() => "a text is expected".to_owned(),
                Kind::Paths if value.split(SEPARATOR).any(str::is_empty) => {
                    "a directory is expected".to_owned()
                }
                Kind::Files if !value.split(SEPARATOR).all(is_named_file) => {
                    "NAME=FILE is expected".to_owned()
                }
                Kind::Switch if !matches!(value, "true" | "false") => {
                    "true or false is expected".to_owned()
                }
                Kind::Word(words) if !words.contains(&value) => {
                    format!("one of {} is expected", words.join(", "))
                }
                Kind::Number if value.parse::<u64>().is_err() => {
                    "a whole number is expected".to_owned()
                }
                Kind::Bytes if parse_bytes(value).is_none() => {
                    "a number of bytes is expected, such as 1048576, 512KiB, 64MiB or 2GiB"
                        .to_owned()
                }
                _ => continue,
            };
            return Err(self.refuse(option.name, reason));
        }
        Ok(())
    }
}

fn read_file(named: Option<&Path>) -> Result<(PathBuf, BTreeMap<String, String>), ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((path, BTreeMap::new()));
        }
        Err(error) => return Err(ConfigError::File { path, error }),
    };
    let table: toml::Table =
        text.parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax {
                path: path.clone(),
                reason: error.to_string(),
            })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if !OPTIONS.iter().any(|option| option.name == key) {
            return Err(ConfigError::UnknownKey { path, key });
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(switch) => switch.to_string(),
            toml::Value::Array(items) if is_list(&key) => {
                let items = items.iter().map(|item| item.as_str().unwrap_or_default());
                items.collect::<Vec<_>>().join(SEPARATOR)
            }
            other => {
                let reason = format!(
                    "{key} is {}, a text, number or switch is expected",
                    other.type_str()
                );
                return Err(ConfigError::Syntax { path, reason });
            }
        };
        values.insert(key, text);
    }
    Ok((path, values))
}

/// Whether a key may have several values.
fn is_list(key: &str) -> bool {
    let mut options = OPTIONS.iter();
    options.any(|option| option.name == key && matches!(option.kind, Kind::Paths | Kind::Files))
}

/// `NAME=FILE`. The name may hold `=`, as user names may: the file's may not.
fn is_named_file(text: &str) -> bool {
    text.rsplit_once('=')
        .is_some_and(|(name, file)| !name.is_empty() && !file.is_empty())
}

fn toml_value(option: &OptionRow, value: &str) -> String {
    match option.kind {
        Kind::Paths | Kind::Files if value.contains(SEPARATOR) => {
            let items = value.split(SEPARATOR).map(|item| item.to_owned().into());
            toml::Value::Array(items.collect()).to_string()
        }
        Kind::Number | Kind::Switch => value.to_owned(),
        Kind::Bytes if value.parse::<u64>().is_ok() => value.to_owned(),
        Kind::Text | Kind::Paths | Kind::Files | Kind::Word(_) | Kind::Bytes => {
            toml::Value::String(value.to_owned()).to_string()
        }
    }
}

/// `1048576`, `512KiB`, `64 MiB`, `2GiB`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim_end();
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::options::add_flags;
    use super::*;

    fn flags(arguments: &[&str]) -> ArgMatches {
        let command = add_flags(Command::new("serve"));
        command
            .try_get_matches_from(std::iter::once(&"serve").chain(arguments))
            .unwrap()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
        let file = file("num_partitions = 3\nhttp_addr = \"127.0.0.1:1\"\ncores = 2\n");
        let environment = |variable: &str| match variable {
            "RINGLOG_NUM_PARTITIONS" => Some("5".to_owned()),
            "RINGLOG_HTTP_ADDR" => Some("127.0.0.1:2".to_owned()),
            _ => None,
        };
        let flags = flags(&["--num-partitions", "7"]);
        let layers = Layers::read(&flags, environment, Some(file.path())).unwrap();
        assert_eq!(layers.text("num_partitions"), Some("7"));
        assert_eq!(*layers.origin("num_partitions"), Origin::Flag);
        assert_eq!(layers.text("http_addr"), Some("127.0.0.1:2"));
        assert_eq!(
            *layers.origin("http_addr"),
            Origin::Environment("RINGLOG_HTTP_ADDR".to_owned())
        );
        assert_eq!(layers.text("cores"), Some("2"));
        assert_eq!(
            *layers.origin("cores"),
            Origin::File(file.path().to_owned())
        );
        assert_eq!(layers.text("kafka_addr"), Some("127.0.0.1:9092"));
        assert_eq!(*layers.origin("kafka_addr"), Origin::Default);
    }

    #[test]
    fn several_directories_are_given_by_flags_a_variable_or_a_list() {
        let directories = |layers: &Layers| -> Vec<String> {
            layers.texts("data_dir").map(str::to_owned).collect()
        };
        let by_flags = flags(&["--data-dir", "/a", "--data-dir=/b:c"]);
        let layers = Layers::read(&by_flags, |_| None, None).unwrap();
        assert_eq!(directories(&layers), ["/a", "/b:c"]);
        let printed = file(&layers.to_toml());
        let again = Layers::read(&flags(&[]), |_| None, Some(printed.path())).unwrap();
        assert_eq!(directories(&again), ["/a", "/b:c"]);
        let variable = |name: &str| (name == "RINGLOG_DATA_DIR").then(|| "/a:/b".to_owned());
        let layers = Layers::read(&flags(&[]), variable, None).unwrap();
        assert_eq!(directories(&layers), ["/a", "/b"]);
        let one = file("data_dir = \"/a\"\n");
        let layers = Layers::read(&flags(&[]), |_| None, Some(one.path())).unwrap();
        assert_eq!(directories(&layers), ["/a"]);
        for wrong in [
            "data_dir = [\"/a\", 7]\n",
            "http_addr = [\"x\"]\n",
            "data_dir = []\n",
        ] {
            let wrong = file(wrong);
            assert!(Layers::read(&flags(&[]), |_| None, Some(wrong.path())).is_err());
        }
    }

    #[test]
    fn what_is_printed_is_a_file_that_sets_the_same_values() {
        let set = flags(&[
            "--insecure",
            "--segment-bytes=8MiB",
            "--auto-create-topics=false",
        ]);
        let layers = Layers::read(&set, |_| None, None).unwrap();
        let printed = file(&layers.to_toml());
        let again = Layers::read(&flags(&[]), |_| None, Some(printed.path())).unwrap();
        for option in OPTIONS {
            assert_eq!(
                again.text(option.name),
                layers.text(option.name),
                "{}",
                option.name
            );
        }
        assert!(layers.to_toml().contains("command line"));
        assert!(again.switch("insecure") && !again.switch("auto_create_topics"));
    }

    #[test]
    fn wrong_values_and_keys_are_refused_by_name() {
        let bad = |arguments: &[&str]| Layers::read(&flags(arguments), |_| None, None).unwrap_err();
        assert!(
            bad(&["--segment-bytes", "lots"])
                .to_string()
                .contains("segment_bytes")
        );
        assert!(
            bad(&["--log-format", "xml"])
                .to_string()
                .contains("text, json")
        );
        assert!(bad(&["--spin-us=-1"]).to_string().contains("command line"));
        let unknown = file("no_such_thing = 1\n");
        let refused = Layers::read(&flags(&[]), |_| None, Some(unknown.path())).unwrap_err();
        assert!(refused.to_string().contains("no_such_thing"));
        let missing = Layers::read(
            &flags(&[]),
            |_| None,
            Some(Path::new("/nonexistent/x.toml")),
        );
        assert!(matches!(missing, Err(ConfigError::File { .. })));
    }

    #[test]
    fn numbers_of_bytes_are_read_with_their_units() {
        assert_eq!(parse_bytes("512"), Some(512));
        assert_eq!(parse_bytes("512KiB"), Some(512 << 10));
        assert_eq!(parse_bytes("64 MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("2GiB"), Some(2 << 30));
        assert_eq!(parse_bytes("2GB"), None);
        assert_eq!(parse_bytes("MiB"), None);
        assert_eq!(parse_bytes("99999999999GiB"), None);
    }
}
