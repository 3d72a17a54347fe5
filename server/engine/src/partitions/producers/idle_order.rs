//! An order of slots from longest idle to newest, as a doubly linked list through a table of
//! links: touching, removing and finding the oldest cost a few writes and no allocation.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// The neighbours of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    older: u32,
    newer: u32,
    listed: bool,
}

impl Links {
    pub(super) const UNLISTED: Links = Links {
        older: NONE,
        newer: NONE,
        listed: false,
    };
}

/// Both ends of an order, and how many are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdleOrder {
    oldest: u32,
    newest: u32,
    length: u32,
}

impl Default for IdleOrder {
    fn default() -> IdleOrder {
        IdleOrder {
            oldest: NONE,
            newest: NONE,
            length: 0,
        }
    }
}

impl IdleOrder {
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slot next to this one on the newer side.
    pub(super) fn newer_than(links: &[Links], slot: u32) -> Option<u32> {
        let newer = links[slot as usize].newer;
        (newer != NONE).then_some(newer)
    }

    /// Makes a slot the newest, wherever it was.
    pub(super) fn touch(&mut self, links: &mut [Links], slot: u32) {
        if self.newest == slot {
            return;
        }
        self.remove(links, slot);
        links[slot as usize] = Links {
            older: self.newest,
            newer: NONE,
            listed: true,
        };
        match self.newest {
            NONE => self.oldest = slot,
            newest => links[newest as usize].newer = slot,
        }
        self.newest = slot;
        self.length += 1;
    }

    /// Takes a slot out, if it is in.
    pub(super) fn remove(&mut self, links: &mut [Links], slot: u32) {
        let Links {
            older,
            newer,
            listed,
        } = links[slot as usize];
        if !listed {
            return;
        }
        match older {
            NONE => self.oldest = newer,
            older => links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => links[newer as usize].older = older,
        }
        links[slot as usize] = Links::UNLISTED;
        self.length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_orders_like_a_list_that_is_searched(
            steps in proptest::collection::vec((0u32..12, any::<bool>()), 0..200),
        ) {
            let mut links = vec![Links::UNLISTED; 12];
            let mut order = IdleOrder::default();
            let mut model: Vec<u32> = Vec::new();
            for (slot, touch) in steps {
                model.retain(|other| *other != slot);
                if touch {
                    order.touch(&mut links, slot);
                    model.push(slot);
                } else {
                    order.remove(&mut links, slot);
                }
                let walked: Vec<u32> = std::iter::successors(order.oldest(), |slot| {
                    IdleOrder::newer_than(&links, *slot)
                })
                .collect();
                prop_assert_eq!(&walked, &model);
                prop_assert_eq!(order.length() as usize, model.len());
            }
        }
    }
}
