//! Records, topics, groups and users over HTTP, by Python's own library beside confluent-kafka, against a
//! node of two cores: each feature of the client script is a test here.

use anyhow::Result;
use ringlog_tests::foreign;
use ringlog_tests::node::Node;

const SCRIPT: &str = "http_api.py";

fn run(feature: &str) -> Result<()> {
    let mut node = Node::start(2)?;
    let http = node.http().to_string();
    let environment = [("RINGLOG_HTTP", http.as_str())];
    foreign::python_feature_with(SCRIPT, &node.bootstrap(), feature, &environment)?;
    node.check_running()
}

macro_rules! features {
    ($($feature:ident)*) => {
        $(
            #[test]
            fn $feature() -> Result<()> {
                run(stringify!($feature))
            }
        )*

        #[test]
        fn every_feature_of_the_script_is_a_test() -> Result<()> {
            if let Some(features) = foreign::python_features(SCRIPT)? {
                assert_eq!(features, [$(stringify!($feature)),*]);
            }
            Ok(())
        }
    };
}

features! {
    written_over_http_and_read_by_kafka
    written_by_kafka_and_read_over_http
    kinds_of_bodies
    a_reader_waits_for_records
    refusals_name_kafkas_error
    a_topic_is_made_when_records_come
    topics
    offsets_and_deleted_records
    groups
    users
    the_description_is_valid_and_true
}
