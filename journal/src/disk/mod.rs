//! The few things the journal asks of a disk.

pub mod files;
pub mod sim;

use std::fmt::Debug;
use std::io;

/// Files by number in one directory. A clone is another handle to the same directory.
///
/// Nothing is durable before [`Disk::sync`] (bytes) or [`Disk::sync_directory`] (names) returns `Ok`. After an
/// error of either, nothing since the last success may be taken for durable, whatever a read returns.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// Holds the directory; dropped, it releases it.
    type Lock: Debug + Send;

    /// Takes the directory for this owner alone; `None` if somebody else has it.
    ///
    /// # Errors
    /// The operating system's.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;

    /// The numbers of all files, in any order.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self) -> io::Result<Vec<u64>>;

    /// Length of a file, in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self, file: u64) -> io::Result<u64>;

    /// Makes a file of `bytes` zeros, all of them allocated and durable; its name is durable only after
    /// [`Disk::sync_directory`].
    ///
    /// # Errors
    /// The operating system's; after `StorageFull` or `QuotaExceeded` the file does not exist.
    fn create(&self, file: u64, bytes: u64) -> io::Result<()>;

    /// Removes a file. Its bytes must have been overwritten before.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, file: u64) -> io::Result<()>;

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// The operating system's; `UnexpectedEof` if the file ends before.
    fn read(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The operating system's; any part of the bytes may then have been written.
    fn write(&self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes of a file durable (fdatasync).
    ///
    /// # Errors
    /// The operating system's.
    fn sync(&self, file: u64) -> io::Result<()>;

    /// Makes the names of the files durable.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_directory(&self) -> io::Result<()>;
}

/// Whether the error says that there is no room, rather than that the disk is bad.
pub(crate) fn no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
