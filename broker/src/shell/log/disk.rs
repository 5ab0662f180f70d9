//! The files of the log on a disk: what is written counts as there only after the next sync.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::super::folder::sync_folder;

/// With more files than this the whole file system is synced: a call for each would take longer than an epoch.
const FILES_MAX: usize = 64;

/// Files by their paths below one folder. After an error nothing is known of what was written since the last sync.
pub(crate) trait Disk: Send + 'static {
    /// A file's bytes from `from` on.
    fn read(&self, path: &str, from: u64) -> io::Result<Vec<u8>>;
    /// The file is these bytes.
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// The file is its first `at` bytes and these. An error if it is shorter.
    fn append(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// The file is its first `length` bytes. An error if it is shorter; one that is not there has none.
    fn cut(&mut self, path: &str, length: u64) -> io::Result<()>;
    /// These bytes are at `at` of the file. An error if it ends before or within.
    fn overwrite(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Whatever is read here is durable, also what a process before this one has written.
    fn settle(&mut self) -> io::Result<()>;
    /// Everything written so far is durable.
    fn sync(&mut self) -> io::Result<()>;
    /// The files are these bytes, durable; after a power cut each is either as before or so.
    fn replace(&mut self, files: &[(String, Vec<u8>)]) -> io::Result<()>;
    /// The file is gone, if it was there. Not durable before the next sync.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// The folder is gone with all in it, if it was there. Not durable before the next sync.
    fn remove_folder(&mut self, path: &str) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    /// Opened once, so that no failed write escapes it.
    whole: File,
    /// Written since the last sync.
    files: Vec<File>,
    folders: BTreeSet<PathBuf>,
    many: bool,
}

impl Files {
    /// Makes the folder if need be.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        let made = root.is_dir();
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        if !made {
            root.parent().map_or(Ok(()), sync_folder)?;
        }
        let whole = File::open(&root)?;
        Ok(Self { root, whole, files: Vec::new(), folders: BTreeSet::new(), many: false })
    }

    fn wrote(&mut self, file: File) {
        self.files.push(file);
        if self.files.len() > FILES_MAX {
            self.many = true;
            self.files.clear();
        }
    }

    /// Opens for writing; a new file, and new folders above it, are synced with it.
    fn open_file(&mut self, path: &Path, options: &OpenOptions) -> io::Result<File> {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let parent = path.parent().unwrap_or(&self.root);
        if !parent.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let within = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        self.folders.extend(within.map(Path::to_owned));
        options.clone().create(true).mode(0o600).open(path)
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.write(true).truncate(false);
        options
    }
}

impl Disk for Files {
    fn read(&self, path: &str, from: u64) -> io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (File::open(self.root.join(path))?, Vec::new());
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.open_file(&self.root.join(path), &Self::options())?;
        file.write_all_at(bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
        self.wrote(file);
        Ok(())
    }

    fn append(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.open_file(&self.root.join(path), &Self::options())?;
        let length = file.metadata()?.len();
        if length < at {
            return Err(shorter(length, at));
        }
        if length > at {
            file.set_len(at)?;
        }
        file.write_all_at(bytes, at)?;
        self.wrote(file);
        Ok(())
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        let file = match OpenOptions::new().write(true).open(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && length == 0 => return Ok(()),
            opened => opened?,
        };
        match file.metadata()?.len() {
            found if found < length => Err(shorter(found, length)),
            found if found > length => file.set_len(length).map(|()| self.wrote(file)),
            _ => Ok(()),
        }
    }

    fn overwrite(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.root.join(path))?;
        let (length, end) = (file.metadata()?.len(), at.saturating_add(bytes.len() as u64));
        if length < end {
            return Err(shorter(length, end));
        }
        file.write_all_at(bytes, at)?;
        self.wrote(file);
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.many = true;
        self.sync()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.many || self.folders.len() > FILES_MAX {
            rustix::fs::syncfs(&self.whole)?;
        } else {
            for file in &self.files {
                file.sync_all()?;
            }
            for folder in &self.folders {
                sync_folder(folder)?;
            }
        }
        self.files.clear();
        self.folders.clear();
        self.many = false;
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "files and folders are synced around the renames")]
    fn replace(&mut self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let part = |path: &str| self.root.join(format!("{path}.part"));
        let parts: Vec<(PathBuf, PathBuf)> =
            files.iter().map(|(path, _)| (part(path), self.root.join(path))).collect();
        for ((part, _), (_, bytes)) in parts.iter().zip(files) {
            let mut options = Self::options();
            let mut file = self.open_file(part, options.truncate(true))?;
            file.write_all(bytes)?;
            self.wrote(file);
        }
        self.sync()?;
        for (part, path) in &parts {
            fs::rename(part, path)?;
            self.folders.extend(path.parent().map(Path::to_owned));
        }
        self.sync()
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let path = self.root.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map(|()| self.folders.extend(path.parent().map(Path::to_owned))),
        }
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        let path = self.root.join(path);
        // A folder that is gone needs no sync.
        self.folders.retain(|folder| !folder.starts_with(&path));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map(|()| self.folders.extend(path.parent().map(Path::to_owned))),
        }
    }
}

fn shorter(length: u64, expected: u64) -> io::Error {
    let what = format!("it has {length} bytes where at least {expected} were published");
    io::Error::new(io::ErrorKind::InvalidData, what)
}
