//! Packs that are being filled: two of each kind, and chance says into which of them a blob goes.
//!
//! Where a file is cut depends on what is in it. Whoever holds the repository sees how long packs
//! are, and when they come; were blobs put one behind the other into one pack, this would tell how
//! long neighbours are together, from which it can be worked out how files are cut, and then which
//! known files are there ("Chunking Attacks on File Backup Services using Content-Defined
//! Chunking", 2025). Of two packs filled at random neither tells anything of the kind. restic does
//! the same since 0.18.
//!
//! Two packs that are not full are put together when they are closed, so that a small backup is one
//! pack of each kind and not two, and a file of two chunks does not show the length of each.

use crate::repository::{damaged, nonce, random, unwritable};
use crate::{Repository, Result};
use engine_repository::pack::{PACK_BYTES_TARGET, PackBuilder};
use engine_repository::{BlobKind, FileKind, Hasher, Id, PackedBlob, SealedBlob};
use engine_storage::{Name, PackFile};
use std::io::{self, Read, Seek, SeekFrom};

/// Packs of one kind that are open at the same time.
const OPEN_MAX: usize = 2;
/// So much is read at a time when packs are put together.
const PIECE_BYTES: usize = 1 << 20;
/// So many bytes of small blobs are written at a time.
const HELD_BYTES_MAX: usize = 64 << 10;
/// So many bytes of chance are fetched at a time; each is good for eight blobs.
const CHANCE_BYTES: usize = 32;

/// A pack that is complete, and waits to be made durable.
pub(crate) struct Filled {
    pub(crate) file: Box<dyn PackFile>,
    pub(crate) id: Id,
    pub(crate) bytes: u64,
    pub(crate) blobs: Vec<PackedBlob>,
}

impl Filled {
    /// Bytes its blobs take, without its header.
    pub(crate) fn bytes_of_blobs(&self) -> u64 {
        self.blobs.iter().map(|packed| u64::from(packed.blob.length)).sum()
    }
}

/// A pack that is being filled. It is written to the destination while it grows, so it takes no
/// memory, and hashed on the way.
struct Open {
    file: Box<dyn PackFile>,
    /// The last blobs, which are not written yet: small ones are not worth a call each.
    held: Vec<u8>,
    builder: PackBuilder,
    hasher: Hasher,
}

/// All packs that are being filled.
pub(crate) struct OpenPacks {
    open: [[Option<Open>; OPEN_MAX]; 2],
    /// What those of one kind may hold together.
    bytes_max: u32,
    chance: [u8; CHANCE_BYTES],
    /// Bits of `chance` that were used.
    chance_used: usize,
}

impl OpenPacks {
    /// Packs that are each filled to their full size.
    pub(crate) fn full() -> Self {
        Self::holding(u32::MAX)
    }

    /// Packs of one kind that hold a pack's size together, no more: so much is lost to a kill. The
    /// fuller one goes when they do, so that they are between a half of a pack and a whole one.
    pub(crate) fn soon_stored() -> Self {
        Self::holding(PACK_BYTES_TARGET)
    }

    fn holding(bytes_max: u32) -> Self {
        let open = std::array::from_fn(|_| [None, None]);
        Self { open, bytes_max, chance: [0; CHANCE_BYTES], chance_used: 8 * CHANCE_BYTES }
    }

    /// Takes a sealed blob. Gives a pack that is full now.
    pub(crate) fn add(
        &mut self,
        repository: &Repository,
        blob: SealedBlob,
        sealed: &[u8],
    ) -> Result<Option<Filled>> {
        let place = self.drawn()?;
        let of_kind = &mut self.open[usize::from(blob.kind == BlobKind::Tree)];
        let pack = match &mut of_kind[place] {
            Some(pack) => pack,
            empty => empty.insert(Open::begin(repository, blob.kind)?),
        };
        pack.builder.add(blob).map_err(|cause| unwritable("a pack", cause))?;
        pack.append(sealed)?;
        let is_full = pack.builder.is_full();
        let bytes = |pack: &Option<Open>| pack.as_ref().map_or(0, |pack| pack.builder.bytes());
        let together = of_kind.iter().map(bytes).fold(0, u32::saturating_add);
        let fuller = usize::from(bytes(&of_kind[1]) > bytes(&of_kind[0]));
        let full = match together >= self.bytes_max {
            _ if is_full => of_kind[place].take(),
            true => of_kind[fuller].take(),
            false => None,
        };
        full.map(|pack| pack.close(repository)).transpose()
    }

    /// Closes all packs, those of one kind together where they fit into one.
    pub(crate) fn close_all(&mut self, repository: &Repository) -> Result<Vec<Filled>> {
        let mut filled = Vec::new();
        for [first, second] in &mut self.open {
            let mut both: Vec<_> = first.take().into_iter().chain(second.take()).collect();
            both.sort_by_key(|pack| std::cmp::Reverse(pack.builder.bytes()));
            let mut both = both.into_iter();
            let Some(mut larger) = both.next() else { continue };
            let left = match both.next() {
                Some(smaller) => larger.take_in(smaller)?,
                None => None,
            };
            filled.push(larger.close(repository)?);
            if let Some(smaller) = left {
                filled.push(smaller.close(repository)?);
            }
        }
        Ok(filled)
    }

    /// The pack the next blob goes into.
    fn drawn(&mut self) -> Result<usize> {
        if self.chance_used == 8 * CHANCE_BYTES {
            (self.chance, self.chance_used) = (random()?, 0);
        }
        let byte = self.chance[self.chance_used / 8];
        let place = usize::from(byte >> (self.chance_used % 8)) % OPEN_MAX;
        self.chance_used += 1;
        Ok(place)
    }
}

/// A pack that gets one blob, which is too large to wait for others.
pub(crate) struct LonePack(Open);

impl LonePack {
    /// An empty one.
    pub(crate) fn begin(repository: &Repository, kind: BlobKind) -> Result<Self> {
        Open::begin(repository, kind).map(Self)
    }

    /// Takes the next bytes of the sealed blob.
    pub(crate) fn append(&mut self, sealed: &[u8]) -> Result<()> {
        self.0.append(sealed)
    }

    /// Reads again what was taken.
    pub(crate) fn reader(&mut self) -> PackReader<'_> {
        PackReader { open: &mut self.0, at: 0 }
    }

    /// Ends the pack: all that was taken is this blob.
    pub(crate) fn close(mut self, repository: &Repository, blob: SealedBlob) -> Result<Filled> {
        self.0.builder.add(blob).map_err(|cause| unwritable("a pack", cause))?;
        self.0.close(repository)
    }
}

/// Reads a pack that is not stored yet. Its errors are those of what stores it.
pub(crate) struct PackReader<'a> {
    open: &'a mut Open,
    at: u64,
}

impl Read for PackReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.open.read_back(self.at, buffer).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for PackReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = at;
        Ok(at)
    }
}

impl Open {
    fn begin(repository: &Repository, kind: BlobKind) -> Result<Self> {
        let file = repository.storage().create_pack()?;
        let (held, hasher) = (Vec::new(), Hasher::new());
        Ok(Self { file, held, builder: PackBuilder::new(kind), hasher })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.held.len() + bytes.len() > HELD_BYTES_MAX {
            self.write_held()?;
        }
        if bytes.len() > HELD_BYTES_MAX {
            return self.write(bytes);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn write_held(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.write(&held)?;
        self.held = held;
        self.held.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.append(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn read_back(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize> {
        self.write_held()?;
        Ok(self.file.read_back(at, buffer)?)
    }

    /// Puts the blobs of another pack behind those of this one. Gives the other back when it has
    /// no room here, or when less of it is there than was written: what stores it says so then.
    fn take_in(&mut self, mut other: Self) -> Result<Option<Self>> {
        if !self.builder.has_room_for(&other.builder) {
            return Ok(Some(other));
        }
        other.write_held()?;
        // Nothing of it is believed before all of it was looked at.
        let mut found = Hasher::new();
        let is_whole = other.each_piece(&mut |piece| {
            found.update(piece);
            Ok(())
        })?;
        if !is_whole {
            return Ok(Some(other));
        }
        let written = other.hasher.clone().finish();
        if found.finish() != written {
            let why = "what was written of it a moment ago reads differently now".to_owned();
            return Err(damaged(Name::of(FileKind::Pack, written), why));
        }
        other.each_piece(&mut |piece| self.append(piece))?;
        for packed in other.builder.blobs() {
            self.builder.add(packed.blob).map_err(|cause| unwritable("a pack", cause))?;
        }
        Ok(None)
    }

    /// Reads all blobs again, piece by piece; `false` when there is less than was written.
    fn each_piece(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let (bytes, mut offset) = (u64::from(self.builder.bytes()), 0);
        let mut buffer = vec![0; PIECE_BYTES];
        while offset < bytes {
            let wanted = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
            let piece = &mut buffer[..wanted];
            if self.read_back(offset, piece)? < wanted {
                return Ok(false);
            }
            each(piece)?;
            offset += wanted as u64;
        }
        Ok(true)
    }

    fn close(mut self, repository: &Repository) -> Result<Filled> {
        let mut header = Vec::new();
        let bytes = u64::from(self.builder.bytes());
        let builder = std::mem::replace(&mut self.builder, PackBuilder::new(BlobKind::Data));
        let blobs = builder
            .finish(repository.key(), nonce()?, &mut header)
            .map_err(|cause| unwritable("a pack", cause))?;
        self.append(&header)?;
        self.write_held()?;
        let bytes = bytes + header.len() as u64;
        Ok(Filled { file: self.file, id: self.hasher.finish(), bytes, blobs })
    }
}
