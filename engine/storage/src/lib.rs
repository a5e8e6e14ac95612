//! Destinations as byte stores: places that keep the files of a repository.
//!
//! A [`Storage`] lists, reads, writes and removes whole files by [`Name`], and takes packs as
//! streams. [`Folder`] is one: a folder with restic's layout, on any file system. [`Rest`] is
//! another: a server of restic's REST protocol; [`S3`] a bucket of an S3 service; [`Sftp`] a folder
//! on a server one can log in to. [`Retrying`]
//! wraps one and tries again what may work in a moment; [`Throttled`] wraps one and leaves others
//! room on the line; [`Doubting`] wraps one and looks whether what it confirmed is true. What every
//! storage must do is written down as a test that runs against each of them, the failing one
//! included (`conformance`, behind the feature `testing`).
//!
//! **Invariant:** a file is there completely or not at all, under its final name, and stays after
//! a power cut once `write` or `commit` returned. No file is ever overwritten. A destination that
//! vanished (unplugged, unmounted, deleted) is reported as [`StorageError::Gone`] and never
//! created again by a write. No message holds a password. Whatever a server sends is bounded, in
//! bytes and in time.
//!
//! **Not here:** what the bytes mean. Nothing in this room can decrypt them.

mod clock;
mod doubting;
mod errors;
mod folder;
mod http;
mod location;
mod name;
mod rest;
mod retrying;
mod s3;
mod sftp;
mod spool;
mod spooled_pack;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod throttled;

pub use clock::{Clock, SystemClock};
pub use doubting::Doubting;
pub use errors::StorageError;
pub use folder::Folder;
pub use http::Patience;
pub use location::{LocationError, Way, open, open_by, without_secret};
pub use name::Name;
pub use rest::{Address, AddressError, Rest};
pub use retrying::{Persistence, Retrying};
pub use s3::{AccessKey, S3, S3Address};
pub use sftp::{Sftp, SftpAddress, SftpAddressError, SshProgram};
pub use throttled::{Rates, Throttled};

use engine_repository::{FileKind, Id};

/// What every call of a storage answers.
pub type Result<T> = std::result::Result<T, StorageError>;

/// A place that keeps a repository's files. All calls block; all may be made from any thread.
pub trait Storage: Send + Sync {
    /// Where it is, as the owner wrote it, fit for a message. Holds no secret.
    fn location(&self) -> String;

    /// Makes the empty layout of a repository. What is there already is left alone.
    fn create(&self) -> Result<()>;

    /// Calls `each` with the id and size in bytes of every file of a kind, in any order.
    ///
    /// Names that are no ids (temporary files, notes of the owner) are passed over. An error
    /// returned by `each` ends the listing and is returned.
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()>;

    /// Whether a listing shows everything that anybody wrote before it was asked for. Where that is
    /// not certain the answer is no, and whoever takes a lock gives others' locks time to show.
    fn lists_at_once(&self) -> bool {
        false
    }

    /// The whole file, when it is not larger than `bytes_max`.
    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>>;

    /// Fills `buffer` from the file's bytes at `offset`; a file that ends before is an error.
    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// As `read_range`, but `arrived` bytes of it came before and are in `buffer`. It counts on
    /// with every byte that comes, so that after an error only the rest has to be asked for.
    fn read_on(
        &self,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        self.read_range(name, offset + *arrived as u64, &mut buffer[*arrived..])?;
        *arrived = buffer.len();
        Ok(())
    }

    /// Stores a whole file durably. [`StorageError::AlreadyExists`] when the name is taken.
    fn write(&self, name: Name, bytes: &[u8]) -> Result<()>;

    /// Opens a pack whose id is not known yet; it becomes visible by [`PackFile::commit`].
    fn create_pack(&self) -> Result<Box<dyn PackFile>>;

    /// Removes a file. One that is not there is [`StorageError::NotFound`].
    fn remove(&self, name: Name) -> Result<()>;

    /// The file's size in bytes, `None` when it is not there.
    fn size(&self, name: Name) -> Result<Option<u64>>;
}

/// A pack on its way in. Dropping it without a commit leaves nothing behind.
pub trait PackFile: Send {
    /// Adds bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Reads what was appended again, from `offset` on, into `buffer`. Gives how many bytes there
    /// were: fewer than `buffer` holds only where the pack ends. Nothing is asked of a server: a
    /// pack that has no name yet is on this side.
    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Makes the pack durable and visible under its id. A pack of the same id that is already
    /// there is kept, and the new one dropped: the same id means the same bytes.
    ///
    /// After an error the pack is still held, so that it can be settled again; after `Ok` nothing
    /// may be asked of it.
    fn settle(&mut self, id: Id) -> Result<()>;

    /// [`PackFile::settle`], and done with it.
    fn commit(mut self: Box<Self>, id: Id) -> Result<()> {
        self.settle(id)
    }
}

/// Reads the whole listing of a kind into memory. For kinds known to be few.
pub fn list_all(storage: &dyn Storage, kind: FileKind) -> Result<Vec<(Id, u64)>> {
    let mut all = Vec::new();
    storage.list(kind, &mut |id, bytes| {
        all.push((id, bytes));
        Ok(())
    })?;
    Ok(all)
}
