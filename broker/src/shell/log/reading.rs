//! The files of a log on the disk, as far as they are published: nobody sees bytes that a crash could take back.
//!
//! How far that is, for a log of which E epochs are published:
//!
//! | file | what of it is published |
//! |---|---|
//! | `sizes`, `slot-keys`, `rosters` | the rows whose epoch is below E |
//! | tiles, bundles | those of the tree of that size: E of the root log, of a sub-log the size in the last such row of `sizes` |
//! | `slots`, `openings`, `keys` | as many whole records as epochs or entries |
//! | `cosigned` | the records that were durable when they were counted |
//! | `checkpoint`, `roster` | whole: they are put in place at once |

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use lintas_proto::audit::{
    files::LogFile,
    opening::KEY_BYTES,
    tile::{Tile, WIDTH},
};

use crate::shell::folder::Folder;

/// Bytes of a row of `sizes` and of `rosters`: epoch and number.
const PAIR_BYTES: u64 = 16;
/// Bytes of a row of `slot-keys`: epoch and key.
const SLOT_KEY_BYTES: u64 = 40;

/// Where a log stands, and how much of it is published.
#[derive(Debug, Clone)]
pub(super) struct LogFiles {
    pub(super) broker: Folder,
    /// 1 for the broker's first log.
    pub(super) number: usize,
    /// Whose sub-log; none for the root log.
    pub(super) agency: Option<String>,
    /// Published epochs.
    pub(super) epochs: u64,
    /// Checkpoints in `cosigned` that are durable.
    pub(super) cosigned: u64,
}

/// A file that may be given out.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// What of it is published, bytes.
    pub(super) length: u64,
    /// Where its records end; empty if it has none that count.
    ends: Vec<u64>,
    /// Index of the first record.
    first: u64,
}

impl Opened {
    /// Which entries the bytes from `offset` on show, `length` of them: the first and how many.
    pub(super) fn entries(&self, offset: u64, length: u64) -> (u64, u64) {
        let until = offset.saturating_add(length);
        let before = self.ends.iter().filter(|end| **end <= offset).count() as u64;
        let starts = [0].iter().chain(&self.ends).take(self.ends.len());
        let within = starts.filter(|start| **start < until).count() as u64;
        (self.first.saturating_add(before), within.saturating_sub(before))
    }
}

impl LogFiles {
    /// Its folder.
    pub(super) fn folder(&self) -> PathBuf {
        let root = self.broker.audit_log(self.number);
        self.agency.as_ref().map_or_else(|| root.clone(), |agency| root.join(agency))
    }

    /// Entries that are published.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub(super) fn size(&self) -> io::Result<u64> {
        if self.agency.is_none() {
            return Ok(self.epochs);
        }
        let Some(mut file) = there(File::open(self.folder().join(LogFile::Sizes.to_string())))? else {
            return Ok(0);
        };
        match rows_below(&mut file, PAIR_BYTES, self.epochs)?.checked_sub(1) {
            Some(last) => Ok(pair(&mut file, last, PAIR_BYTES)?.1),
            None => Ok(0),
        }
    }

    /// Opens a file; none if there is no such file, or nothing of it is published.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub(super) fn open(&self, what: LogFile) -> io::Result<Option<Opened>> {
        let fits = if self.agency.is_none() { what.is_of_root() } else { what.is_of_sub_log() };
        let size = if fits { self.size()? } else { 0 };
        if !fits || (size == 0 && !matches!(what, LogFile::Roster(_))) {
            return Ok(None);
        }
        let path = self.folder().join(what.to_string());
        match what {
            LogFile::Checkpoint => whole(&path),
            LogFile::Roster(version) => whole(&self.broker.roster_path(version)),
            LogFile::Rosters | LogFile::Sizes => self.rows(&path, PAIR_BYTES),
            LogFile::SlotKeys => self.rows(&path, SLOT_KEY_BYTES),
            LogFile::Tile(tile) => self.tile(tile, size),
            LogFile::Entries(index, width) => self.bundle(index, width, size),
            LogFile::Slots(index) => records(&path, index, size, &slots_bytes),
            LogFile::Cosigned(index) => records(&path, index, self.cosigned, &entry_bytes),
            LogFile::Openings(index) => records(&path, index, size, &entry_bytes),
            LogFile::Keys(index) => records(&path, index, size, &|_| Ok(KEY_BYTES as u64)),
        }
    }

    /// All that is published of a file.
    ///
    /// # Errors
    /// A disk that cannot be read.
    pub(super) fn bytes(&self, what: LogFile) -> io::Result<Option<Vec<u8>>> {
        let Some(Opened { mut file, length, .. }) = self.open(what)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn rows(&self, path: &Path, row: u64) -> io::Result<Option<Opened>> {
        let Some(mut file) = there(File::open(path))? else { return Ok(None) };
        let length = rows_below(&mut file, row, self.epochs)?.saturating_mul(row);
        Ok(Some(Opened { file, length, ends: Vec::new(), first: 0 }).filter(|opened| opened.length > 0))
    }

    /// A tile, or the beginning of one that has taken its place.
    fn tile(&self, asked: Tile, size: u64) -> io::Result<Option<Opened>> {
        let path = |width| Tile { width, ..asked }.path();
        let is_published =
            Tile::of_tree(asked.level, asked.index, size).is_some_and(|tile| asked.width <= tile.width);
        let file = if is_published { widest(&self.folder(), path, asked.width)? } else { None };
        let Some(file) = file else { return Ok(None) };
        let length = u64::from(asked.width) * 32;
        let there = file.metadata()?.len() >= length;
        Ok(there.then_some(Opened { file, length, ends: Vec::new(), first: 0 }))
    }

    /// The same of a bundle of entries.
    fn bundle(&self, index: u64, width: u16, size: u64) -> io::Result<Option<Opened>> {
        let path = |width| LogFile::Entries(index, width).to_string();
        let is_published = Tile::of_tree(0, index, size).is_some_and(|tile| width <= tile.width);
        let file = if is_published { widest(&self.folder(), path, width)? } else { None };
        let Some(file) = file else { return Ok(None) };
        let opened = walk(file, u64::from(width), &entry_bytes)?;
        Ok(Some(opened).filter(|opened| opened.ends.len() == usize::from(width)))
    }
}

/// The file of a tile or bundle of that width, or a wider one, which begins with it: partial ones go when there are
/// wider ones.
pub(super) fn widest(folder: &Path, path: impl Fn(u16) -> String, width: u16) -> io::Result<Option<File>> {
    // Twice: what was listed may be gone by then, for something wider.
    for _ in 0..2 {
        for width in [width, 256] {
            if let Some(file) = there(File::open(folder.join(path(width))))? {
                return Ok(Some(file));
            }
        }
        let partial = folder.join(path(1));
        let listed = partial.parent().map(fs::read_dir).map(there).transpose()?.flatten();
        let names =
            listed.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let wider = names.filter_map(|name| name.parse().ok()).filter(|have| *have > width).min();
        let file = wider.map(|width: u16| there(File::open(folder.join(path(width))))).transpose()?.flatten();
        if file.is_some() {
            return Ok(file);
        }
    }
    Ok(None)
}

fn whole(path: &Path) -> io::Result<Option<Opened>> {
    let Some(file) = there(File::open(path))? else { return Ok(None) };
    let length = file.metadata()?.len();
    Ok(Some(Opened { file, length, ends: Vec::new(), first: 0 }))
}

/// File number `index` of those that hold 256 records each; `count` of all records are published.
fn records(path: &Path, index: u64, count: u64, bytes: &BytesOf) -> io::Result<Option<Opened>> {
    let Some(first) = index.checked_mul(WIDTH).filter(|first| *first < count) else { return Ok(None) };
    let Some(file) = there(File::open(path))? else { return Ok(None) };
    let opened = walk(file, count.saturating_sub(first).min(WIDTH), bytes)?;
    Ok(Some(Opened { first, ..opened }))
}

/// Bytes of the record that begins where the reader stands.
type BytesOf = dyn Fn(&mut BufReader<&File>) -> io::Result<u64>;

/// The first `count` records of a file, or as many as are whole.
fn walk(file: File, count: u64, bytes: &BytesOf) -> io::Result<Opened> {
    let (whole, mut end, mut ends) = (file.metadata()?.len(), 0u64, Vec::new());
    let mut reader = BufReader::new(&file);
    for _ in 0..count {
        let next = match bytes(&mut reader) {
            Ok(bytes) => end.saturating_add(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        };
        if next > whole {
            break;
        }
        let at = reader.stream_position()?;
        reader.seek_relative(i64::try_from(next.saturating_sub(at)).map_err(io::Error::other)?)?;
        end = next;
        ends.push(end);
    }
    drop(reader);
    Ok(Opened { file, length: end, ends, first: 0 })
}

/// A record behind its length.
fn entry_bytes(reader: &mut BufReader<&File>) -> io::Result<u64> {
    let mut length = [0; 2];
    reader.read_exact(&mut length)?;
    Ok(2 + u64::from(u16::from_be_bytes(length)))
}

/// The slots of an epoch, behind their number.
fn slots_bytes(reader: &mut BufReader<&File>) -> io::Result<u64> {
    let mut count = [0; 4];
    reader.read_exact(&mut count)?;
    Ok(4 + 32 * u64::from(u32::from_be_bytes(count)))
}

/// How many rows of `row` bytes begin with an epoch below `epochs`; they ascend.
fn rows_below(file: &mut File, row: u64, epochs: u64) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len() / row);
    while low < high {
        let middle = low + (high - low) / 2;
        if pair(file, middle, row)?.0 < epochs {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Epoch and number of a row; of a longer row its first 16 bytes.
fn pair(file: &mut File, at: u64, row: u64) -> io::Result<(u64, u64)> {
    let (mut epoch, mut number) = ([0; 8], [0; 8]);
    file.seek(SeekFrom::Start(at.saturating_mul(row)))?;
    file.read_exact(&mut epoch)?;
    file.read_exact(&mut number)?;
    Ok((u64::from_be_bytes(epoch), u64::from_be_bytes(number)))
}

/// A file that may not be there.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads a whole file of a log that is no larger than `max`; none if it is not there.
pub(super) fn read(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(found) = there(fs::metadata(path))? else { return Ok(None) };
    if found.len() > max as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is longer than it may be"));
    }
    there(fs::read(path))
}
