//! What kind of work a step of a core was, so that a long one names who took it: in a turn of the
//! log the part of it that took longest, elsewhere the room of the source that asked for the step.

use std::panic::Location;

use ringlog_storage::log::Part;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Checking and appending records.
    Produce,
    /// Reading for consumers.
    Fetch,
    /// Bounds of partitions, lookups by time.
    Offsets,
    /// Topics, partitions and brokers for clients.
    Metadata,
    /// Commands on topics and their configs.
    Control,
    /// Looking for records that are too old or too many.
    Retention,
    /// Consumer groups: members, commits, timers.
    Groups,
    /// Looking for what to clean or compact.
    Plan,
    /// A turn of the log: its longest part.
    Log(Part),
    /// Anything else.
    Other,
}

/// Rooms of the source, by a part of their files' paths.
const ROOMS: [(&str, StepKind); 17] = [
    ("kafka/groups", StepKind::Groups),
    ("node/group", StepKind::Groups),
    ("node/core/groups", StepKind::Groups),
    ("kafka/produce", StepKind::Produce),
    ("node/append", StepKind::Produce),
    ("kafka/fetch", StepKind::Fetch),
    ("kafka/list_offsets", StepKind::Offsets),
    ("kafka/delete_records", StepKind::Offsets),
    ("kafka/metadata", StepKind::Metadata),
    ("kafka/describe", StepKind::Metadata),
    ("kafka/create", StepKind::Control),
    ("kafka/delete_topics", StepKind::Control),
    ("node/control", StepKind::Control),
    ("node/inbox", StepKind::Control),
    ("node/retention", StepKind::Retention),
    ("node/cleaner", StepKind::Plan),
    ("node/compaction", StepKind::Plan),
];

/// The driver alone turns the log.
const DRIVER: &str = "node/driver";

const ALONE: [StepKind; 9] = [
    StepKind::Produce,
    StepKind::Fetch,
    StepKind::Offsets,
    StepKind::Metadata,
    StepKind::Control,
    StepKind::Retention,
    StepKind::Groups,
    StepKind::Plan,
    StepKind::Other,
];

impl StepKind {
    /// How many kinds there are.
    pub const COUNT: usize = ALONE.len() + Part::ALL.len();

    /// The kind of a step that was asked for there; `longest` is what took longest in the log's
    /// last turn.
    #[must_use]
    pub fn of(at: &Location<'_>, longest: Part) -> StepKind {
        let file = at.file();
        if file.contains(DRIVER) {
            return StepKind::Log(longest);
        }
        let room = ROOMS.iter().find(|(room, _)| file.contains(room));
        room.map_or(StepKind::Other, |(_, kind)| *kind)
    }

    /// Every kind, in the order of [`StepKind::place`].
    pub fn all() -> impl Iterator<Item = StepKind> {
        let parts = Part::ALL.into_iter().map(StepKind::Log);
        ALONE.into_iter().chain(parts)
    }

    /// Its place in a table of all.
    #[must_use]
    pub fn place(self) -> usize {
        StepKind::all()
            .position(|kind| kind == self)
            .expect("every kind is among all")
    }

    /// Its name as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            StepKind::Produce => "produce",
            StepKind::Fetch => "fetch",
            StepKind::Offsets => "offsets",
            StepKind::Metadata => "metadata",
            StepKind::Control => "control",
            StepKind::Retention => "retention",
            StepKind::Groups => "groups",
            StepKind::Plan => "plan_cleaning",
            StepKind::Log(part) => part.label(),
            StepKind::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_and_a_name_of_its_own() {
        let places: Vec<usize> = StepKind::all().map(StepKind::place).collect();
        assert_eq!(places, (0..StepKind::COUNT).collect::<Vec<_>>());
        let mut labels: Vec<_> = StepKind::all().map(StepKind::label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), StepKind::COUNT);
    }

    #[test]
    fn every_room_that_is_named_is_there() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for (room, _) in ROOMS.iter().chain(&[(DRIVER, StepKind::Other)]) {
            let (folder, name) = room.rsplit_once('/').unwrap();
            let files = std::fs::read_dir(source.join(folder)).unwrap();
            let starts = |file: std::io::Result<std::fs::DirEntry>| {
                file.unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with(name)
            };
            assert!(files.into_iter().any(starts), "nothing begins with {room}");
        }
    }
}
