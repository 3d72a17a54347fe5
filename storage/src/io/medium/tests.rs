//! The rules of durability, one test each, and all of them against the simplest model: a byte
//! after a cut is the settled one or one that was written later.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SECTOR: u64 = 4;

fn medium_with(name: &str, bytes: usize) -> (Medium, Inode) {
    let medium = Medium::new(SECTOR, Image::from([(name.to_owned(), vec![0; bytes])]));
    let inode = medium.find(name).expect("it is in the image");
    (medium, inode)
}

fn cuts(medium: &Medium, started: &[Started]) -> Vec<Left> {
    (0..300)
        .map(|seed| medium.after_power_cut(started, &mut Random::new(seed)))
        .collect()
}

#[test]
fn an_unflushed_write_survives_in_any_subset_of_its_sectors_and_a_flushed_one_whole() {
    let (mut medium, inode) = medium_with("a", 16);
    medium.write(inode, 4, vec![1; 8], false);
    assert_eq!(medium.content(inode)[4..12], [1; 8]);
    let seen: BTreeSet<_> = cuts(&medium, &[])
        .into_iter()
        .map(|image| image["a"].clone())
        .collect();
    assert_eq!(seen.len(), 4, "two sectors, four outcomes: {seen:?}");
    let moment = medium.moment();
    medium.flushed(inode, moment);
    assert!(
        cuts(&medium, &[])
            .iter()
            .all(|image| image["a"][4..12] == [1; 8])
    );
}

#[test]
fn a_flush_does_not_cover_what_completed_after_its_submission() {
    let (mut medium, inode) = medium_with("a", 4);
    let submitted = medium.moment();
    medium.write(inode, 0, vec![1; 4], false);
    medium.flushed(inode, submitted);
    assert!(
        cuts(&medium, &[])
            .iter()
            .any(|image| image["a"][..] == [0; 4])
    );
}

#[test]
fn a_durable_write_is_not_undone_by_an_older_one_in_the_cache() {
    let (mut medium, inode) = medium_with("a", 12);
    medium.write(inode, 0, vec![1; 12], false);
    medium.write(inode, 4, vec![2; 4], true);
    let images = cuts(&medium, &[]);
    assert!(images.iter().all(|image| image["a"][4..8] == [2; 4]));
    assert!(images.iter().any(|image| image["a"][0..4] == [1; 4]));
    let moment = medium.moment();
    medium.flushed(inode, moment);
    assert_eq!(
        medium.durable_image()["a"],
        [1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1]
    );
}

#[test]
fn a_durable_write_says_nothing_about_other_writes() {
    let (mut medium, inode) = medium_with("a", 8);
    medium.write(inode, 0, vec![1; 4], false);
    medium.write(inode, 4, vec![2; 4], true);
    assert!(
        cuts(&medium, &[])
            .iter()
            .any(|image| image["a"][0..4] == [0; 4])
    );
}

#[test]
fn after_a_failed_flush_a_later_one_does_not_vouch_for_what_the_first_covered() {
    let (mut medium, inode) = medium_with("a", 8);
    medium.write(inode, 0, vec![1; 4], false);
    let failed = medium.moment();
    medium.flush_failed(inode, failed);
    medium.write(inode, 4, vec![2; 4], false);
    let moment = medium.moment();
    medium.flushed(inode, moment);
    let images = cuts(&medium, &[]);
    assert!(images.iter().all(|image| image["a"][4..8] == [2; 4]));
    assert!(images.iter().any(|image| image["a"][0..4] == [0; 4]));
    assert!(images.iter().any(|image| image["a"][0..4] == [1; 4]));
}

#[test]
fn names_survive_for_sure_only_after_a_directory_sync() {
    let mut medium = Medium::new(SECTOR, Image::from([("old".to_owned(), vec![7; 4])]));
    medium.create("new").expect("not there yet");
    medium.remove("old");
    let images = cuts(&medium, &[]);
    for (name, there) in [("new", true), ("new", false), ("old", true), ("old", false)] {
        assert!(
            images.iter().any(|image| image.contains_key(name) == there),
            "{name} {there}"
        );
    }
    let moment = medium.moment();
    medium.create("late").expect("not there yet");
    medium.names_synced(moment);
    let images = cuts(&medium, &[]);
    assert!(
        images
            .iter()
            .all(|image| image.contains_key("new") && !image.contains_key("old"))
    );
    assert!(images.iter().any(|image| !image.contains_key("late")));
}

#[test]
fn an_unflushed_length_comes_back_old_or_new_and_a_durable_write_settles_it() {
    let (mut medium, inode) = medium_with("a", 0);
    medium.set_length(inode, 16);
    let lengths: BTreeSet<_> = cuts(&medium, &[])
        .iter()
        .map(|image| image["a"].len())
        .collect();
    assert_eq!(lengths, BTreeSet::from([0, 16]));
    medium.write(inode, 0, vec![1; 4], true);
    assert!(
        cuts(&medium, &[])
            .iter()
            .all(|image| image["a"].len() == 16)
    );
}

#[test]
fn what_is_cut_off_reads_as_zeroes_when_the_file_grows_again() {
    let (mut medium, inode) = medium_with("a", 8);
    medium.write(inode, 0, vec![1; 8], false);
    medium.set_length(inode, 4);
    medium.set_length(inode, 8);
    assert_eq!(medium.content(inode), [1, 1, 1, 1, 0, 0, 0, 0]);
    let moment = medium.moment();
    medium.flushed(inode, moment);
    assert_eq!(medium.durable_image()["a"], [1, 1, 1, 1, 0, 0, 0, 0]);
}

#[test]
fn operations_under_way_may_have_happened() {
    let (medium, inode) = medium_with("a", 8);
    let started = [
        Started::Write {
            inode,
            offset: 0,
            bytes: vec![1; 8],
        },
        Started::Create {
            name: "b".to_owned(),
        },
    ];
    let images = cuts(&medium, &started);
    let contents: BTreeSet<_> = images.iter().map(|image| image["a"].clone()).collect();
    assert_eq!(contents.len(), 4);
    for there in [true, false] {
        assert!(images.iter().any(|image| image.contains_key("b") == there));
    }
    let started = [
        Started::Remove {
            name: "a".to_owned(),
        },
        Started::Length { inode, bytes: 4 },
    ];
    let images = cuts(&medium, &started);
    assert!(images.iter().any(Left::is_empty));
    assert!(
        images
            .iter()
            .any(|image| image.get("a").is_some_and(|bytes| bytes.len() == 4))
    );
}

#[test]
fn a_removed_open_file_is_kept_and_forgotten_when_closed() {
    let (mut medium, inode) = medium_with("a", 4);
    medium.remove("a");
    let moment = medium.moment();
    medium.names_synced(moment);
    medium.forget_unnamed(|open| open == inode);
    assert_eq!(medium.content(inode).len(), 4);
    medium.forget_unnamed(|_| false);
    assert_eq!(medium.content(inode).len(), 0);
}

/// The model keeps, per sector, the settled version and every later one.
#[derive(Clone, Debug)]
enum Step {
    Write {
        from: u64,
        count: u64,
        durable: bool,
    },
    Submit,
    Flush,
    FailFlush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..8, 1_u64..5, any::<bool>())
            .prop_map(|(from, count, durable)| Step::Write { from, count, durable }),
        2 => Just(Step::Submit),
        2 => Just(Step::Flush),
        1 => Just(Step::FailFlush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_sector_after_a_cut_is_the_settled_version_or_a_later_one(
        steps in prop::collection::vec(step(), 1..40),
        seed in any::<u64>(),
    ) {
        struct Version { fill: u8, order: usize, flushable: bool }
        let (mut medium, inode) = medium_with("a", 12 * SECTOR as usize);
        let mut settled = [0_u8; 12];
        let mut later: Vec<Vec<Version>> = (0..12).map(|_| Vec::new()).collect();
        let mut submitted = (medium.moment(), 0);
        for (order, step) in steps.into_iter().enumerate() {
            let order = order + 1;
            match step {
                Step::Write { from, count, durable } => {
                    let fill = order as u8;
                    let bytes = vec![fill; (count * SECTOR) as usize];
                    medium.write(inode, from * SECTOR, bytes, durable);
                    for sector in from..from + count {
                        let later = &mut later[sector as usize];
                        if durable {
                            settled[sector as usize] = fill;
                            later.clear();
                        } else {
                            later.push(Version { fill, order, flushable: true });
                        }
                    }
                }
                Step::Submit => submitted = (medium.moment(), order),
                Step::Flush => {
                    medium.flushed(inode, submitted.0);
                    for (settled, later) in settled.iter_mut().zip(&mut later) {
                        let covered =
                            |version: &Version| version.order < submitted.1 && version.flushable;
                        if let Some(last) = later.iter().rposition(covered) {
                            *settled = later[last].fill;
                            later.drain(..=last);
                        }
                    }
                }
                Step::FailFlush => {
                    medium.flush_failed(inode, submitted.0);
                    for version in later.iter_mut().flatten() {
                        version.flushable &= version.order >= submitted.1;
                    }
                }
            }
        }
        let durable = medium.durable_image().remove("a").expect("it is durable");
        let after = medium.after_power_cut(&[], &mut Random::new(seed)).remove("a").expect("too");
        for sector in 0..12 {
            let bytes = sector * SECTOR as usize..(sector + 1) * SECTOR as usize;
            prop_assert!(durable[bytes.clone()].iter().all(|byte| *byte == settled[sector]));
            let found = after[bytes.start];
            prop_assert!(after[bytes].iter().all(|byte| *byte == found), "a sector is not torn");
            prop_assert!(
                found == settled[sector]
                    || later[sector].iter().any(|version| version.fill == found),
                "sector {} holds {}, settled is {}", sector, found, settled[sector]
            );
        }
    }
}
