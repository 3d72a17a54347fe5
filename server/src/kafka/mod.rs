//! The Kafka face: speaks the protocol on the connections of a core.
//!
//! | file | what |
//! |---|---|
//! | `connection` | one connection: requests in, answers out, in order |
//! | `stream`, `send` | with TLS or without; answers into it |
//! | `login` | who it is, where the listener asks |
//! | `frame`, `patience` | bytes into requests; timers |
//! | `apis`, `request`, `dispatch` | what is spoken; request headers; request to handler |
//! | `bounds`, `decode`, `wire` | reading requests that may lie; primitive types |
//! | `answer`, `endpoints` | answers, with records by reference; where leaders are |
//! | `locate`, `topic_ref` | the partition that a request means |
//! | `errors`, `complaints`, `limits` | what goes wrong on the wire; log lines; bounds |
//! | `groups` | consumer groups: a file for each of their APIs |
//! | `config_resource`, `broker_configs` | what can be configured; what a broker runs by |
//! | `records` | opening batches |
//! | `produce`, `fetch`, and one file for every other API | the handlers, all alike |
//!
//! Invariants: nothing here survives a restart or is known to another core; every number from
//! the wire is bounded before it is used; nothing is acknowledged that is not durable.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_user_scram_credentials;
pub mod answer;
pub mod api_versions;
pub mod apis;
pub mod bounds;
pub mod broker_configs;
pub mod complaints;
pub mod config_resource;
pub mod connection;
pub mod create_partitions;
pub mod create_topics;
pub mod decode;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod dispatch;
pub mod elect_leaders;
pub mod endpoints;
pub mod errors;
pub mod fetch;
pub mod frame;
pub mod groups;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod limits;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod locate;
pub mod login;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod patience;
pub mod produce;
pub mod records;
pub mod request;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod send;
pub mod stream;
pub mod topic_ref;
pub mod wire;

#[cfg(test)]
mod tests;
