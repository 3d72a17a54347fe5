//! Decided changes that are not durable yet. A command is checked against what the users will be
//! when they are. Walked once per command: changes in flight are few, and commands rare.

use std::collections::VecDeque;

use super::credential::Mechanism;
use super::record::UserRecord;

/// The changes, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    records: VecDeque<UserRecord>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn push(&mut self, record: UserRecord) {
        self.records.push_back(record);
    }

    /// The record is durable. Nearly always it is the oldest; one that was not prepared here is
    /// not there at all.
    pub(super) fn committed(&mut self, record: &UserRecord) {
        if let Some(index) = self.records.iter().position(|pending| pending == record) {
            self.records.remove(index);
        }
    }

    /// The record will never be durable.
    pub(super) fn abandoned(&mut self, record: &UserRecord) {
        if let Some(index) = self.records.iter().rposition(|pending| pending == record) {
            self.records.remove(index);
        }
    }

    /// Whether the user will have such a credential, if that changes.
    pub(super) fn has(&self, wanted: &str, mechanism: Mechanism) -> Option<bool> {
        self.records.iter().rev().find_map(|record| match record {
            UserRecord::Set { user, credentials } if user == wanted => credentials
                .iter()
                .any(|(set, _)| *set == mechanism)
                .then_some(true),
            UserRecord::Removed {
                user,
                mechanism: removed,
            } if user == wanted && *removed == mechanism => Some(false),
            _ => None,
        })
    }

    /// Users that something is set for, perhaps more than once each.
    pub(super) fn set(&self) -> impl Iterator<Item = &str> {
        self.records.iter().filter_map(|record| match record {
            UserRecord::Set { user, .. } => Some(user.as_str()),
            UserRecord::Removed { .. } => None,
        })
    }
}
