//! A broker's audit log for tests, in memory: written as docs/AUDIT.md says, or as a liar would.

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use lintas_config::issue::seed;
use lintas_proto::{
    audit::{
        epoch::{RootEntry, slot, slot_path, slot_salt, slots_root},
        files::LogFile,
        merkle::{Frontier, leaf_hash, path, root},
        note::{Checkpoint, SignedCheckpoint},
        proof::TlogProof,
        tile::{new_tiles, push_entry},
    },
    canonical,
    id::Digest,
    limits,
    receipt::Receipt,
    schema::{LeafProof, RootProof, SignedReceipt, SlotOpening},
    sign::{KeyRole, SigningKey},
};

use super::{BROKER, Region};
use crate::shell::{
    follow::LogSource,
    log_link::{LogError, Piece},
};

/// The root log, and the sub-log of one agency.
pub(crate) struct FakeLog {
    pub(crate) root: String,
    pub(crate) sub: String,
    pub(crate) leaves: Vec<Bytes>,
    pub(crate) epochs: Vec<(RootEntry, Vec<Digest>)>,
    pub(crate) sizes: Vec<(u64, u64)>,
    /// What is published.
    pub(crate) files: Mutex<BTreeMap<(String, LogFile), Bytes>>,
    /// Bytes that were given.
    pub(crate) given: Mutex<u64>,
    pub(crate) slot_key: [u8; 32],
    /// As the file `slot-keys` has them; there is none while it is empty.
    pub(crate) slot_keys: Vec<(u64, [u8; 32])>,
    pub(crate) index: u32,
    pub(crate) members: u32,
    frontier: Frontier,
    key: SigningKey,
    witnesses: Vec<(String, SigningKey)>,
}

impl FakeLog {
    pub(crate) fn new(region: &Region, agency: &str) -> Self {
        Self::named(region, agency, BROKER)
    }

    /// A log of that name.
    pub(crate) fn named(region: &Region, agency: &str, log: &str) -> Self {
        let directory = region.directory();
        let key = |role, bytes: &Bytes| SigningKey::from_seed(role, &seed("t", bytes).unwrap()).unwrap();
        let witness = |(agency, secrets): (&String, &lintas_proto::schema::NodeSecrets)| {
            (agency.clone(), key(KeyRole::Witness, &secrets.witness_seed))
        };
        Self {
            root: format!("{log}/audit"),
            sub: format!("{log}/audit/{agency}"),
            leaves: Vec::new(),
            epochs: Vec::new(),
            sizes: Vec::new(),
            files: Mutex::default(),
            given: Mutex::default(),
            slot_key: region.secrets[agency].slot_key.as_ref().try_into().unwrap(),
            slot_keys: Vec::new(),
            index: directory.roster_index(agency).unwrap(),
            members: u32::try_from(directory.roster().members.len()).unwrap(),
            frontier: Frontier::default(),
            key: key(KeyRole::Log, &region.broker.log_seed),
            witnesses: region.secrets.iter().map(witness).collect(),
        }
    }

    /// Appends leaves that nobody here knows.
    pub(crate) fn log_strange(&mut self, count: usize, time_ms: u64) {
        for _ in 0..count {
            let leaf = [[1, 13].as_slice(), &time_ms.to_be_bytes(), &[8; 48]].concat();
            self.leaves.push(leaf.into());
        }
    }

    /// Appends the events of a receipt, whose first index is the next one.
    pub(crate) fn log(&mut self, receipt: &Bytes) {
        let signed: SignedReceipt = canonical::decode(receipt, limits::RECEIPT_BYTES_MAX).unwrap();
        let (receipt, _) = Receipt::parse(&signed.receipt).unwrap();
        assert_eq!(receipt.events[0].index, self.leaves.len() as u64);
        self.leaves.extend(receipt.events.into_iter().map(|event| event.leaf));
    }

    pub(crate) fn sub_root(&mut self) -> Digest {
        for leaf in self.leaves.iter().skip(usize::try_from(self.frontier.size()).unwrap()) {
            self.frontier.push(leaf_hash(leaf));
        }
        self.frontier.root()
    }

    /// Ends an epoch, with as many leaves as there are.
    pub(crate) fn end_epoch(&mut self, time_ms: u64) {
        let (size, sub_root) = (self.leaves.len() as u64, self.sub_root());
        self.end_epoch_with(time_ms, size, &sub_root);
    }

    /// As above, whatever the sub-log is.
    pub(crate) fn end_epoch_with(&mut self, time_ms: u64, size: u64, sub_root: &Digest) {
        let epoch = self.epochs.len() as u64;
        let salt = slot_salt(&self.slot_key, &self.root, epoch);
        let mut slots: Vec<Digest> = (0..self.members).map(|n| [u8::try_from(n).unwrap(); 32]).collect();
        slots[self.index as usize] = slot(&salt, self.index, size, sub_root);
        let entry = RootEntry {
            epoch,
            time_ms,
            directory_hash: [5; 32],
            policy_set_hash: [0; 32],
            slots: self.members,
            slots_root: slots_root(&slots),
        };
        self.epochs.push((entry, slots));
        if self.sizes.last().map_or(0, |(_, before)| *before) < size {
            self.sizes.push((epoch, size));
        }
    }

    /// Publishes everything, cosigned by so many.
    pub(crate) fn publish(&self, witnesses: usize) {
        let entries: Vec<Bytes> =
            self.epochs.iter().map(|(entry, _)| Bytes::copy_from_slice(&entry.to_bytes())).collect();
        let mut files = BTreeMap::new();
        tree(&mut files, &self.root, &entries);
        tree(&mut files, &self.sub, &self.leaves);
        for (number, some) in (0u64..).zip(self.epochs.chunks(256)) {
            let bytes: Vec<u8> = some
                .iter()
                .flat_map(|(_, slots)| {
                    [u32::try_from(slots.len()).unwrap().to_be_bytes().as_slice(), &slots.concat()].concat()
                })
                .collect();
            files.insert((self.root.clone(), LogFile::Slots(number)), bytes.into());
        }
        let sizes: Vec<u8> = self
            .sizes
            .iter()
            .flat_map(|(epoch, size)| [epoch.to_be_bytes(), size.to_be_bytes()].concat())
            .collect();
        files.insert((self.sub.clone(), LogFile::Sizes), sizes.into());
        if !self.slot_keys.is_empty() {
            let record = |(epoch, key): &(u64, [u8; 32])| [epoch.to_be_bytes().as_slice(), key].concat();
            let keys: Vec<u8> = self.slot_keys.iter().flat_map(record).collect();
            files.insert((self.sub.clone(), LogFile::SlotKeys), keys.into());
        }
        let signed = self.checkpoint(&entries, witnesses);
        files.insert((self.root.clone(), LogFile::Checkpoint), signed.to_bytes());
        *self.files.lock().unwrap() = files;
    }

    /// What a stranger is shown of this agency's sub-log at the end of an epoch: slot and root entry.
    pub(crate) fn state(&self, epoch: u64, witnesses: usize) -> (Bytes, Bytes) {
        let at = usize::try_from(epoch).unwrap();
        let (entry, slots) = &self.epochs[at];
        let size = self.sizes.iter().rfind(|(grown, _)| *grown <= epoch).map_or(0, |(_, size)| *size);
        let leaves: Vec<Digest> = self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let bytes = |path: Vec<Digest>| path.iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
        let slot = SlotOpening {
            salt: Bytes::copy_from_slice(&slot_salt(&self.slot_key, &self.root, epoch)),
            roster_index: self.index,
            size,
            root: Bytes::copy_from_slice(&root(&leaves[..usize::try_from(size).unwrap()])),
            path: bytes(slot_path(slots, self.index).unwrap()),
        };
        let entries: Vec<Bytes> =
            self.epochs.iter().map(|(entry, _)| Bytes::copy_from_slice(&entry.to_bytes())).collect();
        let hashes: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let checkpoint = self.checkpoint(&entries, witnesses);
        let proof = TlogProof { index: epoch, path: path(&hashes, at).unwrap(), checkpoint }.to_text();
        let root = RootProof { entry: Bytes::copy_from_slice(&entry.to_bytes()), proof: proof.into() };
        (canonical::encode(&slot), canonical::encode(&root))
    }

    /// The leaf at a place, in the sub-log of `size`.
    pub(crate) fn leaf(&self, index: usize, size: usize) -> Bytes {
        let hashes: Vec<Digest> = self.leaves[..size].iter().map(|leaf| leaf_hash(leaf)).collect();
        let path = path(&hashes, index).unwrap();
        canonical::encode(&LeafProof {
            index: index as u64,
            leaf: self.leaves[index].clone(),
            path: path.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
        })
    }

    pub(crate) fn checkpoint(&self, entries: &[Bytes], witnesses: usize) -> SignedCheckpoint {
        let hashes: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let checkpoint =
            Checkpoint { origin: self.root.clone(), size: hashes.len() as u64, root: root(&hashes) };
        let mut signed = SignedCheckpoint::sign(checkpoint, &self.key).unwrap();
        for (agency, key) in self.witnesses.iter().take(witnesses) {
            let witness = lintas_proto::audit::note::WitnessKey {
                name: lintas_proto::audit::note::witness_name(super::REGION, agency),
                key: lintas_proto::sign::VerifyingKey::parse(&key.public_key()).unwrap(),
            };
            let time_s = self.epochs.last().unwrap().0.time_ms / 1_000 + 1;
            let cosignature = signed.cosign(key, time_s).unwrap();
            signed.add_cosignature(&witness, &cosignature).unwrap();
        }
        signed
    }

    /// Changes a published file.
    pub(crate) fn spoil(
        &self,
        is_it: impl Fn(&str, LogFile) -> bool,
        change: impl Fn(&mut Vec<u8>),
    ) -> usize {
        let mut changed = 0;
        for ((origin, file), bytes) in self.files.lock().unwrap().iter_mut() {
            if is_it(origin, *file) {
                let mut other = bytes.to_vec();
                change(&mut other);
                *bytes = other.into();
                changed += 1;
            }
        }
        changed
    }
}

fn tree(files: &mut BTreeMap<(String, LogFile), Bytes>, origin: &str, entries: &[Bytes]) {
    let hashes: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    for tile in new_tiles(0, hashes.len() as u64) {
        let length = 256usize.pow(u32::from(tile.level));
        let from = usize::try_from(tile.index).unwrap() * 256;
        let hash = |n: usize| root(&hashes[n * length..(n + 1) * length]);
        let bytes: Vec<u8> = (from..from + usize::from(tile.width)).flat_map(hash).collect();
        files.insert((origin.to_owned(), LogFile::Tile(tile)), bytes.into());
    }
    for (number, some) in (0u64..).zip(entries.chunks(256)) {
        let mut bundle = Vec::new();
        some.iter().for_each(|entry| assert!(push_entry(&mut bundle, entry)));
        let file = LogFile::Entries(number, u16::try_from(some.len()).unwrap());
        files.insert((origin.to_owned(), file), bundle.into());
    }
}

impl LogSource for FakeLog {
    async fn piece(&self, origin: &str, file: LogFile, offset: u64, length: u64) -> Result<Piece, LogError> {
        let bytes = self.files.lock().unwrap().get(&(origin.to_owned(), file)).cloned();
        let bytes = bytes.ok_or(LogError::Missing(file))?;
        let file_length = bytes.len() as u64;
        let from = offset.min(file_length);
        let until = if length == 0 { file_length } else { from.saturating_add(length).min(file_length) };
        *self.given.lock().unwrap() += until - from;
        let at = |at: u64| usize::try_from(at).unwrap();
        Ok(Piece { file_length, bytes: bytes.slice(at(from)..at(until)) })
    }
}
