//! The history checker: it is silent about histories that a right log gives, and finds each fault
//! that is planted in one, and nothing else.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringlog_tests::history::event::{Content, Event, Id, Partition};
use ringlog_tests::history::{Fault, Follower, check};
use world::{GROUP, Member, SCAN, World};

/// What some clients may do, each with numbers that choose with whom and where.
#[derive(Clone, Debug)]
enum Step {
    /// Sends, and is answered, or not; and if not, the event is in the log, or not.
    Send { who: u8, partition: u8, fate: u8 },
    /// The owner of a partition reads on.
    Read { partition: u8, count: u8 },
    /// The owner commits what it has read, and may not hear that it was done.
    Commit { partition: u8, heard: bool },
    /// Another member gets a partition, from what is committed.
    Assign { partition: u8, member: u8 },
    /// An operator asks what is committed.
    Tell { partition: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_u8, 0..3_u8, 0..4_u8)
            .prop_map(|(who, partition, fate)| Step::Send { who, partition, fate }),
        4 => (0..3_u8, 1..5_u8).prop_map(|(partition, count)| Step::Read { partition, count }),
        2 => (0..3_u8, any::<bool>())
            .prop_map(|(partition, heard)| Step::Commit { partition, heard }),
        1 => (0..3_u8, 0..3_u8).prop_map(|(partition, member)| Step::Assign { partition, member }),
        1 => (0..3_u8).prop_map(|partition| Step::Tell { partition }),
    ]
}

fn lived(steps: &[Step]) -> World {
    let mut world = World::new(3, 3);
    for step in steps {
        match *step {
            Step::Send {
                who,
                partition,
                fate,
            } => {
                let producer = ["p", "q"][usize::from(who)];
                let (stored, acknowledged) =
                    [(true, true), (true, true), (true, false), (false, false)][usize::from(fate)];
                world.send(producer, usize::from(partition), stored, acknowledged);
            }
            Step::Read { partition, count } => {
                world.read(usize::from(partition), usize::from(count))
            }
            Step::Commit { partition, heard } => world.commit(usize::from(partition), heard),
            Step::Assign { partition, member } => {
                world.assign(usize::from(partition), usize::from(member));
            }
            Step::Tell { partition } => world.tell(usize::from(partition)),
        }
    }
    world
}

/// What follows a life: there is something acknowledged, read and committed in the partition.
fn with_something_in(mut world: World, partition: usize) -> World {
    for _ in 0..3 {
        world.send("p", partition, true, true);
    }
    world.read(partition, usize::MAX);
    world.commit(partition, true);
    world
}

fn faults_of(world: World) -> Vec<Fault> {
    check(&world.ended()).faults
}

fn place(partition: usize) -> Partition {
    Partition {
        topic: world::TOPIC.to_owned(),
        partition: i32::try_from(partition).expect("few partitions"),
    }
}

proptest! {
    #[test]
    fn what_a_right_log_gives_passes(steps in prop::collection::vec(step(), 0..80)) {
        let report = check(&lived(&steps).ended());
        prop_assert_eq!(report.faults, vec![]);
    }

    #[test]
    fn the_lines_mean_the_same_when_they_are_read_back(steps in prop::collection::vec(step(), 0..30)) {
        let world = lived(&steps);
        let directory = tempfile::tempdir().unwrap();
        world.write(directory.path());
        let mut follower = Follower::new(directory.path());
        follower.look(|_| {}).unwrap();
        prop_assert_eq!(check(&follower.history()), check(&world.into_history()));
    }

    #[test]
    fn an_acknowledged_event_that_the_group_did_not_get_is_lost(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize, which in any::<prop::sample::Index>(),
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let acknowledged = world.acknowledged(partition);
        let (offset, id) = acknowledged[which.index(acknowledged.len())].clone();
        world.finish();
        world.forget_reads(GROUP, partition, offset);
        let expected = Fault::Lost { id, partition: place(partition), offset, group: GROUP.into() };
        prop_assert_eq!(check(&world.into_history()).faults, vec![expected]);
    }

    #[test]
    fn an_acknowledged_event_at_the_end_that_the_log_forgot_is_lost_to_all(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let id = world.send("p", partition, true, true);
        let offset = world.forget_last(partition);
        let lost = |group: &str| {
            let (id, group) = (id.clone(), group.to_owned());
            Fault::Lost { id, partition: place(partition), offset, group }
        };
        let mut expected = vec![lost(GROUP), lost(SCAN)];
        expected.sort();
        prop_assert_eq!(faults_of(world), expected);
    }

    #[test]
    fn an_offset_that_nobody_was_told_of_and_the_group_did_not_get_is_a_gap(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let offset = world.end(partition);
        world.send("p", partition, true, false);
        world.finish();
        world.forget_reads(GROUP, partition, offset);
        let expected = Fault::Gap {
            group: GROUP.into(), partition: place(partition), from: offset, to: offset + 1,
        };
        prop_assert_eq!(check(&world.into_history()).faults, vec![expected]);
    }

    #[test]
    fn an_event_that_stands_twice_is_a_duplicate(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize, which in any::<prop::sample::Index>(),
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let acknowledged = world.acknowledged(partition);
        let (first, id) = acknowledged[which.index(acknowledged.len())].clone();
        let second = world.end(partition);
        world.store(partition, id.clone());
        let expected = Fault::Duplicated { id, partition: place(partition), first, second };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn events_of_a_producer_that_change_places_are_reordered(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let (earlier, later) = world.send_two_that_cross("p", partition);
        let expected = Fault::Reordered { partition: place(partition), earlier, later };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn an_event_that_nobody_sent_is_a_phantom(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let (id, offset) = (Id::new("nobody", 7), world.end(partition));
        world.store(partition, id.clone());
        let expected = Fault::Phantom { id, partition: place(partition), offset };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn an_event_in_another_partition_than_it_was_sent_to_is_a_phantom_there(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let id = world.send("stray", partition, false, false);
        let other = (partition + 1) % 3;
        let offset = world.end(other);
        world.store(other, id.clone());
        let expected = Fault::Phantom { id, partition: place(other), offset };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn two_events_at_one_place_contradict(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize, which in any::<prop::sample::Index>(),
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let other = world.send("other", partition, false, false);
        let acknowledged = world.acknowledged(partition);
        let (offset, id) = acknowledged[which.index(acknowledged.len())].clone();
        world.finish();
        world.change_reads(SCAN, partition, offset, &other, None);
        let (first, second) = if id < other { (id, other) } else { (other, id) };
        let expected = Fault::Contradiction { partition: place(partition), offset, first, second };
        prop_assert_eq!(check(&world.into_history()).faults, vec![expected]);
    }

    #[test]
    fn a_record_that_carries_something_else_is_altered(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize, which in any::<prop::sample::Index>(), field in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let acknowledged = world.acknowledged(partition);
        let (offset, id) = acknowledged[which.index(acknowledged.len())].clone();
        world.finish();
        let mut content = World::content(&id);
        match field {
            0 => content.key = None,
            1 => content.timestamp = Some(-1),
            _ => content.headers = Some(BTreeMap::new()),
        }
        world.change_reads(SCAN, partition, offset, &id, Some(content));
        let faults = check(&world.into_history()).faults;
        let found = matches!(faults.as_slice(), [Fault::Altered { id: found, offset: at, .. }] if *found == id && *at == offset);
        prop_assert!(found, "{:?}", faults);
    }

    #[test]
    fn a_member_that_gets_an_event_twice_is_seen(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let (Member { name, .. }, offset) = world.read_last_again(partition);
        let expected = Fault::Redelivered {
            group: GROUP.into(), member: name, partition: place(partition), offset,
        };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn a_member_that_gets_events_the_other_way_round_is_seen(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let (Member { name, .. }, offset) = world.read_two_that_cross(partition);
        let expected = Fault::DeliveredLate {
            group: GROUP.into(), member: name, partition: place(partition), offset, after: offset + 1,
        };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn a_group_that_is_told_less_than_it_committed_is_seen(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize, nothing in any::<bool>(),
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let committed = world.committed(partition);
        let found = if nothing { -1 } else { committed - 1 };
        world.tell_wrongly(partition, found);
        let expected = Fault::CommitWentBack {
            group: GROUP.into(), partition: place(partition), committed, found,
        };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn a_member_that_begins_before_what_was_committed_is_seen(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let committed = world.committed(partition);
        world.assign_wrongly(partition, committed - 1);
        let expected = Fault::CommitWentBack {
            group: GROUP.into(), partition: place(partition), committed, found: committed - 1,
        };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }

    #[test]
    fn a_committed_offset_that_nobody_committed_is_seen(
        steps in prop::collection::vec(step(), 0..60), partition in 0..3_usize, beyond in 1..9_i64,
    ) {
        let mut world = with_something_in(lived(&steps), partition);
        let found = world.committed(partition) + beyond;
        world.tell_wrongly(partition, found);
        let expected = Fault::PhantomCommit {
            group: GROUP.into(), partition: place(partition), found,
        };
        prop_assert_eq!(faults_of(world), vec![expected]);
    }
}

#[test]
fn a_producer_that_may_repeat_itself_may_stand_twice_and_out_of_order() {
    let mut world = World::new(1, 1);
    let content = Content::default();
    for number in 0..2 {
        world.write_line(
            "r",
            Event::Sent {
                id: Id::new("r", number),
                topic: world::TOPIC.into(),
                partition: None,
                may_repeat: true,
                content: content.clone(),
            },
        );
    }
    for number in [1, 0, 1] {
        world.store(0, Id::new("r", number));
    }
    assert_eq!(faults_of(world), []);
}

#[test]
fn an_event_that_was_acknowledged_after_somebody_had_asked_for_the_end_is_not_lost_to_him() {
    let mut world = World::new(1, 1);
    world.send("p", 0, true, true);
    world.finish();
    world.send("p", 0, true, true);
    assert_eq!(check(&world.into_history()).faults, []);
}
