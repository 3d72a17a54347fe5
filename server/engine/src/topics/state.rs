//! The topics machine. Core 0's decides (`prepare`) and logs; every core's applies what is
//! durable, in the same order, so that equal versions mean equal topics.
//!
//! ```text
//! checkpoint = version u16 = 1, records applied u64, next topic number u32,
//!              cluster id text (empty: none), topic count u32, { topic }*    by number
//! topic = number u32, id [16], name text, partitions, configs       (as in records)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use ringlog_types::snapshot::{Next, Pieces, Rows};
use ringlog_types::{LogId, TopicNumber};

use crate::limits;
use crate::little_endian::{DecodeError, Reader, Writer, put};

use super::command::TopicCommand;
use super::config::TopicConfig;
use super::error::TopicError;
use super::names;
use super::owners::Owners;
use super::pending::Pending;
use super::record::{MetadataRecord, put_config, put_partitions, take_config, take_partitions};
use super::topic::{Topic, TopicId};

const VERSION: u16 = 1;

/// Partitions of a topic whose encoding costs what a row of a checkpoint does otherwise.
const PARTITIONS_PER_ROW: usize = 64;

/// How much a node holds. What is there stays, whatever the limits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// Topics.
    pub topics: usize,
    /// Partitions of all of them together.
    pub partitions: u64,
}

impl Default for TopicLimits {
    fn default() -> TopicLimits {
        TopicLimits {
            topics: limits::TOPICS,
            partitions: limits::PARTITIONS,
        }
    }
}

/// The topics of a node: a copy on every core.
#[derive(Clone, Debug)]
pub struct Topics {
    logs: Vec<LogId>,
    limits: TopicLimits,
    version: u64,
    cluster_id: Option<String>,
    next_number: TopicNumber,
    topics: BTreeMap<TopicNumber, Topic>,
    by_name: HashMap<String, TopicNumber>,
    by_id: HashMap<TopicId, TopicNumber>,
    /// Names in the form in which they collide, each with the name itself.
    collisions: BTreeSet<(String, String)>,
    partitions: u64,
    pending: Pending,
    /// A checkpoint that is being taken.
    taking: Option<Taking>,
}

#[derive(Clone, Debug)]
struct Taking {
    /// What stands in front of the topics, until it is written.
    head: Vec<u8>,
    rows: Rows<TopicNumber, Topic>,
}

impl Topics {
    /// No topics. New partitions are spread over these logs.
    ///
    /// # Panics
    /// Without any log.
    #[must_use]
    pub fn new(logs: Vec<LogId>) -> Topics {
        assert!(!logs.is_empty(), "partitions need a log");
        Topics {
            logs,
            limits: TopicLimits::default(),
            version: 0,
            cluster_id: None,
            next_number: TopicNumber(0),
            topics: BTreeMap::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            collisions: BTreeSet::new(),
            partitions: 0,
            pending: Pending::default(),
            taking: None,
        }
    }

    /// Holds no more than this from now on.
    pub fn limit(&mut self, limits: TopicLimits) {
        self.limits = limits;
    }

    /// Decides a command: the record to be logged. What it takes (name, number, place among the
    /// limits) stays reserved until [`Topics::apply`] or [`Topics::abandon`].
    /// `entropy` becomes a new topic's id: 128 random bits, a UUID say.
    ///
    /// # Errors
    /// Why it is refused; nothing is reserved.
    pub fn prepare(
        &mut self,
        command: &TopicCommand,
        entropy: u128,
    ) -> Result<MetadataRecord, TopicError> {
        if self.pending.len() >= limits::PENDING_COMMANDS {
            return Err(TopicError::TooManyPending {
                limit: limits::PENDING_COMMANDS,
            });
        }
        let record = self.decide(command, entropy)?;
        self.pending.push(record.clone());
        Ok(record)
    }

    /// Whether a command would be decided, for `validate_only`.
    ///
    /// # Errors
    /// Why it would be refused.
    pub fn validate(&self, command: &TopicCommand) -> Result<(), TopicError> {
        self.decide(command, 0).map(|_| ())
    }

    /// Gives back what [`Topics::prepare`] reserved, because the log refused the record. For the
    /// newest record only: a later one may build on it.
    pub fn abandon(&mut self, record: &MetadataRecord) {
        self.pending.abandoned(record);
    }

    /// A record is durable.
    pub fn apply(&mut self, record: &MetadataRecord) {
        self.pending.committed(record);
        self.version += 1;
        match record {
            MetadataRecord::ClusterCreated { cluster_id } => {
                self.cluster_id = Some(cluster_id.clone());
            }
            MetadataRecord::TopicCreated {
                number,
                id,
                name,
                partitions,
                config,
            } => {
                self.insert(Topic {
                    number: *number,
                    id: *id,
                    name: name.clone(),
                    partitions: partitions.clone(),
                    config: config.clone(),
                });
            }
            MetadataRecord::TopicDeleted { number } => self.remove(*number),
            MetadataRecord::PartitionsAdded { number, partitions } => {
                self.keep(*number);
                if let Some(topic) = self.topics.get_mut(number) {
                    topic.partitions.extend_from_slice(partitions);
                    self.partitions += partitions.len() as u64;
                }
            }
            MetadataRecord::ConfigsSet { number, config } => {
                self.keep(*number);
                if let Some(topic) = self.topics.get_mut(number) {
                    topic.config = config.clone();
                }
            }
            MetadataRecord::User(_) => {}
        }
    }

    /// The node has other logs: its partitions lie where `owners` says, and new ones are spread
    /// over `logs`. Before anything is served, and the same on every core: it is no record.
    ///
    /// # Panics
    /// Without any log, or when the owners are those of other topics.
    pub fn reassign(&mut self, logs: Vec<LogId>, owners: &Owners) {
        assert!(!logs.is_empty(), "partitions need a log");
        self.logs = logs;
        for topic in self.topics.values_mut() {
            let owned = owners.of_topic(topic.number);
            assert_eq!(
                owned.len(),
                topic.partitions.len(),
                "owners are found for these topics"
            );
            topic.partitions = owned.to_vec();
        }
    }

    /// How many records were applied.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The node's identity, as soon as it has one.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The topic with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.by_name
            .get(name)
            .and_then(|number| self.topics.get(number))
    }

    /// The topic with this id.
    #[must_use]
    pub fn by_id(&self, id: TopicId) -> Option<&Topic> {
        self.by_id
            .get(&id)
            .and_then(|number| self.topics.get(number))
    }

    /// The topic with this number.
    #[must_use]
    pub fn by_number(&self, number: TopicNumber) -> Option<&Topic> {
        self.topics.get(&number)
    }

    /// All topics, by number: oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.topics.values()
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.partitions
    }

    /// Committed state.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.put_head(&mut out);
        for topic in self.topics.values() {
            put_topic(&mut out, topic);
        }
        out.into_bytes()
    }

    fn put_head(&self, out: &mut Writer) {
        out.array(&VERSION.to_le_bytes());
        out.u64(self.version);
        out.u32(self.next_number.0);
        out.text(self.cluster_id.as_deref().unwrap_or(""));
        out.count(self.topics.len());
    }

    /// Begins a checkpoint of what is committed now, to be taken by [`Topics::checkpoint_step`]
    /// while more is applied. Another one before is forgotten.
    pub fn begin_checkpoint(&mut self) {
        let mut head = Writer::default();
        self.put_head(&mut head);
        self.taking = Some(Taking {
            head: head.into_bytes(),
            rows: Rows::default(),
        });
    }

    /// Writes further topics of the checkpoint that was begun: about so many rows, partitions
    /// counted. Whether there are more.
    pub fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> bool {
        let Some(taking) = &mut self.taking else {
            return false;
        };
        out.add(|out| out.append(&mut taking.head));
        let mut written = 0;
        while written < rows {
            let behind = |taken: Option<TopicNumber>| {
                let from = taken.map_or(Bound::Unbounded, Bound::Excluded);
                let mut behind = self.topics.range((from, Bound::Unbounded));
                behind.next().map(|(number, _)| *number)
            };
            match taking
                .rows
                .take(behind, |number| self.topics[&number].clone())
            {
                Next::Row(topic) => {
                    written += 1 + topic.partitions.len() / PARTITIONS_PER_ROW;
                    put(out, |out| put_topic(out, &topic));
                }
                Next::Passed => written += 1,
                Next::End => {
                    self.taking = None;
                    return false;
                }
            }
        }
        true
    }

    /// The topic is about to change.
    fn keep(&mut self, number: TopicNumber) {
        if let Some(taking) = &mut self.taking {
            taking
                .rows
                .keep(number, || self.topics.get(&number).cloned());
        }
    }

    /// Starts from a checkpoint: whatever was there before is gone.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        let restored = Topics::decode(self.logs.clone(), checkpoint);
        *self = Topics {
            limits: self.limits,
            ..restored.map_err(|error| error.to_string())?
        };
        Ok(())
    }

    fn decode(logs: Vec<LogId>, checkpoint: &[u8]) -> Result<Topics, DecodeError> {
        let mut reader = Reader::new("the checkpoint of the topics", checkpoint, VERSION)?;
        let mut topics = Topics::new(logs);
        topics.version = reader.u64("the number of records")?;
        let next_number = TopicNumber(reader.u32("the next topic number")?);
        let cluster_id = reader.text("the cluster id")?;
        topics.cluster_id = (!cluster_id.is_empty()).then(|| cluster_id.to_owned());
        for _ in 0..reader.count("the topics", 32)? {
            let topic = Topic {
                number: TopicNumber(reader.u32("a topic's number")?),
                id: TopicId(reader.array("a topic's id")?),
                name: reader.text("a topic's name")?.to_owned(),
                partitions: take_partitions(&mut reader)?,
                config: take_config(&mut reader)?,
            };
            if topic.number >= next_number || topics.topics.contains_key(&topic.number) {
                let number = topic.number.0;
                return Err(reader.invalid(format!("topic number {number} was never given")));
            }
            topics.insert(topic);
        }
        topics.next_number = next_number;
        reader.finish()?;
        Ok(topics)
    }

    fn insert(&mut self, topic: Topic) {
        self.keep(topic.number);
        // Numbers only grow, also over records that name a topic that is there.
        let behind = TopicNumber(topic.number.0.saturating_add(1));
        self.next_number = self.next_number.max(behind);
        self.remove(topic.number);
        self.by_name.insert(topic.name.clone(), topic.number);
        self.by_id.insert(topic.id, topic.number);
        self.collisions
            .insert((names::collision_form(&topic.name), topic.name.clone()));
        self.partitions += topic.partitions.len() as u64;
        self.topics.insert(topic.number, topic);
    }

    fn remove(&mut self, number: TopicNumber) {
        self.keep(number);
        let Some(topic) = self.topics.remove(&number) else {
            return;
        };
        self.by_name.remove(&topic.name);
        self.by_id.remove(&topic.id);
        self.collisions
            .remove(&(names::collision_form(&topic.name), topic.name));
        self.partitions -= topic.partitions.len() as u64;
    }

    fn decide(&self, command: &TopicCommand, entropy: u128) -> Result<MetadataRecord, TopicError> {
        match command {
            TopicCommand::Create {
                name,
                partitions,
                configs,
            } => self.decide_create(name, *partitions, configs, entropy),
            TopicCommand::Delete { number } => {
                self.expect_topic(*number)?;
                Ok(MetadataRecord::TopicDeleted { number: *number })
            }
            TopicCommand::AddPartitions { number, total } => {
                self.decide_partitions(*number, *total)
            }
            TopicCommand::AlterConfigs { number, changes } => {
                let config = self.expect_topic(*number)?.altered(changes)?;
                let number = *number;
                Ok(MetadataRecord::ConfigsSet { number, config })
            }
            TopicCommand::ReplaceConfigs { number, configs } => {
                self.expect_topic(*number)?;
                let (number, config) = (*number, new_config(configs)?);
                Ok(MetadataRecord::ConfigsSet { number, config })
            }
        }
    }

    fn decide_create(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(String, Option<String>)],
        entropy: u128,
    ) -> Result<MetadataRecord, TopicError> {
        names::check(name)?;
        self.check_name_is_free(name)?;
        if partitions == 0 {
            let reason = "a topic has one at least".to_owned();
            return Err(TopicError::InvalidPartitions { found: 0, reason });
        }
        self.check_partitions(partitions, partitions)?;
        let config = new_config(configs)?;
        let deleted = self
            .pending
            .deleted()
            .filter(|n| self.topics.contains_key(n))
            .count();
        if self.topics.len() + self.pending.created().count() >= self.limits.topics + deleted {
            return Err(TopicError::TooManyTopics {
                limit: self.limits.topics,
            });
        }
        let number = self.next_number();
        let partitions = (0..partitions)
            .map(|index| self.log_for(number, index))
            .collect();
        let id = self.new_id(entropy);
        Ok(MetadataRecord::TopicCreated {
            number,
            id,
            name: name.to_owned(),
            partitions,
            config,
        })
    }

    fn decide_partitions(
        &self,
        number: TopicNumber,
        total: u32,
    ) -> Result<MetadataRecord, TopicError> {
        self.expect_topic(number)?;
        let existing = self.expected_partitions(number);
        if total <= existing {
            let reason = format!("the topic has {existing}, and partitions can only be added");
            return Err(TopicError::InvalidPartitions {
                found: total,
                reason,
            });
        }
        self.check_partitions(total, total - existing)?;
        let partitions = (existing..total)
            .map(|index| self.log_for(number, index))
            .collect();
        Ok(MetadataRecord::PartitionsAdded { number, partitions })
    }

    /// Checks the limits for a topic with `total` partitions, of which `wanted` are new.
    fn check_partitions(&self, total: u32, wanted: u32) -> Result<(), TopicError> {
        if total > limits::PARTITIONS_PER_TOPIC {
            let reason = format!("a topic has {} at most", limits::PARTITIONS_PER_TOPIC);
            return Err(TopicError::InvalidPartitions {
                found: total,
                reason,
            });
        }
        let going: u64 = self
            .pending
            .deleted()
            .map(|n| u64::from(self.expected_partitions(n)))
            .sum();
        let existing = self.partitions + self.pending.all_added_partitions() as u64 - going;
        let (limit, wanted) = (self.limits.partitions, u64::from(wanted));
        if existing + wanted > limit {
            return Err(TopicError::TooManyPartitions {
                limit,
                existing,
                wanted,
            });
        }
        Ok(())
    }

    fn check_name_is_free(&self, name: &str) -> Result<(), TopicError> {
        let form = names::collision_form(name);
        let committed = self
            .collisions
            .range((form.clone(), String::new())..)
            .take_while(|(other_form, _)| *other_form == form)
            .map(|(_, other)| other.as_str())
            .filter(|other| {
                !self
                    .by_name
                    .get(*other)
                    .is_some_and(|n| self.pending.deletes(*n))
            });
        let coming = self
            .pending
            .created()
            .map(|(other, _)| other)
            .filter(|other| names::collide(other, name));
        let mut others = committed.chain(coming).peekable();
        let Some(with) = others.peek().map(|other| (*other).to_owned()) else {
            return Ok(());
        };
        if others.any(|other| other == name) {
            Err(TopicError::Exists {
                name: name.to_owned(),
            })
        } else {
            Err(TopicError::Collides {
                name: name.to_owned(),
                with,
            })
        }
    }

    /// The configuration that the topic will have; an error if there will be no such topic.
    fn expect_topic(&self, number: TopicNumber) -> Result<&TopicConfig, TopicError> {
        let committed = self.topics.get(&number).map(|topic| &topic.config);
        self.pending
            .config(number)
            .or(committed)
            .filter(|_| !self.pending.deletes(number))
            .ok_or(TopicError::UnknownTopic { number })
    }

    /// Partitions that the topic will have.
    fn expected_partitions(&self, number: TopicNumber) -> u32 {
        let committed = self.topics.get(&number).map_or(0, Topic::partition_count);
        let added = u32::try_from(self.pending.added_partitions(number));
        committed + added.expect("limits keep partition counts within u32")
    }

    fn next_number(&self) -> TopicNumber {
        // What is pending was numbered behind what is committed.
        let pending = self.pending.last_number();
        let number = pending.map_or(self.next_number, |number| TopicNumber(number.0 + 1));
        assert!(
            number.0 < u32::MAX,
            "4 billion topics were created: their numbers are used up"
        );
        number
    }

    /// Round robin, beginning elsewhere for each topic: topics with one partition spread too.
    fn log_for(&self, number: TopicNumber, index: u32) -> LogId {
        let place = (u64::from(number.0) + u64::from(index)) % self.logs.len() as u64;
        self.logs[usize::try_from(place).expect("it is below a length")]
    }

    fn new_id(&self, entropy: u128) -> TopicId {
        let mut number = entropy;
        loop {
            let id = TopicId(number.to_be_bytes());
            if !id.is_reserved() && !self.by_id.contains_key(&id) && !self.pending.has_id(id) {
                return id;
            }
            number = number.wrapping_add(1);
        }
    }
}

/// The configuration of these values, where each must have one.
fn new_config(configs: &[(String, Option<String>)]) -> Result<TopicConfig, TopicError> {
    if let Some((name, None)) = configs.iter().find(|(_, value)| value.is_none()) {
        let reason = "it has no value".to_owned();
        return Err(TopicError::InvalidConfig {
            name: names::shown(name),
            reason,
        });
    }
    TopicConfig::default().with(configs)
}

fn put_topic(out: &mut Writer, topic: &Topic) {
    out.u32(topic.number.0);
    out.array(&topic.id.0);
    out.text(&topic.name);
    put_partitions(out, &topic.partitions);
    put_config(out, &topic.config);
}
