//! Events in and out, in every shape that a client can give them.

use anyhow::{Result, ensure};

use super::driver::{Answer, Driver};
use super::node_view::StoredBatch;
use super::outcome::{Cell, Feature};
use super::trial::Trial;

const PARTITIONS: i32 = 3;
const EVENTS: usize = 300;

/// A shape of records.
struct Shape {
    feature: Feature,
    topic: &'static str,
    /// What the driver is asked for beside so many events.
    wanted: &'static str,
    /// What at least one of the stored batches has to be like.
    stored: fn(StoredBatch) -> bool,
}

const SHAPES: [Shape; 8] = [
    Shape {
        feature: Feature::Records,
        topic: "plain",
        wanted: "",
        stored: |batch| batch.codec == 0,
    },
    Shape {
        feature: Feature::Headers,
        topic: "headers",
        wanted: "headers=yes",
        stored: |_| true,
    },
    Shape {
        feature: Feature::Timestamps,
        topic: "timestamps",
        wanted: "timestamps=yes",
        stored: |_| true,
    },
    Shape {
        feature: Feature::Gzip,
        topic: "gzip",
        wanted: "codec=gzip",
        stored: |batch| batch.codec == 1,
    },
    Shape {
        feature: Feature::Snappy,
        topic: "snappy",
        wanted: "codec=snappy",
        stored: |batch| batch.codec == 2,
    },
    Shape {
        feature: Feature::Lz4,
        topic: "lz4",
        wanted: "codec=lz4",
        stored: |batch| batch.codec == 3,
    },
    Shape {
        feature: Feature::Zstd,
        topic: "zstd",
        wanted: "codec=zstd",
        stored: |batch| batch.codec == 4,
    },
    Shape {
        feature: Feature::Idempotence,
        topic: "idempotent",
        wanted: "idempotent=yes",
        stored: |batch| batch.producer_id >= 0,
    },
];

/// Each shape: sent, acknowledged, read back, and looked at as it is stored.
pub fn try_all(trial: &Trial<'_>, main: &mut Driver) -> Vec<(Feature, Cell)> {
    let tried = SHAPES.iter();
    tried
        .map(|shape| (shape.feature, Cell::of(try_shape(trial, main, shape))))
        .collect()
}

fn try_shape(trial: &Trial<'_>, main: &mut Driver, shape: &Shape) -> Result<Cell> {
    let Shape { topic, wanted, .. } = shape;
    let mut view = trial.view()?;
    view.create(topic, PARTITIONS)?;
    let produce = format!(
        "produce topic={topic} partitions={PARTITIONS} producer={topic} first=0 count={EVENTS} {wanted}"
    );
    if let Answer::Unsupported(why) = main.ask(&produce)? {
        return Ok(Cell::NotRun(why));
    }
    let consume = format!("consume topic={topic} partitions={PARTITIONS} group=scan-{topic}");
    if let Answer::Unsupported(why) = main.ask(&consume)? {
        return Ok(Cell::NotRun(why));
    }
    let report = trial.check(topic, EVENTS)?;
    let read = (report.read, report.ended);
    let all = (EVENTS, usize::try_from(PARTITIONS)?);
    ensure!(read == all, "not all was read to the end: {report}");
    for partition in 0..PARTITIONS {
        let batches = view.batches(topic, partition)?;
        ensure!(
            batches.iter().copied().any(shape.stored),
            "partition {partition} is stored as {batches:?}"
        );
    }
    Ok(Cell::Passed)
}
