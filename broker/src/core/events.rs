//! What else the log is told: who has slots and under which keys, changes of the directory, refusals, reads of auditors,
//! and that an epoch has ended. Each becomes a record of its own; [`Ledger::apply`] says what must fit.
//!
//! | event | in whose sub-log | what its fields say |
//! |---|---|---|
//! | `DIRECTORY_CHANGED` | every member's | version and hash of the roster. One for each roster that was in force when a round of the sequencer began |
//! | `POLICY_CHANGED` | the agency's | version and hash of its policy bundle, at the beginning of the log too |
//! | `KEY_CHANGED` | the agency's | version and hash of its keyset; without a version: hash of its new slot key |
//! | `DENIED` | the originator's | the recipient, the policy that denied and what it says, what it was asked, hash of the signed evidence |
//! | `NOT_ACCEPTED` | the originator's | the same of a recipient whose own policy denied, as far as the originator may know; without a recipient: the reason why the packet was refused |
//! | `NOT_ACCEPTED` | the recipient's | that denial in full |
//! | `AUDIT_READ` | the auditor's | whose entries, and which |
//! | `AUDIT_READ_TOLD` | the agency's | who read which entries, and when; after the roster's delay |
//!
//! What the log was told of last stands in the ledger, and every record in the journal before it is in the ledger. So a
//! crash between a change and its event changes nothing: the broker compares when it starts, and tells it then.

use bytes::Bytes;
use lintas_config::{Directory, policy::Policies};
use lintas_proto::{
    id::{Digest, PacketId, sha256},
    limits,
    schema::{
        AuditEvent, EventType, Reason, StoredEpoch, StoredEvents, StoredMembers, StoredRead, StoredSlotKey,
        UnitRef,
    },
};
use rand_core::CryptoRng;

use super::{
    judge::{Denied, Words},
    ledger::Ledger,
    record::Fact,
    refuse::{Concerned, Refused, cut},
    rules::Rules,
    scribe::Scribe,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The end of an epoch.
#[must_use]
pub fn epoch(ledger: &Ledger, rules: &Rules, now_ms: u64) -> Fact {
    Fact::Epoch(StoredEpoch {
        epoch: ledger.audit().epochs(),
        time_ms: ledger.time_at(now_ms),
        directory_hash: bytes(rules.directory().hash()),
        policy_set_hash: bytes(rules.policies().hash()),
    })
}

/// The members of the roster in force, if the ledger knows an older one. Nobody is ever taken out of a roster, so
/// whoever has a sub-log keeps its slot.
#[must_use]
pub fn members(ledger: &Ledger, rules: &Rules, now_ms: u64, entropy: &mut dyn CryptoRng) -> Option<Fact> {
    let directory: &Directory = rules.directory();
    let (roster, known) = (directory.roster(), ledger.audit().roster_version());
    if roster.version <= known {
        return None;
    }
    let mut scribe = Scribe::new(ledger, rules.generation(), now_ms);
    let agencies: Vec<String> = roster.members.iter().map(|member| member.agency.clone()).collect();
    let mut event = |agency: &String| {
        let event = AuditEvent {
            version: roster.version,
            evidence_digest: bytes(directory.roster_hash()),
            ..about(EventType::DirectoryChanged, agency)
        };
        scribe.store(event, entropy)
    };
    Some(Fact::Members(StoredMembers {
        roster_version: roster.version,
        events: if known > 0 { agencies.iter().map(&mut event).collect() } else { Vec::new() },
        keysets: agencies
            .iter()
            .map(|agency| bytes(directory.keyset_hash(agency).unwrap_or(&[0; 32])))
            .collect(),
        agencies,
    }))
}

/// Keysets that the log was not told of. The ledger must know the members. An agency without a keyset that counts
/// (because it is held, or has left) has not changed it.
#[must_use]
pub fn keysets(ledger: &Ledger, rules: &Rules, now_ms: u64, entropy: &mut dyn CryptoRng) -> Option<Fact> {
    let directory = rules.directory();
    let mut scribe = Scribe::new(ledger, rules.generation(), now_ms);
    let changed = |agency: &&str| {
        directory.keyset_hash(agency).is_some_and(|hash| ledger.audit().keyset(agency) != Some(hash))
    };
    let mut event = |agency: &str| {
        let event = AuditEvent {
            version: directory.keyset_version(agency).unwrap_or_default(),
            evidence_digest: directory.keyset_hash(agency).map(bytes).unwrap_or_default(),
            ..about(EventType::KeyChanged, agency)
        };
        scribe.store(event, entropy)
    };
    let events: Vec<_> = ledger.audit().members().filter(changed).map(&mut event).collect();
    let told = !events.is_empty();
    told.then(|| Fact::Events(StoredEvents { events, ..StoredEvents::default() }))
}

/// Policy bundles in force that the log was not told of. The ledger must know the members. The newest one is told: of a
/// bundle that was in force between two rounds nobody was asked anything.
#[must_use]
pub fn policies(ledger: &Ledger, rules: &Rules, now_ms: u64, entropy: &mut dyn CryptoRng) -> Option<Fact> {
    let (mut scribe, policies): (_, &Policies) =
        (Scribe::new(ledger, rules.generation(), now_ms), rules.policies());
    let mut events = Vec::new();
    for bundle in policies.bundles() {
        let audit = ledger.audit();
        if audit.keyset(bundle.owner()).is_none() || audit.policy(bundle.owner()) == Some(bundle.hash()) {
            continue;
        }
        let event = AuditEvent {
            version: bundle.version(),
            evidence_digest: bytes(bundle.hash()),
            ..about(EventType::PolicyChanged, bundle.owner())
        };
        events.push(scribe.store(event, entropy));
    }
    let told = !events.is_empty();
    told.then(|| Fact::Events(StoredEvents { events, ..StoredEvents::default() }))
}

/// Another slot key of an agency; none if it has that one. The first one is no event.
#[must_use]
pub fn slot_key(
    (agency, key): (&str, &[u8; 32]),
    ledger: &Ledger,
    scribe: &mut Scribe<'_>,
    entropy: &mut dyn CryptoRng,
) -> Option<Fact> {
    let before = ledger.audit().slot_key(agency);
    if *key == [0; 32] || before == Some(key) || ledger.audit().keyset(agency).is_none() {
        return None;
    }
    let event = before.map(|_| {
        let event =
            AuditEvent { evidence_digest: bytes(&sha256(&[key])), ..about(EventType::KeyChanged, agency) };
        scribe.store(event, entropy)
    });
    Some(Fact::SlotKey(StoredSlotKey { agency: agency.to_owned(), key: bytes(key), event }))
}

/// A final refusal, with the hash of the signed evidence that its sender is given: one event, or one for each recipient that
/// was denied, and one in the log of each whose own policy denied. None for what is not final.
#[must_use]
pub fn refusal(
    refused: &Refused,
    evidence: &Digest,
    scribe: &mut Scribe<'_>,
    entropy: &mut dyn CryptoRng,
) -> Option<Fact> {
    let Concerned { originator, denials, facts } = refused.concerns.as_deref()?;
    let (packet, version) = ((&refused.packet?, &refused.header_digest), scribe.generation().roster_version);
    let event = |kind, agency: &str| about_packet(kind, agency, packet, originator);
    let mut events = Vec::new();
    for one in denials {
        let told = denied(event(one.kind(), &originator.agency), one, &one.told, usize::MAX, version);
        let told = AuditEvent { facts: facts.clone(), evidence_digest: bytes(evidence), ..told };
        events.push(scribe.store(told, entropy));
    }
    for (one, words) in denials.iter().filter_map(|one| one.own.as_ref().map(|words| (one, words))) {
        let own = event(EventType::NotAccepted, &one.recipient.agency);
        let own = AuditEvent { facts: facts.clone(), ..denied(own, one, words, usize::MAX, version) };
        events.push(scribe.store(own, entropy));
    }
    if denials.is_empty() {
        let event = AuditEvent {
            reason: refused.reason as i32,
            evidence_digest: bytes(evidence),
            ..event(EventType::NotAccepted, &originator.agency)
        };
        events.push(scribe.store(event, entropy));
    }
    Some(Fact::Events(StoredEvents { events, ..StoredEvents::default() }))
}

/// An auditor is given `count` openings from `first_index` on of another agency's sub-log.
#[must_use]
pub fn read(
    (auditor, agency): (&str, &str),
    (first_index, count): (u64, u64),
    told_after_days: u32,
    scribe: &mut Scribe<'_>,
    entropy: &mut dyn CryptoRng,
) -> Fact {
    let event = AuditEvent {
        first_index,
        count,
        other_agency: agency.to_owned(),
        ..about(EventType::AuditRead, auditor)
    };
    let time_ms = scribe.time_ms();
    let read = StoredRead {
        auditor: auditor.to_owned(),
        agency: agency.to_owned(),
        first_index,
        count,
        time_ms,
        tell_ms: time_ms.saturating_add(u64::from(told_after_days).saturating_mul(DAY_MS)),
    };
    Fact::Events(StoredEvents { events: vec![scribe.store(event, entropy)], read: Some(read), told: 0 })
}

/// The read of record `sequence` is told to the agency whose sub-log it was.
#[must_use]
pub fn told(
    (sequence, read): (u64, &StoredRead),
    scribe: &mut Scribe<'_>,
    entropy: &mut dyn CryptoRng,
) -> Fact {
    let event = AuditEvent {
        first_index: read.first_index,
        count: read.count,
        other_agency: read.auditor.clone(),
        other_time_ms: read.time_ms,
        ..about(EventType::AuditReadTold, &read.agency)
    };
    Fact::Events(StoredEvents { events: vec![scribe.store(event, entropy)], read: None, told: sequence })
}

/// An event about a packet.
pub(super) fn about_packet(
    kind: EventType,
    agency: &str,
    (packet, digest): (&PacketId, &Digest),
    originator: &UnitRef,
) -> AuditEvent {
    AuditEvent {
        packet_id: Bytes::copy_from_slice(packet.as_bytes()),
        header_digest: bytes(digest),
        originator: Some(originator.clone()),
        ..about(kind, agency)
    }
}

/// The event of a denial, in `words`; `version` is the roster's.
pub(super) fn denied(
    event: AuditEvent,
    denied: &Denied,
    words: &Words,
    text_max: usize,
    version: u64,
) -> AuditEvent {
    AuditEvent {
        recipient: Some(denied.recipient.clone()),
        policy_ids: vec![words.policy_id.clone()],
        reason: Reason::Policy as i32,
        text: cut(&words.text, text_max),
        version,
        named: denied.named,
        ..event
    }
}

/// As many policies as an event names.
pub(super) fn ids(all: &[String]) -> Vec<String> {
    all.iter().take(limits::POLICY_IDS_MAX).cloned().collect()
}

/// An event of an agency that says nothing yet.
pub(super) fn about(kind: EventType, agency: &str) -> AuditEvent {
    AuditEvent { r#type: kind as i32, agency: agency.to_owned(), ..AuditEvent::default() }
}

pub(super) fn bytes(hash: &Digest) -> Bytes {
    Bytes::copy_from_slice(hash)
}

#[cfg(test)]
mod tests;
