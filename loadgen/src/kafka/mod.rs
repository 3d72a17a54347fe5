//! The Kafka protocol as the generator speaks it: slow calls through `kafka-protocol`, the hot
//! pair (produce, fetch) as templates written and responses walked by hand.

pub mod client;
pub mod cluster;
pub mod fetch;
pub mod frame;
pub mod produce_response;
