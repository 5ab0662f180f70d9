//! The ledger as bytes. Written into the journal so that old segments can go, and read back when it opens.
//!
//! There may be millions of packets, so this is short, and read without looking back. Numbers and texts as in
//! `terse`, a unit as in `brief`; what there are several of stands behind its count; "from"
//! says that a number is the difference to the one before it, or to 0.
//!
//! | what | how |
//! |---|---|
//! | magic | `LEDGER02` |
//! | time | time_ms; `before` of the spent records |
//! | units that packets name | each: unit |
//! | packets in queues | each: admission, from; packet id (16); header digest (32); place of its originator among the units; recipients: place among the commitments, place among the units; blobs (32 each); entries that hold it; bytes; 1 + forget_ms if the id is remembered with this admission, else 0 |
//! | other packet ids that are remembered | each: packet id (16), header digest (32), admission, forget_ms, from |
//! | queues | each: agency, next number, entries: number, from; its record, from; 0 and recipient, not_before_ms, deliver_by_ms, or 1 and packet id (16) |
//! | spent records | each: block, from; its two sets (8 each, little-endian) |
//! | the audit log | `SnapshotItem` messages, each behind its length |

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    canonical::{self, DecodeError, WrongSize, fixed},
    id::{Digest, IdError, PacketId},
    limits,
    schema::{SnapshotAudit, SnapshotItem, SnapshotLog, SnapshotRead, SnapshotSlotKey, UnitRef},
};
use thiserror::Error;

use super::{
    brief::{Unit, read_unit, several, write_unit},
    ledger::{
        Ledger, Seen,
        audit::Audit,
        live::{LivePacket, Recipients},
    },
    queue::{Entry, Held, Queue},
    spent::Block,
    terse::{Reading, Writing},
};

const MAGIC: [u8; 8] = *b"LEDGER02";

/// Why a snapshot was refused. The journal then does not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Another version wrote it.
    #[error("snapshot is of another version of this software, which can open it")]
    Version,
    /// The bytes end inside something, or something is out of its range.
    #[error("snapshot breaks off, or holds a number beyond its range")]
    Truncated,
    /// An item is not canonical.
    #[error("snapshot: {0}")]
    Decode(#[from] DecodeError),
    /// A fixed-size field of another size.
    #[error("snapshot: {0}")]
    Size(#[from] WrongSize),
    /// A packet id that is none.
    #[error("snapshot: {0}")]
    Id(#[from] IdError),
    /// An item that says nothing, or half of something.
    #[error("snapshot holds an incomplete item")]
    Incomplete,
}

/// The ledger's bytes.
#[must_use]
pub fn encode(ledger: &Ledger) -> Vec<u8> {
    let mut out = Writing::default();
    out.bytes(&MAGIC);
    out.number(ledger.time_ms);
    out.number(ledger.spent.before);
    write_packets(ledger, &mut out);
    write_others(ledger, &mut out);
    out.number(ledger.queues.len() as u64);
    for (agency, queue) in &ledger.queues {
        write_queue(agency, queue, &mut out);
    }
    out.number(ledger.spent.blocks.len() as u64);
    let mut from = 0;
    for (block, Block { bits, logged }) in &ledger.spent.blocks {
        out.number(block.saturating_sub(from));
        out.bytes(&bits.to_le_bytes());
        out.bytes(&logged.to_le_bytes());
        from = *block;
    }
    let items: Vec<Bytes> = audit_items(&ledger.audit).map(|item| canonical::encode(&item)).collect();
    out.number(items.len() as u64);
    for item in items {
        out.number(item.len() as u64);
        out.bytes(&item);
    }
    out.0
}

/// What is remembered of the id of a packet that a queue holds, if that is this packet.
fn remembered(ledger: &Ledger, admission: u64, packet: &LivePacket) -> Option<u64> {
    let seen = ledger.seen(&packet.packet_id)?;
    (seen.admission == admission && seen.digest == packet.digest).then_some(seen.forget_ms)
}

fn write_packets(ledger: &Ledger, out: &mut Writing) {
    let mut places: BTreeMap<Unit<'_>, u64> = BTreeMap::new();
    for packet in ledger.packets.values() {
        let recipients = packet.recipients.iter().map(|(_, unit)| unit);
        for unit in recipients.chain([packet.originator.as_ref()]) {
            places.insert(of(unit), 0);
        }
    }
    out.number(places.len() as u64);
    for ((unit, place), number) in places.iter_mut().zip(0..) {
        write_unit(out, *unit);
        *place = number;
    }
    let place = |unit: &UnitRef| places.get(&of(unit)).copied().unwrap_or(0);
    out.number(ledger.packets.len() as u64);
    let mut from = 0;
    for (admission, packet) in ledger.packets.iter() {
        out.number(admission.saturating_sub(from));
        from = admission;
        out.bytes(packet.packet_id.as_bytes());
        out.bytes(&packet.digest);
        out.number(place(&packet.originator));
        out.number(packet.recipients.len() as u64);
        for (at, unit) in packet.recipients.iter() {
            out.number(u64::from(at));
            out.number(place(unit));
        }
        out.number(packet.blobs.len() as u64);
        out.bytes(packet.blobs.as_flattened());
        out.number(u64::from(packet.remaining));
        out.number(packet.bytes);
        out.number(remembered(ledger, admission, packet).map_or(0, |forget_ms| forget_ms.saturating_add(1)));
    }
}

fn of(unit: &UnitRef) -> Unit<'_> {
    (&unit.agency, &unit.unit)
}

/// Packet ids that are remembered, but for those that stand with their packets.
fn write_others(ledger: &Ledger, out: &mut Writing) {
    let is_other = |id: &PacketId, seen: &Seen| {
        let packet = ledger.packets.get(&seen.admission).filter(|packet| packet.packet_id == *id);
        packet.is_none_or(|packet| packet.digest != seen.digest)
    };
    let mut others = ledger.known.in_order();
    others.retain(|(id, seen)| is_other(id, seen));
    out.number(others.len() as u64);
    let mut from = 0;
    for (id, Seen { digest, admission, forget_ms }) in others {
        out.bytes(id.as_bytes());
        out.bytes(&digest);
        out.number(admission);
        out.number(forget_ms.saturating_sub(from));
        from = forget_ms;
    }
}

fn write_queue(agency: &str, queue: &Queue, out: &mut Writing) {
    out.text(agency);
    out.number(queue.next);
    out.number(queue.len() as u64);
    let (mut from, mut from_record) = (0, 0);
    for (number, entry) in queue.after(0) {
        let record = entry.record();
        out.number(number.saturating_sub(from));
        out.number(record.saturating_sub(from_record));
        (from, from_record) = (number, record);
        match entry.held {
            Held::Packet { recipient_index, .. } => {
                out.number(0);
                out.number(u64::from(recipient_index));
                out.number(entry.not_before_ms);
                out.number(entry.deliver_by_ms);
            }
            Held::Evidence { packet, .. } => {
                out.number(1);
                out.bytes(packet.as_bytes());
            }
        }
    }
}

/// What the audit log needs.
fn audit_items(audit: &Audit) -> impl Iterator<Item = SnapshotItem> {
    let whole = SnapshotAudit {
        number: audit.number,
        epochs: audit.epochs,
        roster_version: audit.roster_version,
        agencies: audit.members.keys().cloned().collect(),
        keysets: audit.members.values().map(|keyset| Bytes::copy_from_slice(keyset)).collect(),
        erased: audit.erased,
        policies: policies(audit),
    };
    let whole = Some(whole).filter(|whole| *whole != SnapshotAudit::default());
    let whole = whole.map(|whole| SnapshotItem { audit: Some(whole), ..SnapshotItem::default() });
    let sizes = audit.sizes.iter().map(|(agency, size)| {
        let item = SnapshotLog { agency: agency.clone(), size: *size };
        SnapshotItem { log: Some(item), ..SnapshotItem::default() }
    });
    let keys = audit.slot_keys.iter().map(|(agency, key)| {
        let item = SnapshotSlotKey { agency: agency.clone(), key: Bytes::copy_from_slice(key) };
        SnapshotItem { slot_key: Some(item), ..SnapshotItem::default() }
    });
    let reads = audit.reads.iter().map(|(sequence, read)| {
        let item = SnapshotRead { sequence: *sequence, read: Some(read.clone()) };
        SnapshotItem { read: Some(item), ..SnapshotItem::default() }
    });
    whole.into_iter().chain(sizes).chain(keys).chain(reads)
}

/// Of each member the policy bundle; of nobody, if nobody has any.
fn policies(audit: &Audit) -> Vec<Bytes> {
    let of = |agency| Bytes::copy_from_slice(audit.policies.get(agency).unwrap_or(&[0; 32]));
    if audit.policies.is_empty() { Vec::new() } else { audit.members.keys().map(of).collect() }
}

/// The ledger of such bytes.
///
/// # Errors
/// [`SnapshotError`].
pub fn decode(bytes: &[u8]) -> Result<Ledger, SnapshotError> {
    let mut reading = Reading(bytes);
    if reading.array() != Some(MAGIC) {
        return Err(SnapshotError::Version);
    }
    let mut ledger = Ledger::default();
    ledger.time_ms = number(&mut reading)?;
    ledger.spent.restore_before(number(&mut reading)?);
    read_packets(&mut ledger, &mut reading)?;
    let mut from = 0;
    for _ in 0..number(&mut reading)? {
        let (packet_id, digest) = (id(&mut reading)?, array(&mut reading)?);
        let (admission, forget_ms) = (number(&mut reading)?, sum(from, &mut reading)?);
        from = forget_ms;
        ledger.known.insert(packet_id, Seen { digest, admission, forget_ms });
    }
    for _ in 0..number(&mut reading)? {
        read_queue(&mut ledger, &mut reading)?;
    }
    let mut from = 0;
    for _ in 0..number(&mut reading)? {
        from = sum(from, &mut reading)?;
        let (bits, logged) = (array(&mut reading)?, array(&mut reading)?);
        let block = Block { bits: u64::from_le_bytes(bits), logged: u64::from_le_bytes(logged) };
        ledger.spent.restore(from, block);
    }
    for _ in 0..number(&mut reading)? {
        let length = usize::try_from(number(&mut reading)?).ok();
        let item = length.and_then(|length| reading.bytes(length)).ok_or(SnapshotError::Truncated)?;
        let item = canonical::decode(&Bytes::copy_from_slice(item), limits::FRAME_BYTES_MAX)?;
        take_audit(&mut ledger.audit, item)?;
    }
    if reading.is_over() { Ok(ledger) } else { Err(SnapshotError::Incomplete) }
}

fn number(reading: &mut Reading<'_>) -> Result<u64, SnapshotError> {
    reading.number().ok_or(SnapshotError::Truncated)
}

/// A number that stands as the difference to `from`.
fn sum(from: u64, reading: &mut Reading<'_>) -> Result<u64, SnapshotError> {
    from.checked_add(number(reading)?).ok_or(SnapshotError::Truncated)
}

fn array<const N: usize>(reading: &mut Reading<'_>) -> Result<[u8; N], SnapshotError> {
    reading.array().ok_or(SnapshotError::Truncated)
}

fn id(reading: &mut Reading<'_>) -> Result<PacketId, SnapshotError> {
    Ok(PacketId::from_bytes(&array::<16>(reading)?)?)
}

fn read_packets(ledger: &mut Ledger, reading: &mut Reading<'_>) -> Result<(), SnapshotError> {
    let units = several(reading, read_unit).ok_or(SnapshotError::Truncated)?;
    let units: Vec<_> = units.into_iter().map(|unit| ledger.units.get(unit)).collect();
    let unit = |reading: &mut Reading<'_>| Some(units.get(usize::try_from(reading.number()?).ok()?)?.clone());
    let (mut admission, count) = (0, number(reading)?);
    // None is shorter than its id and digest.
    ledger.known.reserve(usize::try_from(count).unwrap_or(0).min(reading.0.len() / 48));
    for _ in 0..count {
        admission = sum(admission, reading)?;
        let (packet_id, digest): (_, Digest) = (id(reading)?, array(reading)?);
        let originator = unit(reading).ok_or(SnapshotError::Incomplete)?;
        let recipients = several(reading, |reading| Some((reading.place()?, unit(reading)?)));
        let recipients = recipients.ok_or(SnapshotError::Incomplete)?;
        if !recipients.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(SnapshotError::Incomplete);
        }
        let blobs: Vec<Digest> =
            several(reading, |reading| reading.array()).ok_or(SnapshotError::Truncated)?;
        let remaining = reading.place().ok_or(SnapshotError::Truncated)?;
        let (bytes, remembered) = (number(reading)?, number(reading)?);
        if let Some(forget_ms) = remembered.checked_sub(1) {
            ledger.known.insert(packet_id, Seen { digest, admission, forget_ms });
        }
        let (recipients, blobs) = (Recipients::new(recipients), blobs.into());
        let live = LivePacket { packet_id, digest, originator, recipients, blobs, remaining, bytes };
        ledger.hold(admission, live);
    }
    Ok(())
}

fn read_queue(ledger: &mut Ledger, reading: &mut Reading<'_>) -> Result<(), SnapshotError> {
    let agency = reading.text().ok_or(SnapshotError::Truncated)?.to_owned();
    let queue = ledger.queues.entry(agency).or_default();
    queue.next = number(reading)?;
    let (mut at, mut record) = (0, 0);
    for _ in 0..number(reading)? {
        (at, record) = (sum(at, reading)?, sum(record, reading)?);
        match number(reading)? {
            0 => {
                let recipient_index = reading.place().ok_or(SnapshotError::Truncated)?;
                let (not_before_ms, deliver_by_ms) = (number(reading)?, number(reading)?);
                let packet = ledger.packets.get(&record).ok_or(SnapshotError::Incomplete)?;
                let held = Held::Packet { admission: record, recipient_index };
                let entry = Entry { held, not_before_ms, deliver_by_ms };
                queue.insert(at, entry, &packet.originator.agency);
            }
            1 => queue.insert(at, Entry::evidence(record, id(reading)?), ""),
            _ => return Err(SnapshotError::Incomplete),
        }
    }
    Ok(())
}

fn take_audit(audit: &mut Audit, item: SnapshotItem) -> Result<(), SnapshotError> {
    match item {
        SnapshotItem { audit: Some(whole), .. } => {
            let policies = whole.policies.len();
            if whole.agencies.len() != whole.keysets.len() || ![0, whole.agencies.len()].contains(&policies) {
                return Err(SnapshotError::Incomplete);
            }
            for (agency, policy) in whole.agencies.iter().zip(&whole.policies) {
                let policy: Digest = fixed("policy", policy)?;
                if policy != [0; 32] {
                    audit.policies.insert(agency.clone(), policy);
                }
            }
            for (agency, keyset) in whole.agencies.into_iter().zip(&whole.keysets) {
                audit.members.insert(agency, fixed("keyset", keyset)?);
            }
            (audit.number, audit.epochs, audit.erased) = (whole.number, whole.epochs, whole.erased);
            audit.roster_version = whole.roster_version;
        }
        SnapshotItem { log: Some(log), .. } => {
            audit.sizes.insert(log.agency, log.size);
        }
        SnapshotItem { slot_key: Some(stored), .. } => {
            audit.slot_keys.insert(stored.agency, fixed("key", &stored.key)?);
        }
        SnapshotItem { read: Some(stored), .. } => {
            audit.reads.insert(stored.sequence, stored.read.ok_or(SnapshotError::Incomplete)?);
        }
        _ => return Err(SnapshotError::Incomplete),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
