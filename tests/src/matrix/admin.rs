//! What an operator does with topics.

use anyhow::{Result, ensure};

use super::driver::{Answer, Driver};
use super::node_view::NodeView;
use super::outcome::{Cell, Feature};
use super::trial::Trial;

/// Numbers of the two requests that change settings.
const ALTER_CONFIGS: i16 = 33;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;

const TOPIC: &str = "administered";
const PARTITIONS: i32 = 5;

/// A topic is made, shown, changed and deleted.
pub fn try_all(trial: &Trial<'_>, main: &mut Driver) -> Vec<(Feature, Cell)> {
    let made = create(trial, main);
    let (topics, configs, altered) = match made {
        Ok(Cell::Passed) => {
            let configs = Cell::of(show(main));
            let altered = Cell::of(alter(trial, main));
            (Cell::of(delete(trial, main)), configs, altered)
        }
        Ok(other) => (other.clone(), other.clone(), other),
        Err(error) => {
            let without = || Cell::NotRun("there is no topic".into());
            (Cell::of(Err(error)), without(), without())
        }
    };
    vec![
        (Feature::Topics, topics),
        (Feature::Configs, configs),
        (Feature::AlterConfigs, altered),
    ]
}

fn create(trial: &Trial<'_>, main: &mut Driver) -> Result<Cell> {
    let create =
        format!("create topic={TOPIC} partitions={PARTITIONS} settings=retention.ms=123456");
    if let Answer::Unsupported(why) = main.ask(&create)? {
        return Ok(Cell::NotRun(why));
    }
    let found = trial.view()?.partitions(TOPIC)?;
    ensure!(found == Some(PARTITIONS), "made with {found:?} partitions");
    let described = main.must(&format!("describe topic={TOPIC}"))?;
    ensure!(
        described == PARTITIONS.to_string(),
        "described with {described}"
    );
    ensure!(lists(main)?, "not listed");
    Ok(Cell::Passed)
}

fn lists(main: &mut Driver) -> Result<bool> {
    Ok(main.must("topics")?.split(',').any(|found| found == TOPIC))
}

fn retention(main: &mut Driver) -> Result<Answer> {
    main.ask(&format!("config topic={TOPIC} name=retention.ms"))
}

fn show(main: &mut Driver) -> Result<Cell> {
    match retention(main)? {
        Answer::Unsupported(why) => Ok(Cell::NotRun(why)),
        Answer::Done(found) => {
            ensure!(found == "123456", "retention.ms is shown as {found}");
            Ok(Cell::Passed)
        }
    }
}

fn alter(trial: &Trial<'_>, main: &mut Driver) -> Result<Cell> {
    let view = &mut trial.view()?;
    let speaks = |view: &mut NodeView, key| view.speaks(key);
    if !speaks(view, ALTER_CONFIGS)? && !speaks(view, INCREMENTAL_ALTER_CONFIGS)? {
        let why = "the node has neither AlterConfigs nor IncrementalAlterConfigs";
        return Ok(Cell::NotRun(why.into()));
    }
    let alter = format!("alter topic={TOPIC} name=retention.ms value=654321");
    if let Answer::Unsupported(why) = main.ask(&alter)? {
        return Ok(Cell::NotRun(why));
    }
    let found = retention(main)?;
    ensure!(
        found == Answer::Done("654321".into()),
        "retention.ms is shown as {found:?}"
    );
    Ok(Cell::Passed)
}

fn delete(trial: &Trial<'_>, main: &mut Driver) -> Result<Cell> {
    main.must(&format!("delete topic={TOPIC}"))?;
    let found = trial.view()?.partitions(TOPIC)?;
    ensure!(
        found.is_none(),
        "deleted, and still has {found:?} partitions"
    );
    ensure!(!lists(main)?, "deleted, and still listed");
    Ok(Cell::Passed)
}
