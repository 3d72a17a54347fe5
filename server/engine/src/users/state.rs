//! The users machine. Core 0's decides (`prepare`) and logs; every core's applies what is durable,
//! in the order of the metadata records.
//!
//! ```text
//! checkpoint = version u16 = 1, count u32, { user as in a record that sets credentials }*   by name
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use ringlog_types::snapshot::{Next, Pieces, Rows};

use crate::limits;
use crate::little_endian::{DecodeError, Reader, Writer, put};

use super::command::UserCommand;
use super::credential::{Credential, Mechanism};
use super::error::UserError;
use super::pending::Pending;
use super::record::{CREDENTIAL_BYTES, UserRecord, put_set, take_set};

const VERSION: u16 = 1;

/// A user's credentials, by mechanism.
type Credentials = BTreeMap<Mechanism, Credential>;

/// The users of a node: a copy on every core.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: BTreeMap<String, Credentials>,
    pending: Pending,
    /// A checkpoint that is being taken.
    taking: Option<Taking>,
}

#[derive(Clone, Debug)]
struct Taking {
    /// What stands in front of the users, until it is written.
    head: Vec<u8>,
    rows: Rows<String, (String, Credentials)>,
}

impl Users {
    /// Nobody.
    #[must_use]
    pub fn new() -> Users {
        Users::default()
    }

    /// Decides a command: the record to be logged. What it takes stays reserved until
    /// [`Users::apply`] or [`Users::abandon`].
    ///
    /// # Errors
    /// Why it is refused; nothing is reserved.
    pub fn prepare(&mut self, command: &UserCommand) -> Result<UserRecord, UserError> {
        if self.pending.len() >= limits::PENDING_COMMANDS {
            return Err(UserError::TooManyPending {
                limit: limits::PENDING_COMMANDS,
            });
        }
        let record = self.decide(command)?;
        self.pending.push(record.clone());
        Ok(record)
    }

    /// Gives back what [`Users::prepare`] reserved, because the log refused the record.
    pub fn abandon(&mut self, record: &UserRecord) {
        self.pending.abandoned(record);
    }

    /// A record is durable.
    pub fn apply(&mut self, record: &UserRecord) {
        self.pending.committed(record);
        self.keep(record.user());
        match record {
            UserRecord::Set { user, credentials } => {
                let of_user = self.users.entry(user.clone()).or_default();
                of_user.extend(credentials.iter().cloned());
            }
            UserRecord::Removed { user, mechanism } => {
                if let Some(of_user) = self.users.get_mut(user) {
                    of_user.remove(mechanism);
                    if of_user.is_empty() {
                        self.users.remove(user);
                    }
                }
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.users.len()
    }

    /// Whether somebody has this name.
    #[must_use]
    pub fn has(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// What verifies a user under a mechanism.
    #[must_use]
    pub fn credential(&self, user: &str, mechanism: Mechanism) -> Option<&Credential> {
        self.users.get(user)?.get(&mechanism)
    }

    /// What verifies a user, by mechanism; empty where there is no such user.
    pub fn credentials(&self, user: &str) -> impl Iterator<Item = (Mechanism, &Credential)> {
        let of_user = self.users.get(user).into_iter().flatten();
        of_user.map(|(mechanism, credential)| (*mechanism, credential))
    }

    /// Names behind another (or of all), in order.
    pub fn names_behind(&self, name: Option<&str>) -> impl Iterator<Item = &str> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.users.range::<str, _>((from, Bound::Unbounded));
        behind.map(|(name, _)| name.as_str())
    }

    /// Committed state.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.put_head(&mut out);
        for (user, credentials) in &self.users {
            put_user(&mut out, user, credentials);
        }
        out.into_bytes()
    }

    fn put_head(&self, out: &mut Writer) {
        out.array(&VERSION.to_le_bytes());
        out.count(self.users.len());
    }

    /// Begins a checkpoint of what is committed now, to be taken by [`Users::checkpoint_step`]
    /// while more is applied. Another one before is forgotten.
    pub fn begin_checkpoint(&mut self) {
        let mut head = Writer::default();
        self.put_head(&mut head);
        self.taking = Some(Taking {
            head: head.into_bytes(),
            rows: Rows::default(),
        });
    }

    /// Whether a checkpoint was begun and is not whole.
    #[must_use]
    pub fn takes_checkpoint(&self) -> bool {
        self.taking.is_some()
    }

    /// Writes further users of the checkpoint that was begun: so many rows. Whether there are
    /// more.
    pub fn checkpoint_step(&mut self, rows: usize, out: &mut Pieces) -> bool {
        let Some(taking) = &mut self.taking else {
            return false;
        };
        out.add(|out| out.append(&mut taking.head));
        for _ in 0..rows {
            let behind = |taken: Option<String>| {
                let from = taken.map_or(Bound::Unbounded, Bound::Excluded);
                let mut behind = self.users.range((from, Bound::Unbounded));
                behind.next().map(|(user, _)| user.clone())
            };
            let row = |user: String| {
                let credentials = self.users[&user].clone();
                (user, credentials)
            };
            match taking.rows.take(behind, row) {
                Next::Row((user, credentials)) => {
                    put(out, |out| put_user(out, &user, &credentials));
                }
                Next::Passed => {}
                Next::End => {
                    self.taking = None;
                    return false;
                }
            }
        }
        true
    }

    /// The user is about to change.
    fn keep(&mut self, user: &str) {
        if let Some(taking) = &mut self.taking {
            let row = || {
                let credentials = self.users.get(user)?;
                Some((user.to_owned(), credentials.clone()))
            };
            taking.rows.keep(user.to_owned(), row);
        }
    }

    /// Starts from a checkpoint: whatever was there before is gone.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        *self = Users::decode(checkpoint).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn decode(checkpoint: &[u8]) -> Result<Users, DecodeError> {
        let mut reader = Reader::new("the checkpoint of the users", checkpoint, VERSION)?;
        let mut users = Users::new();
        for _ in 0..reader.count("the users", 8 + CREDENTIAL_BYTES)? {
            let record = take_set(&mut reader)?;
            if users.has(record.user()) {
                return Err(reader.invalid("a user is in it twice"));
            }
            users.apply(&record);
        }
        reader.finish()?;
        Ok(users)
    }

    fn decide(&self, command: &UserCommand) -> Result<UserRecord, UserError> {
        match command {
            UserCommand::Set { user, credentials } => {
                self.check_user(user)?;
                check_credentials(credentials)?;
                Ok(UserRecord::Set {
                    user: user.clone(),
                    credentials: credentials.clone(),
                })
            }
            UserCommand::Remove { user, mechanism } => {
                let committed = self.credential(user, *mechanism).is_some();
                if !self.pending.has(user, *mechanism).unwrap_or(committed) {
                    let mechanism = *mechanism;
                    return Err(UserError::NotFound { mechanism });
                }
                Ok(UserRecord::Removed {
                    user: user.clone(),
                    mechanism: *mechanism,
                })
            }
        }
    }

    fn check_user(&self, user: &str) -> Result<(), UserError> {
        let (bytes, limit) = (user.len(), limits::USER_NAME_BYTES);
        if !(1..=limit).contains(&bytes) {
            return Err(UserError::InvalidName { bytes, limit });
        }
        if self.has(user) {
            return Ok(());
        }
        // Those that go meanwhile count still: they make room when they are gone.
        let coming = self.pending.set().filter(|coming| !self.has(coming));
        let coming: BTreeSet<&str> = coming.collect();
        if !coming.contains(user) && self.count() + coming.len() >= limits::USERS {
            let limit = limits::USERS;
            return Err(UserError::TooMany { limit });
        }
        Ok(())
    }
}

fn check_credentials(credentials: &[(Mechanism, Credential)]) -> Result<(), UserError> {
    let mechanisms: BTreeSet<Mechanism> = credentials.iter().map(|(of, _)| *of).collect();
    if credentials.is_empty() || mechanisms.len() < credentials.len() {
        return Err(UserError::InvalidMechanisms);
    }
    for (mechanism, credential) in credentials {
        let (least, most) = (
            limits::SCRAM_LEAST_ITERATIONS,
            limits::SCRAM_MOST_ITERATIONS,
        );
        let found = credential.iterations;
        if !(least..=most).contains(&found) {
            return Err(UserError::InvalidIterations { found, least, most });
        }
        let (bytes, limit) = (credential.salt.len(), limits::SCRAM_SALT_BYTES);
        if !(1..=limit).contains(&bytes) {
            return Err(UserError::InvalidSalt { bytes, limit });
        }
        for key in [&credential.stored_key, &credential.server_key] {
            if key.len() != mechanism.key_bytes() {
                return Err(UserError::InvalidKey {
                    mechanism: *mechanism,
                    bytes: key.len(),
                });
            }
        }
    }
    Ok(())
}

fn put_user(out: &mut Writer, user: &str, credentials: &Credentials) {
    let listed: Vec<(Mechanism, Credential)> = credentials
        .iter()
        .map(|(mechanism, credential)| (*mechanism, credential.clone()))
        .collect();
    put_set(out, user, &listed);
}
