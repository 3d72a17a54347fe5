//! A topic's configuration: what was set, checked and parsed, beside the defaults.
//!
//! Invariant: what a [`TopicConfig`] holds has passed the table in `config_definitions`; its
//! getters cannot fail and cost nothing.

use std::collections::BTreeMap;

use ringlog_types::batch::TimestampType;

use crate::limits::CONFIGS_PER_COMMAND;

use super::command::ConfigChange;
use super::config_definitions::{ConfigType, DEFINITIONS, Definition, find, items};
use super::error::TopicError;
use super::names::shown;

/// What an acknowledgement means: `ringlog.durability`.
/// From the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the node's memory: the end of the process loses it, until it is written.
    Buffered,
    /// Written, the device may still hold it in a volatile cache: survives the end of the
    /// process, not a power cut.
    Written,
    /// On stable storage: survives a crash of the node and a power cut.
    Flushed,
}

impl Durability {
    /// All, from the weakest to the strongest; each at the place of its number.
    pub const ALL: [Durability; 3] = [
        Durability::Buffered,
        Durability::Written,
        Durability::Flushed,
    ];

    /// As the configuration spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Durability::Buffered => "buffered",
            Durability::Written => "written",
            Durability::Flushed => "flushed",
        }
    }
}

/// What is done with old records: `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Deleted by limits of time and bytes.
    Delete,
    /// Removed when their key comes again later.
    Compact,
    /// Both.
    CompactDelete,
}

impl CleanupPolicy {
    /// Whether limits of time and bytes apply.
    #[must_use]
    pub fn deletes(self) -> bool {
        self != CleanupPolicy::Compact
    }

    /// Whether the last record of each key stays.
    #[must_use]
    pub fn compacts(self) -> bool {
        self != CleanupPolicy::Delete
    }
}

/// A configuration entry as `DescribeConfigs` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigEntry<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its value, set or by default.
    pub value: &'a str,
    /// Its value if it were not set.
    pub default: &'static str,
    /// Whether it is not set.
    pub is_default: bool,
    /// Type of the value.
    pub config_type: ConfigType,
    /// What it does, for people.
    pub documentation: &'static str,
    /// Whether no other value than the default can be set.
    pub read_only: bool,
    /// What Kafka calls the broker's configuration with the default.
    pub broker_name: Option<&'static str>,
}

/// A topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    set: BTreeMap<&'static str, String>,
    honoured: Honoured,
}

/// Parsed values of those that have an effect. Negative: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Honoured {
    max_message_bytes: i64,
    retention_ms: i64,
    retention_bytes: i64,
    timestamp_before_max_ms: i64,
    timestamp_after_max_ms: i64,
    timestamp_type: TimestampType,
    durability: Durability,
    cleanup_policy: CleanupPolicy,
    delete_retention_ms: i64,
    min_compaction_lag_ms: i64,
    max_compaction_lag_ms: i64,
    min_dirty_millionths: u64,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::from_checked(BTreeMap::new())
    }
}

impl TopicConfig {
    /// The configuration after these changes: new values, or back to the default.
    pub(super) fn with(
        &self,
        changes: &[(String, Option<String>)],
    ) -> Result<TopicConfig, TopicError> {
        check_count(changes.iter().map(|(name, _)| name.as_str()))?;
        let mut set = self.set.clone();
        for (name, value) in changes {
            put(&mut set, defined(name)?, value.as_deref())?;
        }
        check_compaction_lags(&set)?;
        Ok(TopicConfig::from_checked(set))
    }

    /// The configuration after these changes, one after the other.
    pub(super) fn altered(
        &self,
        changes: &[(String, ConfigChange)],
    ) -> Result<TopicConfig, TopicError> {
        check_count(changes.iter().map(|(name, _)| name.as_str()))?;
        let mut set = self.set.clone();
        for (name, change) in changes {
            if *change == ConfigChange::Reset && find(name).is_none() {
                // It is not set, and never was: Kafka takes that too.
                continue;
            }
            let definition = defined(name)?;
            match change {
                ConfigChange::Set(value) => put(&mut set, definition, Some(value))?,
                ConfigChange::Reset => put(&mut set, definition, None)?,
                ConfigChange::Append(more) => {
                    let mut list = list_of(&set, definition)?;
                    for item in items(more) {
                        if !list.iter().any(|known| known == item) {
                            list.push(item.to_owned());
                        }
                    }
                    put(&mut set, definition, Some(&list.join(",")))?;
                }
                ConfigChange::Subtract(less) => {
                    let mut list = list_of(&set, definition)?;
                    list.retain(|known| !items(less).any(|item| item == known));
                    put(&mut set, definition, Some(&list.join(",")))?;
                }
            }
        }
        check_compaction_lags(&set)?;
        Ok(TopicConfig::from_checked(set))
    }

    /// What was set, sorted by name.
    pub fn overrides(&self) -> impl ExactSizeIterator<Item = (&'static str, &str)> {
        self.set.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// All entries, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = ConfigEntry<'_>> {
        DEFINITIONS
            .iter()
            .map(|definition| self.entry_of(definition))
    }

    /// The entry with this name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<ConfigEntry<'_>> {
        find(name).map(|definition| self.entry_of(definition))
    }

    /// `max.message.bytes`: the largest batch.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        usize::try_from(self.honoured.max_message_bytes).expect("its range is 0 to some MiB")
    }

    /// `retention.ms`: how long records are kept; none: for ever.
    #[must_use]
    pub fn retention_ms(&self) -> Option<u64> {
        u64::try_from(self.honoured.retention_ms).ok()
    }

    /// `retention.bytes`: how many bytes of a partition are kept; none: all.
    #[must_use]
    pub fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.honoured.retention_bytes).ok()
    }

    /// `message.timestamp.type`: whose clock gives records their timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.honoured.timestamp_type
    }

    /// `message.timestamp.before.max.ms`: how far a producer's timestamp may lie behind the
    /// node's clock; `i64::MAX`: as far as it likes.
    #[must_use]
    pub fn message_timestamp_before_max_ms(&self) -> i64 {
        self.honoured.timestamp_before_max_ms
    }

    /// `message.timestamp.after.max.ms`: how far a producer's timestamp may lie ahead of the
    /// node's clock; `i64::MAX`: as far as it likes.
    #[must_use]
    pub fn message_timestamp_after_max_ms(&self) -> i64 {
        self.honoured.timestamp_after_max_ms
    }

    /// `ringlog.durability`: what an acknowledgement means.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.honoured.durability
    }

    /// `cleanup.policy`: what is done with old records.
    #[must_use]
    pub fn cleanup_policy(&self) -> CleanupPolicy {
        self.honoured.cleanup_policy
    }

    /// `delete.retention.ms`: how long a tombstone stays after compaction first met it.
    #[must_use]
    pub fn delete_retention_ms(&self) -> i64 {
        self.honoured.delete_retention_ms
    }

    /// `min.compaction.lag.ms`: younger records are not compacted.
    #[must_use]
    pub fn min_compaction_lag_ms(&self) -> i64 {
        self.honoured.min_compaction_lag_ms
    }

    /// `max.compaction.lag.ms`: with older records not compacted yet, a partition is.
    #[must_use]
    pub fn max_compaction_lag_ms(&self) -> i64 {
        self.honoured.max_compaction_lag_ms
    }

    /// `min.cleanable.dirty.ratio`, in parts of a million: with a larger share of bytes not
    /// compacted yet, a partition is.
    #[must_use]
    pub fn min_cleanable_dirty_millionths(&self) -> u64 {
        self.honoured.min_dirty_millionths
    }

    fn from_checked(set: BTreeMap<&'static str, String>) -> TopicConfig {
        let honoured = Honoured {
            max_message_bytes: number(&set, "max.message.bytes"),
            retention_ms: number(&set, "retention.ms"),
            retention_bytes: number(&set, "retention.bytes"),
            timestamp_before_max_ms: number(&set, "message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number(&set, "message.timestamp.after.max.ms"),
            timestamp_type: match value(&set, "message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            durability: match value(&set, "ringlog.durability") {
                "buffered" => Durability::Buffered,
                "written" => Durability::Written,
                _ => Durability::Flushed,
            },
            cleanup_policy: cleanup_policy(value(&set, "cleanup.policy")),
            delete_retention_ms: number(&set, "delete.retention.ms"),
            min_compaction_lag_ms: number(&set, "min.compaction.lag.ms"),
            max_compaction_lag_ms: number(&set, "max.compaction.lag.ms"),
            min_dirty_millionths: millionths(value(&set, "min.cleanable.dirty.ratio")),
        };
        TopicConfig { set, honoured }
    }

    fn entry_of(&self, definition: &'static Definition) -> ConfigEntry<'_> {
        let set = self.set.get(definition.name);
        ConfigEntry {
            name: definition.name,
            value: set.map_or(definition.default, String::as_str),
            default: definition.default,
            is_default: set.is_none(),
            config_type: definition.config_type(),
            documentation: definition.documentation,
            read_only: definition.is_fixed(),
            broker_name: definition.broker,
        }
    }
}

fn check_count<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), TopicError> {
    match names.nth(CONFIGS_PER_COMMAND) {
        None => Ok(()),
        Some(name) => Err(TopicError::InvalidConfig {
            name: shown(name),
            reason: format!("one command takes {CONFIGS_PER_COMMAND} entries"),
        }),
    }
}

fn defined(name: &str) -> Result<&'static Definition, TopicError> {
    find(name).ok_or_else(|| TopicError::InvalidConfig {
        name: shown(name),
        reason: "no topic configuration has this name".to_owned(),
    })
}

/// Sets an entry, or takes it out.
fn put(
    set: &mut BTreeMap<&'static str, String>,
    definition: &'static Definition,
    value: Option<&str>,
) -> Result<(), TopicError> {
    let name = || definition.name.to_owned();
    let Some(value) = value else {
        set.remove(definition.name);
        return Ok(());
    };
    let parsed = definition.parse(value);
    let value = parsed.map_err(|reason| TopicError::InvalidConfig {
        name: name(),
        reason,
    })?;
    if let Some(reason) = definition.refusal(&value) {
        let name = name();
        return Err(TopicError::UnsupportedConfig { name, reason });
    }
    set.insert(definition.name, value);
    Ok(())
}

/// The items of an entry that is a list, set or by default.
fn list_of(
    set: &BTreeMap<&'static str, String>,
    definition: &'static Definition,
) -> Result<Vec<String>, TopicError> {
    if definition.config_type() != ConfigType::List {
        return Err(TopicError::InvalidConfig {
            name: definition.name.to_owned(),
            reason: "it is no list: nothing can be appended to it or subtracted from it".to_owned(),
        });
    }
    let value = set
        .get(definition.name)
        .map_or(definition.default, String::as_str);
    Ok(items(value).map(str::to_owned).collect())
}

fn cleanup_policy(list: &str) -> CleanupPolicy {
    let has = |policy| list.split(',').any(|item| item == policy);
    match (has("delete"), has("compact")) {
        (true, true) => CleanupPolicy::CompactDelete,
        (false, true) => CleanupPolicy::Compact,
        _ => CleanupPolicy::Delete,
    }
}

/// A ratio from 0 to 1 that passed the table.
fn millionths(ratio: &str) -> u64 {
    const ONE: f64 = 1e6;
    let ratio: f64 = ratio.parse().expect("the table lets only numbers through");
    // From 0 to a million, by the table.
    (ratio * ONE) as u64
}

fn check_compaction_lags(set: &BTreeMap<&'static str, String>) -> Result<(), TopicError> {
    let (min, max) = (
        number(set, "min.compaction.lag.ms"),
        number(set, "max.compaction.lag.ms"),
    );
    if min <= max {
        return Ok(());
    }
    Err(TopicError::InvalidConfig {
        name: "min.compaction.lag.ms".to_owned(),
        reason: format!("{min} is above max.compaction.lag.ms, which is {max}"),
    })
}

fn value<'a>(set: &'a BTreeMap<&'static str, String>, name: &str) -> &'a str {
    set.get(name).map_or_else(
        || {
            find(name)
                .expect("only names of the table are asked for")
                .default
        },
        String::as_str,
    )
}

fn number(set: &BTreeMap<&'static str, String>, name: &str) -> i64 {
    value(set, name)
        .parse()
        .expect("the table lets only integers through")
}
