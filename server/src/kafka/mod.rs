//! The Kafka face: speaks the protocol on the connections of a core.
//!
//! | file | what |
//! |---|---|
//! | `connection` | one connection: requests in, answers out, in order |
//! | `frame`, `patience` | bytes into requests; timers |
//! | `apis`, `request`, `dispatch` | what is spoken; request headers; request to handler |
//! | `bounds`, `decode`, `wire` | reading requests that may lie; primitive types |
//! | `answer`, `endpoints` | answers, with records by reference; where leaders are |
//! | `locate`, `topic_ref` | the partition that a request means |
//! | `errors`, `complaints`, `limits` | what goes wrong on the wire; log lines; bounds |
//! | `forward` | behind a single port: what belongs to other cores |
//! | `groups` | consumer groups: a file for each of their APIs |
//! | `records` | opening batches |
//! | `produce`, `fetch`, and one file for every other API | the handlers, all alike |
//!
//! Invariants: nothing here survives a restart or is known to another core; every number from
//! the wire is bounded before it is used; nothing is acknowledged that is not durable.

pub mod answer;
pub mod api_versions;
pub mod apis;
pub mod bounds;
pub mod complaints;
pub mod connection;
pub mod create_partitions;
pub mod create_topics;
pub mod decode;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod dispatch;
pub mod endpoints;
pub mod errors;
pub mod fetch;
pub mod forward;
pub mod frame;
pub mod groups;
pub mod init_producer_id;
pub mod limits;
pub mod list_offsets;
pub mod locate;
pub mod metadata;
pub mod patience;
pub mod produce;
pub mod records;
pub mod request;
pub mod topic_ref;
pub mod wire;

#[cfg(test)]
mod tests;
