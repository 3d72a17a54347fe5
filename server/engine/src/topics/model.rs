//! A model of the topics machine, as simple as it can be: a list of topics, and for what is
//! pending a copy of that list to which everything pending was done. A property test runs both
//! through the same random life, crashes included, with a second core that only applies.

use proptest::prelude::*;
use ringlog_types::{LogId, TopicNumber};

use super::*;

const LOGS: [LogId; 3] = [LogId(4), LogId(5), LogId(9)];
const NAMES: [&str; 6] = ["a.b", "a_b", "a", "B.c-d", "x", "not/valid"];

#[derive(Clone, Debug, Default)]
struct Model {
    topics: Vec<Topic>,
    next: u32,
}

impl Model {
    fn do_to(&mut self, record: &MetadataRecord) {
        let of = |wanted: TopicNumber| move |topic: &&mut Topic| topic.number == wanted;
        match record {
            MetadataRecord::ClusterCreated { .. } => {}
            MetadataRecord::TopicCreated {
                number,
                id,
                name,
                partitions,
                config,
            } => {
                self.next = number.0 + 1;
                self.topics.push(Topic {
                    number: *number,
                    id: *id,
                    name: name.clone(),
                    partitions: partitions.clone(),
                    config: config.clone(),
                });
            }
            MetadataRecord::TopicDeleted { number } => {
                self.topics.retain(|topic| topic.number != *number);
            }
            MetadataRecord::PartitionsAdded { number, partitions } => {
                let topic = self.topics.iter_mut().find(of(*number)).unwrap();
                topic.partitions.extend(partitions);
            }
            MetadataRecord::User(_) => {}
            MetadataRecord::ConfigsSet { number, config } => {
                self.topics.iter_mut().find(of(*number)).unwrap().config = config.clone();
            }
        }
    }

    fn log(number: u32, index: u32) -> LogId {
        LOGS[((number + index) % 3) as usize]
    }

    /// What the machine must answer to a command; an error by its kind only.
    fn decide(&self, command: &TopicCommand, id: u128) -> Result<MetadataRecord, &'static str> {
        let find = |number: &TopicNumber| {
            self.topics
                .iter()
                .find(|topic| topic.number == *number)
                .ok_or("unknown")
        };
        match command {
            TopicCommand::Create {
                name,
                partitions,
                configs,
            } => {
                if name.contains('/') {
                    return Err("name");
                }
                if self.topics.iter().any(|topic| topic.name == *name) {
                    return Err("exists");
                }
                let unified = |name: &str| name.replace('.', "_");
                if self
                    .topics
                    .iter()
                    .any(|topic| unified(&topic.name) == unified(name))
                {
                    return Err("collides");
                }
                if *partitions == 0 {
                    return Err("partitions");
                }
                if configs
                    .iter()
                    .any(|(_, value)| value.as_deref().is_none_or(|v| v == "bad"))
                {
                    return Err("config");
                }
                Ok(MetadataRecord::TopicCreated {
                    number: TopicNumber(self.next),
                    id: TopicId(id.to_be_bytes()),
                    name: name.clone(),
                    partitions: (0..*partitions).map(|i| Model::log(self.next, i)).collect(),
                    config: TopicConfig::default().with(configs).unwrap(),
                })
            }
            TopicCommand::Delete { number } => {
                find(number)?;
                Ok(MetadataRecord::TopicDeleted { number: *number })
            }
            TopicCommand::AddPartitions { number, total } => {
                let existing = find(number)?.partitions.len() as u32;
                if *total <= existing {
                    return Err("partitions");
                }
                let partitions = (existing..*total)
                    .map(|i| Model::log(number.0, i))
                    .collect();
                Ok(MetadataRecord::PartitionsAdded {
                    number: *number,
                    partitions,
                })
            }
            TopicCommand::AlterConfigs { number, changes } => {
                let mut config = find(number)?.config.clone();
                for (name, change) in changes {
                    let value = Model::changed(&config, name, change)?;
                    config = config.with(&[(name.clone(), value)]).unwrap();
                }
                let number = *number;
                Ok(MetadataRecord::ConfigsSet { number, config })
            }
            TopicCommand::ReplaceConfigs { number, configs } => {
                find(number)?;
                if configs
                    .iter()
                    .any(|(_, value)| value.as_deref().is_none_or(|v| v == "bad"))
                {
                    return Err("config");
                }
                let config = TopicConfig::default().with(configs).unwrap();
                let number = *number;
                Ok(MetadataRecord::ConfigsSet { number, config })
            }
        }
    }

    /// The value that an entry gets by a change; the lists here have two items at most.
    fn changed(
        config: &TopicConfig,
        name: &str,
        change: &ConfigChange,
    ) -> Result<Option<String>, &'static str> {
        let is_list = name == "cleanup.policy";
        let before = config.entry(name).unwrap().value;
        match change {
            ConfigChange::Reset => Ok(None),
            ConfigChange::Set(value) if value == "bad" => Err("config"),
            ConfigChange::Set(value) if is_list && value.parse::<u32>().is_ok() => Err("config"),
            ConfigChange::Set(value) => Ok(Some(value.clone())),
            _ if !is_list => Err("config"),
            ConfigChange::Append(item) if item != "delete" && item != "compact" => Err("config"),
            ConfigChange::Append(item) if before.contains(item.as_str()) => {
                Ok(Some(before.to_owned()))
            }
            ConfigChange::Append(item) => Ok(Some(format!("{before},{item}"))),
            ConfigChange::Subtract(item) if before == item => Err("config"),
            ConfigChange::Subtract(item) => {
                let left = before.replace(&format!("{item},"), "");
                Ok(Some(left.replace(&format!(",{item}"), "")))
            }
        }
    }
}

fn kind(error: &TopicError) -> &'static str {
    match error {
        TopicError::Exists { .. } => "exists",
        TopicError::UnknownTopic { .. } => "unknown",
        TopicError::InvalidName { .. } => "name",
        TopicError::Collides { .. } => "collides",
        TopicError::InvalidPartitions { .. } => "partitions",
        TopicError::InvalidConfig { .. } => "config",
        TopicError::UnsupportedConfig { .. } => "unsupported",
        TopicError::TooManyTopics { .. } => "topics",
        TopicError::TooManyPartitions { .. } => "all partitions",
        TopicError::TooManyPending { .. } => "pending",
    }
}

#[derive(Clone, Debug)]
enum Step {
    Command(TopicCommand),
    Apply,
    Abandon,
    Checkpoint,
    Crash,
}

fn configs() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let entry = (
        prop_oneof![Just("retention.ms"), Just("max.message.bytes")],
        prop_oneof![
            5 => (0u32..9_999).prop_map(|number| Some(number.to_string())),
            1 => Just(None),
            1 => Just(Some("bad".to_owned())),
        ],
    );
    proptest::collection::vec(
        entry.prop_map(|(name, value)| (name.to_owned(), value)),
        0..3,
    )
}

fn changes() -> impl Strategy<Value = Vec<(String, ConfigChange)>> {
    let name = prop_oneof![Just("retention.ms"), Just("cleanup.policy")];
    let text = prop_oneof![Just("7"), Just("bad"), Just("delete"), Just("compact")];
    let change = (0u8..4, text.clone()).prop_map(|(kind, text)| match kind {
        0 => ConfigChange::Set(text.to_owned()),
        1 => ConfigChange::Reset,
        2 => ConfigChange::Append(text.to_owned()),
        _ => ConfigChange::Subtract(text.to_owned()),
    });
    let entry = (name, change).prop_filter("a number is no text", |(name, change)| {
        let words = ["delete", "compact"].map(|word| ConfigChange::Set(word.to_owned()));
        *name == "cleanup.policy" || !words.contains(change)
    });
    proptest::collection::vec(
        entry.prop_map(|(name, change)| (name.to_owned(), change)),
        0..4,
    )
}

fn step() -> impl Strategy<Value = Step> {
    let number = || (0u32..12).prop_map(TopicNumber);
    let name = proptest::sample::select(&NAMES[..]);
    prop_oneof![
        8 => (name, 0u32..5, configs()).prop_map(|(name, partitions, configs)| {
            Step::Command(TopicCommand::Create { name: name.to_owned(), partitions, configs })
        }),
        4 => number().prop_map(|number| Step::Command(TopicCommand::Delete { number })),
        4 => (number(), 0u32..9).prop_map(|(number, total)| {
            Step::Command(TopicCommand::AddPartitions { number, total })
        }),
        2 => (number(), configs()).prop_map(|(number, configs)| {
            Step::Command(TopicCommand::ReplaceConfigs { number, configs })
        }),
        3 => (number(), changes()).prop_map(|(number, changes)| {
            Step::Command(TopicCommand::AlterConfigs { number, changes })
        }),
        10 => Just(Step::Apply),
        2 => Just(Step::Abandon),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_machine_does_what_the_model_does_and_replay_gives_the_live_state(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut real = Topics::new(LOGS.to_vec());
        let mut other_core = real.clone();
        let mut model = Model::default();
        let mut pending: Vec<MetadataRecord> = Vec::new();
        let mut checkpoint = real.checkpoint();
        let mut log: Vec<MetadataRecord> = Vec::new();
        let mut entropy = 1u128;
        for step in steps {
            match step {
                Step::Command(command) => {
                    entropy += 1;
                    let mut ahead = model.clone();
                    pending.iter().for_each(|record| ahead.do_to(record));
                    let expected = ahead.decide(&command, entropy);
                    let valid = real.validate(&command);
                    prop_assert_eq!(valid.as_ref().map_err(kind).err(), expected.as_ref().err().copied());
                    let found = real.prepare(&command, entropy);
                    prop_assert_eq!(&found.as_ref().map_err(kind), &expected.as_ref().map_err(|e| *e));
                    pending.extend(found);
                }
                Step::Apply if pending.is_empty() => {}
                Step::Apply => {
                    let record = MetadataRecord::decode(&pending.remove(0).encode()).unwrap();
                    real.apply(&record);
                    other_core.apply(&record);
                    model.do_to(&record);
                    log.push(record);
                    prop_assert_eq!(real.checkpoint(), other_core.checkpoint());
                }
                Step::Abandon => {
                    if let Some(record) = pending.pop() {
                        real.abandon(&record);
                    }
                }
                Step::Checkpoint => {
                    checkpoint = real.checkpoint();
                    log.clear();
                }
                Step::Crash => {
                    pending.clear();
                    let live = real.checkpoint();
                    real = Topics::new(LOGS.to_vec());
                    real.restore(&checkpoint).unwrap();
                    log.iter().for_each(|record| real.apply(record));
                    prop_assert_eq!(real.checkpoint(), live);
                    prop_assert_eq!(real.version(), other_core.version());
                }
            }
            prop_assert_eq!(real.iter().collect::<Vec<_>>(), model.topics.iter().collect::<Vec<_>>());
            for topic in &model.topics {
                prop_assert_eq!(real.by_name(&topic.name), Some(topic));
                prop_assert_eq!(real.by_id(topic.id), Some(topic));
                prop_assert_eq!(real.by_number(topic.number), Some(topic));
            }
            for name in NAMES {
                let exists = model.topics.iter().any(|topic| topic.name == name);
                prop_assert_eq!(real.by_name(name).is_some(), exists);
            }
            let partitions: usize = model.topics.iter().map(|topic| topic.partitions.len()).sum();
            prop_assert_eq!(real.partition_count(), partitions as u64);
        }
    }
}
