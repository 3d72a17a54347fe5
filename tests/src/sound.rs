//! A node with a sound topic, and the proof that it goes on: what tests of bad input begin and end
//! with.

use anyhow::{Result, ensure};

use crate::node::{Node, NodeOptions};
use crate::record_batch::Batch;
use crate::wire::{Connection, Produced, error};

/// A topic of one partition, empty until [`check_goes_on`].
pub const TOPIC: &str = "sound";

/// A node of one core with the topic.
///
/// # Errors
/// When it does not start.
pub fn one_core() -> Result<Node> {
    with_topic(NodeOptions::new(1))
}

/// A node with the topic.
///
/// # Errors
/// When it does not start.
pub fn with_topic(options: NodeOptions) -> Result<Node> {
    let node = Node::with(options)?;
    Connection::open(node.kafka(0))?.create_topic(TOPIC, 1, &[])?;
    Ok(node)
}

/// A batch that is right.
#[must_use]
pub fn good_batch() -> Vec<u8> {
    Batch::of_values(["a", "b", "c"]).encode()
}

/// That a good client still gets its records in and out, and nothing else lies in the topic.
///
/// # Errors
/// When it does not, or something is there.
///
/// # Panics
/// When a good batch is refused or does not come back.
pub fn check_goes_on(node: &mut Node) -> Result<()> {
    node.check_running()?;
    let mut client = Connection::open(node.kafka(0))?;
    let before = client.read_all(TOPIC, 0)?;
    ensure!(
        before.is_empty(),
        "something of the bad input was stored: {before:?}"
    );
    let answer = client.produce(TOPIC, 0, &good_batch())?;
    assert_eq!(
        answer,
        Produced {
            error: error::NONE,
            base_offset: 0
        }
    );
    let values: Vec<_> = client
        .read_all(TOPIC, 0)?
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, [b"a", b"b", b"c"]);
    Ok(())
}
