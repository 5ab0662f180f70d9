//! Erasure orders: an agency orders that openings in its own sub-log are forgotten. Here an order is checked, and the
//! packets are found that it is about; the sequencer writes it down and the log says that it was done.

use std::collections::BTreeSet;

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    audit::{
        files::LogFile,
        opening::{self, KEY_BYTES, OpeningError},
        tile::{WIDTH, entries},
    },
    canonical::{self, fixed},
    envelope::verify::PacketKeys as _,
    id::PacketId,
    limits,
    schema::{AuditEvent, ErasureOrder, EventType, Reason, SignedErasureOrder, UnitRef},
    sign::Signed,
};

use super::{
    reading::LogFiles,
    streams::{own, unreadable},
};
use crate::shell::{clock::IN_DOUBT, intake::Denied, shared::Shared};

/// What is to be done with an order.
#[derive(Debug)]
pub(super) enum Checked {
    /// Nothing: it was done before. Index of the ERASED event that says so.
    Done(u64),
    /// All of it, or what is left.
    ToDo {
        order: Box<SignedErasureOrder>,
        /// Packets that its entries are about.
        packets: Vec<PacketId>,
    },
}

/// Checks an order, and looks up what it is about. Reads the log's files.
///
/// # Errors
/// Why it is refused.
pub(super) fn check(shared: &Shared, agency: &str, bytes: &Bytes) -> Result<Checked, Denied> {
    let now_ms = shared.clock.agreed_ms().ok_or_else(|| (Reason::Clock, IN_DOUBT.to_owned()))?;
    let directory = shared.directory();
    let (signed, order) = verify(&directory, agency, bytes, now_ms)?;
    let files = own(shared, &directory, agency).ok_or_else(unreadable)?;
    let me = directory.brokers().iter().find(|broker| broker.name == shared.broker);
    if me.is_none_or(|me| me.sub_log_origin(agency) != order.origin) {
        let text = format!(
            "The order names the log {}, which is not the present log of {agency} at this broker; an agency orders \
             erasure in its own log only.",
            order.origin
        );
        return Err((Reason::Policy, text));
    }
    let size = files.size().map_err(unread)?;
    if order.indices.last().is_none_or(|last| *last >= size) {
        let text = format!(
            "The order names entries that are not in the published log, which has {size}; order it again when they are."
        );
        return Err((Reason::NotYetValid, text));
    }
    let (mut packets, mut left, mut bundle) = (BTreeSet::new(), false, None);
    for index in &order.indices {
        match event(&files, &mut bundle, *index)? {
            Some(event) if event.packet_id.is_empty() => {
                let text = format!(
                    "Entry {index} is about no packet, so it holds nothing that could be erased; leave it out of the \
                     order."
                );
                return Err((Reason::Policy, text));
            }
            Some(event) => {
                packets.insert(PacketId::from_bytes(&event.packet_id).map_err(|_| unreadable())?);
                left = true;
            }
            // Erased before.
            None => {}
        }
    }
    match order.indices.first().filter(|_| !left) {
        Some(first) => erased_by(&files, size, *first).map(Checked::Done),
        None => Ok(Checked::ToDo { order: Box::new(signed), packets: packets.into_iter().collect() }),
    }
}

/// The order, if it is this agency's, complete and of now.
fn verify(
    directory: &Directory,
    agency: &str,
    bytes: &Bytes,
    now_ms: u64,
) -> Result<(SignedErasureOrder, ErasureOrder), Denied> {
    let unread = || malformed("The erasure order cannot be read; make it anew on the agency's node.");
    let signed: SignedErasureOrder =
        canonical::decode(bytes, limits::ERASURE_BYTES_MAX).map_err(|_| unread())?;
    let order: ErasureOrder =
        canonical::decode(&signed.order, limits::ERASURE_BYTES_MAX).map_err(|_| unread())?;
    let unit = directory
        .member(agency)
        .and_then(|member| member.units.first())
        .map(|unit| UnitRef { agency: agency.to_owned(), unit: unit.unit.clone() });
    let (at, key_id) = (directory.at(now_ms), fixed("key_id", &signed.key_id).map_err(|_| unread())?);
    let key = unit.as_ref().and_then(|unit| at.packet_key(unit, &key_id));
    let fits =
        key.is_some_and(|key| key.verify(Signed::ErasureOrder, &signed.order, &signed.signature).is_ok());
    if !fits {
        let text = format!(
            "The erasure order is not signed with the key of {agency} that is in force; sign it on the agency's node."
        );
        return Err((Reason::BadSignature, text));
    }
    if order.region != directory.roster().region {
        return Err((Reason::WrongRegion, "The erasure order is for another region.".to_owned()));
    }
    if order.time_ms.abs_diff(now_ms) > limits::CLOCK_SKEW_MS_MAX {
        let text =
            "The time of the erasure order is more than 5 minutes off; make it anew, and look at the clocks.";
        return Err((Reason::Clock, text.to_owned()));
    }
    let ground = &order.ground;
    if !(1..=limits::SENTENCE_BYTES_MAX).contains(&ground.len()) || ground.chars().any(char::is_control) {
        return Err(malformed(
            "The order needs its legal ground: plain text in one line, at most 384 bytes.",
        ));
    }
    let ascend = order.indices.iter().zip(order.indices.iter().skip(1)).all(|(one, next)| one < next);
    if order.indices.is_empty() || order.indices.len() > limits::ERASURE_INDICES_MAX || !ascend {
        return Err(malformed("The order needs 1 to 4,096 entries, each once, in ascending order."));
    }
    Ok((signed, order))
}

/// The files that hold 256 entries.
struct Bundle {
    number: u64,
    entries: Vec<u8>,
    openings: Vec<u8>,
    keys: Vec<u8>,
}

/// What an entry says; none if it was erased. Keeps the bundle for the next one.
fn event(files: &LogFiles, kept: &mut Option<Bundle>, index: u64) -> Result<Option<AuditEvent>, Denied> {
    let number = index / WIDTH;
    if kept.as_ref().is_none_or(|bundle| bundle.number != number) {
        *kept = Some(Bundle::read(files, number)?);
    }
    let at = usize::try_from(index % WIDTH).unwrap_or_default();
    let bundle = kept.as_ref().ok_or_else(unreadable)?;
    let leaf = entries(&bundle.entries).nth(at).flatten().ok_or_else(unreadable)?;
    let sealed = entries(&bundle.openings).nth(at).flatten().ok_or_else(unreadable)?;
    let key = bundle.keys.chunks_exact(KEY_BYTES).nth(at).and_then(|key| key.try_into().ok());
    match opening::open(index, leaf, key.ok_or_else(unreadable)?, sealed) {
        Ok((_, event)) => Ok(Some(event)),
        Err(OpeningError::Erased) => Ok(None),
        Err(error @ (OpeningError::Damaged | OpeningError::Leaf(_))) => {
            tracing::error!(index, %error, "an entry of the log cannot be opened");
            Err(unreadable())
        }
    }
}

impl Bundle {
    fn read(files: &LogFiles, number: u64) -> Result<Self, Denied> {
        let size = files.size().map_err(unread)?;
        let width = size.saturating_sub(number.saturating_mul(WIDTH)).min(WIDTH);
        let width = u16::try_from(width).unwrap_or_default();
        let read = |what| files.bytes(what).map_err(unread)?.ok_or_else(unreadable);
        Ok(Self {
            number,
            entries: read(LogFile::Entries(number, width))?,
            openings: read(LogFile::Openings(number))?,
            keys: read(LogFile::Keys(number))?,
        })
    }
}

/// The first ERASED event whose run has that entry.
fn erased_by(files: &LogFiles, size: u64, erased: u64) -> Result<u64, Denied> {
    let kind = u8::try_from(EventType::Erased as i32).unwrap_or_default();
    for number in erased / WIDTH..size.div_ceil(WIDTH) {
        let mut bundle = Some(Bundle::read(files, number)?);
        let leaves = bundle.as_ref().map(|bundle| bundle.entries.clone()).unwrap_or_default();
        for (index, leaf) in (number.saturating_mul(WIDTH)..).zip(entries(&leaves)) {
            if index <= erased || leaf.and_then(|leaf| leaf.get(1)) != Some(&kind) {
                continue;
            }
            let Some(event) = event(files, &mut bundle, index)? else { continue };
            if event.first_index <= erased && erased - event.first_index < event.count {
                return Ok(index);
            }
        }
    }
    let text =
        "These entries are erased already; the log does not say yet by which order. Ask again in a minute.";
    Err((Reason::Replay, text.to_owned()))
}

fn malformed(text: &str) -> Denied {
    (Reason::Malformed, text.to_owned())
}

fn unread(error: std::io::Error) -> Denied {
    tracing::error!(%error, "the log cannot be read for an erasure order");
    unreadable()
}
