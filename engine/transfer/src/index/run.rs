//! A run: blobs sorted by id, in a file that is written once and then only read.
//!
//! ```text
//! header │ packs │ index files │ records │ fences │ filter      (sections of pages)
//! ```
//!
//! A record names its pack by its number in the section of packs; a pack the index file it was
//! read from by its number in that of index files. So what an index file said can be taken out
//! again when it is gone. A fence is the beginning of the first id on a page of records: with all
//! fences in memory a lookup reads one page of records, and one of packs. Copies of a blob that is
//! in several packs are all there.

use super::filter::{BLOCK_BYTES, Filter, FilterWriter, blocks_for};
use super::page_cache::PageCache;
use super::pages::{self, PAGE_BYTES, Page, Salt, Section, SectionReader, SectionWriter};
use super::record::{PACKS_MAX, RECORD_BYTES, Record, number_at};
use crate::cache::failed;
use crate::repository::random;
use crate::{Result, TransferError};
use engine_repository::{BlobKind, Id};
use std::fs::File;
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"HFBLOBS1";
/// Id, number of the index file, number of blobs.
const PACK_BYTES: usize = 40;
const FENCE_BYTES: usize = 4;
/// An index file's name is an id.
const FILES_MAX: u64 = 1 << 24;

/// Where everything is in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    packs: Section,
    files: Section,
    pub(super) records: Section,
    fences: Section,
    filter: Section,
    /// How many blobs there are, each counted once.
    pub(super) distinct: u64,
}

impl Layout {
    /// `None` when there is more than a run can have.
    fn of(packs: u64, files: u64, records: u64, distinct: u64) -> Option<Self> {
        if packs > u64::from(PACKS_MAX) || files > FILES_MAX || records >= u64::from(u32::MAX) {
            return None;
        }
        let section = |first_page, items, item_bytes| Section { first_page, items, item_bytes };
        let packs = section(1, packs, PACK_BYTES);
        let files = section(packs.page_after()?, files, Id::BYTES);
        let records = section(files.page_after()?, records, RECORD_BYTES);
        let fences = section(records.page_after()?, u64::from(records.pages()?), FENCE_BYTES);
        let filter = section(fences.page_after()?, blocks_for(records.items), BLOCK_BYTES);
        filter.page_after()?;
        Some(Self { packs, files, records, fences, filter, distinct })
    }

    fn bytes(&self) -> u64 {
        u64::from(self.filter.page_after().unwrap_or(u32::MAX)) * PAGE_BYTES as u64
    }

    pub(super) fn filter_blocks(&self) -> u64 {
        self.filter.items
    }

    pub(super) fn fence_count(&self) -> u64 {
        self.fences.items
    }
}

/// Writes a run: first all packs, in the order of their numbers; then all else.
pub(super) struct RunWriter {
    file: File,
    repository: Id,
    salt: Salt,
    packs: SectionWriter,
    packs_count: u32,
}

impl RunWriter {
    /// Writes into an empty file.
    pub(super) fn new(file: File, repository: Id, salt: Salt) -> Self {
        let packs = SectionWriter::new(salt, 1, PACK_BYTES);
        Self { file, repository, salt, packs, packs_count: 0 }
    }

    /// The number the next pack will have.
    pub(super) fn next_pack(&self) -> u32 {
        self.packs_count
    }

    pub(super) fn add_pack(&mut self, pack: &Id, file: u32, blobs: u32) -> Result<()> {
        if self.packs_count == PACKS_MAX {
            return Err(unwritten(io::Error::other("more packs than can be numbered")));
        }
        let mut item = [0; PACK_BYTES];
        item[..32].copy_from_slice(pack.as_bytes());
        item[32..36].copy_from_slice(&file.to_be_bytes());
        item[36..].copy_from_slice(&blobs.to_be_bytes());
        self.packs.put(&self.file, &item).map_err(unwritten)?;
        self.packs_count += 1;
        Ok(())
    }

    /// Writes the rest. `records` are so many as `count` says, in order.
    pub(super) fn finish(
        self,
        files: &[Id],
        count: u64,
        records: &mut dyn Iterator<Item = Result<Record>>,
    ) -> Result<RunFile> {
        let Self { file, repository, salt, packs, packs_count } = self;
        let too_much = || unwritten(io::Error::other("more blobs than a run can have"));
        let layout = Layout::of(u64::from(packs_count), files.len() as u64, count, 0);
        let mut layout = layout.ok_or_else(too_much)?;
        packs.finish(&file).map_err(unwritten)?;
        let mut writer = SectionWriter::new(salt, layout.files.first_page, Id::BYTES);
        for id in files {
            writer.put(&file, id.as_bytes()).map_err(unwritten)?;
        }
        writer.finish(&file).map_err(unwritten)?;
        let mut writer = RecordsWriter::new(&file, salt, &layout);
        for record in records {
            writer.add(&record?).map_err(unwritten)?;
        }
        let (written, distinct) = writer.finish().map_err(unwritten)?;
        if written != count {
            return Err(unwritten(io::Error::other(format!("{written} blobs, not {count}"))));
        }
        layout.distinct = distinct;
        write_header(&file, repository, salt, &layout).map_err(unwritten)?;
        Ok(RunFile { file, salt, layout })
    }
}

pub(super) fn unwritten(cause: io::Error) -> TransferError {
    failed("write the blob index in", Path::new("the cache"), cause)
}

/// Records, fences and filter grow side by side.
struct RecordsWriter<'a> {
    file: &'a File,
    records: SectionWriter,
    per_page: u64,
    written: u64,
    fences: SectionWriter,
    filter: FilterWriter,
    blocks: SectionWriter,
    distinct: u64,
    last: [u8; Id::BYTES],
    /// Which kinds of blobs the last id was met with.
    has: [bool; 2],
}

impl<'a> RecordsWriter<'a> {
    fn new(file: &'a File, salt: Salt, layout: &Layout) -> Self {
        let writer =
            |section: Section| SectionWriter::new(salt, section.first_page, section.item_bytes);
        Self {
            file,
            records: writer(layout.records),
            per_page: layout.records.per_page(),
            written: 0,
            fences: writer(layout.fences),
            filter: FilterWriter::new(layout.records.items),
            blocks: writer(layout.filter),
            distinct: 0,
            last: [0; Id::BYTES],
            has: [false; 2],
        }
    }

    fn add(&mut self, record: &Record) -> io::Result<()> {
        let id = record.id_bytes();
        if self.written.is_multiple_of(self.per_page) {
            self.fences.put(self.file, &id[..FENCE_BYTES])?;
        }
        if self.last != id {
            self.last.copy_from_slice(id);
            self.has = [false; 2];
        }
        let had = std::mem::replace(&mut self.has[record.kind() as usize], true);
        self.distinct += u64::from(!had);
        let blocks = &mut self.blocks;
        self.filter.add(id, &mut |block| blocks.put(self.file, block))?;
        self.records.put(self.file, &record.0)?;
        self.written += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<(u64, u64)> {
        let blocks = &mut self.blocks;
        self.filter.finish(&mut |block| blocks.put(self.file, block))?;
        self.blocks.finish(self.file)?;
        self.fences.finish(self.file)?;
        self.records.finish(self.file)?;
        Ok((self.written, self.distinct))
    }
}

fn write_header(file: &File, repository: Id, salt: Salt, layout: &Layout) -> io::Result<()> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(repository.as_bytes());
    header.extend_from_slice(&salt.0);
    for section in [layout.packs, layout.files, layout.records] {
        header.extend_from_slice(&section.items.to_be_bytes());
    }
    header.extend_from_slice(&layout.distinct.to_be_bytes());
    pages::write(file, salt, 0, &header)
}

/// A run of which nothing is in memory.
pub(super) struct RunFile {
    pub(super) file: File,
    pub(super) salt: Salt,
    pub(super) layout: Layout,
}

impl RunFile {
    /// Opens a run of this repository, known by its salt.
    pub(super) fn open(file: File, repository: Id, salt: Salt) -> io::Result<Self> {
        let foreign = || io::Error::new(io::ErrorKind::InvalidData, "not a run of this index");
        let mut page = [0; PAGE_BYTES];
        pages::read(&file, salt, 0, &mut page)?;
        if page[..8] != MAGIC[..] || page[8..40] != repository.as_bytes()[..] {
            return Err(foreign());
        }
        let number = |place: usize| {
            let at = 56 + 8 * place;
            u64::from(number_at(&page, at)) << 32 | u64::from(number_at(&page, at + 4))
        };
        let layout = Layout::of(number(0), number(1), number(2), number(3)).ok_or_else(foreign)?;
        match file.metadata()?.len() == layout.bytes() {
            true => Ok(Self { file, salt, layout }),
            false => Err(foreign()),
        }
    }

    /// Names a run's salt at random.
    pub(super) fn new_salt() -> Result<Salt> {
        Ok(Salt(random()?))
    }

    /// The index files its blobs were read from.
    pub(super) fn files(&self) -> io::Result<Vec<Id>> {
        let mut files = Vec::new();
        let mut reader = SectionReader::new(self.salt, self.layout.files);
        while let Some(item) = reader.next(&self.file)? {
            files.push(id_at(item));
        }
        Ok(files)
    }

    /// Shows each pack: its id, the number of its index file, and of its blobs.
    pub(super) fn each_pack(&self, each: &mut dyn FnMut(Id, u32, u32) -> Result<()>) -> Result<()> {
        let mut reader = SectionReader::new(self.salt, self.layout.packs);
        while let Some(item) = reader.next(&self.file).map_err(unwritten)? {
            each(id_at(item), number_at(item, 32), number_at(item, 36))?;
        }
        Ok(())
    }

    pub(super) fn records(&self) -> SectionReader {
        SectionReader::new(self.salt, self.layout.records)
    }

    /// Reads filter and fences into memory. All that is read was checked.
    pub(super) fn load(self, fold: Option<u32>, stride: u32) -> io::Result<Run> {
        let layout = &self.layout;
        let mut filter = Filter::empty(layout.filter.items, fold);
        if !filter.is_empty() {
            let mut reader = SectionReader::new(self.salt, layout.filter);
            let mut number = 0;
            while let Some(block) = reader.next(&self.file)? {
                filter.lay(number, block);
                number += 1;
            }
        }
        let count = layout.fences.items.div_ceil(u64::from(stride));
        let mut fences = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut reader = SectionReader::new(self.salt, layout.fences);
        let mut number = 0_u64;
        while let Some(fence) = reader.next(&self.file)? {
            if number.is_multiple_of(u64::from(stride)) {
                fences.push(number_at(fence, 0));
            }
            number += 1;
        }
        Ok(Run { file: self, filter, fences, stride })
    }
}

fn id_at(item: &[u8]) -> Id {
    let mut id = [0; Id::BYTES];
    id.copy_from_slice(&item[..Id::BYTES]);
    Id::from_bytes(id)
}

/// A run ready for lookups.
pub(super) struct Run {
    file: RunFile,
    filter: Filter,
    fences: Vec<u32>,
    /// There is a fence for every page that is a multiple of this.
    stride: u32,
}

impl Run {
    pub(super) fn layout(&self) -> &Layout {
        &self.file.layout
    }

    pub(super) fn file(&self) -> &RunFile {
        &self.file
    }

    pub(super) fn fold_filter(&mut self, fold: Option<u32>) {
        self.filter.fold_to(fold);
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn held_bytes(&self) -> usize {
        self.filter.held_bytes() + self.fences.capacity() * FENCE_BYTES
    }

    fn page<T>(
        &self,
        cache: &PageCache,
        number: u32,
        used: impl FnOnce(&Page) -> T,
    ) -> io::Result<T> {
        cache.with(&self.file.file, self.file.salt, number, used)
    }

    /// The first record of a blob.
    pub(super) fn find(
        &self,
        cache: &PageCache,
        kind: BlobKind,
        id: &Id,
    ) -> io::Result<Option<Record>> {
        let id = id.as_bytes();
        if self.fences.is_empty() || !self.filter.may_have(id) {
            return Ok(None);
        }
        let records = self.file.layout.records;
        let pages = records.pages().unwrap_or(0);
        let start = number_at(id, 0);
        let (mut page, mut end) = self.pages_between(start, pages);
        // The last page that begins with a smaller id.
        while end.saturating_sub(page) > 1 {
            let middle = page + (end - page) / 2;
            let at = records.first_page + middle;
            match self.page(cache, at, |bytes| bytes[..Id::BYTES] < id[..])? {
                true => page = middle,
                false => end = middle,
            }
        }
        while page < pages && self.may_begin_at(page, start) {
            let items = records.items_on(page);
            let at = records.first_page + page;
            match self.page(cache, at, |bytes| search(&bytes[..items * RECORD_BYTES], kind, id))? {
                Searched::Found(record) => return Ok(Some(record)),
                Searched::NotThere => return Ok(None),
                Searched::PerhapsBehind => page += 1,
            }
        }
        Ok(None)
    }

    /// The pages between which the fences say that an id with this start can be.
    fn pages_between(&self, start: u32, pages: u32) -> (u32, u32) {
        let first = self.fences.partition_point(|fence| *fence < start).saturating_sub(1);
        let after = self.fences.partition_point(|fence| *fence <= start);
        let page = |fence: usize| (fence as u32).saturating_mul(self.stride);
        (page(first), page(after).min(pages))
    }

    /// Whether the fences allow that this page begins with an id of this start, or a smaller one.
    fn may_begin_at(&self, page: u32, start: u32) -> bool {
        !page.is_multiple_of(self.stride)
            || self.fences.get((page / self.stride) as usize).is_some_and(|fence| *fence <= start)
    }

    /// The pack of this number.
    pub(super) fn pack(&self, cache: &PageCache, number: u32) -> io::Result<Id> {
        let packs = self.file.layout.packs;
        if u64::from(number) >= packs.items {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no pack has that number"));
        }
        let (page, at) = packs.place(u64::from(number));
        self.page(cache, page, |bytes| id_at(&bytes[at..]))
    }
}

enum Searched {
    Found(Record),
    NotThere,
    /// The page ended before a greater id came.
    PerhapsBehind,
}

fn search(bytes: &[u8], kind: BlobKind, id: &[u8; Id::BYTES]) -> Searched {
    let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
    let from = records.partition_point(|record| record[..Id::BYTES] < id[..]);
    for record in &records[from..] {
        if record[..Id::BYTES] != id[..] {
            return Searched::NotThere;
        }
        if Record(*record).kind() == kind {
            return Searched::Found(Record(*record));
        }
    }
    Searched::PerhapsBehind
}
