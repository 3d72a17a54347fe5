//! Clients that were written elsewhere, each with everything that it can do: a failure names the
//! client and the feature. `cargo run -p ringlog-tests --bin matrix` makes a table of the same.

use anyhow::Result;
use ringlog_tests::foreign::{announce, missing};
use ringlog_tests::matrix::{Cell, Client, run};

fn everything_passes_or_cannot_be_done(client: Client) -> Result<()> {
    let results = match run(client)? {
        Ok(results) => results,
        Err(absent) if absent.installable => {
            return missing(&format!("{}: {}", client.name(), absent.what));
        }
        Err(absent) => {
            announce(&format!("NOT RUN: {}: {}", client.name(), absent.what));
            return Ok(());
        }
    };
    println!("{} {}", client.name(), results.version);
    let mut failed = Vec::new();
    for (feature, cell) in &results.cells {
        println!("  {}: {cell:?}", feature.title());
        if let Cell::Failed(why) = cell {
            failed.push(format!("{}: {why}", feature.title()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

macro_rules! clients {
    ($($name:ident: $client:expr,)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                everything_passes_or_cannot_be_done($client)
            }
        )*

        #[test]
        fn every_client_is_tried() {
            assert_eq!([$($client),*], Client::ALL);
        }
    };
}

clients! {
    kcat: Client::Kcat,
    confluent_kafka: Client::Confluent,
    kafka_python: Client::KafkaPython,
    aiokafka: Client::Aiokafka,
    kafkajs: Client::Kafkajs,
    java: Client::Java,
    franz_go: Client::FranzGo,
}
