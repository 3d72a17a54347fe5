//! Which names topics may have: Kafka's rules.

use crate::limits::TOPIC_NAME_CHARS;

use super::error::TopicError;

/// Checks a name for a new topic, apart from other topics.
pub(super) fn check(name: &str) -> Result<(), TopicError> {
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name == "." || name == ".." {
        "'.' and '..' are reserved".to_owned()
    } else if let Some(character) = name.chars().find(|c| !is_allowed(*c)) {
        format!("it contains {character:?}; allowed are ASCII letters and digits, '.', '_' and '-'")
    } else if name.len() > TOPIC_NAME_CHARS {
        format!(
            "it has {} characters; {TOPIC_NAME_CHARS} are allowed",
            name.len()
        )
    } else {
        return Ok(());
    };
    Err(TopicError::InvalidName {
        name: shown(name),
        reason,
    })
}

/// The name as metrics would show it: equal for names that collide.
pub(super) fn collision_form(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether metrics would show both names alike.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let unified = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.bytes().map(unified).eq(other.bytes().map(unified))
}

/// Text from outside, cut for a message.
pub(super) fn shown(text: &str) -> String {
    const CHARS: usize = 64;
    match text.char_indices().nth(CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}
