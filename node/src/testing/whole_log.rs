//! An audit log as an honest broker writes it, in memory: a root log and the sub-logs of three agencies. Tests take it
//! apart.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lintas_config::{Directory, issue::seed, os_entropy};
use lintas_proto::{
    audit::{
        epoch::{RootEntry, slot, slot_salt, slots_root},
        files::LogFile,
        leaf::log_event,
        merkle::{Frontier, leaf_hash, root as merkle_root},
        note::{Checkpoint, SignedCheckpoint},
        opening,
        tile::{Tile, WIDTH, new_tiles, push_entry},
    },
    id::Digest,
    schema::{AuditEvent, EventType, LoggedEvent, Reason, UnitRef},
    sign::{KeyRole, SigningKey},
};

use super::{BROKER, REGION, Region};
use crate::core::audit::source::{LogFiles, Owner};

/// One tree with its entries.
#[derive(Clone, Default)]
pub(crate) struct Entries {
    pub(crate) bytes: Vec<Bytes>,
    leaves: Vec<Digest>,
    frontier: Frontier,
}

/// A sub-log in the making.
#[derive(Clone, Default)]
pub(crate) struct Sub {
    pub(crate) entries: Entries,
    pub(crate) events: Vec<LoggedEvent>,
    pub(crate) keys: Vec<[u8; 32]>,
    pub(crate) sealed: Vec<Vec<u8>>,
    pub(crate) sizes: Vec<(u64, u64)>,
    pub(crate) slot_keys: Vec<(u64, [u8; 32])>,
}

/// A log in the making; write it with [`finish`](Self::finish).
#[derive(Clone)]
pub(crate) struct LogBuilder {
    pub(crate) root: Entries,
    pub(crate) subs: BTreeMap<String, Sub>,
    pub(crate) slots: Vec<Vec<Digest>>,
    pub(crate) cosigned: Vec<Bytes>,
    pub(crate) rosters: Vec<(u64, u64, Bytes)>,
    pub(crate) time_ms: u64,
    pub(crate) epoch_ms: u64,
    /// Every so many epochs a checkpoint is cosigned.
    pub(crate) cosign_every: u64,
    agencies: Vec<String>,
    log_key: std::sync::Arc<SigningKey>,
    witnesses: Vec<(String, std::sync::Arc<SigningKey>)>,
    packets: u64,
}

/// Files of a log, in memory.
#[derive(Clone, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<(Option<String>, LogFile), Vec<u8>>);

impl LogFiles for Files {
    fn read(
        &self,
        owner: Owner<'_>,
        file: LogFile,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, String> {
        let found = self.0.get(&(owner.map(str::to_owned), file));
        Ok(found.map(|bytes| {
            let from = usize::try_from(offset).unwrap().min(bytes.len());
            let to = from + usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len() - from);
            Bytes::copy_from_slice(&bytes[from..to])
        }))
    }
}

impl Files {
    /// Where a file lies under the folder of the root log.
    pub(crate) fn path(folder: &Path, owner: Owner<'_>, file: LogFile) -> PathBuf {
        owner.map_or_else(|| folder.to_owned(), |agency| folder.join(agency)).join(file.to_string())
    }

    /// Writes them under the folder of the root log.
    pub(crate) fn write(&self, folder: &Path) {
        for ((owner, file), bytes) in &self.0 {
            let path = Self::path(folder, owner.as_deref(), *file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

impl Entries {
    pub(crate) fn push(&mut self, entry: Bytes) {
        let leaf = leaf_hash(&entry);
        self.leaves.push(leaf);
        self.frontier.push(leaf);
        self.bytes.push(entry);
    }

    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// Tiles and bundles.
    fn files(&self, owner: Option<&str>, into: &mut Files) {
        let size = self.size();
        for tile in new_tiles(0, size) {
            let length = 256usize.pow(tile.level.into());
            let first = usize::try_from(tile.index).unwrap() * 256;
            let hash = |at: usize| merkle_root(&self.leaves[at * length..(at + 1) * length]);
            let bytes: Vec<u8> = (first..first + usize::from(tile.width)).flat_map(hash).collect();
            into.0.insert((owner.map(str::to_owned), LogFile::Tile(tile)), bytes);
        }
        for (index, entries) in (0u64..).zip(self.bytes.chunks(256)) {
            let mut bundle = Vec::new();
            entries.iter().for_each(|entry| assert!(push_entry(&mut bundle, entry)));
            let width = Tile::of_tree(0, index, size).unwrap().width;
            into.0.insert((owner.map(str::to_owned), LogFile::Entries(index, width)), bundle);
        }
    }
}

/// A region with four witnesses: its three agencies, and one that does nothing else.
pub(crate) fn region() -> (Region, Vec<(String, SigningKey)>) {
    let keys: Vec<SigningKey> = (1..=4u8)
        .map(|at| SigningKey::from_seed(KeyRole::Witness, &zeroize::Zeroizing::new([at; 32])).unwrap())
        .collect();
    let publics: Vec<Bytes> = keys.iter().map(|key| Bytes::copy_from_slice(&key.public_key())).collect();
    let region = Region::with(|roster| {
        for (member, key) in roster.members.iter_mut().zip(&publics) {
            member.witness_key = key.clone();
        }
    });
    let names = ["ID", "KH", "TH"].map(str::to_owned);
    (region, names.into_iter().zip(keys).collect())
}

impl LogBuilder {
    /// An empty log of that region, whose broker was given slot keys by all but the last agency.
    pub(crate) fn new(region: &Region, witnesses: Vec<(String, SigningKey)>, time_ms: u64) -> Self {
        let directory = region.directory();
        let log_seed = seed("log", &region.broker.log_seed).unwrap();
        let mut builder = Self {
            root: Entries::default(),
            subs: BTreeMap::new(),
            slots: Vec::new(),
            cosigned: Vec::new(),
            rosters: Vec::new(),
            time_ms,
            epoch_ms: 10_000,
            cosign_every: 5,
            agencies: Vec::new(),
            log_key: std::sync::Arc::new(SigningKey::from_seed(KeyRole::Log, &log_seed).unwrap()),
            witnesses: witnesses.into_iter().map(|(name, key)| (name, std::sync::Arc::new(key))).collect(),
            packets: 0,
        };
        builder.roster(&directory);
        for (at, agency) in (1u8..).zip(["ID", "KH"]) {
            builder.subs.get_mut(agency).unwrap().slot_keys.push((0, [at; 32]));
        }
        builder
    }

    /// From the next epoch on, the members of that roster have the slots.
    pub(crate) fn roster(&mut self, directory: &Directory) {
        self.agencies = directory.roster().members.iter().map(|member| member.agency.clone()).collect();
        for agency in &self.agencies {
            self.subs.entry(agency.clone()).or_default();
        }
        let signed = directory.signed_roster().unwrap();
        if !self.rosters.is_empty() {
            for agency in self.agencies.clone() {
                self.event(&AuditEvent {
                    r#type: EventType::DirectoryChanged as i32,
                    agency,
                    time_ms: self.time_ms,
                    version: directory.roster().version,
                    evidence_digest: Bytes::copy_from_slice(directory.roster_hash()),
                    ..AuditEvent::default()
                });
            }
        }
        self.rosters.push((self.root.size(), directory.roster().version, signed));
    }

    /// Logs an event for an agency.
    pub(crate) fn event(&mut self, event: &AuditEvent) {
        let mut salt = [0; 32];
        salt[..8].copy_from_slice(&self.packets.to_be_bytes());
        salt[8] = u8::try_from(event.r#type).unwrap();
        let sub = self.subs.get_mut(&event.agency).unwrap();
        let logged = log_event(sub.entries.size(), salt, event);
        let (key, sealed) = opening::seal(&logged, &mut os_entropy()).unwrap();
        sub.entries.push(logged.leaf.clone());
        sub.events.push(logged);
        sub.keys.push(*key);
        sub.sealed.push(sealed);
    }

    /// An event about the packet of that number.
    pub(crate) fn about(
        &self,
        agency: &str,
        kind: EventType,
        packet: u64,
        from: &UnitRef,
        to: Option<&UnitRef>,
    ) -> AuditEvent {
        let id = [packet.to_be_bytes(), packet.to_be_bytes()].concat();
        let end = matches!(kind, EventType::Acknowledged | EventType::Expired | EventType::Withheld);
        let digest = lintas_proto::id::sha256(&[&id]);
        AuditEvent {
            r#type: kind as i32,
            agency: agency.to_owned(),
            time_ms: self.time_ms,
            packet_id: id.into(),
            header_digest: Bytes::copy_from_slice(&digest),
            originator: Some(from.clone()),
            recipient: to.cloned(),
            directory_hash: Bytes::from_static(&[7; 32]),
            reason: Reason::Accepted as i32,
            evidence_digest: if end { Bytes::copy_from_slice(&digest) } else { Bytes::new() },
            ..AuditEvent::default()
        }
    }

    /// A packet from one agency to others, with all its events but the ends.
    pub(crate) fn submit(&mut self, from: &str, to: &[&str]) -> u64 {
        let (number, by) = (self.packets, unit(from));
        self.packets += 1;
        self.event(&self.about(from, EventType::Submitted, number, &by, None));
        for to in to {
            self.event(&self.about(from, EventType::Released, number, &by, Some(&unit(to))));
        }
        for to in to {
            self.event(&self.about(to, EventType::Received, number, &by, Some(&unit(to))));
        }
        number
    }

    /// The end of a packet at one recipient.
    pub(crate) fn end(&mut self, kind: EventType, number: u64, from: &str, to: &str) {
        for agency in [from, to] {
            self.event(&self.about(agency, kind, number, &unit(from), Some(&unit(to))));
        }
    }

    /// Ends an epoch.
    pub(crate) fn epoch(&mut self) {
        let (epoch, origin) = (self.root.size(), format!("{BROKER}/audit"));
        let mut slots = Vec::new();
        for (index, agency) in (0u32..).zip(&self.agencies) {
            let sub = self.subs.get_mut(agency).unwrap();
            let size = sub.entries.size();
            if sub.sizes.last().map_or(0, |(_, size)| *size) < size {
                sub.sizes.push((epoch, size));
            }
            let key = sub.slot_keys.iter().rev().find(|(from, _)| *from <= epoch);
            let salt = slot_salt(&key.map_or([0; 32], |(_, key)| *key), &origin, epoch);
            slots.push(slot(&salt, index, size, &sub.entries.root()));
        }
        let entry = RootEntry {
            epoch,
            time_ms: self.time_ms,
            directory_hash: [7; 32],
            policy_set_hash: [0; 32],
            slots: u32::try_from(slots.len()).unwrap(),
            slots_root: slots_root(&slots),
        };
        self.root.push(Bytes::copy_from_slice(&entry.to_bytes()));
        self.slots.push(slots);
        if self.cosign_every > 0 && (epoch + 1).is_multiple_of(self.cosign_every) {
            let note = self.checkpoint(None, Some(self.time_ms / 1_000 + 2));
            self.cosigned.push(note);
        }
        self.time_ms += self.epoch_ms;
    }

    /// Epochs with some traffic: a packet in every third one, acknowledged, expired or withheld in the one after it.
    pub(crate) fn traffic(&mut self, epochs: u64) {
        let mut open: Option<(u64, &str, [&str; 2])> = None;
        let ways = [("ID", ["KH", "TH"]), ("TH", ["ID", "KH"]), ("KH", ["TH", "KH"])];
        for at in 0..epochs {
            if let Some((number, from, to)) = open.take() {
                for (to, kind) in to.iter().zip([EventType::Acknowledged, EventType::Expired]) {
                    self.end(kind, number, from, to);
                }
            }
            if at % 3 == 0 {
                let (from, to) = ways[usize::try_from(at / 3 % 3).unwrap()];
                open = Some((self.submit(from, &to), from, to));
            }
            self.epoch();
        }
    }

    /// Erases an event's key and logs it.
    pub(crate) fn erase(&mut self, agency: &str, first: u64, count: u64) {
        let event = AuditEvent {
            r#type: EventType::Erased as i32,
            agency: agency.to_owned(),
            time_ms: self.time_ms,
            first_index: first,
            count,
            evidence_digest: Bytes::from_static(&[5; 32]),
            ..AuditEvent::default()
        };
        self.event(&event);
        let sub = self.subs.get_mut(agency).unwrap();
        for index in first..first + count {
            sub.keys[usize::try_from(index).unwrap()] = [0; 32];
        }
    }

    /// The checkpoint of a log, cosigned at that time (seconds) by everybody.
    pub(crate) fn checkpoint(&self, agency: Option<&str>, cosigned_s: Option<u64>) -> Bytes {
        let (origin, entries) = match agency {
            None => (format!("{BROKER}/audit"), &self.root),
            Some(agency) => (format!("{BROKER}/audit/{agency}"), &self.subs[agency].entries),
        };
        self.sign(Checkpoint { origin, size: entries.size(), root: entries.root() }, cosigned_s)
    }

    /// Signs any checkpoint.
    pub(crate) fn sign(&self, checkpoint: Checkpoint, cosigned_s: Option<u64>) -> Bytes {
        let mut signed = SignedCheckpoint::sign(checkpoint, &self.log_key).unwrap();
        for (agency, key) in self.witnesses.iter().filter(|_| cosigned_s.is_some()) {
            let name = lintas_proto::audit::note::witness_name(REGION, agency);
            let public = lintas_proto::sign::VerifyingKey::parse(&key.public_key()).unwrap();
            let witness = lintas_proto::audit::note::WitnessKey { name, key: public };
            let cosignature = signed.cosign(key, cosigned_s.unwrap()).unwrap();
            signed.add_cosignature(&witness, &cosignature).unwrap();
        }
        signed.to_bytes()
    }

    /// All files.
    pub(crate) fn finish(&self) -> Files {
        let mut files = Files::default();
        let cosigned_s = (self.time_ms - self.epoch_ms) / 1_000 + 2;
        self.root.files(None, &mut files);
        let mut put = |owner: Option<&str>, file, bytes| {
            files.0.insert((owner.map(str::to_owned), file), bytes);
        };
        put(None, LogFile::Checkpoint, self.checkpoint(None, Some(cosigned_s)).to_vec());
        for (index, part) in (0u64..).zip(self.slots.chunks(256)) {
            let one = |slots: &Vec<Digest>| {
                let count = u32::try_from(slots.len()).unwrap().to_be_bytes();
                [count.to_vec(), slots.concat()].concat()
            };
            put(None, LogFile::Slots(index), part.iter().flat_map(one).collect());
        }
        for (index, part) in (0u64..).zip(self.cosigned.chunks(256)) {
            let mut bytes = Vec::new();
            part.iter().for_each(|note| assert!(push_entry(&mut bytes, note)));
            put(None, LogFile::Cosigned(index), bytes);
        }
        let turn =
            |(epoch, version, _): &(u64, u64, Bytes)| [epoch.to_be_bytes(), version.to_be_bytes()].concat();
        put(None, LogFile::Rosters, self.rosters.iter().flat_map(turn).collect());
        for (_, version, signed) in &self.rosters {
            put(None, LogFile::Roster(*version), signed.to_vec());
        }
        for (agency, sub) in &self.subs {
            let owner = Some(agency.as_str());
            put(owner, LogFile::Checkpoint, self.checkpoint(owner, None).to_vec());
            for (index, (keys, sealed)) in (0u64..).zip(sub.keys.chunks(256).zip(sub.sealed.chunks(256))) {
                let mut openings = Vec::new();
                sealed.iter().for_each(|one| assert!(push_entry(&mut openings, one)));
                put(owner, LogFile::Keys(index), keys.concat());
                put(owner, LogFile::Openings(index), openings);
            }
            let sizes = sub.sizes.iter().flat_map(|(e, s)| [e.to_be_bytes(), s.to_be_bytes()].concat());
            put(owner, LogFile::Sizes, sizes.collect());
            let keys =
                sub.slot_keys.iter().flat_map(|(e, key)| [e.to_be_bytes().to_vec(), key.to_vec()].concat());
            put(owner, LogFile::SlotKeys, keys.collect());
        }
        for (agency, sub) in &self.subs {
            sub.entries.files(Some(agency), &mut files);
        }
        files
    }
}

/// The unit of an agency in these logs.
pub(crate) fn unit(agency: &str) -> UnitRef {
    UnitRef { agency: agency.to_owned(), unit: format!("{agency}-NCB") }
}

/// Entries in a full bundle.
pub(crate) const BUNDLE: u64 = WIDTH;
