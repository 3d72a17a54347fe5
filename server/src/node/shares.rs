//! Whose turn it is to append when the log takes less than is brought: start-time fair queueing
//! between connections (Goyal, Vin, Cheng, 1996), by bytes.
//!
//! A request's tag is where the connection's own last request ended, or the tag served last if
//! that is later: who brought little comes before who brought much, and nobody saves up turns.
//!
//! Invariant: the lowest tag is served first, first come first served among equals; what is kept
//! of a connection is forgotten as soon as it says nothing more than that the connection is new.

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
    /// Where the last request of each connection ended, if that is behind `now`.
    ends: HashMap<SocketAddr, u64>,
    /// With so many remembered they are looked through.
    look_at: usize,
    line: BTreeMap<Place, Option<Waker>>,
    next_order: u64,
}

impl Shares {
    fn tag(&self, peer: Option<SocketAddr>) -> u64 {
        let end = peer.and_then(|peer| self.ends.get(&peer));
        end.map_or(self.now, |end| self.now.max(*end))
    }

    /// Takes a place in the line. Give it back with [`Shares::leave`].
    pub fn enter(&mut self, peer: Option<SocketAddr>) -> Place {
        let (tag, order) = (self.tag(peer), self.next_order);
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

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line.len()
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

    /// A connection appends so many bytes, from its place or, where nobody waits, from none.
    pub fn serve(&mut self, peer: Option<SocketAddr>, place: Option<Place>, bytes: usize) {
        let tag = place.map_or_else(|| self.tag(peer), |place| place.tag);
        self.now = self.now.max(tag);
        let Some(peer) = peer else { return };
        self.ends.insert(peer, tag + bytes as u64);
        if self.ends.len() > self.look_at.max(REMEMBERED_LEAST) {
            let now = self.now;
            self.ends.retain(|_, end| *end > now);
            self.look_at = 2 * self.ends.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(number: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], number)))
    }

    fn serve(shares: &mut Shares, number: u16, place: Place, bytes: usize) {
        assert!(shares.is_first(place));
        shares.serve(peer(number), Some(place), bytes);
        shares.leave(place);
    }

    #[test]
    fn who_brings_little_comes_before_who_brought_much_and_waits() {
        let mut shares = Shares::default();
        shares.serve(peer(1), None, 1 << 20);
        let greedy = shares.enter(peer(1));
        let small = shares.enter(peer(2));
        assert!(!shares.is_first(greedy));
        serve(&mut shares, 2, small, 100);
        serve(&mut shares, 1, greedy, 1 << 20);
        assert!(shares.is_empty());
    }

    #[test]
    fn who_was_quiet_has_saved_up_nothing() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            shares.serve(peer(1), None, 1 << 20);
        }
        // Both bring as much from now on, so they take turns.
        let (one, two) = (shares.enter(peer(1)), shares.enter(peer(2)));
        serve(&mut shares, 2, two, 1 << 20);
        let again = shares.enter(peer(2));
        serve(&mut shares, 1, one, 1 << 20);
        let last = shares.enter(peer(1));
        serve(&mut shares, 2, again, 1 << 20);
        serve(&mut shares, 1, last, 1 << 20);
    }

    #[test]
    fn without_a_connection_it_is_first_come_first_served() {
        let mut shares = Shares::default();
        let (first, second) = (shares.enter(None), shares.enter(None));
        assert!(shares.is_first(first) && !shares.is_first(second));
        shares.leave(first);
        assert!(shares.is_first(second));
    }

    #[test]
    fn connections_that_ended_are_forgotten() {
        let mut shares = Shares::default();
        for number in 0..10_000 {
            shares.serve(peer(number), None, 10);
            let place = shares.enter(peer(number));
            serve(&mut shares, number, place, 10);
        }
        assert!(
            shares.ends.len() <= 2 * REMEMBERED_LEAST,
            "{}",
            shares.ends.len()
        );
    }

    proptest! {
        /// With all connections always in the line, each gets the same share of the bytes, but for
        /// one request of each.
        #[test]
        fn shares_are_equal_but_for_a_request(sizes in prop::collection::vec(1usize..1000, 2..6)) {
            let mut shares = Shares::default();
            let mut got = vec![0usize; sizes.len()];
            let mut line: Vec<(usize, Place)> = Vec::new();
            for (one, _) in sizes.iter().enumerate() {
                line.push((one, shares.enter(peer(one as u16))));
            }
            for _ in 0..2000 {
                let at = line.iter().position(|(_, place)| shares.is_first(*place)).unwrap();
                let (one, place) = line.swap_remove(at);
                serve(&mut shares, one as u16, place, sizes[one]);
                got[one] += sizes[one];
                line.push((one, shares.enter(peer(one as u16))));
            }
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            prop_assert!(most - least <= 2 * sizes.iter().max().unwrap(), "{got:?}");
        }
    }
}
