//! The simplest thing that behaves like the users, and a property test that runs both.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringlog_types::snapshot::Pieces;

use super::tests::credential;
use super::*;

#[derive(Clone, Debug, Default)]
struct Model {
    /// Iterations by user and mechanism.
    known: BTreeMap<(String, Mechanism), u32>,
}

impl Model {
    fn refuses(&self, command: &UserCommand) -> bool {
        match command {
            UserCommand::Set { user, credentials } => user.is_empty() || credentials.is_empty(),
            UserCommand::Remove { user, mechanism } => {
                !self.known.contains_key(&(user.clone(), *mechanism))
            }
        }
    }

    fn do_to(&mut self, record: &UserRecord) {
        match record {
            UserRecord::Set { user, credentials } => {
                for (mechanism, credential) in credentials {
                    self.known
                        .insert((user.clone(), *mechanism), credential.iterations);
                }
            }
            UserRecord::Removed { user, mechanism } => {
                self.known.remove(&(user.clone(), *mechanism));
            }
        }
    }

    fn of(users: &Users) -> Model {
        let mut known = BTreeMap::new();
        for user in users.names_behind(None) {
            for (mechanism, credential) in users.credentials(user) {
                known.insert((user.to_owned(), mechanism), credential.iterations);
            }
        }
        Model { known }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Command(UserCommand),
    Apply,
    Abandon,
    Begin,
    TakeMore,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let user = || proptest::sample::select(&["a", "b", "c", "d", ""][..]).prop_map(str::to_owned);
    let mechanism = || proptest::sample::select(&Mechanism::ALL[..]);
    let set = (
        user(),
        proptest::sample::subsequence(&Mechanism::ALL[..], 0..=2),
        4096u32..5000,
    );
    let set = set.prop_map(|(user, mechanisms, iterations)| {
        let credentials = mechanisms
            .iter()
            .map(|of| (*of, credential(*of, iterations)));
        UserCommand::Set {
            user,
            credentials: credentials.collect(),
        }
    });
    let remove = (user(), mechanism());
    let remove = remove.prop_map(|(user, mechanism)| UserCommand::Remove { user, mechanism });
    prop_oneof![
        6 => set.prop_map(Step::Command),
        5 => remove.prop_map(Step::Command),
        8 => Just(Step::Apply),
        2 => Just(Step::Abandon),
        1 => Just(Step::Begin),
        3 => Just(Step::TakeMore),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_machine_does_what_the_model_does_and_replay_gives_the_live_state(
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        let (mut real, mut model) = (Users::new(), Model::default());
        let mut pending: Vec<UserRecord> = Vec::new();
        let mut checkpoint = real.checkpoint();
        let mut log: Vec<UserRecord> = Vec::new();
        // A checkpoint in steps: what it must be, its pieces, and what was applied since.
        let mut taking: Option<(Vec<u8>, Pieces, Vec<UserRecord>)> = None;
        for step in steps {
            match step {
                Step::Command(command) => {
                    let mut ahead = model.clone();
                    pending.iter().for_each(|record| ahead.do_to(record));
                    let found = real.prepare(&command);
                    prop_assert_eq!(found.is_err(), ahead.refuses(&command), "{:?}", found);
                    pending.extend(found);
                }
                Step::Apply if pending.is_empty() => {}
                Step::Apply => {
                    let record = pending.remove(0);
                    real.apply(&record);
                    model.do_to(&record);
                    if let Some((_, _, since)) = &mut taking {
                        since.push(record.clone());
                    }
                    log.push(record);
                }
                Step::Abandon => {
                    if let Some(record) = pending.pop() {
                        real.abandon(&record);
                    }
                }
                Step::Begin => {
                    real.begin_checkpoint();
                    taking = Some((real.checkpoint(), Pieces::default(), Vec::new()));
                }
                Step::TakeMore => {
                    if let Some((wanted, mut pieces, since)) = taking.take() {
                        if real.checkpoint_step(1, &mut pieces) {
                            taking = Some((wanted, pieces, since));
                        } else {
                            let taken = pieces.into_pieces().concat();
                            prop_assert_eq!(&taken, &wanted);
                            (checkpoint, log) = (taken, since);
                        }
                    }
                }
                Step::Crash => {
                    pending.clear();
                    taking = None;
                    let live = real.checkpoint();
                    real = Users::new();
                    real.restore(&checkpoint).unwrap();
                    log.iter().for_each(|record| real.apply(record));
                    prop_assert_eq!(real.checkpoint(), live);
                }
            }
            prop_assert_eq!(Model::of(&real).known, model.known.clone());
        }
    }
}
