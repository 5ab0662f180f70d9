//! The fold as it was at the last epoch that is published: rebuilt from the log's own files, and checked against what
//! was published. Whatever does not fit names the file.

use std::collections::BTreeMap;

use lintas_proto::{
    audit::{
        epoch::{RootEntry, slots_root},
        files::LogFile,
        merkle::{leaf_hash, root_from_path},
        tile::{self, Hashes, Tile, WIDTH, hash_in},
    },
    id::Digest,
    schema::PublishedLog,
};

use super::{
    LogError,
    entries::Entries,
    fold::{LogFold, root_target, target},
    publication::{Appended, Target},
    sub_log::{SubLog, keys_bytes},
};

impl LogFold {
    /// The fold behind `state`. `read` gives a file of the log, from an offset on.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn resume(
        broker: &str,
        state: &PublishedLog,
        read: impl Fn(&Target, u64) -> Result<Vec<u8>, LogError>,
    ) -> Result<Self, LogError> {
        let mut sub_logs = BTreeMap::new();
        for log in &state.sub_logs {
            let resumed = SubLog::resume(log, &target(state.ended, &log.agency), &read)?;
            sub_logs.insert(log.agency.clone(), resumed);
        }
        let mut fold = Self::new(broker, state.ended);
        fold.root = Entries::resume(state.epochs, &root_target(state.ended), &read)?;
        fold.slots = Appended::of(state.slots_bytes);
        fold.rosters = Appended::of(state.rosters_bytes);
        fold.roster_version = state.roster_version;
        fold.members = state.members.clone();
        fold.sub_logs = sub_logs;
        (fold.epoch_ms, fold.latest_ms) = (state.time_ms, state.time_ms);
        let root = root_target(state.ended);
        if fold.root.root() != *state.root {
            let what = "the tiles of this log do not lead to the root that was published";
            return Err(wrong(&root(LogFile::Checkpoint), what));
        }
        fold.check_last_entry(state, &read)?;
        Ok(fold)
    }

    /// The last entry of the root log is that of these sub-logs.
    fn check_last_entry(
        &self,
        state: &PublishedLog,
        read: &impl Fn(&Target, u64) -> Result<Vec<u8>, LogError>,
    ) -> Result<(), LogError> {
        let Some(last) = state.epochs.checked_sub(1) else { return Ok(()) };
        let root = root_target(state.ended);
        let width = u16::try_from(state.epochs % WIDTH).ok().filter(|width| *width > 0).unwrap_or(256);
        let file = root(LogFile::Entries(last / WIDTH, width));
        let bundle = read(&file, 0)?;
        let entry = tile::entries(&bundle).last().flatten().unwrap_or_default();
        let tiles = Tiles { size: state.epochs, root: &root, read };
        let path = tile::inclusion(&tiles, state.epochs, last)?;
        let size = state.epochs.try_into().map_err(|_| wrong(&file, "it is empty"))?;
        if root_from_path(leaf_hash(entry), last, size, &path).ok().as_ref().map(|root| &root[..])
            != Some(&state.root)
        {
            return Err(wrong(&file, "its last entry is not the one that was published"));
        }
        let entry = RootEntry::parse(entry).map_err(|_| wrong(&file, "its last entry is none"))?;
        let slots = self.slots(last);
        let same = entry.epoch == last
            && entry.time_ms == state.time_ms
            && usize::try_from(entry.slots) == Ok(slots.len())
            && entry.slots_root == slots_root(&slots);
        if same {
            Ok(())
        } else {
            Err(wrong(&file, "the sub-logs' sizes and roots are not those of its last epoch"))
        }
    }
}

/// How long the files are that are only appended to; what is behind that is of an attempt that was cut off.
pub fn lengths(state: &PublishedLog) -> impl Iterator<Item = (Target, u64)> {
    let root = root_target(state.ended);
    let of_root = [(root(LogFile::Rosters), state.rosters_bytes)];
    let slots = (!state.epochs.is_multiple_of(WIDTH))
        .then(|| (root(LogFile::Slots(state.epochs / WIDTH)), state.slots_bytes));
    let of_agencies = state.sub_logs.iter().flat_map(|log| {
        let target = target(state.ended, &log.agency);
        let number = log.size / WIDTH;
        let open = !log.size.is_multiple_of(WIDTH);
        let always = [(LogFile::Sizes, log.sizes_bytes), (LogFile::SlotKeys, log.slot_keys_bytes)];
        let while_open =
            [(LogFile::Openings(number), log.openings_bytes), (LogFile::Keys(number), keys_bytes(log.size))];
        let files = always.into_iter().chain(while_open.into_iter().filter(move |_| open));
        files.map(move |(file, bytes)| (target(file), bytes))
    });
    of_root.into_iter().chain(slots).chain(of_agencies)
}

fn wrong(file: &Target, what: &str) -> LogError {
    LogError::File { file: file.to_string(), what: what.to_owned() }
}

/// Hashes of a tree of `size` leaves, from its tiles.
struct Tiles<'a, R, T> {
    size: u64,
    root: &'a T,
    read: &'a R,
}

impl<R, T> Hashes for Tiles<'_, R, T>
where
    R: Fn(&Target, u64) -> Result<Vec<u8>, LogError>,
    T: Fn(LogFile) -> Target,
{
    type Error = LogError;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, LogError> {
        let tile = Tile::of_hash(level, index, self.size);
        let file = (self.root)(tile.map_or(LogFile::Checkpoint, LogFile::Tile));
        hash_in(&(self.read)(&file, 0)?, index).ok_or_else(|| wrong(&file, "it is too short"))
    }
}
