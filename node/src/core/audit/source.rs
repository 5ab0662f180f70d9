//! Where the files of a log come from.

use bytes::Bytes;
use lintas_proto::{
    audit::{
        files::LogFile,
        tile::{self, Hashes, Tile, WIDTH},
    },
    id::Digest,
};

use super::finding::{Finding, Kind};

/// Whose log: of an agency, or the root log.
pub(crate) type Owner<'a> = Option<&'a str>;

/// Files of a root log and of the sub-logs under it.
pub(crate) trait LogFiles: Sync {
    /// At most `length` bytes of a file from `offset` on, fewer only at its end; `None` if there is no such file.
    ///
    /// # Errors
    /// What the system says.
    fn read(
        &self,
        owner: Owner<'_>,
        file: LogFile,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, String>;
}

/// Most bytes that a file of that kind may have, so that no file fills the memory.
fn bytes_max(owner: Owner<'_>, file: LogFile) -> u64 {
    match file {
        LogFile::Checkpoint => 4 << 10,
        LogFile::Tile(_) => 32 * WIDTH,
        LogFile::Keys(_) => 32 * WIDTH,
        // Entries are short; an opening holds an event of at most 2 KiB.
        LogFile::Entries(..) => (if owner.is_some() { 60 } else { 119 }) * WIDTH,
        LogFile::Openings(_) => (2 + 32 + 2_048 + 16) * WIDTH,
        LogFile::Slots(_) => (4 + 32 * 8_192) * WIDTH,
        LogFile::Cosigned(_) => (2 + 4_096) * WIDTH,
        LogFile::Roster(_) => 17 << 20,
        // A roster changes seldom, a slot key too; sizes are read in pieces.
        LogFile::Rosters | LogFile::SlotKeys => 4 << 20,
        LogFile::Sizes => u64::MAX - 1,
    }
}

/// A whole file, or why there is none.
pub(crate) fn whole(
    files: &dyn LogFiles,
    log: &str,
    owner: Owner<'_>,
    file: LogFile,
) -> Result<Bytes, Box<Finding>> {
    let max = bytes_max(owner, file);
    match files.read(owner, file, 0, max.saturating_add(1)) {
        Err(error) => {
            Err(Finding::new(Kind::Unreadable, log, format!("it cannot be read: {error}")).of(file).into())
        }
        Ok(None) => Err(Finding::new(Kind::Missing, log, "it is not there").of(file).into()),
        Ok(Some(bytes)) if bytes.len() as u64 > max => {
            let text = format!("it has more than the {max} bytes that such a file can have");
            Err(Finding::new(Kind::Damaged, log, text).of(file).into())
        }
        Ok(Some(bytes)) => Ok(bytes),
    }
}

/// The entries of bundle `index` of a log of `size` entries, and the file that they came from.
pub(crate) fn bundle(
    files: &dyn LogFiles,
    log: &str,
    owner: Owner<'_>,
    index: u64,
    size: u64,
) -> Result<(Vec<Bytes>, LogFile), Box<Finding>> {
    let width = width(index, size);
    let (bytes, file) =
        either(files, log, owner, LogFile::Entries(index, width), LogFile::Entries(index, 256))?;
    let exact = file == LogFile::Entries(index, width);
    let entries: Option<Vec<Bytes>> =
        tile::entries(&bytes).map(|entry| entry.map(|entry| bytes.slice_ref(entry))).collect();
    let wanted = usize::from(width);
    match entries {
        Some(mut entries) if entries.len() == wanted || (!exact && entries.len() > wanted) => {
            entries.truncate(wanted);
            Ok((entries, file))
        }
        Some(_) | None => {
            let text = format!("it does not hold {width} whole entries");
            Err(Finding::new(Kind::Damaged, log, text).of(file).entry(index.saturating_mul(WIDTH)).into())
        }
    }
}

/// The hashes of a tile, from its file or from the full one that has taken its place.
pub(crate) fn tile_hashes(
    files: &dyn LogFiles,
    log: &str,
    owner: Owner<'_>,
    tile: tile::Tile,
) -> Result<(Vec<Digest>, LogFile), Box<Finding>> {
    let full = LogFile::Tile(tile::Tile { width: 256, ..tile });
    let (bytes, file) = either(files, log, owner, LogFile::Tile(tile), full)?;
    let hashes: Vec<Digest> = bytes.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect();
    let wanted = usize::from(tile.width);
    let sound = if file == LogFile::Tile(tile) { bytes.len() == 32 * wanted } else { hashes.len() >= wanted };
    if !sound {
        let text = format!("it does not hold {wanted} hashes of 32 bytes");
        return Err(Finding::new(Kind::Damaged, log, text).of(file).into());
    }
    Ok((hashes.into_iter().take(wanted).collect(), file))
}

/// Entries of bundle `index` in a log of `size` entries, at most 256.
pub(crate) fn width(index: u64, size: u64) -> u16 {
    let left = size.saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH);
    u16::try_from(left).unwrap_or(256)
}

/// A partial file, or the full one if the partial one has gone.
fn either(
    files: &dyn LogFiles,
    log: &str,
    owner: Owner<'_>,
    first: LogFile,
    full: LogFile,
) -> Result<(Bytes, LogFile), Box<Finding>> {
    match whole(files, log, owner, first) {
        Err(missing) if missing.kind == Kind::Missing && first != full => whole(files, log, owner, full)
            .map(|bytes| (bytes, full))
            .map_err(|other| if other.kind == Kind::Missing { missing } else { other }),
        found => found.map(|bytes| (bytes, first)),
    }
}

/// The hashes of a log of a certain size, from its tiles.
pub(crate) struct Tiles<'a> {
    pub(crate) files: &'a dyn LogFiles,
    pub(crate) log: &'a str,
    pub(crate) owner: Option<&'a str>,
    pub(crate) size: u64,
}

impl Hashes for Tiles<'_> {
    type Error = ();

    fn hash(&self, level: u8, index: u64) -> Result<Digest, ()> {
        let tile = Tile::of_hash(level, index, self.size).ok_or(())?;
        let (hashes, _) = tile_hashes(self.files, self.log, self.owner, tile).map_err(drop)?;
        let at = usize::try_from(index % WIDTH).map_err(drop)?;
        hashes.get(at).copied().ok_or(())
    }
}
