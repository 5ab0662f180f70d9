//! Real files: `segment-NNNNNN.journal` in one directory, and `lock`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, no_room};
use crate::limits::CHUNK_BYTES;

/// Most files kept open at once.
const HANDLES_MAX: usize = 128;

const PREFIX: &str = "segment-";
const SUFFIX: &str = ".journal";

/// A directory of real files.
#[derive(Debug, Clone)]
pub struct FileDisk {
    directory: Arc<Path>,
    handles: Arc<Mutex<BTreeMap<u64, Handle>>>,
    /// Files are opened for reading alone.
    read_only: bool,
}

#[derive(Debug)]
struct Handle {
    file: Arc<File>,
    /// Written since the last sync: an error of the kernel's write-back is reported to this handle, so it
    /// stays open until it was asked.
    unsynced: bool,
}

/// The locked `lock` file.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileDisk {
    /// Opens the directory, and makes it if it does not exist (then the parent is synced as well).
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        if !directory.is_dir() {
            std::fs::create_dir(&directory)?;
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self { directory: directory.into(), handles: Arc::default(), read_only: false })
    }

    /// A directory that is only looked at: nothing is made in it, and its files are opened for reading alone.
    #[must_use]
    pub fn look_only(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into().into(), handles: Arc::default(), read_only: true }
    }

    fn path(&self, file: u64) -> PathBuf {
        self.directory.join(format!("{PREFIX}{file:06}{SUFFIX}"))
    }

    fn handles(&self) -> MutexGuard<'_, BTreeMap<u64, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, file: u64, for_write: bool) -> io::Result<Arc<File>> {
        let mut handles = self.handles();
        if let Some(handle) = handles.get_mut(&file) {
            handle.unsynced |= for_write;
            return Ok(Arc::clone(&handle.file));
        }
        if handles.len() >= HANDLES_MAX
            && let Some(idle) = handles.iter().find(|(_, handle)| !handle.unsynced).map(|(file, _)| *file)
        {
            handles.remove(&idle);
        }
        let opened = Arc::new(OpenOptions::new().read(true).write(!self.read_only).open(self.path(file))?);
        handles.insert(file, Handle { file: Arc::clone(&opened), unsynced: for_write });
        Ok(opened)
    }
}

impl Disk for FileDisk {
    type Lock = FileLock;

    fn lock(&self) -> io::Result<Option<FileLock>> {
        let path = self.directory.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            files.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(files)
    }

    fn length(&self, file: u64) -> io::Result<u64> {
        Ok(self.handle(file, false)?.metadata()?.len())
    }

    fn create(&self, file: u64, bytes: u64) -> io::Result<()> {
        let path = self.path(file);
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let filled = fill(&opened, bytes);
        if filled.as_ref().is_err_and(no_room) {
            std::fs::remove_file(&path)?;
        }
        filled?;
        self.handles().insert(file, Handle { file: Arc::new(opened), unsynced: false });
        Ok(())
    }

    fn remove(&self, file: u64) -> io::Result<()> {
        self.handles().remove(&file);
        std::fs::remove_file(self.path(file))
    }

    fn read(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.handle(file, false)?.read_exact_at(into, offset)
    }

    fn write(&self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.handle(file, true)?.write_all_at(bytes, offset)
    }

    fn sync(&self, file: u64) -> io::Result<()> {
        self.handle(file, true)?.sync_data()?;
        if let Some(handle) = self.handles().get_mut(&file) {
            handle.unsynced = false;
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Reserves the room first, so that a full disk is noticed before anything is written; then writes zeros, so
/// that a commit changes no metadata and fdatasync has only data to flush. Piece by piece: the commits that go on meanwhile
/// wait behind a piece on the same disk, not behind a segment.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; CHUNK_BYTES];
    let mut at = 0u64;
    while at < bytes {
        let count = usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        file.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
        file.sync_data()?;
        at = at.saturating_add(count as u64);
    }
    file.sync_all()
}
