//! The groups of several logs given to others: for a node that starts with other logs than before.

use super::command::GroupSettings;
use super::coordinator::coordinator;
use super::state::Groups;
use super::table::Table;

impl Groups {
    /// Shares out committed state to `count` others, each group to the one at its place.
    #[must_use]
    pub fn split(from: &[Groups], count: usize) -> Vec<Groups> {
        let mut tables = vec![Table::default(); count];
        for groups in from {
            for (number, row) in groups.table.groups_behind(None) {
                tables[coordinator(&row.id, count)].take_in(&groups.table, number);
            }
        }
        let tables = tables.into_iter();
        tables
            .map(|table| Groups::of(table, GroupSettings::default()))
            .collect()
    }
}
