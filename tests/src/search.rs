//! Looking for a phrase where it must not be.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every file below a folder.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// Whether `phrase` stands in `bytes`.
#[must_use]
pub fn holds(bytes: &[u8], phrase: &str) -> bool {
    memchr::memmem::find(bytes, phrase.as_bytes()).is_some()
}

/// The files in which `phrase` stands.
#[must_use]
pub fn holding(files: &[PathBuf], phrase: &str) -> Vec<PathBuf> {
    files.iter().filter(|file| holds(&fs::read(file).unwrap_or_default(), phrase)).cloned().collect()
}
