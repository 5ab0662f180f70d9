//! The one place that writes files outside of the journal, but for attachments that arrive: private, whole or not at all, durable before it
//! returns, never over something that is there, but for the mark.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Ending of files that are not whole yet.
pub(crate) const PART: &str = ".part";

/// A file that is being written under a name of its own. Dropped before [`keep`](Self::keep), it is removed.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    part: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl PartFile {
    /// Begins `target`, which nobody may read but this user.
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        Self::begin(target, OpenOptions::new().create_new(true))
    }

    /// As [`create`](Self::create), over what an interrupted process left. For one writer only.
    fn create_over(target: &Path) -> io::Result<Self> {
        Self::begin(target, OpenOptions::new().create(true).truncate(true))
    }

    fn begin(target: &Path, how: &mut OpenOptions) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(PART);
        let part = target.with_file_name(hidden);
        let file = how.write(true).mode(0o600).open(&part)?;
        Ok(Self { file, part, target: target.to_owned(), kept: false })
    }

    /// Appends.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Makes what was written durable; it has no name yet.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Syncs the file, gives it its name, syncs the folder.
    ///
    /// # Errors
    /// `AlreadyExists` when something of that name is there; it is left alone.
    pub(crate) fn keep(self) -> io::Result<()> {
        let target = self.target.clone();
        self.keep_as(&target)
    }

    /// As [`keep`](Self::keep), under another name in the same folder.
    pub(crate) fn keep_as(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        renameat_with(CWD, &self.part, CWD, target, RenameFlags::NOREPLACE)?;
        self.kept = true;
        sync_folder(target.parent().unwrap_or(Path::new("/")))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.kept {
            // It is swept when the folder is opened next.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Writes a whole new file.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = PartFile::create(path)?;
    file.write(bytes)?;
    file.keep()
}

/// Writes a whole file in the place of the one that is there, or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = PartFile::create_over(path)?;
    file.write(bytes)?;
    file.file.sync_all()?;
    renameat_with(CWD, &file.part, CWD, path, RenameFlags::empty())?;
    file.kept = true;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Gives a durable file another name in the same folder, in the place of what has it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::empty())?;
    sync_folder(to.parent().unwrap_or(Path::new("/")))
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Makes a folder that nobody may enter but this user; one that is there must be as private.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    check_private(path)?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Whether only this user may enter.
pub(crate) fn check_private(path: &Path) -> io::Result<()> {
    let found = std::fs::metadata(path)?;
    let own = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && own && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other("it must be a folder of this user that nobody else may enter (chmod 700)"))
}

/// Whether it is a folder of this user.
pub(crate) fn is_own_folder(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == own)
}

/// Whether a file is open to the group or to everybody.
pub(crate) fn others_may_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0)
}

/// Room that this user may still take on the disk of `path`, bytes.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Syncs names. The parent of a bare name is the folder that this process stands in.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}
