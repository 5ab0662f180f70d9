//! The one place that writes files outside of the journal, but for attachments that arrive: private, whole or not at
//! all, durable before it returns, never over something that is there, but for the mark, the directory and the keys.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Ending of files that are not whole yet.
pub(crate) const PART: &str = ".part";
/// Ending of old secret files that are to be overwritten.
const LEFTOVER: &str = ".old";

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
        let part = hidden(target, PART)?;
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

/// Removes a file for good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Gives a durable file another name in the same folder, in the place of what has it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::empty())?;
    sync_folder(to.parent().unwrap_or(Path::new("/")))
}

/// As [`replace`], and then overwrites the bytes that stood there before with zeros, in place. That is the best that a
/// program can do: an SSD, a snapshot or a file system that copies on write may keep them all the same.
pub(crate) fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    wipe_leftovers(path)?;
    let old = OpenOptions::new().write(true).open(path);
    // A name for the old bytes, by which they are found and overwritten after a power cut. A file system without
    // such names goes without.
    let leftover = hidden(path, LEFTOVER)?;
    let _ = std::fs::hard_link(path, &leftover);
    let written = replace(path, bytes);
    if written.is_err() {
        // The old file still is the one that counts; only its second name goes.
        let _ = std::fs::remove_file(&leftover);
    }
    written?;
    // From here on the new file counts, whatever happens to the old one.
    if let Ok(old) = old
        && let Err(error) = overwrite(&old)
    {
        tracing::warn!(%error, "the bytes of an old key file could not be overwritten");
    }
    match std::fs::remove_file(&leftover) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => sync_folder(path.parent().unwrap_or(Path::new("/"))),
    }
}

/// Overwrites and removes what a process that was interrupted in [`replace_secret`] left. The file itself is untouched.
pub(crate) fn wipe_leftovers(path: &Path) -> io::Result<()> {
    for ending in [LEFTOVER, PART] {
        let leftover = hidden(path, ending)?;
        let Ok(found) = std::fs::metadata(&leftover) else { continue };
        let same = std::fs::metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (found.dev(), found.ino()));
        if !same {
            overwrite(&OpenOptions::new().write(true).open(&leftover)?)?;
        }
        std::fs::remove_file(&leftover)?;
    }
    Ok(())
}

/// Zeros over every byte of a file.
fn overwrite(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()
}

fn hidden(target: &Path, ending: &str) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(ending);
    Ok(target.with_file_name(hidden))
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
