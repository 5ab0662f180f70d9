//! The ledger as bytes. Written into the journal so that old segments can go, and read back when it opens.
//!
//! A run of canonical `SnapshotItem` messages, each behind its length (u32 big-endian).

use bytes::{Buf as _, Bytes};
use lintas_proto::{
    canonical::{self, DecodeError, WrongSize, fixed},
    id::{Digest, IdError, PacketId},
    limits,
    schema::{
        SnapshotAudit, SnapshotEntry, SnapshotItem, SnapshotLog, SnapshotPacket, SnapshotQueue, SnapshotRead,
        SnapshotSeen, SnapshotSlotKey, SnapshotSpent, UnitRef,
    },
};
use thiserror::Error;

use super::{
    ledger::{
        Ledger, Seen,
        audit::Audit,
        live::{LivePacket, Recipients, Units},
    },
    queue::{Entry, Held},
    spent::Block,
};

/// Why a snapshot was refused. The journal then does not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// The bytes end inside an item.
    #[error("snapshot ends inside an item")]
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
    let mut out = Vec::new();
    let mut put = |item: SnapshotItem| {
        let bytes = canonical::encode(&item);
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&bytes);
    };
    if ledger.time_ms > 0 {
        put(SnapshotItem { time_ms: ledger.time_ms, ..SnapshotItem::default() });
    }
    // `forget` gives the packet ids in a fixed order.
    for (id, seen) in ledger.forget.iter().filter_map(|(_, id)| Some((id, ledger.seen.get(id)?))) {
        put(SnapshotItem { seen: Some(seen_item(id, seen)), ..SnapshotItem::default() });
    }
    for (admission, packet) in &ledger.packets {
        put(SnapshotItem { packet: Some(packet_item(*admission, packet)), ..SnapshotItem::default() });
    }
    for (agency, queue) in &ledger.queues {
        let item = SnapshotQueue { agency: agency.clone(), next: queue.next };
        put(SnapshotItem { queue: Some(item), ..SnapshotItem::default() });
        for (number, entry) in queue.after(0) {
            let entry = entry_item(agency, number, entry);
            put(SnapshotItem { entry: Some(entry), ..SnapshotItem::default() });
        }
    }
    for (block, Block { bits, logged }) in &ledger.spent.blocks {
        let item = SnapshotSpent { block: *block, bits: *bits, logged: *logged };
        put(SnapshotItem { spent: Some(item), ..SnapshotItem::default() });
    }
    if ledger.spent.before > 0 {
        put(SnapshotItem { spent_before: ledger.spent.before, ..SnapshotItem::default() });
    }
    audit_items(&ledger.audit).for_each(put);
    out
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
    let mut bytes = Bytes::copy_from_slice(bytes);
    let mut ledger = Ledger::default();
    while bytes.has_remaining() {
        let length = bytes.try_get_u32().map_err(|_| SnapshotError::Truncated)? as usize;
        if length > bytes.remaining() {
            return Err(SnapshotError::Truncated);
        }
        take(&mut ledger, canonical::decode(&bytes.split_to(length), limits::FRAME_BYTES_MAX)?)?;
    }
    Ok(ledger)
}

fn take(ledger: &mut Ledger, item: SnapshotItem) -> Result<(), SnapshotError> {
    match item {
        SnapshotItem { seen: Some(seen), .. } => {
            let id = PacketId::from_bytes(&seen.packet_id)?;
            let digest = fixed("header_digest", &seen.header_digest)?;
            let (admission, forget_ms) = (seen.admission, seen.forget_ms);
            ledger.seen.insert(id, Seen { digest, admission, forget_ms });
            ledger.forget.insert((forget_ms, id));
        }
        SnapshotItem { packet: Some(packet), .. } => {
            let digest: Digest = fixed("header_digest", &packet.header_digest)?;
            let blobs: Result<Vec<Digest>, _> = packet.blobs.iter().map(|blob| fixed("blob", blob)).collect();
            let live = LivePacket {
                packet_id: PacketId::from_bytes(&packet.packet_id)?,
                digest,
                originator: ledger.units.get(packet.originator.as_ref().ok_or(SnapshotError::Incomplete)?),
                recipients: recipients(&mut ledger.units, &packet.recipients, &packet.recipient_indices)?,
                blobs: blobs?.into(),
                remaining: packet.remaining,
                bytes: packet.packet_bytes,
            };
            ledger.hold(packet.admission, live);
        }
        SnapshotItem { queue: Some(queue), .. } => {
            ledger.queues.entry(queue.agency).or_default().next = queue.next
        }
        SnapshotItem { entry: Some(entry), .. } => take_entry(ledger, entry)?,
        SnapshotItem { spent: Some(SnapshotSpent { block, bits, logged }), .. } => {
            ledger.spent.restore(block, Block { bits, logged });
        }
        SnapshotItem { spent_before, .. } if spent_before > 0 => ledger.spent.restore_before(spent_before),
        SnapshotItem { time_ms, .. } if time_ms > 0 => ledger.time_ms = time_ms,
        item => take_audit(&mut ledger.audit, item)?,
    }
    Ok(())
}

fn recipients(known: &mut Units, units: &[UnitRef], places: &[u32]) -> Result<Recipients, SnapshotError> {
    let mut units = units.iter().map(|unit| known.get(unit));
    if places.is_empty() {
        return Ok(Recipients::new((0..).zip(units).collect()));
    }
    let ascending = places.iter().zip(places.iter().skip(1)).all(|(a, b)| a < b);
    if places.len() != units.len() || !ascending {
        return Err(SnapshotError::Incomplete);
    }
    Ok(Recipients::new(places.iter().copied().zip(&mut units).collect()))
}

fn take_entry(ledger: &mut Ledger, entry: SnapshotEntry) -> Result<(), SnapshotError> {
    let held = match (entry.admission, entry.outcome) {
        (0, outcome) if outcome > 0 => {
            Held::Evidence { outcome, packet: PacketId::from_bytes(&entry.packet_id)? }
        }
        (admission, 0) if admission > 0 => Held::Packet { admission, recipient_index: entry.recipient_index },
        _ => return Err(SnapshotError::Incomplete),
    };
    let from = match ledger.packets.get(&entry.admission) {
        Some(packet) => packet.originator.agency.as_str(),
        None if entry.admission == 0 => "",
        None => return Err(SnapshotError::Incomplete),
    };
    let (not_before_ms, deliver_by_ms) = (entry.not_before_ms, entry.deliver_by_ms);
    let queue = ledger.queues.entry(entry.agency).or_default();
    queue.insert(entry.queue_sequence, Entry { held, not_before_ms, deliver_by_ms }, from);
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

fn seen_item(id: &PacketId, seen: &Seen) -> SnapshotSeen {
    SnapshotSeen {
        packet_id: Bytes::copy_from_slice(id.as_bytes()),
        header_digest: Bytes::copy_from_slice(&seen.digest),
        admission: seen.admission,
        forget_ms: seen.forget_ms,
    }
}

fn packet_item(admission: u64, packet: &LivePacket) -> SnapshotPacket {
    let (places, recipients): (Vec<u32>, Vec<UnitRef>) =
        packet.recipients.iter().map(|(place, unit)| (place, unit.clone())).unzip();
    let gaps = (0..).zip(&places).any(|(at, place)| at != *place);
    SnapshotPacket {
        admission,
        header_digest: Bytes::copy_from_slice(&packet.digest),
        originator: Some(UnitRef::clone(&packet.originator)),
        recipients,
        recipient_indices: if gaps { places } else { Vec::new() },
        blobs: packet.blobs.iter().map(|blob| Bytes::copy_from_slice(blob)).collect(),
        remaining: packet.remaining,
        packet_id: Bytes::copy_from_slice(packet.packet_id.as_bytes()),
        packet_bytes: packet.bytes,
    }
}

fn entry_item(agency: &str, queue_sequence: u64, entry: &Entry) -> SnapshotEntry {
    let (admission, recipient_index, outcome, packet_id) = match entry.held {
        Held::Packet { admission, recipient_index } => (admission, recipient_index, 0, Bytes::new()),
        Held::Evidence { outcome, packet } => (0, 0, outcome, Bytes::copy_from_slice(packet.as_bytes())),
    };
    SnapshotEntry {
        agency: agency.to_owned(),
        queue_sequence,
        admission,
        recipient_index,
        outcome,
        not_before_ms: entry.not_before_ms,
        deliver_by_ms: entry.deliver_by_ms,
        packet_id,
    }
}

#[cfg(test)]
mod tests;
