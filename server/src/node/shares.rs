//! Whose turn it is to append when the log takes less than is brought: start-time fair queueing
//! between connections (Goyal, Vin, Cheng, 1996), by bytes.
//!
//! A request's tag is where the one before it of the same connection ended, or the tag served last if
//! that is later: who brought little comes before who brought much, and nobody saves up turns. What
//! no connection stands for (decisions of groups) shares as if it were one.
//!
//! Invariant: the lowest tag is served first, first come first served among equals, so whoever waits is
//! served once the others had as much; what is kept of a connection is forgotten as soon as it says
//! nothing more than that the connection is new.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::task::Waker;

/// Connections remembered before those that mean nothing any more are looked for.
const REMEMBERED_LEAST: usize = 64;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    tag: u64,
    order: u64,
}

/// The line of a core.
#[derive(Debug, Default)]
pub struct Shares {
    /// Tag of what was served last.
    now: u64,
    /// Where the last request of each ended, if that is behind `now`.
    ends: HashMap<Option<SocketAddr>, u64>,
    /// With so many remembered they are looked through.
    look_at: usize,
    line: BTreeMap<Place, Option<Waker>>,
    next_order: u64,
}

impl Shares {
    /// The tag of a request of so many bytes, from which the next one of its connection is counted on:
    /// also when it is given up.
    fn charge(&mut self, peer: Option<SocketAddr>, bytes: usize) -> u64 {
        let end = self.ends.entry(peer).or_insert(0);
        let tag = self.now.max(*end);
        *end = tag + bytes as u64;
        if self.ends.len() > self.look_at.max(REMEMBERED_LEAST) {
            let now = self.now;
            self.ends.retain(|_, end| *end > now);
            self.look_at = 2 * self.ends.len();
        }
        tag
    }

    /// A request that is served at once, since nobody waits.
    pub fn pass(&mut self, peer: Option<SocketAddr>, bytes: usize) {
        debug_assert!(self.is_empty(), "whoever waits comes before");
        self.now = self.charge(peer, bytes);
    }

    /// Takes a place in the line. Give it back with [`Shares::leave`].
    pub fn enter(&mut self, peer: Option<SocketAddr>, bytes: usize) -> Place {
        let (tag, order) = (self.charge(peer, bytes), self.next_order);
        self.next_order += 1;
        let place = Place { tag, order };
        self.line.insert(place, None);
        place
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Whether it is this one's turn.
    #[must_use]
    pub fn is_first(&self, place: Place) -> bool {
        self.line
            .first_key_value()
            .is_none_or(|(first, _)| *first == place)
    }

    /// Wakes a task when it may be its turn.
    pub fn wait(&mut self, place: Place, waker: &Waker) {
        if let Some(kept) = self.line.get_mut(&place) {
            *kept = Some(waker.clone());
        }
    }

    /// Gives a place back; whoever is first then is woken.
    pub fn leave(&mut self, place: Place) {
        self.line.remove(&place);
        if let Some(mut first) = self.line.first_entry()
            && let Some(waker) = first.get_mut().take()
        {
            waker.wake();
        }
    }

    /// The first in the line has what it waits for, and leaves.
    pub fn serve(&mut self, place: Place) {
        debug_assert!(self.is_first(place), "in the order of the line");
        self.now = self.now.max(place.tag);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(number: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], number)))
    }

    const MIB: usize = 1 << 20;

    fn serve(shares: &mut Shares, place: Place) {
        assert!(shares.is_first(place));
        shares.serve(place);
        shares.leave(place);
    }

    #[test]
    fn who_brings_little_comes_before_who_brought_much_and_waits() {
        let mut shares = Shares::default();
        shares.pass(peer(1), MIB);
        let greedy = shares.enter(peer(1), MIB);
        let small = shares.enter(peer(2), 100);
        assert!(!shares.is_first(greedy));
        serve(&mut shares, small);
        serve(&mut shares, greedy);
        assert!(shares.is_empty());
    }

    #[test]
    fn who_was_quiet_has_saved_up_nothing() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            shares.pass(peer(1), MIB);
        }
        // Both bring as much from now on, so they take turns.
        let (one, two) = (shares.enter(peer(1), MIB), shares.enter(peer(2), MIB));
        serve(&mut shares, two);
        let again = shares.enter(peer(2), MIB);
        serve(&mut shares, one);
        let last = shares.enter(peer(1), MIB);
        serve(&mut shares, again);
        serve(&mut shares, last);
    }

    #[test]
    fn what_comes_without_a_connection_has_one_share_however_often_it_comes() {
        let mut shares = Shares::default();
        let (first, second) = (shares.enter(None, 100), shares.enter(None, 100));
        assert!(shares.is_first(first));
        shares.leave(first);
        assert!(shares.is_first(second));
        shares.leave(second);
        shares.pass(peer(1), MIB);
        let waits = shares.enter(peer(1), 1);
        let mut before = 0;
        loop {
            let one = shares.enter(None, MIB / 4);
            if !shares.is_first(one) {
                break;
            }
            serve(&mut shares, one);
            before += 1;
        }
        assert!(before <= 5, "{before} came before who waits");
        serve(&mut shares, waits);
    }

    #[test]
    fn connections_that_ended_are_forgotten() {
        let mut shares = Shares::default();
        for number in 0..10_000 {
            shares.pass(peer(number), 10);
            let place = shares.enter(peer(number), 10);
            serve(&mut shares, place);
        }
        let kept = shares.ends.len();
        assert!(kept <= 2 * REMEMBERED_LEAST, "{kept}");
    }

    proptest! {
        /// With all connections always in the line, each gets the same share of the bytes, but for
        /// one request of each.
        #[test]
        fn shares_are_equal_but_for_a_request(sizes in prop::collection::vec(1usize..1000, 2..6)) {
            let mut shares = Shares::default();
            let mut got = vec![0usize; sizes.len()];
            let enter = |shares: &mut Shares, one: usize| {
                (one, shares.enter(peer(one as u16), sizes[one]))
            };
            let mut line: Vec<(usize, Place)> =
                (0..sizes.len()).map(|one| enter(&mut shares, one)).collect();
            for _ in 0..2000 {
                let at = line.iter().position(|(_, place)| shares.is_first(*place)).unwrap();
                let (one, place) = line.swap_remove(at);
                serve(&mut shares, place);
                got[one] += sizes[one];
                line.push(enter(&mut shares, one));
            }
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            prop_assert!(most - least <= 2 * sizes.iter().max().unwrap(), "{got:?}");
        }
    }
}
