//! `docs/topic-configs.md`, made of the table of configurations: a page for people that cannot
//! say anything else than what the node does.
//!
//! To write it anew: `cargo test -p ringlog-engine write_the_page -- --ignored`.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{DEFINITIONS, Definition, Support, UNLIMITED, Values};

const HEAD: &str = "\
# Topic configurations

Every configuration that Kafka documents for topics, and Ringlog's own. Made of the table in
`server/engine/src/topics/config_definitions.rs` and compared with it by a test
(`cargo test -p ringlog-engine write_the_page -- --ignored` writes it).

CreateTopics, IncrementalAlterConfigs and AlterConfigs check by the same table: a value that is none of those a configuration
takes is INVALID_CONFIG, one that Kafka takes and this node cannot keep POLICY_VIOLATION, both with the reason. DescribeConfigs shows
all of them.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let honoured = |support: Support| support == Support::Honoured;
    section(&mut page, "Honoured", "They do what they say.", honoured);
    section(
        &mut page,
        "Taken without effect",
        "Nothing here needs them: what they tune is not there, or another setting says it. They are \
         kept and shown.",
        |support| support == Support::Advisory,
    );
    section(
        &mut page,
        "Refused, but for the default",
        "Another value would be a promise that is not kept.",
        |support| matches!(support, Support::DefaultOnly(_)),
    );
    page
}

fn section(page: &mut String, title: &str, intro: &str, of: impl Fn(Support) -> bool) {
    // Writing into a string cannot fail.
    let _ = write!(
        page,
        "\n## {title}\n\n{intro}\n\n| configuration | default | values | here | broker's default |\n|---|---|---|---|---|\n"
    );
    for definition in DEFINITIONS
        .iter()
        .filter(|definition| of(definition.support))
    {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            definition.name,
            default(definition.default),
            values(definition.values),
            here(definition),
            definition
                .broker
                .map_or(String::new(), |broker| format!("`{broker}`")),
        );
    }
}

fn default(value: &str) -> String {
    match value {
        "" => "empty".to_owned(),
        UNLIMITED => "2^63 − 1".to_owned(),
        value => format!("`{value}`"),
    }
}

fn values(values: Values) -> String {
    match values {
        Values::Boolean => "`true`, `false`".to_owned(),
        Values::Int { min, max } if max == i64::from(i32::MAX) => format!("integer from {min}"),
        Values::Int { min, max } => format!("integer, {min} to {max}"),
        Values::Long { min } => format!("integer from {min}"),
        Values::Double { min, max } => format!("number, {min} to {max}"),
        Values::OneOf(words) => format!("`{}`", words.join("`, `")),
        Values::ListOf(words) => format!("list of `{}`", words.join("`, `")),
        Values::List => "list".to_owned(),
        Values::Text => "text".to_owned(),
    }
}

fn here(definition: &Definition) -> String {
    match definition.support {
        Support::DefaultOnly(reason) => format!("{} Refused: {reason}.", definition.documentation),
        _ => definition.documentation.to_owned(),
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/topic-configs.md")
}

#[test]
fn the_page_of_topic_configurations_says_what_the_table_says() {
    let found = std::fs::read_to_string(path()).unwrap();
    assert_eq!(
        found,
        page(),
        "write it with: cargo test -p ringlog-engine write_the_page -- --ignored"
    );
}

#[test]
#[ignore = "writes the page into the source tree"]
fn write_the_page() {
    std::fs::write(path(), page()).unwrap();
}
