//! An agency's own log.

use lintas_proto::{
    audit::{files::LogFile, opening, tile::WIDTH},
    id::Digest,
    schema::{LoggedEvent, PublishedSubLog},
};
use rand_core::CryptoRng;

use super::{
    LogError,
    entries::Entries,
    publication::{Appended, Publication, Target},
};

/// Bytes of a record of `slot-keys`: epoch, key.
const SLOT_KEY_RECORD: u64 = 40;
/// Bytes of a record of `sizes`: epoch, size.
const SIZE_RECORD: u64 = 16;

/// A sub-log.
#[derive(Debug, Clone, Default)]
pub(super) struct SubLog {
    entries: Entries,
    openings: Appended,
    keys: Appended,
    sizes: Appended,
    slot_keys: Appended,
    /// Salts the slots; zeros until there is one.
    pub(super) slot_key: [u8; 32],
    /// The last one in `slot-keys`.
    written_key: [u8; 32],
}

impl SubLog {
    pub(super) fn size(&self) -> u64 {
        self.entries.size()
    }

    pub(super) fn root(&self) -> Digest {
        self.entries.root()
    }

    /// Appends an event and seals its opening. False for an event that cannot be sealed.
    pub(super) fn push(
        &mut self,
        event: &LoggedEvent,
        target: &impl Fn(LogFile) -> Target,
        out: &mut Publication,
        entropy: &mut dyn CryptoRng,
    ) -> bool {
        let Ok((key, sealed)) = opening::seal(event, entropy) else { return false };
        let Ok(length) = u16::try_from(sealed.len()) else { return false };
        self.openings.put(&[&length.to_be_bytes(), &sealed]);
        self.keys.put(&[key.as_slice()]);
        let fits = self.entries.push(&event.leaf, target, out);
        if self.size().is_multiple_of(WIDTH) {
            self.give_openings(self.size() / WIDTH - 1, target, out);
            (self.openings.at, self.keys.at) = (0, 0);
        }
        fits
    }

    /// What cannot wait for the end of the epoch.
    pub(super) fn flush(&mut self, target: &impl Fn(LogFile) -> Target, out: &mut Publication) {
        self.give_openings(self.size() / WIDTH, target, out);
    }

    fn give_openings(&mut self, number: u64, target: &impl Fn(LogFile) -> Target, out: &mut Publication) {
        self.openings.give(|| target(LogFile::Openings(number)), &mut out.contents);
        self.keys.give(|| target(LogFile::Keys(number)), &mut out.contents);
    }

    /// At the end of an epoch.
    pub(super) fn finish(&mut self, epoch: u64, target: &impl Fn(LogFile) -> Target, out: &mut Publication) {
        self.flush(target, out);
        if self.entries.have_grown() {
            self.sizes.put(&[&epoch.to_be_bytes(), &self.size().to_be_bytes()]);
            self.sizes.give(|| target(LogFile::Sizes), &mut out.contents);
        }
        if self.written_key != self.slot_key {
            self.written_key = self.slot_key;
            self.slot_keys.put(&[&epoch.to_be_bytes(), &self.slot_key]);
            self.slot_keys.give(|| target(LogFile::SlotKeys), &mut out.contents);
        }
        self.entries.finish(target, out);
    }

    pub(super) fn state(&self, agency: &str) -> PublishedSubLog {
        PublishedSubLog {
            agency: agency.to_owned(),
            size: self.size(),
            root: self.root().to_vec().into(),
            openings_bytes: self.openings.at,
            sizes_bytes: self.sizes.at,
            slot_keys_bytes: self.slot_keys.at,
        }
    }

    /// The sub-log as it was published, from its files.
    pub(super) fn resume(
        state: &PublishedSubLog,
        target: &impl Fn(LogFile) -> Target,
        read: &impl Fn(&Target, u64) -> Result<Vec<u8>, LogError>,
    ) -> Result<Self, LogError> {
        let wrong = |file: LogFile, what: &str| {
            Err(LogError::File { file: target(file).to_string(), what: what.to_owned() })
        };
        let entries = Entries::resume(state.size, target, read)?;
        if entries.root() != *state.root {
            return wrong(
                LogFile::Checkpoint,
                "the tiles of this log do not lead to the root that was published",
            );
        }
        let mut slot_key = [0; 32];
        if let Some(at) = state.slot_keys_bytes.checked_sub(SLOT_KEY_RECORD) {
            match read(&target(LogFile::SlotKeys), at)?.get(8..40).and_then(|key| key.try_into().ok()) {
                Some(key) => slot_key = key,
                None => return wrong(LogFile::SlotKeys, "it is shorter than what was published"),
            }
        }
        if let Some(at) = state.sizes_bytes.checked_sub(SIZE_RECORD)
            && read(&target(LogFile::Sizes), at)?.get(8..16) != Some(&state.size.to_be_bytes())
        {
            return wrong(LogFile::Sizes, "its last record is not the size that was published");
        }
        Ok(Self {
            entries,
            openings: Appended::of(state.openings_bytes),
            keys: Appended::of(keys_bytes(state.size)),
            sizes: Appended::of(state.sizes_bytes),
            slot_keys: Appended::of(state.slot_keys_bytes),
            slot_key,
            written_key: slot_key,
        })
    }
}

/// How long the last file of `keys` is.
pub(super) fn keys_bytes(size: u64) -> u64 {
    size % WIDTH * opening::KEY_BYTES as u64
}
