//! Consumer groups: sharing, losing a member, committing, going on.

use std::path::Path;

use anyhow::{Result, ensure};

use super::client::Client;
use super::driver::{Answer, Driver};
use super::outcome::{Cell, Feature};
use super::trial::Trial;
use crate::node::Node;

const GROUP_PARTITIONS: i32 = 6;
const RESUME_PARTITIONS: i32 = 3;
/// Events before something happens to a group, and again so many behind it.
const EVENTS: usize = 120;

/// Three members of which one is killed; and what an operator sees of their group.
pub fn try_group(trial: &Trial<'_>) -> Vec<(Feature, Cell)> {
    let tried = share_and_lose_one(trial);
    let (group, admin) = match tried {
        Ok(admin) => (Cell::Passed, Cell::of(admin)),
        Err(error) => {
            let failed = Cell::of(Err(error));
            (
                failed,
                Cell::NotRun("its group did not come together".into()),
            )
        }
    };
    vec![(Feature::Group, group), (Feature::GroupAdmin, admin)]
}

fn share_and_lose_one(trial: &Trial<'_>) -> Result<Result<Cell>> {
    let (topic, group) = ("shared", "sharers");
    trial.view()?.create(topic, GROUP_PARTITIONS)?;
    let mut first = trial.driver("first")?;
    let mut doomed = trial.driver("doomed")?;
    let mut third = trial.driver("third")?;
    let produce = |number: usize| {
        format!(
            "produce topic={topic} partitions={GROUP_PARTITIONS} producer={topic} first={number} count={EVENTS}"
        )
    };
    first.must(&produce(0))?;
    for (name, driver) in [
        ("first", &mut first),
        ("doomed", &mut doomed),
        ("third", &mut third),
    ] {
        driver.must(&format!("join group={group} member={name} topic={topic}"))?;
    }
    let partitions = usize::try_from(GROUP_PARTITIONS)?;
    trial.wait_for((topic, group), "three members share", |progress| {
        progress.members().len() == 3
            && progress.owners.len() == partitions
            && progress.read.len() == EVENTS
    })?;
    let seen = seen_by_an_operator(&mut first, group, "stable 3");
    doomed.kill9()?;
    first.must(&produce(EVENTS))?;
    trial.wait_for((topic, group), "the two others take over", |progress| {
        !progress.members().contains("doomed")
            && progress.members().len() == 2
            && progress.settled() >= i64::try_from(2 * EVENTS).unwrap_or(i64::MAX)
    })?;
    first.must("leave")?;
    third.must("leave")?;
    ask_what_is_committed(&mut first, (group, topic), GROUP_PARTITIONS, 2 * EVENTS)?;
    trial.write_ended(group, topic, GROUP_PARTITIONS)?;
    first.must(&format!(
        "consume topic={topic} partitions={GROUP_PARTITIONS} group=scan-{topic}"
    ))?;
    let report = trial.check(topic, 2 * EVENTS)?;
    ensure!(
        report.read >= 4 * EVENTS && report.ended == 2 * partitions,
        "not all was read by the group and by a reader: {report}"
    );
    Ok(seen.and_then(|seen| match seen {
        Cell::Passed => end_of_a_group(&mut first, group),
        not_run => Ok(not_run),
    }))
}

/// What is committed has to be everything.
fn ask_what_is_committed(
    driver: &mut Driver,
    (group, topic): (&str, &str),
    partitions: i32,
    events: usize,
) -> Result<()> {
    let asked = driver.ask(&format!(
        "committed group={group} topic={topic} partitions={partitions}"
    ))?;
    if let Answer::Done(offsets) = asked {
        let each = events / usize::try_from(partitions)?;
        let expected = vec![each.to_string(); usize::try_from(partitions)?].join(",");
        ensure!(offsets == expected, "committed: {offsets}, not {expected}");
    }
    Ok(())
}

fn seen_by_an_operator(driver: &mut Driver, group: &str, expected: &str) -> Result<Cell> {
    let listed = match driver.ask("groups")? {
        Answer::Done(listed) => listed,
        Answer::Unsupported(why) => return Ok(Cell::NotRun(why)),
    };
    ensure!(
        listed.split(',').any(|found| found == group),
        "{group} is not listed among {listed}"
    );
    let described = driver.must(&format!("group group={group}"))?.to_lowercase();
    ensure!(
        described == expected,
        "described as {described}, not {expected}"
    );
    Ok(Cell::Passed)
}

fn end_of_a_group(driver: &mut Driver, group: &str) -> Result<Cell> {
    let described = driver.must(&format!("group group={group}"))?.to_lowercase();
    ensure!(described == "empty 0", "described as {described}");
    if let Answer::Unsupported(why) = driver.ask(&format!("delete_group group={group}"))? {
        return Ok(Cell::NotRun(format!("listed and described; {why}")));
    }
    let listed = driver.must("groups")?;
    ensure!(
        listed.split(',').all(|found| found != group),
        "{group} is deleted, and listed among {listed}"
    );
    Ok(Cell::Passed)
}

/// A member reads, commits and leaves; the next one goes on there and reads nothing again.
pub fn try_resume(trial: &Trial<'_>, main: &mut Driver) -> (Feature, Cell) {
    (Feature::Resume, Cell::of(resume(trial, main)))
}

fn resume(trial: &Trial<'_>, main: &mut Driver) -> Result<Cell> {
    let (topic, group) = ("resumed", "resumers");
    trial.view()?.create(topic, RESUME_PARTITIONS)?;
    for (member, until) in [("before", EVENTS), ("behind", 2 * EVENTS)] {
        let first = until - EVENTS;
        main.must(&format!(
            "produce topic={topic} partitions={RESUME_PARTITIONS} producer={topic} first={first} count={EVENTS}"
        ))?;
        main.must(&format!("join group={group} member={member} topic={topic}"))?;
        trial.wait_for((topic, group), "all is read and committed", |progress| {
            progress.settled() == i64::try_from(until).unwrap_or(i64::MAX)
        })?;
        main.must("leave")?;
        ask_what_is_committed(main, (group, topic), RESUME_PARTITIONS, until)?;
    }
    trial.write_ended(group, topic, RESUME_PARTITIONS)?;
    let report = trial.check(topic, 2 * EVENTS)?;
    ensure!(
        report.read == 2 * EVENTS,
        "the second member read again what the first had committed: {report}"
    );
    Ok(Cell::Passed)
}

/// A member and a producer of one process, while the node is killed and comes back.
pub fn try_restart(
    node: &mut Node,
    client: Client,
    directory: &Path,
    main: &mut Driver,
) -> (Feature, Cell) {
    (
        Feature::Restart,
        Cell::of(restart(node, client, directory, main)),
    )
}

fn restart(node: &mut Node, client: Client, directory: &Path, main: &mut Driver) -> Result<Cell> {
    let (topic, group) = ("kept", "keepers");
    let trial = Trial::new(node, client, directory);
    let mut view = trial.view()?;
    if client == Client::Kcat {
        let why = "it ends by itself when all brokers are away";
        return Ok(Cell::NotRun(why.into()));
    }
    view.create(topic, RESUME_PARTITIONS)?;
    let produce = |first: usize| {
        format!(
            "produce topic={topic} partitions={RESUME_PARTITIONS} producer={topic} first={first} count={EVENTS} idempotent=yes"
        )
    };
    let come_to = |trial: &Trial<'_>, events: usize| {
        trial.wait_for((topic, group), "all is read and committed", |progress| {
            progress.settled() == i64::try_from(events).unwrap_or(i64::MAX)
        })
    };
    main.must(&produce(0))?;
    main.must(&format!("join group={group} member=survivor topic={topic}"))?;
    come_to(&trial, EVENTS)?;
    node.kill9()?;
    node.restart()?;
    let trial = Trial::new(node, client, directory);
    main.must(&produce(EVENTS))?;
    come_to(&trial, 2 * EVENTS)?;
    main.must("leave")?;
    ask_what_is_committed(main, (group, topic), RESUME_PARTITIONS, 2 * EVENTS)?;
    trial.write_ended(group, topic, RESUME_PARTITIONS)?;
    trial.check(topic, 2 * EVENTS)?;
    Ok(Cell::Passed)
}
