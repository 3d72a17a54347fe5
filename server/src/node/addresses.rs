//! How many connections come from each address, so that one of them does not take them all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Connections of a core, by the address they come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses(Rc<RefCell<HashMap<IpAddr, usize>>>);

/// A connection that counts for as long as this lives.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more, unless there are `most` from its address.
    pub(super) fn count(&self, address: IpAddr, most: usize) -> Option<Counted> {
        // The same machine, whichever kind of socket it reached.
        let address = address.to_canonical();
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
        let addresses = Addresses::default();
        let (one, other): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let first = addresses.count(one, 2);
        let second = addresses.count(mapped, 2);
        assert!(first.is_some() && second.is_some());
        assert!(addresses.count(one, 2).is_none());
        let third = addresses.count(other, 2);
        assert!(third.is_some(), "another address is not concerned");
        drop(first);
        assert!(addresses.count(one, 2).is_some());
        drop((second, third));
        assert!(addresses.0.borrow().is_empty(), "nothing is kept of them");
    }
}
