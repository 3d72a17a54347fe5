//! Pages of runs that were read, up to a budget. First in, first out, with a second chance for
//! what was used: the fences near the roots stay, the rows a reader has passed go.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::format::run_page::Page;

type Key = (u64, u32);

/// The pages of all runs of a log.
#[derive(Debug)]
pub(crate) struct PageCache {
    pages: HashMap<Key, (Rc<Page>, bool)>,
    order: VecDeque<Key>,
    most: usize,
}

impl PageCache {
    /// A cache of so many pages, at least the few that one search needs.
    pub fn new(most: usize) -> PageCache {
        PageCache {
            pages: HashMap::new(),
            order: VecDeque::new(),
            most: most.max(64),
        }
    }

    pub fn get(&mut self, run: u64, page: u32) -> Option<Rc<Page>> {
        let (page, used) = self.pages.get_mut(&(run, page))?;
        *used = true;
        Some(Rc::clone(page))
    }

    pub fn keep(&mut self, run: u64, number: u32, page: Rc<Page>) {
        let key = (run, number);
        if self.pages.insert(key, (page, false)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.most {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            match self.pages.get_mut(&oldest) {
                Some((_, used @ true)) => {
                    *used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    self.pages.remove(&oldest);
                }
            }
        }
    }

    pub fn forget_run(&mut self, run: u64) {
        self.order.retain(|key| key.0 != run);
        self.pages.retain(|key, _| key.0 != run);
    }

    /// Pages in it.
    pub fn len(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::checksum::Key as Nonce;
    use crate::format::run_page::encode_rows;

    #[test]
    fn what_is_used_stays_and_the_budget_holds() {
        let key = Nonce::derive(1);
        let mut bytes = Vec::new();
        encode_rows(&key, 1, &[], 4096, &mut bytes);
        let page = Rc::new(Page::decode(&key, 1, &bytes).unwrap());
        let mut cache = PageCache::new(64);
        cache.keep(1, 0, Rc::clone(&page));
        for number in 1..1_000 {
            assert!(cache.get(1, 0).is_some(), "at {number}");
            cache.keep(1, number, Rc::clone(&page));
            assert!(cache.len() <= 64);
        }
        assert!(cache.get(1, 1).is_none() && cache.get(1, 999).is_some());
        cache.forget_run(1);
        assert_eq!(cache.len(), 0);
    }
}
