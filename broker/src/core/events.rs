//! What else the log is told: who has slots and under which keys, changes of the directory, refusals, reads of auditors,
//! and that an epoch has ended. Each becomes a record of its own; [`Ledger::apply`] says what must fit.
//!
//! | event | in whose sub-log | what its fields say |
//! |---|---|---|
//! | `DIRECTORY_CHANGED` | every member's | version and hash of the roster. One for each roster that was in force when a round of the sequencer began |
//! | `KEY_CHANGED` | the agency's | version and hash of its keyset; without a version: hash of its new slot key |
//! | `DENIED` | the originator's | the recipient, the policy that denied, hash of the signed evidence |
//! | `NOT_ACCEPTED` | the originator's | the reason, hash of the signed evidence |
//! | `AUDIT_READ` | the auditor's | whose entries, and which |
//! | `AUDIT_READ_TOLD` | the agency's | who read which entries, and when; after the roster's delay |
//!
//! What the log was told of last stands in the ledger, and every record in the journal before it is in the ledger. So a
//! crash between a change and its event changes nothing: the broker compares when it starts, and tells it then.

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    id::{Digest, sha256},
    schema::{
        AuditEvent, EventType, Reason, StoredEpoch, StoredEvents, StoredMembers, StoredRead, StoredSlotKey,
    },
};
use rand_core::CryptoRng;

use super::{
    ledger::Ledger,
    record::Fact,
    refuse::{Concerned, Refused},
    scribe::Scribe,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The end of an epoch.
#[must_use]
pub fn epoch(ledger: &Ledger, directory: &Directory, now_ms: u64) -> Fact {
    Fact::Epoch(StoredEpoch {
        epoch: ledger.audit().epochs(),
        time_ms: ledger.time_at(now_ms),
        directory_hash: bytes(directory.hash()),
        policy_set_hash: Bytes::new(),
    })
}

/// The members of the roster in force, if the ledger knows an older one. Nobody is ever taken out of a roster, so
/// whoever has a sub-log keeps its slot.
#[must_use]
pub fn members(
    ledger: &Ledger,
    directory: &Directory,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Option<Fact> {
    let (roster, known) = (directory.roster(), ledger.audit().roster_version());
    if roster.version <= known {
        return None;
    }
    let mut scribe = Scribe::new(ledger, *directory.hash(), now_ms);
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
pub fn keysets(
    ledger: &Ledger,
    directory: &Directory,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Option<Fact> {
    let mut scribe = Scribe::new(ledger, *directory.hash(), now_ms);
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

/// Final refusals, each with the hash of the signed evidence that its sender is given.
#[must_use]
pub fn refusals<'a>(
    refusals: impl Iterator<Item = (&'a Refused, Digest)>,
    scribe: &mut Scribe<'_>,
    entropy: &mut dyn CryptoRng,
) -> Option<Fact> {
    let event = |(refused, evidence): (&Refused, Digest)| {
        let (Concerned { originator, recipient }, packet) = (refused.concerns.as_deref()?, refused.packet?);
        let denied = refused.reason == Reason::Policy;
        let kind = if denied { EventType::Denied } else { EventType::NotAccepted };
        let event = AuditEvent {
            packet_id: Bytes::copy_from_slice(packet.as_bytes()),
            header_digest: bytes(&refused.header_digest),
            originator: Some(originator.clone()),
            recipient: recipient.clone(),
            policy_ids: Some(refused.policy_id.to_owned()).filter(|id| !id.is_empty()).into_iter().collect(),
            reason: refused.reason as i32,
            evidence_digest: bytes(&evidence),
            ..about(kind, &originator.agency)
        };
        Some(scribe.store(event, entropy))
    };
    let events: Vec<_> = refusals.filter_map(event).collect();
    let told = !events.is_empty();
    told.then(|| Fact::Events(StoredEvents { events, ..StoredEvents::default() }))
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

/// An event of an agency that says nothing yet.
pub(super) fn about(kind: EventType, agency: &str) -> AuditEvent {
    AuditEvent { r#type: kind as i32, agency: agency.to_owned(), ..AuditEvent::default() }
}

pub(super) fn bytes(hash: &Digest) -> Bytes {
    Bytes::copy_from_slice(hash)
}

#[cfg(test)]
mod tests;
