//! The log on a disk that fails, and what an auditor finds on it.

use std::{collections::BTreeMap, num::NonZeroU64};

use bytes::Bytes;
use lintas_proto::{
    audit::{
        epoch::{RootEntry, is_slot_of, slot, slot_path, slot_salt},
        files::LogFile,
        merkle::{leaf_hash, root_from_path},
        opening::{self, OpeningError},
        tile::{self, Hashes, Tile, entries, hash_in},
    },
    id::Digest,
    schema::{AuditEvent, PublishedLog},
};
use proptest::prelude::*;

use super::memory::Memory;
use super::{
    disk::Disk,
    files::{FilesError, LogFiles},
};
use crate::{
    core::log::publication::Target,
    testing::{BROKER, Facts, TempFolder, unit},
};

/// Publishes the records that are not published yet; like a start of the broker.
fn publish<D: Disk>(disk: D, facts: &Facts, until: usize) -> Result<Option<PublishedLog>, String> {
    let (mut files, mut fold) = LogFiles::resume(disk, BROKER).map_err(|error| error.to_string())?;
    let from = files.published().map_or(0, |state| usize::try_from(state.sequence).unwrap());
    let mut entropy = lintas_config::os_entropy();
    for (at, fact) in facts.all.iter().enumerate().take(until).skip(from) {
        let folded = fold.apply(at as u64 + 1, fact, &mut entropy).map_err(|error| error.to_string())?;
        if let Some(publication) = folded {
            files.publish(publication).map_err(|error| error.to_string())?;
        }
    }
    Ok(files.published().cloned())
}

fn published(facts: &Facts) -> (Memory, PublishedLog) {
    let disk = Memory::default();
    let state = publish(disk.clone(), facts, usize::MAX).unwrap().unwrap();
    (disk, state)
}

/// The files, read as an auditor reads them.
pub(in crate::shell) struct Auditor {
    pub(in crate::shell) files: BTreeMap<String, Vec<u8>>,
    pub(in crate::shell) ended: u64,
}

pub(in crate::shell) struct OneLog<'a> {
    auditor: &'a Auditor,
    agency: Option<String>,
    size: u64,
}

impl Auditor {
    fn get(&self, agency: Option<&str>, file: LogFile) -> Option<&Vec<u8>> {
        let target = Target { ended: self.ended, agency: agency.map(str::to_owned), file };
        self.files.get(&target.to_string())
    }

    pub(in crate::shell) fn log(&self, agency: Option<&str>, size: u64) -> OneLog<'_> {
        OneLog { auditor: self, agency: agency.map(str::to_owned), size }
    }

    /// What became of the opening of an entry.
    pub(in crate::shell) fn opened(
        &self,
        agency: &str,
        index: u64,
        leaf: &[u8],
    ) -> Result<AuditEvent, OpeningError> {
        let at = usize::try_from(index % 256).unwrap();
        let openings = self.get(Some(agency), LogFile::Openings(index / 256)).unwrap();
        let sealed = entries(openings).nth(at).flatten().expect("an opening for each entry");
        let keys = self.get(Some(agency), LogFile::Keys(index / 256)).unwrap();
        let key = keys[at * 32..][..32].try_into().unwrap();
        opening::open(index, leaf, &key, sealed).map(|(_, event)| event)
    }
}

impl OneLog<'_> {
    pub(in crate::shell) fn root(&self) -> Digest {
        tile::root(self, self.size).unwrap()
    }

    /// The entry, proven to stand there in the tree of that root.
    pub(in crate::shell) fn entry(&self, index: u64, root: &Digest) -> &[u8] {
        let width = u16::try_from((self.size - index / 256 * 256).min(256)).unwrap();
        let bundle = self.auditor.get(self.agency.as_deref(), LogFile::Entries(index / 256, width)).unwrap();
        assert_eq!(entries(bundle).count(), usize::from(width));
        let entry = entries(bundle).nth(usize::try_from(index % 256).unwrap()).flatten().unwrap();
        let path = tile::inclusion(self, self.size, index).unwrap();
        let size = NonZeroU64::new(self.size).unwrap();
        assert_eq!(root_from_path(leaf_hash(entry), index, size, &path).as_ref(), Ok(root));
        entry
    }
}

impl Hashes for OneLog<'_> {
    type Error = String;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, String> {
        let tile = Tile::of_hash(level, index, self.size).ok_or("outside")?;
        let bytes =
            self.auditor.get(self.agency.as_deref(), LogFile::Tile(tile)).ok_or_else(|| tile.path())?;
        assert_eq!(bytes.len(), usize::from(tile.width) * 32);
        hash_in(bytes, index).ok_or_else(|| tile.path())
    }
}

fn records<const N: usize>(bytes: Option<&Vec<u8>>) -> Vec<[u64; N]> {
    let bytes = bytes.map(Vec::as_slice).unwrap_or_default();
    assert_eq!(bytes.len() % (8 * N), 0);
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    (0..bytes.len()).step_by(8 * N).map(|at| std::array::from_fn(|n| number(at + 8 * n))).collect()
}

/// Everything that an auditor who holds the agencies' slot keys can check of the newest log, against what was recorded.
fn audit(files: BTreeMap<String, Vec<u8>>, state: &PublishedLog, facts: &Facts, erased: &[(String, u64)]) {
    let auditor = Auditor { files, ended: state.ended };
    let root = auditor.log(None, state.epochs);
    assert_eq!(root.root(), *state.root);
    let last = state.epochs - 1;
    let entry = RootEntry::parse(root.entry(last, &root.root())).unwrap();
    assert_eq!((entry.epoch, entry.time_ms), (last, state.time_ms));
    let slots = auditor.get(None, LogFile::Slots(last / 256)).unwrap();
    let (mut rest, mut newest) = (&slots[..], Vec::new());
    for _ in last / 256 * 256..=last {
        let count = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        newest = rest[4..4 + 32 * count].as_chunks::<32>().0.to_vec();
        rest = &rest[4 + 32 * count..];
    }
    assert!(rest.is_empty());
    assert_eq!(newest.len(), facts.members.len());
    assert_eq!(records::<2>(auditor.get(None, LogFile::Rosters)).last().unwrap()[1], state.roster_version);
    for (index, agency) in (0..).zip(&facts.members) {
        let events = facts.events.get(agency).map(Vec::as_slice).unwrap_or_default();
        let log = auditor.log(Some(agency), events.len() as u64);
        let keys = auditor.get(Some(agency), LogFile::SlotKeys);
        let key = keys.map_or([0; 32], |keys| keys[keys.len() - 32..].try_into().unwrap());
        let salt = slot_salt(&key, &format!("{}/audit", log_name(state)), last);
        let root = log.root();
        let expected = slot(&salt, index, log.size, &root);
        let place = usize::try_from(index).unwrap();
        assert_eq!(newest[place], expected, "{agency}");
        assert!(is_slot_of(&entry, index, &expected, &slot_path(&newest, index).unwrap()));
        let sizes = records::<2>(auditor.get(Some(agency), LogFile::Sizes));
        assert_eq!(sizes.last().map_or(0, |[_, size]| *size), log.size);
        assert!(sizes.is_sorted_by(|a, b| a[0] < b[0] && a[1] < b[1]));
        for (at, event) in (0..).zip(events) {
            assert_eq!(log.entry(at, &root), event.leaf, "{agency} {at}");
            let opened = auditor.opened(agency, at, &event.leaf);
            if erased.contains(&(agency.clone(), at)) {
                assert_eq!(opened, Err(OpeningError::Erased), "{agency} {at}");
            } else {
                assert_eq!(lintas_proto::canonical::encode(&opened.unwrap()), event.event);
            }
        }
    }
}

fn log_name(state: &PublishedLog) -> String {
    lintas_proto::audit::note::log_name(BROKER, usize::try_from(state.ended).unwrap())
}

/// The same files with the same bytes, but for the keys of openings: those must open, or not, alike. Unfinished tiles
/// may be left over where the power went between a mark and the removal.
fn assert_same(
    one: &BTreeMap<String, Vec<u8>>,
    other: &BTreeMap<String, Vec<u8>>,
    leaves: &Facts,
    ended: u64,
) {
    let random = |path: &str| path.contains("/openings/") || path.contains("/keys/");
    for (path, bytes) in one {
        let there = other.get(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert!(random(path) || there == bytes, "{path}");
        assert_eq!(there.len(), bytes.len(), "{path}");
    }
    let mut more = other.keys().filter(|path| !one.contains_key(*path));
    assert_eq!(more.find(|path| !path.contains(".p/")), None);
    let read = |files: &BTreeMap<String, Vec<u8>>| Auditor { files: files.clone(), ended };
    let (one, other) = (read(one), read(other));
    for (agency, events) in &leaves.events {
        for (at, event) in (0..).zip(events) {
            assert_eq!(one.opened(agency, at, &event.leaf), other.opened(agency, at, &event.leaf));
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Packet(usize, Vec<usize>),
    Outcome(usize, usize),
    Events(usize, usize),
    SlotKey(usize, u8),
    Members(usize),
    Erase(usize, Vec<u64>),
    Epoch,
    Begin,
}

const AGENCIES: [&str; 4] = ["KH", "LA", "TH", "VN"];

fn act() -> impl Strategy<Value = Act> {
    let agency = || 0..AGENCIES.len();
    prop_oneof![
        6 => (agency(), prop::collection::vec(agency(), 1..4)).prop_map(|(from, to)| Act::Packet(from, to)),
        3 => (agency(), agency()).prop_map(|(from, to)| Act::Outcome(from, to)),
        2 => (agency(), 1..400usize).prop_map(|(agency, count)| Act::Events(agency, count)),
        1 => (agency(), any::<u8>()).prop_map(|(agency, key)| Act::SlotKey(agency, key)),
        1 => (2..=AGENCIES.len()).prop_map(Act::Members),
        2 => (agency(), prop::collection::vec(0..600u64, 1..6)).prop_map(|(agency, at)| Act::Erase(agency, at)),
        6 => Just(Act::Epoch),
        1 => Just(Act::Begin),
    ]
}

/// Records, the last of them an epoch; and what they erase of the newest log.
fn record(acts: &[Act]) -> (Facts, Vec<(String, u64)>) {
    let (mut facts, mut erased) = (Facts::new(), Vec::new());
    facts.members(&AGENCIES);
    for act in acts {
        match act {
            Act::Packet(from, to) => {
                let to: Vec<_> = to.iter().map(|to| unit(AGENCIES[*to], "A")).collect();
                facts.packet(AGENCIES[*from], &to);
            }
            Act::Outcome(from, to) => facts.outcome(AGENCIES[*from], AGENCIES[*to]),
            Act::Events(agency, count) => facts.events(AGENCIES[*agency], *count),
            Act::SlotKey(agency, key) => facts.slot_key(AGENCIES[*agency], [*key; 32]),
            Act::Members(count) => facts.members(&AGENCIES[..*count]),
            Act::Erase(agency, indices) => {
                let mut indices = indices.clone();
                indices.sort_unstable();
                indices.dedup();
                let there = facts.events.get(AGENCIES[*agency]).map_or(0, Vec::len) as u64;
                facts.erase(AGENCIES[*agency], &indices);
                indices.retain(|index| *index < there);
                erased.extend(indices.iter().map(|index| (AGENCIES[*agency].to_owned(), *index)));
            }
            Act::Epoch => facts.epoch(),
            Act::Begin => {
                facts.begin();
                erased.clear();
            }
        }
    }
    facts.epoch();
    (facts, erased)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn stopped_anywhere_it_gives_the_same_files_and_every_event_is_in_them(
        acts in prop::collection::vec(act(), 1..40),
        stops in prop::collection::vec(0..120usize, 0..4),
    ) {
        let (facts, erased) = record(&acts);
        let (whole, state) = published(&facts);
        audit(whole.files(), &state, &facts, &erased);
        let (disk, mut stops) = (Memory::default(), stops);
        stops.sort_unstable();
        for until in stops.into_iter().chain([usize::MAX]) {
            publish(disk.clone(), &facts, until).unwrap();
        }
        assert_same(&whole.files(), &disk.files(), &facts, state.ended);
    }

    #[test]
    fn a_power_cut_anywhere_loses_nothing(
        acts in prop::collection::vec(act(), 1..16),
        seed in any::<u64>(),
    ) {
        let (facts, _) = record(&acts);
        let (whole, state) = published(&facts);
        let calls = whole.calls();
        for call in (seed % 8..calls).step_by(8) {
            let mut disk = Memory::default();
            disk.fail_at(call);
            prop_assert!(publish(disk.clone(), &facts, usize::MAX).is_err());
            disk = disk.after_power_cut(seed ^ call);
            // A second one, in the midst of the repair.
            disk.fail_at(seed % 40);
            let _ = publish(disk.clone(), &facts, usize::MAX);
            disk = disk.after_power_cut(!seed ^ call);
            let again = publish(disk.clone(), &facts, usize::MAX).unwrap().unwrap();
            prop_assert_eq!(&again, &state);
            assert_same(&whole.files(), &disk.files(), &facts, state.ended);
        }
    }
}

/// Three agencies; bundles and tiles of which some are full.
fn busy() -> Facts {
    let mut facts = Facts::new();
    facts.members(&AGENCIES[..3]);
    facts.slot_key("KH", [5; 32]);
    for round in 0..300usize {
        facts.packet("KH", &[unit("TH", "A"), unit("KH", "B")]);
        if round % 3 == 0 {
            facts.epoch();
        }
    }
    facts.epoch();
    facts
}

/// Every epoch, at once after it was published, on real files.
#[test]
fn every_epoch_verifies_from_the_files_on_a_disk() {
    let (folder, mut facts) = (TempFolder::new(), Facts::new());
    let audit_folder = folder.path().join("audit");
    facts.members(&AGENCIES[..3]);
    for round in 0..40u8 {
        facts.packet("KH", &[unit("TH", "A"), unit("LA", "B"), unit("KH", "B")]);
        facts.events("VN", 30);
        if round % 5 == 0 {
            facts.slot_key("TH", [round + 1; 32]);
        }
        facts.epoch();
        let disk = super::disk::Files::open(audit_folder.clone()).unwrap();
        let state = publish(disk, &facts, usize::MAX).unwrap().unwrap();
        audit(read_all(&audit_folder), &state, &facts, &[]);
    }
}

/// More files in one epoch than are synced one by one.
#[test]
fn an_epoch_of_many_agencies_verifies_too() {
    let (folder, mut facts) = (TempFolder::new(), Facts::new());
    let audit_folder = folder.path().join("audit");
    let agencies: Vec<String> = (0..40).map(|number| format!("A{number:02}")).collect();
    facts.members(&agencies.iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..2 {
        facts.packet("A00", &agencies.iter().map(|agency| unit(agency, "A")).collect::<Vec<_>>());
        facts.erase("A01", &[0]);
        facts.epoch();
        let disk = super::disk::Files::open(audit_folder.clone()).unwrap();
        let state = publish(disk, &facts, usize::MAX).unwrap().unwrap();
        audit(read_all(&audit_folder), &state, &facts, &[("A01".to_owned(), 0)]);
    }
}

/// All files below a folder, by path.
pub(in crate::shell) fn read_all(folder: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let (mut all, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                all.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn unfinished_tiles_go_when_the_full_ones_are_there_or_nobody_reads_them_any_more() {
    let mut facts = Facts::new();
    facts.members(&AGENCIES[..3]);
    for round in 1..=300u64 {
        facts.packet("KH", &[unit("TH", "A")]);
        facts.epoch();
        if round % 60 == 0 {
            let (disk, _) = published(&facts);
            let files = disk.files();
            for log in ["1/", "1/KH/", "1/TH/"] {
                let partial =
                    |path: &&String| path.starts_with(&format!("{log}tile/")) && path.contains(".p/");
                // Entries and level 0 of so many sizes, and the level above.
                let there = files.keys().filter(partial).count();
                assert!((1..=2 * 64 + 3).contains(&there), "{log}: {there} after {round}");
                let beside =
                    |path: &String| path.split_once(".p/").is_some_and(|(full, _)| files.contains_key(full));
                assert!(!files.keys().any(|path| path.starts_with(&log.to_owned()) && beside(path)), "{log}");
            }
        }
    }
}

#[test]
fn what_was_damaged_is_named_and_stops_the_start() {
    let facts = busy();
    let (whole, state) = published(&facts);
    let partial = |size: u64, path: &str| format!("{path}.p/{}", size % 256);
    let th = state.sub_logs.iter().find(|log| log.agency == "TH").unwrap().size;
    let (number, epochs) = (format!("{:03}", th / 256), format!("{:03}", state.epochs / 256));
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let shorten = |bytes: &mut Vec<u8>| {
        bytes.pop();
    };
    type Harm<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(String, Harm<'_>, &str); 11] = [
        (partial(th, &format!("1/TH/tile/entries/{number}")), &flip, "tile/entries"),
        (partial(th, &format!("1/TH/tile/0/{number}")), &flip, "1/TH/"),
        (partial(th, &format!("1/TH/tile/0/{number}")), &shorten, "another length"),
        (partial(th / 256, "1/TH/tile/1/000"), &flip, "1/TH/"),
        (partial(state.epochs, &format!("1/tile/entries/{epochs}")), &flip, "1/tile/entries"),
        (partial(state.epochs, &format!("1/tile/0/{epochs}")), &flip, "audit/1/"),
        ("1/TH/sizes".to_owned(), &shorten, "1/TH/sizes"),
        ("1/KH/slot-keys".to_owned(), &flip, "1/tile/entries"),
        (format!("1/TH/keys/{number}"), &shorten, "1/TH/keys"),
        (format!("1/TH/openings/{number}"), &shorten, "1/TH/openings"),
        ("published".to_owned(), &flip, "audit/published is damaged"),
    ];
    for (path, harm, named) in cases {
        let disk = whole.after_power_cut(1);
        disk.change(&path, harm);
        let refused = publish(disk, &facts, usize::MAX).unwrap_err();
        assert!(refused.contains(named) && refused.contains("backup"), "{path}: {refused}");
        let disk = whole.after_power_cut(1);
        if path != "published" {
            disk.lose(&path);
            let refused = publish(disk, &facts, usize::MAX).unwrap_err();
            assert!(refused.contains(path.rsplit_once('/').unwrap().0), "{path} is gone: {refused}");
        }
    }
}

#[test]
fn a_mark_that_somebody_else_moved_is_not_replaced() {
    let (mut facts, disk) = (Facts::new(), Memory::default());
    facts.members(&AGENCIES[..3]);
    facts.epoch();
    publish(disk.clone(), &facts, usize::MAX).unwrap();
    let (mut files, mut fold) = LogFiles::resume(disk.clone(), BROKER).unwrap();
    let before = facts.all.len();
    facts.packet("KH", &[unit("TH", "A")]);
    facts.epoch();
    publish(disk.clone(), &facts, usize::MAX).unwrap();
    let after = disk.files();
    let mut entropy = lintas_config::os_entropy();
    let mut last = None;
    for (at, fact) in facts.all.iter().enumerate().skip(before) {
        last = fold.apply(at as u64 + 1, fact, &mut entropy).unwrap();
    }
    let refused = files.publish(last.unwrap());
    assert!(matches!(refused, Err(FilesError::NotContinued { epochs: 2 })), "{refused:?}");
    assert_eq!(disk.files().get("published"), after.get("published"));
}

#[test]
fn a_fork_of_the_root_log_is_not_published() {
    let (mut facts, disk) = (Facts::new(), Memory::default());
    facts.members(&AGENCIES[..3]);
    facts.epoch();
    facts.epoch();
    publish(disk.clone(), &facts, usize::MAX).unwrap();
    let (mut files, mut fold) = LogFiles::resume(disk, BROKER).unwrap();
    facts.epoch();
    let mut entropy = lintas_config::os_entropy();
    let mut next = fold.apply(4, facts.all.last().unwrap(), &mut entropy).unwrap().unwrap();
    let state = next.end.as_mut().unwrap();
    state.root = Bytes::copy_from_slice(&[3; 32]);
    let refused = files.publish(next);
    assert!(matches!(refused, Err(FilesError::NotContinued { epochs: 3 })), "{refused:?}");
}
