//! The name of a segment file. Slots say nothing of order: a file is used again and again.

/// The name of the file in a slot.
#[must_use]
pub fn file_name(slot: u64) -> String {
    format!("{slot:010}.segment")
}

/// The slot of a segment file's name; `None` for any other file.
#[must_use]
pub fn slot_of(name: &str) -> Option<u64> {
    name.strip_suffix(".segment")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_found_in_its_name_and_in_no_other() {
        assert_eq!(slot_of(&file_name(7)), Some(7));
        assert_eq!(slot_of("7"), None);
        assert_eq!(slot_of("x.segment"), None);
    }
}
