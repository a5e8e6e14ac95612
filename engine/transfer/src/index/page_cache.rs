//! The pages that were asked for last, so that neighbours and what is asked for often cost no read.

use super::pages::{self, PAGE_BYTES, Page, Salt};
use crate::mutex::lock;
use std::fs::File;
use std::io;
use std::sync::Mutex;

/// A page can be held in one of so many places.
const WAYS: usize = 4;

/// A bounded number of pages of any files.
pub(super) struct PageCache {
    sets: Vec<Mutex<Vec<Held>>>,
}

struct Held {
    salt: Salt,
    number: u32,
    page: Box<Page>,
}

impl PageCache {
    /// Holds so many bytes of pages at most.
    pub(super) fn new(bytes_max: usize) -> Self {
        let sets = (bytes_max / (WAYS * PAGE_BYTES)).max(1);
        Self { sets: (0..sets).map(|_| Mutex::default()).collect() }
    }

    /// What `used` makes of a page, read if it is not held.
    pub(super) fn with<T>(
        &self,
        file: &File,
        salt: Salt,
        number: u32,
        used: impl FnOnce(&Page) -> T,
    ) -> io::Result<T> {
        let set = &self.sets[(number ^ u32::from(salt.0[0])) as usize % self.sets.len()];
        let lock = || lock(set);
        let is_it = |held: &Held| held.salt == salt && held.number == number;
        let mut pages = lock();
        if let Some(at) = pages.iter().position(is_it) {
            // The last is the one used last.
            pages[at..].rotate_left(1);
            return Ok(used(&pages[pages.len() - 1].page));
        }
        drop(pages);
        // Others may use what is held while the disk seeks.
        let mut page = [0; PAGE_BYTES];
        pages::read(file, salt, number, &mut page)?;
        let answer = used(&page);
        let mut pages = lock();
        if pages.iter().any(is_it) {
            return Ok(answer);
        }
        if pages.len() == WAYS {
            pages.rotate_left(1);
            let oldest = &mut pages[WAYS - 1];
            (oldest.salt, oldest.number) = (salt, number);
            *oldest.page = page;
        } else {
            pages.push(Held { salt, number, page: Box::new(page) });
        }
        Ok(answer)
    }

    /// Bytes of pages held.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn held_bytes(&self) -> usize {
        self.sets.iter().map(|set| lock(set).len()).sum::<usize>() * PAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_last_is_held_and_no_more_than_is_allowed() {
        let file = tempfile::tempfile().unwrap();
        let salt = Salt([9; 16]);
        for number in 0..100 {
            pages::write(&file, salt, number, &[number as u8; 10]).unwrap();
        }
        let cache = PageCache::new(8 * PAGE_BYTES);
        let first = |file: &File, number| cache.with(file, salt, number, |page| page[0]);
        for number in 0..100 {
            assert_eq!(first(&file, number).unwrap(), number as u8);
            assert_eq!(first(&file, 42).unwrap(), 42);
        }
        assert_eq!(cache.held_bytes(), 8 * PAGE_BYTES);
        // Nothing is there any more but what is held.
        let nothing = tempfile::tempfile().unwrap();
        assert_eq!(first(&nothing, 42).unwrap(), 42);
        assert_eq!(first(&nothing, 99).unwrap(), 99);
        assert!(first(&nothing, 7).is_err());
    }
}
