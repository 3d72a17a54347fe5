//! Configurations are changed entry by entry or as a whole, durably, on every core; what cannot
//! be is refused with a code and the reason.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, ApiKey, DescribeConfigsRequest,
    DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    alter_configs_request, incremental_alter_configs_request as incremental,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_types::batch::Builder;

use super::client::{Client, with_node, with_node_in};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change = (&'static str, i8, Option<&'static str>);

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn resource(kind: i8, name: &'static str, changes: &[Change]) -> incremental::AlterConfigsResource {
    let configs = changes.iter().map(|(name, operation, value)| {
        incremental::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect())
}

/// Codes and messages.
fn alter(
    client: &mut Client,
    version: i16,
    resources: Vec<incremental::AlterConfigsResource>,
    validate_only: bool,
) -> Vec<(i16, String)> {
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(resources)
        .with_validate_only(validate_only);
    let response: IncrementalAlterConfigsResponse =
        client.call(ApiKey::IncrementalAlterConfigs, version, &request);
    let responses = response.responses.iter();
    responses
        .map(|response| {
            let message = response.error_message.as_deref().unwrap_or_default();
            assert_eq!(response.error_code == 0, message.is_empty());
            (response.error_code, message.to_owned())
        })
        .collect()
}

fn alter_one(
    client: &mut Client,
    kind: i8,
    name: &'static str,
    changes: &[Change],
) -> (i16, String) {
    alter(client, 1, vec![resource(kind, name, changes)], false).remove(0)
}

fn replace(
    client: &mut Client,
    version: i16,
    (kind, name): (i8, &'static str),
    configs: &[(&'static str, Option<&'static str>)],
    validate_only: bool,
) -> i16 {
    let configs = configs.iter().map(|(name, value)| {
        alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_value(value.map(text))
    });
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = AlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let response: AlterConfigsResponse = client.call(ApiKey::AlterConfigs, version, &request);
    let response = &response.responses[0];
    assert_eq!(response.error_code == 0, response.error_message.is_none());
    response.error_code
}

fn described(
    client: &mut Client,
    kind: i8,
    name: &'static str,
) -> BTreeMap<String, DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let mut response: DescribeConfigsResponse = client.call(ApiKey::DescribeConfigs, 4, &request);
    assert_eq!(response.results[0].error_code, 0);
    let configs = response.results.remove(0).configs;
    let by_name = configs
        .into_iter()
        .map(|config| (config.name.to_string(), config));
    by_name.collect()
}

/// What is set of a topic, sorted.
fn set(client: &mut Client, name: &'static str) -> Vec<(String, String)> {
    let entries = described(client, TOPIC, name).into_values();
    let set = entries.filter(|entry| entry.config_source == 1);
    set.map(|entry| {
        let value = entry.value.as_deref().unwrap_or_default();
        (entry.name.to_string(), value.to_owned())
    })
    .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn entries_are_set_reset_appended_and_subtracted_in_every_version_and_kept_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[1]);
        client.create("altered", &[("retention.ms", "1"), ("segment.ms", "2")]);
        for version in 0..=1 {
            let changes = [
                ("retention.ms", SET, Some("86400000")),
                ("segment.ms", DELETE, None),
                ("cleanup.policy", APPEND, Some("compact")),
            ];
            let altered = vec![resource(TOPIC, "altered", &changes)];
            assert_eq!(alter(&mut client, version, altered, false)[0].0, 0);
            let wanted = [
                ("cleanup.policy", "delete,compact"),
                ("retention.ms", "86400000"),
            ];
            // Every core has it when the answer comes.
            for core in cores {
                let mut other = Client::connect(*core);
                assert_eq!(set(&mut other, "altered"), pairs(&wanted));
            }
            let changes = [
                ("cleanup.policy", SUBTRACT, Some("delete")),
                ("retention.ms", DELETE, Some("its value does not matter")),
            ];
            let altered = vec![resource(TOPIC, "altered", &changes)];
            assert_eq!(alter(&mut client, version, altered, false)[0].0, 0);
            assert_eq!(
                set(&mut client, "altered"),
                pairs(&[("cleanup.policy", "compact")])
            );
            let back = vec![resource(
                TOPIC,
                "altered",
                &[("cleanup.policy", DELETE, None)],
            )];
            assert_eq!(alter(&mut client, version, back, false)[0].0, 0);
        }
        let changes = [("max.message.bytes", SET, Some("2000"))];
        assert_eq!(alter_one(&mut client, TOPIC, "altered", &changes).0, 0);
    });
    with_node_in(dir.path(), &[], |cores| {
        let mut client = Client::connect(cores[0]);
        assert_eq!(
            set(&mut client, "altered"),
            pairs(&[("max.message.bytes", "2000")])
        );
    });
}

#[test]
fn a_changed_limit_holds_for_the_next_batch() {
    with_node(&[], |cores| {
        let mut any = Client::connect(cores[0]);
        let topic = any.create("limited", &[]);
        let mut client = Client::connect(cores[topic.leader]);
        let batch = || Builder::new().push(1, None, Some(&[7; 4000]), &[]).build();
        assert_eq!(client.produce(9, &topic, batch()), (0, 0));
        let smaller = [("max.message.bytes", SET, Some("1000"))];
        assert_eq!(alter_one(&mut any, TOPIC, "limited", &smaller).0, 0);
        assert_eq!(client.produce(9, &topic, batch()).0, MESSAGE_TOO_LARGE);
        let default = [("max.message.bytes", DELETE, None)];
        assert_eq!(alter_one(&mut any, TOPIC, "limited", &default).0, 0);
        assert_eq!(client.produce(9, &topic, batch()), (0, 1));
    });
}

#[test]
fn a_configuration_is_replaced_as_a_whole_in_every_version() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[1]);
        for (version, name) in (0..=2).zip(["v0", "v1", "v2"]) {
            client.create(name, &[("retention.ms", "1"), ("segment.ms", "2")]);
            let topic = (TOPIC, name);
            let retention = [("retention.ms", Some("3"))];
            assert_eq!(replace(&mut client, version, topic, &retention, true), 0);
            assert_eq!(
                set(&mut client, name).len(),
                2,
                "validated, but not changed"
            );
            assert_eq!(replace(&mut client, version, topic, &retention, false), 0);
            assert_eq!(set(&mut client, name), pairs(&[("retention.ms", "3")]));
            let bad = [("retention.ms", Some("soon"))];
            assert_eq!(
                replace(&mut client, version, topic, &bad, true),
                INVALID_CONFIG
            );
            let none = [("retention.ms", None)];
            assert_eq!(
                replace(&mut client, version, topic, &none, false),
                INVALID_REQUEST
            );
            let twice = [("retention.ms", Some("3")), ("retention.ms", Some("4"))];
            assert_eq!(
                replace(&mut client, version, topic, &twice, false),
                INVALID_REQUEST
            );
            assert_eq!(replace(&mut client, version, topic, &[], false), 0);
            assert_eq!(set(&mut client, name), []);
        }
        let absent = replace(&mut client, 2, (TOPIC, "absent"), &[], false);
        assert_eq!(absent, UNKNOWN_TOPIC_OR_PARTITION);
        let entries = [("num.partitions", Some("3"))];
        assert_eq!(
            replace(&mut client, 2, (BROKER, "0"), &entries, false),
            INVALID_REQUEST
        );
        assert_eq!(replace(&mut client, 2, (BROKER, "0"), &[], false), 0);
        assert_eq!(
            replace(&mut client, 2, (BROKER_LOGGER, "0"), &[], false),
            INVALID_REQUEST
        );
    });
}

#[test]
fn what_cannot_be_changed_is_refused_and_nothing_changes() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        client.create("kept", &[("retention.ms", "5")]);
        let mut code = |changes: &[Change]| alter_one(&mut client, TOPIC, "kept", changes);
        for (wanted, changes) in [
            (INVALID_CONFIG, &[("no.such", SET, Some("1"))][..]),
            (INVALID_CONFIG, &[("no.such", APPEND, Some("1"))]),
            (0, &[("no.such", DELETE, None)]),
            (INVALID_CONFIG, &[("retention.ms", SET, Some("soon"))]),
            (INVALID_CONFIG, &[("retention.ms", APPEND, Some("6"))]),
            (
                INVALID_CONFIG,
                &[("cleanup.policy", SUBTRACT, Some("delete"))],
            ),
            (INVALID_CONFIG, &[("cleanup.policy", APPEND, Some("shred"))]),
            (POLICY_VIOLATION, &[("compression.type", SET, Some("gzip"))]),
            (
                POLICY_VIOLATION,
                &[("remote.storage.enable", SET, Some("true"))],
            ),
            (INVALID_REQUEST, &[("retention.ms", SET, None)]),
            (INVALID_REQUEST, &[("retention.ms", 4, Some("6"))]),
            (
                INVALID_REQUEST,
                &[
                    ("retention.ms", SET, Some("6")),
                    ("retention.ms", DELETE, None),
                ],
            ),
            // One entry that is refused, and none is changed.
            (
                INVALID_CONFIG,
                &[
                    ("retention.ms", SET, Some("6")),
                    ("segment.ms", SET, Some("x")),
                ],
            ),
        ] {
            let (found, message) = code(changes);
            assert_eq!(found, wanted, "{changes:?}: {message}");
        }
        let six = [("retention.ms", SET, Some("6"))];
        let validated = alter(&mut client, 1, vec![resource(TOPIC, "kept", &six)], true);
        assert_eq!(validated[0].0, 0);
        let bad = [("retention.ms", SET, Some("x"))];
        let validated = alter(&mut client, 1, vec![resource(TOPIC, "kept", &bad)], true);
        assert_eq!(validated[0].0, INVALID_CONFIG);
        let several = vec![
            resource(TOPIC, "kept", &six),
            resource(TOPIC, "absent", &six),
            resource(TOPIC, "kept", &six),
            resource(TOPIC, "", &six),
            resource(BROKER_LOGGER, "0", &six),
            resource(77, "0", &[]),
        ];
        let codes: Vec<i16> = alter(&mut client, 1, several, false)
            .into_iter()
            .map(|(code, _)| code)
            .collect();
        let wanted = [
            INVALID_REQUEST,
            UNKNOWN_TOPIC_OR_PARTITION,
            INVALID_REQUEST,
            INVALID_REQUEST,
            INVALID_REQUEST,
            INVALID_REQUEST,
        ];
        assert_eq!(
            codes, wanted,
            "named twice, unknown, nameless, of no such type"
        );
        assert_eq!(set(&mut client, "kept"), pairs(&[("retention.ms", "5")]));
    });
}

#[test]
fn brokers_are_told_why_they_stay_as_they_are() {
    with_node(&[], |cores| {
        let mut client = Client::connect(cores[0]);
        for (broker, name, wanted, reason) in [
            (
                "0",
                "num.partitions",
                INVALID_REQUEST,
                "set num_partitions for the node",
            ),
            (
                "",
                "num.partitions",
                INVALID_REQUEST,
                "set num_partitions for the node",
            ),
            (
                "1",
                "broker.id",
                INVALID_REQUEST,
                "the start of the node decides it",
            ),
            (
                "1",
                "delete.topic.enable",
                INVALID_REQUEST,
                "no other value",
            ),
            (
                "1",
                "log.retention.ms",
                INVALID_REQUEST,
                "set retention.ms of the topic",
            ),
            (
                "1",
                "log.retention.days",
                INVALID_CONFIG,
                "no broker configuration",
            ),
            ("9", "num.partitions", INVALID_REQUEST, "no broker \"9\""),
        ] {
            let (code, message) = alter_one(&mut client, BROKER, broker, &[(name, SET, Some("1"))]);
            assert_eq!(code, wanted, "{name}");
            assert!(message.contains(reason), "{message}");
        }
        // Nothing was given a value while it runs: that is what a reset leaves.
        let reset = [("num.partitions", DELETE, None)];
        assert_eq!(alter_one(&mut client, BROKER, "0", &reset).0, 0);
        assert_eq!(alter_one(&mut client, BROKER, "", &reset).0, 0);
    });
}

#[test]
fn sources_and_synonyms_say_where_a_value_comes_from() {
    with_node(&["--num-partitions", "4"], |cores| {
        let mut client = Client::connect(cores[0]);
        client.create("described", &[("retention.ms", "5")]);
        let synonyms = |entry: &DescribeConfigsResourceResult| -> Vec<(String, String, i8)> {
            let synonyms = entry.synonyms.iter().map(|synonym| {
                let value = synonym.value.as_deref().unwrap_or_default();
                (synonym.name.to_string(), value.to_owned(), synonym.source)
            });
            synonyms.collect()
        };
        let synonym = |name: &str, value: &str, source| (name.to_owned(), value.to_owned(), source);
        let topic = described(&mut client, TOPIC, "described");
        let retention = &topic["retention.ms"];
        assert_eq!((retention.config_source, retention.config_type), (1, 5));
        let wanted = [
            synonym("retention.ms", "5", 1),
            synonym("log.retention.ms", "604800000", 5),
        ];
        assert_eq!(synonyms(retention), wanted);
        let policy = &topic["cleanup.policy"];
        assert_eq!((policy.config_source, policy.config_type), (5, 7));
        assert_eq!(
            synonyms(policy),
            [synonym("log.cleanup.policy", "delete", 5)]
        );
        let broker = described(&mut client, BROKER, "1");
        let partitions = &broker["num.partitions"];
        assert_eq!((partitions.config_source, partitions.read_only), (4, true));
        assert_eq!(synonyms(partitions), [synonym("num.partitions", "4", 4)]);
        assert_eq!(broker["max.connections"].config_source, 5);
        assert_eq!(broker["broker.id"].value.as_deref(), Some("1"));
        let default = &broker["log.retention.ms"];
        assert_eq!(default.value.as_deref(), Some("604800000"));
        assert_eq!((default.config_source, default.config_type), (5, 5));
        for entry in topic.values().chain(broker.values()) {
            let documentation = entry.documentation.as_deref().unwrap_or_default();
            assert!(!documentation.is_empty(), "{}", entry.name.as_str());
            assert!(entry.config_type > 0 && !entry.is_sensitive);
        }
    });
}
