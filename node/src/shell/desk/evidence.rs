//! Evidence about one packet: gathered from the journal and from the directories of then, verified as a stranger would.
//!
//! | name | what |
//! |---|---|
//! | `seen/rosters/<version>.bin` | every roster that was in force here, or lay between two that were: `SignedRoster` |
//! | `seen/keysets/<AGENCY>.<version>.<digits of its hash>.bin` | every keyset under which something kept was signed: `SignedKeyset` |

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::PoisonError,
};

use bytes::Bytes;
use lintas_config::{Directory, directory::PastRosters};
use lintas_proto::{
    canonical,
    evidence::Evidence,
    id::{Digest, hex, sha256},
    limits,
    schema::{DirectoryBundle, EvidenceFile, Header, Keyset, SignedEvidence, SignedKeyset, Submission},
};

use super::{
    Desk,
    read::{Found, wrong_record},
    stored,
};
use crate::{
    core::{
        log::{
            evidence_file::{self, Anchor},
            judge::judge,
            receipts::Promise,
        },
        records::Record,
        view::EvidenceView,
    },
    shell::{
        clock,
        failure::{Code, Failure},
        files,
        folder::Folder,
    },
};

const ROSTERS: &str = "seen/rosters";
const KEYSETS: &str = "seen/keysets";
/// Most files of either kind that are looked at.
const FILES_MAX: usize = 8_192;
/// Most damaged files that are named at once.
const DAMAGED_TOLD_MAX: usize = 8;

/// What the journal holds of a packet.
#[derive(Default)]
struct Kept {
    header: Bytes,
    signature: Bytes,
    receipt: Bytes,
    evidence: Vec<Bytes>,
}

/// What lies in `seen/` for sure: of a directory the roster, and the keysets of these agencies.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    directory: Digest,
    agencies: BTreeSet<String>,
}

impl Remembered {
    fn holds(&self, directory: &Digest, agencies: &BTreeSet<String>) -> bool {
        self.directory == *directory && agencies.is_subset(&self.agencies)
    }

    fn add(&mut self, directory: Digest, agencies: BTreeSet<String>) {
        if self.directory != directory {
            *self = Self { directory, agencies: BTreeSet::new() };
        }
        self.agencies.extend(agencies);
    }
}

impl Desk {
    /// What can be shown of a packet; with `out`, written into a new file as well.
    pub(super) fn prove(&self, id: &str, out: Option<&Path>) -> Result<EvidenceView, Failure> {
        let file = self.evidence_file(id)?;
        let bytes = canonical::encode(&file);
        let directory = self.directory();
        let view = evidence_file::verify(&bytes, &Anchor::Directory(&directory)).map_err(|error| {
            let damaged = self.damaged_seen().map(|damaged| format!("; {damaged}")).unwrap_or_default();
            Failure::new(Code::Evidence, format_args!("{error}{damaged}"))
        })?;
        let Some(out) = out else { return Ok(view) };
        files::write_new(out, &bytes).map_err(|error| Failure::file("write", out, &error))?;
        Ok(EvidenceView { written: Some(out.display().to_string()), ..view })
    }

    fn evidence_file(&self, id: &str) -> Result<EvidenceFile, Failure> {
        let (packet, kept) = match self.look_up(id)? {
            Found::Sent(at, packet) => (at, self.kept_of_ours(at, &packet.evidence)?),
            Found::Received(at, _) => (at, self.kept_of_theirs(at)?),
        };
        let promise = self.store.state().receipts().of(packet).cloned();
        let promise = promise.ok_or_else(|| {
            Failure::new(
                Code::NoAnswer,
                "the broker has given no receipt for this packet yet; there is no evidence",
            )
        })?;
        let receipt = if kept.receipt.is_empty() {
            self.receipt_in(promise.record).map_err(stored)?.0
        } else {
            kept.receipt
        };
        let rosters = self.seen_rosters()?;
        let speakers = evidence_file::speakers(&kept.header, &kept.evidence);
        let bundles = evidence_file::bundles(&speakers, &rosters, &self.seen_keysets()?);
        let Some((directory, more)) = bundles.split_first() else {
            let why = self.damaged_seen().unwrap_or_else(|| "it came before this version did".to_owned());
            let message = format!("the keys under which this packet was signed are not kept here: {why}");
            return Err(Failure::new(Code::Evidence, message));
        };
        let mut file = EvidenceFile {
            format: 1,
            header: kept.header,
            signature: kept.signature,
            directory: directory.clone(),
            rosters: rosters.into_values().collect(),
            receipt,
            evidence: kept.evidence,
            more_directories: more.to_vec(),
            ..EvidenceFile::default()
        };
        self.add_proofs(&mut file, packet, &promise)?;
        Ok(file)
    }

    fn add_proofs(&self, file: &mut EvidenceFile, packet: u64, promise: &Promise) -> Result<(), Failure> {
        let Some(place) = &promise.place else { return Ok(()) };
        let root = self.store.state().receipts().root(promise.root_origin(), place.epoch);
        let Some(root) = root else { return Ok(()) };
        let Record::Inclusion(inclusion) = self.store.read(place.record).map_err(stored)? else {
            return Err(wrong_record());
        };
        let Record::RootProof(root) = self.store.read(root.record).map_err(stored)? else {
            return Err(wrong_record());
        };
        let first = promise.indices.first().copied();
        let ours =
            inclusion.packets.into_iter().find(|one| one.leaves.first().map(|leaf| leaf.index) == first);
        tracing::debug!(packet, epoch = place.epoch, "evidence gathered");
        file.leaves = ours.map(|one| one.leaves).unwrap_or_default();
        file.slot = inclusion.slot;
        file.root = root.proof;
        Ok(())
    }

    fn kept_of_ours(&self, at: u64, evidence: &[u64]) -> Result<Kept, Failure> {
        let Record::Outgoing(outgoing) = self.store.read(at).map_err(stored)? else {
            return Err(wrong_record());
        };
        let submission: Submission =
            canonical::decode(&outgoing.submission, limits::FRAME_BYTES_MAX).map_err(Failure::internal)?;
        let mut said = Vec::with_capacity(evidence.len());
        for at in evidence {
            if let Record::Evidence(one) = self.store.read(*at).map_err(stored)? {
                said.push(one.evidence);
            }
        }
        let (header, signature) = (submission.header, submission.signature);
        Ok(Kept { header, signature, receipt: Bytes::new(), evidence: said })
    }

    fn kept_of_theirs(&self, at: u64) -> Result<Kept, Failure> {
        let Record::Incoming(incoming) = self.store.read(at).map_err(stored)? else {
            return Err(wrong_record());
        };
        Ok(Kept {
            header: incoming.header.clone(),
            signature: incoming.signature.clone(),
            receipt: incoming.receipt.clone(),
            evidence: vec![incoming.evidence.clone()],
        })
    }

    /// Keeps the rosters that lead to the directory in force, and its keysets of those who signed these records, or are
    /// of this agency. What cannot be kept is told: the packets are kept all the same. Reads the whole directory only
    /// where something may be missing.
    pub(super) fn remember(&self, steps: &[Bytes], records: &[Record]) {
        let directory = self.directory();
        let mut agencies: BTreeSet<String> = records.iter().filter_map(signer).collect();
        agencies.insert(self.keys().agency.clone());
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.is_empty() && remembered.holds(directory.hash(), &agencies) {
            return;
        }
        match self.try_remember(&directory, steps, &agencies) {
            Ok(()) => remembered.add(*directory.hash(), agencies),
            Err(error) => tracing::warn!(%error, "keys of others were not kept for later evidence"),
        }
    }

    fn try_remember(
        &self,
        directory: &Directory,
        steps: &[Bytes],
        agencies: &BTreeSet<String>,
    ) -> std::io::Result<()> {
        let bundle: DirectoryBundle = canonical::decode(directory.bytes(), limits::DIRECTORY_BYTES_MAX)
            .map_err(std::io::Error::other)?;
        for folder in ["seen", ROSTERS, KEYSETS] {
            if !self.folder.path(folder).is_dir() {
                files::private_folder(&self.folder.path(folder))?;
            }
        }
        for roster in steps.iter().chain([&bundle.roster]) {
            let version = evidence_file::roster_of(roster).map_err(std::io::Error::other)?.version;
            self.write_once(&format!("{ROSTERS}/{version:012}.bin"), roster)?;
        }
        for bytes in &bundle.keysets {
            let Some(keyset) = keyset_of(bytes).filter(|keyset| agencies.contains(&keyset.agency)) else {
                continue;
            };
            self.write_once(
                &format!("{KEYSETS}/{}.{:012}.{}.bin", keyset.agency, keyset.version, short_hash(bytes)),
                bytes,
            )?;
        }
        Ok(())
    }

    fn write_once(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.folder.path(name);
        if path.exists() { Ok(()) } else { files::write_new(&path, bytes) }
    }

    /// The place of this agency among so many members, by the rosters that were in force here; none if no such one was.
    pub(crate) fn place_among(&self, members: u32) -> Option<u32> {
        let agency = &self.keys().agency;
        let rosters = self.seen_rosters().ok()?.into_values().rev();
        let mut rosters = rosters.filter_map(|bytes| evidence_file::roster_of(&bytes).ok());
        let roster = rosters.find(|roster| u32::try_from(roster.members.len()) == Ok(members))?;
        let at = roster.members.iter().position(|member| member.agency == *agency)?;
        u32::try_from(at).ok()
    }

    /// Says which files of keys and rosters of then are damaged, as far as their names tell, and what to do.
    fn damaged_seen(&self) -> Option<String> {
        let keysets = seen(&self.folder, KEYSETS, limits::KEYSET_BYTES_MAX).ok()?.into_iter();
        let wrong_hash =
            |(name, bytes): &(String, Bytes)| !name.ends_with(&format!(".{}.bin", short_hash(bytes)));
        let rosters = seen(&self.folder, ROSTERS, limits::ROSTER_BYTES_MAX).ok()?.into_iter();
        let wrong_version = |(name, bytes): &(String, Bytes)| {
            let version = evidence_file::roster_of(bytes).map(|roster| roster.version);
            !version.is_ok_and(|version| *name == format!("{version:012}.bin"))
        };
        let keysets = keysets.filter(wrong_hash).map(|(name, _)| format!("{KEYSETS}/{name}"));
        let rosters = rosters.filter(wrong_version).map(|(name, _)| format!("{ROSTERS}/{name}"));
        let damaged: Vec<String> = keysets.chain(rosters).take(DAMAGED_TOLD_MAX).collect();
        (!damaged.is_empty()).then(|| {
            format!("damaged: {}; put the backup of it in its place, then ask again", damaged.join(", "))
        })
    }

    fn seen_rosters(&self) -> Result<BTreeMap<u64, Bytes>, Failure> {
        seen_rosters(&self.folder)
    }

    /// Whether others are convinced by the exhibits of a finding.
    pub(super) fn convinces(&self, kind: &str, exhibits: &[Bytes]) -> Result<String, String> {
        let mut believed = PastRosters::of(&self.directory()).map_err(|error| error.to_string())?;
        // What is not believed is left out.
        let _ = believed.believe(&self.seen_rosters().map_err(|failure| failure.to_string())?);
        judge(&believed, (kind, exhibits), clock::show).map_err(|error| error.to_string())
    }

    fn seen_keysets(&self) -> Result<Vec<(String, Bytes)>, Failure> {
        let all = seen(&self.folder, KEYSETS, limits::KEYSET_BYTES_MAX)?.into_iter();
        Ok(all.filter_map(|(_, bytes)| Some((keyset_of(&bytes)?.agency, bytes))).collect())
    }
}

/// The rosters that were in force at a node, or lay between two that were, by version.
pub(crate) fn seen_rosters(folder: &Folder) -> Result<BTreeMap<u64, Bytes>, Failure> {
    let mut rosters = BTreeMap::new();
    for (_, bytes) in seen(folder, ROSTERS, limits::ROSTER_BYTES_MAX)? {
        if let Ok(roster) = evidence_file::roster_of(&bytes) {
            rosters.insert(roster.version, bytes);
        }
    }
    Ok(rosters)
}

/// What the name of a keyset's file tells of its content.
fn short_hash(bytes: &Bytes) -> String {
    hex(&sha256(&[bytes])).chars().take(16).collect()
}

/// Files of a folder with their names, by name.
fn seen(folder: &Folder, name: &str, max: usize) -> Result<Vec<(String, Bytes)>, Failure> {
    let folder = folder.path(name);
    let failed = |error: &std::io::Error| Failure::file("read", &folder, error);
    let mut paths = Vec::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(&folder).map_err(|error| failed(&error))?.take(FILES_MAX) {
            paths.push(entry.map_err(|error| failed(&error))?.path());
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files::read(path, max as u64).map(|bytes| (name, Bytes::from(bytes)))
    };
    paths.iter().map(|path| read(path).map_err(|error| failed(&error))).collect()
}

/// The agency whose packet key signed what a record holds.
fn signer(record: &Record) -> Option<String> {
    match record {
        Record::Incoming(stored) => {
            let header: Header = canonical::decode(&stored.header, limits::HEADER_BYTES_MAX).ok()?;
            Some(lintas_proto::envelope::core::Core::parse(&header.core).ok()?.originator.agency)
        }
        Record::Evidence(stored) => {
            let signed: SignedEvidence =
                canonical::decode(&stored.evidence, limits::SIGNED_EVIDENCE_BYTES_MAX).ok()?;
            Some(Evidence::parse(&signed.evidence).ok()?.actor.agency)
        }
        Record::Outgoing(_)
        | Record::Receipt(_)
        | Record::Refusal(_)
        | Record::Rejection(_)
        | Record::Doubted(_)
        | Record::Purge(_)
        | Record::Confirmation(_)
        | Record::Inclusion(_)
        | Record::RootProof(_)
        | Record::Review(_)
        | Record::Finding(_) => None,
    }
}

fn keyset_of(bytes: &Bytes) -> Option<Keyset> {
    let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX).ok()?;
    canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX).ok()
}
