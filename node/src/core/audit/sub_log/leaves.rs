//! Entries and their openings, a bundle at a time.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use lintas_proto::{
    audit::{
        files::LogFile,
        leaf::LEAF_BYTES,
        merkle::leaf_hash,
        opening::{self, ERASED, KEY_BYTES, OpeningError},
        tile::{self, Tile, WIDTH},
    },
    id::Digest,
    schema::{AuditEvent, EventType},
};

use super::{
    super::{
        finding::{Finding, Findings, Kind},
        source::{bundle, tile_hashes, whole, width},
    },
    SubScan,
};

/// Bundles that each thread opens at a time.
const WINDOW: u64 = 8;
/// A leaf and what became of its opening.
pub(super) struct Leaf {
    pub(super) hash: Digest,
    /// Type and time; none if the entry is lost or none.
    pub(super) says: Option<(u8, u64)>,
    pub(super) opening: Opened,
}

pub(super) enum Opened {
    Event(Box<AuditEvent>),
    Erased,
    LeftOut,
    /// It was reported.
    Lost,
}

impl SubScan<'_> {
    /// Reads and opens the next bundles, at least the one before `target`: they stay in the window.
    pub(super) fn load(&mut self, target: u64, found: &mut Findings) {
        let from = self.state.tree.size();
        let whole = self.reach.max(target).checked_next_multiple_of(WIDTH).unwrap_or(u64::MAX);
        let (first, target) = (from / WIDTH, whole.min(self.checkpoint.size));
        // Mostly none: other threads have sub-logs of their own. What is opened and used on one thread costs less.
        let threads = self.spare.load(Ordering::Relaxed).saturating_add(1);
        let end = target.div_ceil(WIDTH).min(first.saturating_add(WINDOW.saturating_mul(threads as u64)));
        let indices: Vec<u64> = (first..end).collect();
        let share = indices.len().div_ceil(threads).max(1);
        let this: &Self = self;
        let read = |part: &[u64]| -> Vec<(Option<Vec<Leaf>>, Findings)> {
            part.iter().map(|index| this.bundle(*index, from, target)).collect()
        };
        let parts: Vec<Vec<(Option<Vec<Leaf>>, Findings)>> = if indices.len() <= share {
            vec![read(&indices)]
        } else {
            std::thread::scope(|scope| {
                let read = &read;
                let at_work: Vec<_> =
                    indices.chunks(share).map(|part| scope.spawn(move || read(part))).collect();
                at_work.into_iter().map(|work| work.join().unwrap_or_default()).collect()
            })
        };
        let (mut window, mut stopped, wanted) = (std::collections::VecDeque::new(), false, indices.len());
        let mut seen = 0usize;
        for (leaves, findings) in parts.into_iter().flatten() {
            found.append(findings);
            seen = seen.saturating_add(1);
            match leaves {
                Some(leaves) if !stopped => window.extend(leaves),
                Some(_) | None => stopped = true,
            }
        }
        // What was read is used first.
        self.state.stopped = window.is_empty() && (stopped || wanted != seen || wanted == 0);
        self.window = window;
    }

    /// The leaves of a bundle that lie within `from..target`.
    fn bundle(&self, index: u64, from: u64, target: u64) -> (Option<Vec<Leaf>>, Findings) {
        let (files, log, owner) = (self.files, self.origin.as_str(), Some(self.agency.as_str()));
        let mut found = Findings::default();
        let begin = index.saturating_mul(WIDTH);
        let within = |at: &usize| (from..target).contains(&begin.saturating_add(*at as u64));
        let (entries, file) = match bundle(files, log, owner, index, self.checkpoint.size) {
            Ok(read) => read,
            Err(finding) => {
                found.push(finding);
                let tile = Tile::of_tree(0, index, self.checkpoint.size);
                let Some(Ok((hashes, _))) = tile.map(|tile| tile_hashes(files, log, owner, tile)) else {
                    return (None, found);
                };
                let lost = |hash| Leaf { hash, says: None, opening: Opened::Lost };
                let hashes = hashes.into_iter().enumerate().filter(|(at, _)| within(at));
                return (Some(hashes.map(|(_, hash)| lost(hash)).collect()), found);
            }
        };
        let openings = Openings::read(self, index, &mut found);
        let mut leaves = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate().filter(|(at, _)| within(at)) {
            let number = begin.saturating_add(at as u64);
            let hash = leaf_hash(entry);
            let says = says(entry);
            if says.is_none() {
                let text = "it is no leaf of 58 bytes";
                found.push(Finding::new(Kind::WrongEpoch, log, text).of(file).entry(number));
            }
            let opening = match says {
                Some((_, time_ms)) if time_ms >= self.since_ms => {
                    openings.open(self, number, at, entry, &mut found)
                }
                Some(_) => Opened::LeftOut,
                None => Opened::Lost,
            };
            leaves.push(Leaf { hash, says, opening });
        }
        (Some(leaves), found)
    }
}

/// Keys and ciphertexts of a bundle.
struct Openings {
    keys: Option<Bytes>,
    sealed: Option<Vec<Bytes>>,
    index: u64,
}

impl Openings {
    fn read(scan: &SubScan<'_>, index: u64, found: &mut Findings) -> Self {
        let (log, owner) = (scan.origin.as_str(), Some(scan.agency.as_str()));
        let mut one = |file| match whole(scan.files, log, owner, file) {
            Ok(bytes) => Some(bytes),
            Err(finding) => {
                found.push(finding);
                None
            }
        };
        let (keys, sealed) = (one(LogFile::Keys(index)), one(LogFile::Openings(index)));
        let wanted = usize::from(width(index, scan.checkpoint.size));
        let full = wanted as u64 == WIDTH;
        let fits = |have: usize| have == wanted || (have > wanted && !full);
        if keys.as_ref().is_some_and(|keys| keys.len() % KEY_BYTES != 0 || !fits(keys.len() / KEY_BYTES)) {
            let text = format!("it does not hold {wanted} keys of 32 bytes");
            found.push(Finding::new(Kind::Damaged, log, text).of(LogFile::Keys(index)));
        }
        let sealed = sealed.map(|bytes| {
            let mut all = Vec::with_capacity(wanted);
            let mut whole = true;
            for entry in tile::entries(&bytes) {
                match entry {
                    Some(entry) => all.push(bytes.slice_ref(entry)),
                    None => whole = false,
                }
            }
            if !whole || !fits(all.len()) {
                let text = format!("it does not hold {wanted} whole openings");
                found.push(Finding::new(Kind::Damaged, log, text).of(LogFile::Openings(index)));
            }
            all
        });
        Self { keys, sealed, index }
    }

    fn open(&self, scan: &SubScan<'_>, number: u64, at: usize, leaf: &[u8], found: &mut Findings) -> Opened {
        let from = at.saturating_mul(KEY_BYTES);
        let key = self.keys.as_ref().and_then(|keys| keys.get(from..from.checked_add(KEY_BYTES)?));
        let key: Option<[u8; KEY_BYTES]> = key.and_then(|key| key.try_into().ok());
        let sealed = self.sealed.as_ref().and_then(|sealed| sealed.get(at));
        match (key, sealed) {
            (Some(ERASED), _) => Opened::Erased,
            (Some(key), Some(sealed)) => match opening::open_event(leaf, &key, sealed) {
                Ok(event) => Opened::Event(Box::new(event)),
                Err(OpeningError::Erased) => Opened::Erased,
                Err(error @ (OpeningError::Damaged | OpeningError::Leaf(_))) => {
                    let finding = Finding::new(Kind::Damaged, &scan.origin, error.to_string());
                    let finding = finding.of(LogFile::Openings(self.index)).of(LogFile::Keys(self.index));
                    found.push(finding.entry(number));
                    Opened::Lost
                }
            },
            // The file was reported.
            (None, _) | (_, None) => Opened::Lost,
        }
    }
}

/// Type and time of a leaf.
pub(crate) fn says(leaf: &[u8]) -> Option<(u8, u64)> {
    let leaf: &[u8; LEAF_BYTES] = leaf.try_into().ok()?;
    let ([1, event_type], rest) = leaf.split_first_chunk::<2>()? else { return None };
    let (time, _) = rest.split_first_chunk::<8>()?;
    let known =
        EventType::try_from(i32::from(*event_type)).is_ok_and(|known| known != EventType::Unspecified);
    known.then(|| (*event_type, u64::from_be_bytes(*time)))
}
