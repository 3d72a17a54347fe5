//! How requests name a topic: by name, in newer versions of some APIs by id. The answer names it
//! the same way.

use ringlog_engine::topics::{Topic, TopicId, Topics};

/// A topic as a client named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(Box<str>),
    /// By id.
    Id([u8; 16]),
}

impl TopicRef {
    /// The topic, if it exists.
    #[must_use]
    pub fn find<'a>(&self, topics: &'a Topics) -> Option<&'a Topic> {
        match self {
            TopicRef::Name(name) => topics.by_name(name),
            TopicRef::Id(id) => topics.by_id(TopicId(*id)),
        }
    }
}

impl std::fmt::Display for TopicRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TopicRef::Name(name) => write!(f, "{name:?}"),
            TopicRef::Id(id) => write!(f, "{}", uuid::Uuid::from_bytes(*id)),
        }
    }
}
