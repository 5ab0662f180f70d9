//! Files of a mirror: fetched from its source, kept in its folder.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use bytes::Bytes;
use lintas_proto::audit::{
    files::LogFile,
    tile::{self, Tile, WIDTH},
};

use super::Mirror;
use crate::{
    core::audit::{
        finding::{Finding, Kind},
        source::{LogFiles as _, width},
    },
    shell::failure::{Code, Failure},
};

/// Bytes that are compared where a file is continued.
const OVERLAP: u64 = 64;

impl Mirror<'_> {
    /// Fetches what a file has grown by; false if the broker has no such file. All of it comes before any is written, so
    /// that no interruption leaves half a record.
    pub(super) fn append(&mut self, owner: Option<&str>, file: LogFile) -> Result<bool, Failure> {
        let origin = self.origin(owner);
        let have = self.length(owner, file);
        let from = have.saturating_sub(OVERLAP);
        let mut all: Vec<u8> = Vec::new();
        loop {
            let at = from.saturating_add(all.len() as u64);
            let Some((length, bytes)) = self.source.get(&origin, file, at)? else {
                if have > 0 {
                    self.differs(&origin, file, "the broker no longer has this file");
                }
                return Ok(false);
            };
            all.extend_from_slice(&bytes);
            if bytes.is_empty() || from.saturating_add(all.len() as u64) >= length {
                break;
            }
        }
        let known = self.folder.read(owner, file, from, have.saturating_sub(from)).ok().flatten();
        let known = known.unwrap_or_default();
        let (overlap, new) = all.split_at(known.len().min(all.len()));
        // A key that was there may have been erased since.
        let same = matches!(file, LogFile::Keys(_)) || overlap == known.as_ref();
        if overlap.len() < known.len() || !same {
            self.differs(
                &origin,
                file,
                "the broker's file is shorter than what was mirrored before, or another one",
            );
            return Ok(true);
        }
        if !new.is_empty() {
            let path = self.folder.path(owner, file);
            self.folders(&path)?;
            let open = OpenOptions::new().create(true).append(true).open(&path);
            let written = open.and_then(|mut open| open.write_all(new));
            written.map_err(|error| Failure::file("write", &path, &error))?;
            self.count(new.len());
        }
        Ok(true)
    }

    pub(super) fn differs(&mut self, origin: &str, file: LogFile, text: &str) {
        self.done.findings.push(Finding::new(Kind::Damaged, origin, text).of(file));
    }

    /// Fetches a tile or bundle that is not here yet.
    pub(super) fn once(&mut self, owner: Option<&str>, file: LogFile) -> Result<(), Failure> {
        if self.length(owner, file) > 0 { Ok(()) } else { self.whole(owner, file) }
    }

    pub(super) fn whole(&mut self, owner: Option<&str>, file: LogFile) -> Result<(), Failure> {
        let origin = self.origin(owner);
        let mut all: Vec<u8> = Vec::new();
        let mut file = file;
        loop {
            let Some((length, bytes)) = self.source.get(&origin, file, all.len() as u64)? else {
                // A partial one goes when the full one is there.
                match full(file).filter(|_| all.is_empty()) {
                    Some(full) => file = full,
                    None => {
                        let text = "the broker does not have it";
                        self.done.findings.push(Finding::new(Kind::Missing, &origin, text).of(file));
                        return Ok(());
                    }
                }
                continue;
            };
            all.extend_from_slice(&bytes);
            if bytes.is_empty() || all.len() as u64 >= length {
                break;
            }
        }
        self.write(owner, &file.to_string(), &all)
    }

    /// Tiles and bundles that full ones or wider ones have taken the place of.
    pub(super) fn drop_partial(&self, owner: Option<&str>, before: u64, after: u64) {
        let mut old: Vec<(LogFile, LogFile)> = Vec::new();
        for level in 0..=tile::LEVEL_MAX {
            let last = before.checked_shr(8 * u32::from(level)).unwrap_or(0) / WIDTH;
            if let (Some(was), Some(is)) =
                (Tile::of_tree(level, last, before), Tile::of_tree(level, last, after))
            {
                old.push((LogFile::Tile(was), LogFile::Tile(is)));
            }
        }
        let last = before / WIDTH;
        old.push((LogFile::Entries(last, width(last, before)), LogFile::Entries(last, width(last, after))));
        for (was, is) in old {
            if was != is && self.length(owner, is) > 0 {
                let _ = std::fs::remove_file(self.folder.path(owner, was));
            }
        }
    }

    pub(super) fn write(&mut self, owner: Option<&str>, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.path(owner, LogFile::Checkpoint).with_file_name("").join(name);
        self.folders(&path)?;
        let part = path.with_extension("part");
        let written = OpenOptions::new().create(true).truncate(true).write(true).open(&part);
        let written = written.and_then(|mut open| open.write_all(bytes));
        // It is made durable before the checkpoint that needs it; until then it may go.
        let renamed = written.and_then(|()| rustix::fs::rename(&part, &path).map_err(io::Error::from));
        renamed.map_err(|error| Failure::file("write", &path, &error))?;
        self.count(bytes.len());
        Ok(())
    }

    pub(super) fn folders(&self, path: &Path) -> Result<(), Failure> {
        let folder = path.parent().unwrap_or(self.folder.root());
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))
    }

    /// Everything that was written is on the disk.
    pub(super) fn sync(&self, path: &Path) -> Result<(), Failure> {
        self.folders(path)?;
        let synced = std::fs::File::open(self.folder.root())
            .and_then(|folder| rustix::fs::syncfs(folder).map_err(io::Error::from));
        synced.map_err(|error| Failure::new(Code::Storage, format_args!("the disk failed: {error}")))
    }

    pub(super) fn count(&mut self, bytes: usize) {
        self.done.bytes = self.done.bytes.saturating_add(bytes as u64);
        (self.watch)(self.done.bytes);
    }

    pub(super) fn local(&self, owner: Option<&str>, file: LogFile) -> Option<Bytes> {
        self.folder.read(owner, file, 0, 16 << 20).ok().flatten()
    }

    pub(super) fn length(&self, owner: Option<&str>, file: LogFile) -> u64 {
        std::fs::metadata(self.folder.path(owner, file)).map_or(0, |found| found.len())
    }
}

fn full(file: LogFile) -> Option<LogFile> {
    match file {
        LogFile::Tile(tile) if !tile.is_full() => Some(LogFile::Tile(Tile { width: 256, ..tile })),
        LogFile::Entries(index, width) if width != 256 => Some(LogFile::Entries(index, 256)),
        LogFile::Tile(_) | LogFile::Entries(..) | LogFile::Checkpoint | LogFile::Slots(_) => None,
        LogFile::Cosigned(_) | LogFile::Rosters | LogFile::Roster(_) | LogFile::Openings(_) => None,
        LogFile::Keys(_) | LogFile::Sizes | LogFile::SlotKeys => None,
    }
}
