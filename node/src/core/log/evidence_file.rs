//! Everything that shows what became of one packet: verified from the roster alone, and told in plain words.
//!
//! Nothing in the file is believed on its own word. Rosters lead to the reader's (or to its bootstrap file), keysets to the
//! identity keys in those rosters, statements to those keysets, leaves through slot and entry to a signed checkpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory, DirectoryError,
    directory::{Broker, PastRoster, PastRosters, chain::STEPS_MAX},
};
use lintas_proto::{
    audit::{
        epoch::RootEntry,
        leaf::LEAF_BYTES,
        note::{log_name, quorum, root_origin},
        proof::TlogProof,
    },
    canonical,
    envelope::{
        core::Core,
        verify::{PacketKeys as _, VerifiedHeader, verify_header},
    },
    evidence::{Evidence, verify_evidence},
    id::{Digest, hex},
    limits,
    receipt::{Receipt, sub_log_origin, verify_receipt},
    schema::{
        AuditEvent, DirectoryBundle, EventType, EvidenceFile, Header, Outcome, Roster, SignedEvidence,
        SignedReceipt, SignedRoster, UnitRef,
    },
    sign::{KeyRole, VerifyingKey, key_id},
};
use thiserror::Error;

use super::{
    inclusion::{leaf_time_ms, opens, stands},
    receipts::{Grade, root_of},
};
use crate::core::{
    state::name,
    text::{self, one_line},
    view::{Acknowledged, EvidenceView, Happened, LogPlace},
};

/// Longest file, bytes.
pub(crate) const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a file shows nothing.
#[derive(Debug, Error)]
#[error("{part} of the evidence file does not hold: {why}")]
pub(crate) struct Fault {
    /// Which part.
    part: &'static str,
    /// What is wrong with it.
    why: String,
}

fn fault(part: &'static str) -> impl Fn(&dyn ToString) -> Fault {
    move |why| Fault { part, why: why.to_string() }
}

/// What the reader believes already.
#[derive(Debug)]
pub(crate) enum Anchor<'a> {
    /// A verified directory.
    Directory(&'a Directory),
    /// The authorities of a bootstrap file.
    Bootstrap(&'a Bootstrap),
}

/// What is believed of the region, with what the file adds.
struct Region {
    past: PastRosters,
    versions: Vec<u64>,
    directories: Vec<Directory>,
}

impl Region {
    fn of(file: &EvidenceFile, anchor: &Anchor<'_>) -> Result<Self, Fault> {
        let wrong = fault("a roster");
        let mut past = match anchor {
            Anchor::Directory(directory) => PastRosters::of(directory),
            Anchor::Bootstrap(bootstrap) => PastRosters::from_bootstrap(bootstrap),
        }
        .map_err(|error| wrong(&error))?;
        let bundles: Vec<&Bytes> = [&file.directory].into_iter().chain(&file.more_directories).collect();
        let mut offered = BTreeMap::new();
        for bytes in &bundles {
            let bundle: DirectoryBundle =
                canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX).map_err(|error| wrong(&error))?;
            offer(&mut offered, &bundle.roster).map_err(|error| wrong(&error))?;
        }
        for roster in &file.rosters {
            offer(&mut offered, roster).map_err(|error| wrong(&error))?;
        }
        if offered.len() > STEPS_MAX {
            return Err(wrong(&"there are more than anybody walks"));
        }
        if let Some((version, error)) = past.believe(&offered).first() {
            return Err(wrong(&format!("version {version}: {error}")));
        }
        let mut versions: Vec<u64> =
            offered.into_keys().chain(past.newest().map(|newest| newest.version)).collect();
        versions.sort_unstable();
        versions.dedup();
        let open = |bytes: &&Bytes| open_bundle(bytes).map_err(|error| fault("a directory")(&error));
        let directories = bundles.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { past, versions, directories })
    }

    /// Believed rosters, the newest first.
    fn rosters(&self) -> impl Iterator<Item = &PastRoster> {
        self.versions.iter().rev().filter_map(|version| self.past.get(*version))
    }

    fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.rosters().flat_map(|roster| &roster.brokers)
    }

    fn receipt_key(&self, id: &Digest) -> Option<&Broker> {
        self.brokers().find(|broker| key_id(KeyRole::Receipt, broker.receipt_key.as_bytes()) == *id)
    }

    fn packet_key(&self, unit: &UnitRef, id: &Digest, time_ms: u64) -> Option<VerifyingKey> {
        self.directories.iter().find_map(|directory| directory.at(time_ms).packet_key(unit, id).cloned())
    }
}

/// Takes a roster among those offered; two of one version are a fault.
fn offer(offered: &mut BTreeMap<u64, Bytes>, bytes: &Bytes) -> Result<(), DirectoryError> {
    let version = roster_of(bytes)?.version;
    match offered.insert(version, bytes.clone()) {
        Some(other) if other != *bytes => Err(DirectoryError::Rule {
            whose: "evidence file".to_owned(),
            what: "it holds two rosters of one version",
        }),
        Some(_) | None => Ok(()),
    }
}

/// The roster in the canonical bytes of a `SignedRoster`; nothing is verified.
pub(crate) fn roster_of(bytes: &Bytes) -> Result<Roster, DirectoryError> {
    let signed: SignedRoster = canonical::decode(bytes, limits::ROSTER_BYTES_MAX)?;
    Ok(canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX)?)
}

/// A directory whose roster is believed by other ways: its keysets are verified under it.
pub(crate) fn open_bundle(bytes: &Bytes) -> Result<Directory, DirectoryError> {
    let bundle: DirectoryBundle = canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX)?;
    Directory::open(bytes, &Bootstrap::of(&roster_of(&bundle.roster)?)?)
}

/// Reads a file and checks everything in it; gives what it shows.
pub(crate) fn verify(bytes: &Bytes, anchor: &Anchor<'_>) -> Result<EvidenceView, Fault> {
    let file: EvidenceFile =
        canonical::decode(bytes, FILE_BYTES_MAX).map_err(|error| fault("the form")(&error))?;
    if file.format != 1 {
        return Err(fault("the form")(&"it is of another version"));
    }
    let region = Region::of(&file, anchor)?;
    let header = header(&file, &region)?;
    let (core, digest) = (header.core(), *header.digest());
    let (receipt, events, agency) = receipt(&file, &region, &header)?;
    let sent = events.first().is_some_and(|event| event.r#type == EventType::Submitted as i32);
    let acknowledged = statements(&file, &region, &header, (&receipt, &events))?;
    let place = place(&file, &region, &receipt, &agency)?;
    let grade = place.as_ref().map_or(Grade::Promised, |place| place.grade());
    let happened = events.iter().zip(&receipt.events).map(|(event, logged)| happened(event, logged.index));
    let missing = missing(grade, sent, &events, &acknowledged, place.as_ref());
    Ok(EvidenceView {
        packet_id: core.packet_id.to_string(),
        digest: hex(&digest),
        region: core.region.clone(),
        kind: core.kind.as_str_name().to_owned(),
        from: name(&core.originator),
        created_ms: core.created_ms,
        of: agency,
        side: if sent { "sent" } else { "received" }.to_owned(),
        log: receipt.origin.clone(),
        receipt_ms: receipt.time_ms,
        deadline_ms: receipt.deadline_ms,
        events: happened.collect(),
        acknowledgements: acknowledged,
        grade: grade.as_str().to_owned(),
        place,
        missing,
        written: None,
    })
}

fn header(file: &EvidenceFile, region: &Region) -> Result<VerifiedHeader, Fault> {
    let wrong = fault("the packet's header");
    let claimed: Header =
        canonical::decode(&file.header, limits::HEADER_BYTES_MAX).map_err(|error| wrong(&error))?;
    let core = Core::parse(&claimed.core).map_err(|error| wrong(&error))?;
    let mut last = wrong(&"no directory in the file has the sender's keys");
    for directory in &region.directories {
        match verify_header(&file.header, &file.signature, &directory.at(core.created_ms)) {
            Ok(header) if core.region == directory.roster().region => return Ok(header),
            Ok(_) => last = wrong(&"it is of another region"),
            Err(error) => last = wrong(&error),
        }
    }
    Err(last)
}

/// The receipt, its events, and in whose sub-log it stands.
fn receipt(
    file: &EvidenceFile,
    region: &Region,
    header: &VerifiedHeader,
) -> Result<(Receipt, Vec<AuditEvent>, String), Fault> {
    let wrong = fault("the broker's receipt");
    let signed: SignedReceipt =
        canonical::decode(&file.receipt, limits::RECEIPT_BYTES_MAX).map_err(|error| wrong(&error))?;
    let mut signer = None;
    let (receipt, events) = verify_receipt(&signed, |id| {
        let broker = region.receipt_key(id)?;
        signer = Some(broker);
        Some(&broker.receipt_key)
    })
    .map_err(|error| wrong(&error))?;
    let agency = events.first().map(|event| event.agency.clone()).unwrap_or_default();
    let of_broker = |broker: &Broker| {
        (0..=broker.ended_logs.len())
            .any(|ended| sub_log_origin(&log_name(&broker.name, ended), &agency) == receipt.origin)
    };
    if !signer.is_some_and(of_broker) {
        return Err(wrong(&"it stands in a log that is not its signer's"));
    }
    let core = header.core();
    let same = receipt.header_digest == *header.digest() && receipt.packet_id == core.packet_id;
    let from = events.iter().all(|event| event.originator.as_ref() == Some(&core.originator));
    if same && from { Ok((receipt, events, agency)) } else { Err(wrong(&"it is for another packet")) }
}

/// What recipients and brokers said, each verified.
fn statements(
    file: &EvidenceFile,
    region: &Region,
    header: &VerifiedHeader,
    (receipt, events): (&Receipt, &[AuditEvent]),
) -> Result<Vec<Acknowledged>, Fault> {
    let wrong = fault("a signed statement");
    let core = header.core();
    let mut said = Vec::with_capacity(file.evidence.len());
    for bytes in &file.evidence {
        let signed: SignedEvidence =
            canonical::decode(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX).map_err(|error| wrong(&error))?;
        let claimed = Evidence::parse(&signed.evidence).map_err(|error| wrong(&error))?;
        let id = signed.proof.as_ref().and_then(|proof| Digest::try_from(proof.key_id.as_ref()).ok());
        let key = id.and_then(|id| {
            if claimed.actor.unit.is_empty() {
                let broker = region.receipt_key(&id).filter(|broker| broker.name == claimed.actor.agency);
                broker.map(|broker| broker.receipt_key.clone())
            } else {
                region.packet_key(&claimed.actor, &id, claimed.time_ms)
            }
        });
        let key = key.ok_or_else(|| wrong(&format!("no key of {} fits it", name(&claimed.actor))))?;
        let evidence = verify_evidence(&signed, |_, _| Some(&key)).map_err(|error| wrong(&error))?;
        let about = evidence.header_digest == *header.digest()
            && evidence.packet_id == core.packet_id
            && evidence.region == core.region;
        let asked = |unit: &UnitRef| events.iter().any(|event| event.recipient.as_ref() == Some(unit));
        let broker_says_no = evidence.actor.unit.is_empty() && evidence.outcome != Outcome::Acceptance;
        let recipient = evidence.recipient.as_ref();
        let may = match recipient {
            Some(unit) => asked(unit) && (broker_says_no || evidence.actor == *unit),
            None => broker_says_no,
        };
        if !about || !may {
            return Err(wrong(&format!("{} may not say this of this packet", name(&evidence.actor))));
        }
        said.push(acknowledged(&evidence, receipt, events));
    }
    Ok(said)
}

fn acknowledged(evidence: &Evidence, receipt: &Receipt, events: &[AuditEvent]) -> Acknowledged {
    let about = |(event, _): &(&AuditEvent, &lintas_proto::schema::LoggedEvent)| {
        event.recipient.is_some() && event.recipient == evidence.recipient
    };
    let ours = events.iter().zip(&receipt.events).find(about);
    let leaf = match (&evidence.leaf, ours) {
        (None, _) => "it names no entry of its own log".to_owned(),
        // The recipient's own side: the very leaf.
        (Some(leaf), Some((event, logged))) if event.r#type == EventType::Received as i32 => {
            if logged.leaf == leaf.as_slice() {
                "the entry that it saw is this one"
            } else {
                "it saw ANOTHER entry"
            }
            .to_owned()
        }
        (Some(leaf), Some((event, _))) => own_log(leaf, event),
        (Some(_), None) => "the receipt has nothing to compare its entry with".to_owned(),
    };
    let (ours, _) = text::reason(evidence.reason);
    Acknowledged {
        by: name(&evidence.actor),
        recipient: evidence.recipient.as_ref().map(name),
        accepted: evidence.outcome == Outcome::Acceptance,
        why: if evidence.outcome == Outcome::Acceptance { String::new() } else { ours.to_owned() },
        text: one_line(&evidence.text),
        time_ms: evidence.time_ms,
        leaf,
    }
}

/// A recipient names the leaf in its own sub-log: kind and time of it must be those of the release here. The rest of it
/// only the recipient can open.
fn own_log(leaf: &[u8; LEAF_BYTES], event: &AuditEvent) -> String {
    let received = leaf.get(1).is_some_and(|kind| i32::from(*kind) == EventType::Received as i32);
    if received && leaf_time_ms(leaf) == Some(event.time_ms) {
        "its own log shows the same event, at the same time".to_owned()
    } else {
        "its own log shows SOMETHING ELSE: compare with that agency".to_owned()
    }
}

/// Where the events stand, every step of it checked; none while they are only promised.
fn place(
    file: &EvidenceFile,
    region: &Region,
    receipt: &Receipt,
    agency: &str,
) -> Result<Option<LogPlace>, Fault> {
    let wrong = fault("a proof of the log");
    let (Some(slot), Some(root)) = (&file.slot, &file.root) else {
        let none = file.slot.is_none() && file.root.is_none() && file.leaves.is_empty();
        return if none { Ok(None) } else { Err(wrong(&"a part of it is missing")) };
    };
    let origin = root_of(&receipt.origin);
    let entry = RootEntry::parse(&root.entry).map_err(|error| wrong(&error))?;
    let proof = TlogProof::parse(&root.proof).map_err(|error| wrong(&error))?;
    let signed = region
        .brokers()
        .filter(|broker| {
            // A key that was in use before a log began does not sign for it.
            let mut logs = 0..=broker.ended_logs.len();
            logs.any(|ended| root_origin(&log_name(&broker.name, ended)) == origin)
        })
        .any(|broker| proof.verify(&root.entry, origin, &broker.log_key).is_ok());
    if !signed || proof.index != entry.epoch {
        return Err(wrong(&"the epoch's entry does not stand in a tree that the broker's log has signed"));
    }
    // Members never leave: all rosters with as many members have the same ones.
    let members = |roster: &&PastRoster| u32::try_from(roster.agencies.len()) == Ok(entry.slots);
    let roster = region.rosters().find(members);
    let roster = roster.ok_or_else(|| wrong(&"no roster here has as many members as the epoch has slots"))?;
    if roster.index_of(agency) != Some(slot.roster_index) || !opens(slot, &entry) {
        return Err(wrong(&"the slot is not this agency's in that epoch"));
    }
    let sub_root = Digest::try_from(slot.root.as_ref()).map_err(|_| wrong(&"the root of the sub-log"))?;
    let same = file.leaves.len() == receipt.events.len()
        && file.leaves.iter().zip(&receipt.events).all(|(leaf, event)| {
            let in_time = leaf_time_ms(&leaf.leaf).is_some_and(|time_ms| time_ms <= entry.time_ms);
            leaf.index == event.index
                && leaf.leaf == event.leaf
                && in_time
                && stands(leaf, slot.size, &sub_root)
        });
    if !same {
        return Err(wrong(&"an event of the receipt does not stand where it was promised"));
    }
    Ok(Some(LogPlace {
        origin: origin.to_owned(),
        epoch: entry.epoch,
        epoch_ms: entry.time_ms,
        sub_log_size: slot.size,
        tree_size: proof.checkpoint.claim().size,
        cosigned: proof.checkpoint.cosignatures(&roster.witnesses).len(),
        witnesses: roster.witnesses.len(),
        needed: quorum(roster.witnesses.len()),
        witnessed_ms: proof.checkpoint.witnessed_at(&roster.witnesses).map(|at| at.saturating_mul(1_000)),
        roster_version: roster.version,
    }))
}

fn happened(event: &AuditEvent, index: u64) -> Happened {
    let kind = EventType::try_from(event.r#type).unwrap_or_default();
    let code = kind.as_str_name();
    let decides = [EventType::Released, EventType::Denied, EventType::NotAccepted, EventType::Withheld];
    let decided = || {
        if event.policy_ids.is_empty() {
            "the regional baseline".to_owned()
        } else {
            event.policy_ids.iter().map(|id| one_line(id)).collect::<Vec<_>>().join(", ")
        }
    };
    Happened {
        event: code.strip_prefix("EVENT_TYPE_").unwrap_or(code).to_owned(),
        recipient: event.recipient.as_ref().map(name),
        time_ms: event.time_ms,
        index,
        decided_by: decides.contains(&kind).then(decided),
    }
}

fn missing(
    grade: Grade,
    sent: bool,
    events: &[AuditEvent],
    said: &[Acknowledged],
    place: Option<&LogPlace>,
) -> Vec<String> {
    let mut missing = Vec::new();
    match (grade, place) {
        (Grade::Promised, _) => missing.push(
            "the proofs that the broker's log has these events: it has not shown them yet, or this file was made before"
                .to_owned(),
        ),
        (Grade::Included, Some(place)) if place.witnesses == 0 => {
            missing.push("cosignatures: this region has no witnesses".to_owned());
        }
        (Grade::Included, Some(place)) => missing.push(format!(
            "a quorum of witnesses: {} have cosigned, {} of {} are needed",
            place.cosigned, place.needed, place.witnesses
        )),
        (Grade::Included, None) | (Grade::Witnessed, _) => {}
    }
    let released = events.iter().filter(|event| event.r#type == EventType::Released as i32);
    for unit in released.filter_map(|event| event.recipient.as_ref()).map(name).filter(|_| sent) {
        if !said.iter().any(|said| said.recipient.as_ref() == Some(&unit)) {
            missing.push(format!("the acknowledgement of {unit}: none has come here yet"));
        }
    }
    missing
}

/// The key and time by which somebody spoke, for whoever looks for its keyset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Speaker {
    /// Who.
    pub(crate) unit: UnitRef,
    /// Id of the packet key.
    pub(crate) key_id: Digest,
    /// When.
    pub(crate) time_ms: u64,
}

/// Whose keysets a file needs: the sender's first, then those of all who said something; brokers have none.
pub(crate) fn speakers(header: &Bytes, evidence: &[Bytes]) -> Vec<Speaker> {
    let mut speakers = Vec::new();
    let core = canonical::decode::<Header>(header, limits::HEADER_BYTES_MAX).ok();
    if let Some(core) = core.and_then(|header| Core::parse(&header.core).ok()) {
        let (unit, key_id) = (core.originator, core.sign_key_id);
        speakers.push(Speaker { unit, key_id, time_ms: core.created_ms });
    }
    for bytes in evidence {
        let signed = canonical::decode::<SignedEvidence>(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX).ok();
        let Some(signed) = signed else { continue };
        let key_id = signed.proof.as_ref().and_then(|proof| Digest::try_from(proof.key_id.as_ref()).ok());
        let Some((said, key_id)) = Evidence::parse(&signed.evidence).ok().zip(key_id) else { continue };
        if !said.actor.unit.is_empty() {
            speakers.push(Speaker { unit: said.actor, key_id, time_ms: said.time_ms });
        }
    }
    speakers
}

/// Bundles in which every speaker's key is found, from rosters and keysets that were seen; the sender's first. What is not
/// found is left out, and whoever verifies says so.
pub(crate) fn bundles(
    speakers: &[Speaker],
    rosters: &BTreeMap<u64, Bytes>,
    keysets: &[(String, Bytes)],
) -> Vec<Bytes> {
    let mut bundles: Vec<(u64, BTreeMap<String, Bytes>)> = Vec::new();
    for speaker in speakers {
        let agency = &speaker.unit.agency;
        let fits = |roster: &Bytes, keyset: &Bytes| {
            let bundle = DirectoryBundle { roster: roster.clone(), keysets: vec![keyset.clone()] };
            let opened = open_bundle(&canonical::encode(&bundle)).ok();
            opened.is_some_and(|d| d.at(speaker.time_ms).packet_key(&speaker.unit, &speaker.key_id).is_some())
        };
        let of_agency = keysets.iter().filter(|(whose, _)| whose == agency);
        let found = of_agency.rev().find_map(|(_, keyset)| {
            let (version, _) = rosters.iter().rev().find(|(_, roster)| fits(roster, keyset))?;
            Some((*version, keyset.clone()))
        });
        let Some((version, keyset)) = found else { continue };
        let same = |(of, keysets): &&mut (u64, BTreeMap<String, Bytes>)| {
            *of == version && keysets.get(agency).is_none_or(|known| *known == keyset)
        };
        match bundles.iter_mut().find(same) {
            Some((_, keysets)) => drop(keysets.insert(agency.clone(), keyset)),
            None => bundles.push((version, [(agency.clone(), keyset)].into())),
        }
    }
    let pack = |(version, keysets): (u64, BTreeMap<String, Bytes>)| {
        let roster = rosters.get(&version)?.clone();
        Some(canonical::encode(&DirectoryBundle { roster, keysets: keysets.into_values().collect() }))
    };
    bundles.into_iter().filter_map(pack).collect()
}
