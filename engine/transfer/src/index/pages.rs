//! Files of pages, each with a check of its own.
//!
//! A page that is damaged, lies elsewhere than it was written to, or belongs to another file is
//! never given out: its check covers its content, its number and the file's salt.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) const PAGE_BYTES: usize = 4096;
/// The rest is the check.
pub(super) const PAYLOAD_BYTES: usize = PAGE_BYTES - 4;
/// So many pages are written and read at once where they are needed one after the other.
const PAGES_AT_ONCE: usize = 8;

pub(super) type Page = [u8; PAGE_BYTES];

/// What a file's pages are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt(pub(super) [u8; 16]);

impl Salt {
    fn check(&self, number: u32, payload: &[u8]) -> [u8; 4] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&number.to_be_bytes());
        hasher.update(payload);
        hasher.finalize().to_be_bytes()
    }

    fn seal(&self, number: u32, page: &mut [u8]) {
        let check = self.check(number, &page[..PAYLOAD_BYTES]);
        page[PAYLOAD_BYTES..].copy_from_slice(&check);
    }

    fn verify(&self, number: u32, page: &[u8]) -> io::Result<()> {
        match self.check(number, &page[..PAYLOAD_BYTES]) == page[PAYLOAD_BYTES..] {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "a page is damaged")),
        }
    }
}

fn byte_of(page: u32) -> u64 {
    u64::from(page) * PAGE_BYTES as u64
}

/// Reads one page.
pub(super) fn read(file: &File, salt: Salt, number: u32, page: &mut Page) -> io::Result<()> {
    file.read_exact_at(page, byte_of(number))?;
    salt.verify(number, page)
}

/// Writes one page; `payload` is its beginning.
pub(super) fn write(file: &File, salt: Salt, number: u32, payload: &[u8]) -> io::Result<()> {
    let mut page = [0; PAGE_BYTES];
    page[..payload.len()].copy_from_slice(payload);
    salt.seal(number, &mut page);
    file.write_all_at(&page, byte_of(number))
}

/// Pages that hold so many items of one size, none of which lies on two pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) first_page: u32,
    pub(super) items: u64,
    pub(super) item_bytes: usize,
}

impl Section {
    pub(super) fn per_page(&self) -> u64 {
        (PAYLOAD_BYTES / self.item_bytes) as u64
    }

    /// How many pages it has; `None` for more than can be numbered.
    pub(super) fn pages(&self) -> Option<u32> {
        u32::try_from(self.items.div_ceil(self.per_page())).ok()
    }

    pub(super) fn page_after(&self) -> Option<u32> {
        self.first_page.checked_add(self.pages()?)
    }

    /// On which page an item lies, and where there.
    pub(super) fn place(&self, item: u64) -> (u32, usize) {
        let page = u32::try_from(item / self.per_page()).unwrap_or(u32::MAX);
        let at = (item % self.per_page()) as usize * self.item_bytes;
        (self.first_page.saturating_add(page), at)
    }

    /// How many items lie on the page that is this many after the first.
    pub(super) fn items_on(&self, page: u32) -> usize {
        let before = u64::from(page) * self.per_page();
        self.items.saturating_sub(before).min(self.per_page()) as usize
    }
}

/// Writes a section from its beginning to its end.
pub(super) struct SectionWriter {
    salt: Salt,
    /// What is written is counted here.
    section: Section,
    buffer: Vec<u8>,
    /// The first page in the buffer.
    page: u32,
}

impl SectionWriter {
    pub(super) fn new(salt: Salt, first_page: u32, item_bytes: usize) -> Self {
        let section = Section { first_page, items: 0, item_bytes };
        Self { salt, section, buffer: Vec::new(), page: first_page }
    }

    pub(super) fn put(&mut self, file: &File, item: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(item);
        self.section.items += 1;
        if self.section.items.is_multiple_of(self.section.per_page()) {
            self.end_page();
            if self.buffer.len() == PAGES_AT_ONCE * PAGE_BYTES {
                self.flush(file)?;
            }
        }
        Ok(())
    }

    fn end_page(&mut self) {
        self.buffer.resize(self.buffer.len().next_multiple_of(PAGE_BYTES), 0);
        let start = self.buffer.len() - PAGE_BYTES;
        let number = self.page + (start / PAGE_BYTES) as u32;
        self.salt.seal(number, &mut self.buffer[start..]);
    }

    fn flush(&mut self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.buffer, byte_of(self.page))?;
        let pages = (self.buffer.len() / PAGE_BYTES) as u32;
        let after = self.page.checked_add(pages);
        self.page = after.ok_or_else(|| io::Error::other("more pages than can be numbered"))?;
        self.buffer.clear();
        Ok(())
    }

    /// What was written.
    pub(super) fn finish(mut self, file: &File) -> io::Result<Section> {
        if !self.section.items.is_multiple_of(self.section.per_page()) {
            self.end_page();
        }
        self.flush(file)?;
        Ok(self.section)
    }
}

/// Reads a section from its beginning to its end.
pub(super) struct SectionReader {
    salt: Salt,
    section: Section,
    next: u64,
    buffer: Vec<u8>,
    /// The first page in the buffer.
    page: u32,
}

impl SectionReader {
    pub(super) fn new(salt: Salt, section: Section) -> Self {
        Self { salt, section, next: 0, buffer: Vec::new(), page: section.first_page }
    }

    /// The next item; `None` at the end.
    pub(super) fn next(&mut self, file: &File) -> io::Result<Option<&[u8]>> {
        if self.next == self.section.items {
            return Ok(None);
        }
        let (page, at) = self.section.place(self.next);
        let mut place = (page - self.page) as usize * PAGE_BYTES + at;
        if place >= self.buffer.len() {
            self.fill(file, page)?;
            place = at;
        }
        self.next += 1;
        Ok(Some(&self.buffer[place..place + self.section.item_bytes]))
    }

    fn fill(&mut self, file: &File, page: u32) -> io::Result<()> {
        let after = self.section.page_after().unwrap_or(u32::MAX);
        let pages = (after.saturating_sub(page) as usize).min(PAGES_AT_ONCE);
        self.buffer.resize(pages * PAGE_BYTES, 0);
        file.read_exact_at(&mut self.buffer, byte_of(page))?;
        for (number, bytes) in (page..).zip(self.buffer.chunks_exact(PAGE_BYTES)) {
            self.salt.verify(number, bytes)?;
        }
        self.page = page;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt([7; 16]);

    fn section_of(file: &File, first_page: u32, items: u32) -> Section {
        let mut writer = SectionWriter::new(SALT, first_page, 40);
        for item in 0..items {
            writer.put(file, &[item.to_be_bytes(); 10].concat()).unwrap();
        }
        writer.finish(file).unwrap()
    }

    #[test]
    fn sections_come_back_item_by_item_and_by_their_places() {
        for items in [0, 1, 102, 103, 816, 817, 5000] {
            let file = tempfile::tempfile().unwrap();
            let section = section_of(&file, 3, items);
            assert_eq!(section.items, u64::from(items));
            let mut reader = SectionReader::new(SALT, section);
            for item in 0..items {
                let found = reader.next(&file).unwrap().unwrap().to_vec();
                assert_eq!(found, [item.to_be_bytes(); 10].concat());
                let (number, at) = section.place(u64::from(item));
                let mut page = [0; PAGE_BYTES];
                read(&file, SALT, number, &mut page).unwrap();
                assert_eq!(page[at..at + 40], found);
            }
            assert!(reader.next(&file).unwrap().is_none());
            let bytes = byte_of(section.page_after().unwrap());
            assert_eq!(file.metadata().unwrap().len(), if items == 0 { 0 } else { bytes });
        }
    }

    #[test]
    fn a_page_that_is_damaged_moved_or_of_another_file_is_not_given_out() {
        let file = tempfile::tempfile().unwrap();
        section_of(&file, 0, 300);
        let mut page = [0; PAGE_BYTES];
        read(&file, SALT, 1, &mut page).unwrap();
        assert!(read(&file, Salt([8; 16]), 1, &mut page).is_err());
        file.write_all_at(&page, byte_of(2)).unwrap();
        assert!(read(&file, SALT, 2, &mut page).is_err());
        read(&file, SALT, 1, &mut page).unwrap();
        page[17] ^= 1;
        file.write_all_at(&page, byte_of(1)).unwrap();
        assert!(read(&file, SALT, 1, &mut page).is_err());
        assert!(read(&file, SALT, 9, &mut page).is_err(), "behind the end");
    }
}
