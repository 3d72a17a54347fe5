//! Lists that are answered a part at a time, by name.

use super::limits::{LISTED, MOST_LISTED};

/// How many are listed where somebody asks for so many.
pub(super) fn most(limit: Option<usize>) -> usize {
    limit.unwrap_or(LISTED).clamp(1, MOST_LISTED)
}

/// Of a list in the order of names, what lies behind one.
pub(super) fn behind<T>(list: &mut Vec<T>, after: Option<&str>, name: impl Fn(&T) -> &str) {
    if let Some(after) = after {
        let behind = list.partition_point(|one| name(one) <= after);
        list.drain(..behind);
    }
}

/// Cuts a list to so many. The name to go on behind, where there are more.
pub(super) fn cut<T>(list: &mut Vec<T>, most: usize, name: impl Fn(&T) -> &str) -> Option<String> {
    let is_more = list.len() > most;
    list.truncate(most);
    let last = list.last().filter(|_| is_more);
    last.map(|last| name(last).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_list_make_the_list() {
        let all = ["a", "b", "c", "d", "e"];
        for most in 1..=6 {
            let (mut found, mut after) = (Vec::new(), None::<String>);
            loop {
                let mut part = all.to_vec();
                behind(&mut part, after.as_deref(), |name| name);
                after = cut(&mut part, most, |name| name);
                assert!(part.len() <= most);
                found.extend(part);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, all, "{most} at a time");
        }
        assert_eq!(cut(&mut Vec::new(), 1, |name: &&str| *name), None);
    }

    #[test]
    fn one_at_least_and_not_all_there_could_be() {
        assert_eq!(most(Some(0)), 1);
        assert_eq!(most(None), LISTED);
        assert_eq!(most(Some(usize::MAX)), MOST_LISTED);
    }
}
