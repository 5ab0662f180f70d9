//! The published log, from its files: entries, and every tile over them.

use std::collections::BTreeMap;

use lintas_proto::{
    audit::{
        epoch::RootEntry,
        files::LogFile,
        merkle::leaf_hash,
        opening::{ERASED, KEY_BYTES, OpeningError, open},
        tile::{WIDTH, entries},
    },
    schema::{LoggedEvent, PublishedLog, StoredEpoch},
};

use super::{Finding, Findings, Report};
use crate::{
    core::log::{publication::Target, resume::lengths, tree::Tree},
    shell::folder::Folder,
};

/// What the mark says is published.
pub(super) struct Published<'a> {
    folder: &'a Folder,
    state: Option<PublishedLog>,
    sizes: BTreeMap<String, u64>,
    /// The bundle read last, of the root log or of each agency.
    bundles: BTreeMap<Option<String>, Bundle>,
}

/// Entries of one bundle, with their openings.
struct Bundle {
    number: u64,
    entries: Vec<Vec<u8>>,
    openings: Vec<Vec<u8>>,
    keys: Vec<u8>,
}

impl<'a> Published<'a> {
    /// Reads the log to its end, and compares every tile with what the entries lead to.
    pub(super) fn read(folder: &'a Folder, state: Option<PublishedLog>, report: &mut Report) -> Self {
        let sizes = state.iter().flat_map(|state| &state.sub_logs);
        let sizes = sizes.map(|log| (log.agency.clone(), log.size)).collect();
        let published = Self { folder, state, sizes, bundles: BTreeMap::new() };
        if let Some(state) = &published.state {
            report.epochs = state.epochs;
            published.tree(None, state.epochs, &state.root, &mut report.findings);
            for log in &state.sub_logs {
                report.entries = report.entries.saturating_add(log.size);
                published.tree(Some(&log.agency), log.size, &log.root, &mut report.findings);
            }
            for (target, length) in lengths(state) {
                let found = std::fs::metadata(published.path(&target)).map_or(0, |found| found.len());
                if found < length {
                    let what = format!("it has {found} bytes, and {length} were published");
                    report.findings.push(Finding::of(format!("audit/{target}"), what));
                }
            }
        }
        published
    }

    /// Sequence of the record up to which everything is published.
    pub(super) fn sequence(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.sequence)
    }

    /// How many logs had ended before the published one.
    pub(super) fn ended(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.ended)
    }

    /// Size of a sub-log.
    pub(super) fn size(&self, agency: &str) -> u64 {
        self.sizes.get(agency).copied().unwrap_or(0)
    }

    fn tree(&self, agency: Option<&str>, size: u64, root: &[u8], found: &mut Findings) {
        let mut tree = Tree::default();
        let mut tiles = Vec::new();
        for number in 0..size.div_ceil(WIDTH) {
            let file = LogFile::Entries(number, width(number, size));
            let bytes = self.bytes(agency, file, found).unwrap_or_default();
            let list: Vec<_> = entries(&bytes).collect();
            if list.len() != usize::from(width(number, size)) || list.contains(&None) {
                let what = "it does not hold the entries that were published";
                found.push(Finding::of(self.name(agency, file), what));
                return;
            }
            for entry in list.into_iter().flatten() {
                tree.push(leaf_hash(entry), |tile, bytes| tiles.push((tile, bytes)));
            }
            for (tile, derived) in tiles.drain(..) {
                self.tile(agency, LogFile::Tile(tile), &derived, found);
            }
        }
        for (tile, derived) in tree.partial_tiles(0) {
            self.tile(agency, LogFile::Tile(tile), &derived, found);
        }
        if tree.root() != *root {
            let what = format!("the {size} entries do not lead to the root in audit/published");
            found.push(Finding::of(
                self.name(agency, LogFile::Checkpoint).replace("/checkpoint", "/tile"),
                what,
            ));
        }
    }

    fn tile(&self, agency: Option<&str>, file: LogFile, derived: &[u8], found: &mut Findings) {
        let Some(bytes) = self.bytes(agency, file, found) else { return };
        if bytes != derived {
            let at = bytes.chunks(32).zip(derived.chunks(32)).position(|(read, derived)| read != derived);
            let what = match (file, at) {
                (LogFile::Tile(tile), Some(at)) if tile.level == 0 => {
                    let entry = tile.index.saturating_mul(WIDTH).saturating_add(at as u64);
                    format!("it is not the tile of the entries: entry {entry} or this tile is damaged")
                }
                _ => "it is not the tile that the entries lead to".to_owned(),
            };
            found.push(Finding::of(self.name(agency, file), what));
        }
    }

    /// What stands at a place of a sub-log must be that event, and its opening must hold it.
    pub(super) fn event(&mut self, agency: &str, event: &LoggedEvent, sequence: u64, found: &mut Findings) {
        let (index, size) = (event.index, self.size(agency));
        let number = index / WIDTH;
        let file = LogFile::Entries(number, width(number, size));
        let name = self.name(Some(agency), file);
        let Some(bundle) = self.bundle(Some(agency), number, size, found) else { return };
        let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let what = match bundle.entries.get(at) {
            Some(entry) if *entry == event.leaf.as_ref() => None,
            Some(_) => Some("another event stands here than the one of the journal's record"),
            None => Some("the event of the journal's record is not here"),
        };
        if let Some(what) = what {
            found.push(Finding::of(name, what).entry(index).record(sequence));
            return;
        }
        let what = match bundle.opening(index, at, &event.leaf) {
            // Erased, which an ERASED event must say: `lintas audit verify` asks for it.
            Ok(None) => return,
            Ok(Some(opened)) if opened.event == event.event && opened.salt == event.salt => return,
            Ok(Some(_)) => "its opening holds something else than the journal's record",
            Err(()) => "its key does not open it, or they are not there",
        };
        let name =
            format!("{} or {}", self.name(Some(agency), LogFile::Openings(number)), LogFile::Keys(number));
        found.push(Finding::of(name, what).entry(index).record(sequence));
    }

    /// The key of an entry that was ordered to be erased must be gone.
    pub(super) fn erased(&mut self, agency: &str, index: u64, sequence: u64, found: &mut Findings) {
        let (number, size) = (index / WIDTH, self.size(agency));
        let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let Some(bundle) = self.bundle(Some(agency), number, size, found) else { return };
        if bundle.key(at).is_some_and(|key| key != ERASED) {
            let what = "the key is still there, although the record orders its erasure";
            let name = self.name(Some(agency), LogFile::Keys(number));
            found.push(Finding::of(name, what).entry(index).record(sequence));
        }
    }

    /// An epoch's entry must say what its record says.
    pub(super) fn epoch(&mut self, epoch: &StoredEpoch, sequence: u64, found: &mut Findings) {
        let epochs = self.state.as_ref().map_or(0, |state| state.epochs);
        let number = epoch.epoch / WIDTH;
        let file = LogFile::Entries(number, width(number, epochs));
        let name = self.name(None, file);
        let Some(bundle) = self.bundle(None, number, epochs, found) else { return };
        let at = usize::try_from(epoch.epoch % WIDTH).unwrap_or(usize::MAX);
        let entry = bundle.entries.get(at).and_then(|entry| RootEntry::parse(entry).ok());
        let policy = if epoch.policy_set_hash.is_empty() { &[0; 32][..] } else { &epoch.policy_set_hash };
        let same = entry.is_some_and(|entry| {
            entry.epoch == epoch.epoch
                && entry.time_ms == epoch.time_ms
                && entry.directory_hash == *epoch.directory_hash
                && entry.policy_set_hash == *policy
        });
        if !same {
            let what = "another epoch stands here than the one of the journal's record";
            found.push(Finding::of(name, what).entry(epoch.epoch).record(sequence));
        }
    }

    fn bundle(
        &mut self,
        agency: Option<&str>,
        number: u64,
        size: u64,
        found: &mut Findings,
    ) -> Option<&Bundle> {
        let owner = agency.map(str::to_owned);
        if self.bundles.get(&owner).is_none_or(|bundle| bundle.number != number) {
            let list = |bytes: Vec<u8>| entries(&bytes).flatten().map(<[u8]>::to_vec).collect();
            // What is missing or short was said when the tree was derived.
            let mut quiet = Findings::default();
            let of_root = agency.is_none();
            let mut one = |file| self.bytes(agency, file, if of_root { &mut quiet } else { found });
            let bundle = Bundle {
                number,
                entries: one(LogFile::Entries(number, width(number, size))).map(list).unwrap_or_default(),
                openings: agency.and_then(|_| one(LogFile::Openings(number))).map(list).unwrap_or_default(),
                keys: agency.and_then(|_| one(LogFile::Keys(number))).unwrap_or_default(),
            };
            self.bundles.insert(owner.clone(), bundle);
        }
        self.bundles.get(&owner)
    }

    fn bytes(&self, agency: Option<&str>, file: LogFile, found: &mut Findings) -> Option<Vec<u8>> {
        let read = std::fs::read(self.path(&self.target(agency, file)));
        read.inspect_err(|error| {
            found.push(Finding::of(self.name(agency, file), format!("it cannot be read: {error}")));
        })
        .ok()
    }

    fn target(&self, agency: Option<&str>, file: LogFile) -> Target {
        Target { ended: self.ended().unwrap_or(0), agency: agency.map(str::to_owned), file }
    }

    fn path(&self, target: &Target) -> std::path::PathBuf {
        self.folder.audit().join(target.to_string())
    }

    fn name(&self, agency: Option<&str>, file: LogFile) -> String {
        format!("audit/{}", self.target(agency, file))
    }
}

impl Bundle {
    fn key(&self, at: usize) -> Option<[u8; KEY_BYTES]> {
        self.keys.chunks_exact(KEY_BYTES).nth(at).and_then(|key| key.try_into().ok())
    }

    /// What the opening of an entry holds; none if its key was erased.
    fn opening(&self, index: u64, at: usize, leaf: &[u8]) -> Result<Option<LoggedEvent>, ()> {
        let key = self.key(at).ok_or(())?;
        let sealed = self.openings.get(at).ok_or(())?;
        match open(index, leaf, &key, sealed) {
            Ok((opened, _)) => Ok(Some(opened)),
            Err(OpeningError::Erased) => Ok(None),
            Err(OpeningError::Damaged | OpeningError::Leaf(_)) => Err(()),
        }
    }
}

/// Entries of a bundle of a log of `size` entries.
fn width(number: u64, size: u64) -> u16 {
    let left = size.saturating_sub(number.saturating_mul(WIDTH));
    u16::try_from(left.min(WIDTH)).unwrap_or(256)
}
