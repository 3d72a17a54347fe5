//! One side of a comparison, as it is written on the command line.
//!
//! ```text
//! Kafka 4.3, fsync per batch @ 127.0.0.1:39092 ? flush.messages=1 & min.insync.replicas=1
//! └ label: what it is and ───┘ └ bootstrap ───┘   └ settings of the topics made there ────┘
//!   what an acknowledgement
//!   means there
//! ```
//!
//! The label and the settings may be left out.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

/// A broker, or a cluster of them, with the settings of the topics it is measured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// What it is called in the report; the address where nothing else is given.
    pub label: String,
    /// Any broker of the cluster.
    pub bootstrap: String,
    /// Settings of the topics.
    pub topic_configs: Vec<(String, String)>,
}

impl Side {
    /// What its topics were made with, for people.
    #[must_use]
    pub fn settings(&self) -> String {
        if self.topic_configs.is_empty() {
            return "topics with the broker's defaults".to_owned();
        }
        let settings = self.topic_configs.iter();
        let settings: Vec<String> = settings
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("topics with {}", settings.join(", "))
    }
}

impl FromStr for Side {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Side> {
        let (label, place) = match text.rsplit_once('@') {
            Some((label, place)) => (label.trim(), place),
            None => ("", text),
        };
        let (bootstrap, settings) = match place.split_once('?') {
            Some((bootstrap, settings)) => (bootstrap.trim(), settings),
            None => (place.trim(), ""),
        };
        let port = bootstrap.rsplit_once(':').map(|(_, port)| port);
        ensure!(
            port.is_some_and(|port| port.parse::<u16>().is_ok()),
            "{bootstrap:?}: a side is LABEL@HOST:PORT?SETTING=VALUE&…, label and settings optional"
        );
        let mut topic_configs = Vec::new();
        for setting in settings
            .split('&')
            .map(str::trim)
            .filter(|one| !one.is_empty())
        {
            let (name, value) = setting
                .split_once('=')
                .with_context(|| format!("{setting:?}: a topic's setting is NAME=VALUE"))?;
            if name.is_empty() {
                bail!("{setting:?}: a topic's setting has a name");
            }
            topic_configs.push((name.to_owned(), value.to_owned()));
        }
        let label = if label.is_empty() { bootstrap } else { label };
        Ok(Side {
            label: label.to_owned(),
            bootstrap: bootstrap.to_owned(),
            topic_configs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_read_with_and_without_label_and_settings() {
        let text = "Kafka, flush.messages=1 @ 127.0.0.1:39092 ? flush.messages=1 & segment.bytes=1";
        let full: Side = text.parse().unwrap();
        assert_eq!(full.label, "Kafka, flush.messages=1");
        assert_eq!(full.bootstrap, "127.0.0.1:39092");
        assert_eq!(
            full.settings(),
            "topics with flush.messages=1, segment.bytes=1"
        );
        let bare: Side = "localhost:9092".parse().unwrap();
        assert_eq!(bare.label, "localhost:9092");
        assert_eq!(bare.settings(), "topics with the broker's defaults");
    }

    #[test]
    fn a_side_without_a_port_or_with_half_a_setting_is_refused() {
        for wrong in ["", "localhost", "x@localhost:port", "a:1?flush", "a:1?=1"] {
            assert!(wrong.parse::<Side>().is_err(), "{wrong:?} was taken");
        }
    }
}
