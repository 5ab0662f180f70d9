//! One packet against what the log shows of it: its proofs, or what does not hold.

use bytes::Bytes;
use lintas_proto::{
    audit::{note::SignedCheckpoint, tile},
    canonical,
    schema::{IncludedPacket, LeafProof, SlotOpening},
};

use super::{LogSource, Logs, Reader, Stop, open_slot, prove};
use crate::{
    core::log::{
        findings::{Finding, Kind},
        inclusion::{Fault, Proven, Tiles, leaf_time_ms, prove_leaf, stands},
    },
    shell::{clock::show, desk::Pending},
};

/// What was proven of the epoch that a packet stands in.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) logs: &'a Logs,
    pub(super) signed: &'a SignedCheckpoint,
    pub(super) slot: &'a SlotOpening,
    pub(super) root: &'a Proven,
    pub(super) tiles: &'a Tiles,
}

/// The epoch before it: how large the sub-log was then, and how large it is now.
#[derive(Clone, Copy)]
pub(super) struct Earlier {
    pub(super) epoch: u64,
    pub(super) before: u64,
    pub(super) size_now: u64,
}

/// The proofs of a packet's events, or what does not hold of them.
pub(super) async fn packet<S: LogSource>(
    reader: &mut Reader<'_, S>,
    pending: &Pending,
    shown: Shown<'_>,
    earlier: Earlier,
) -> Result<Result<IncludedPacket, Box<Finding>>, Stop> {
    let root = shown.slot.root.as_ref().try_into().map_err(|_| Fault::Closed(earlier.epoch))?;
    let (size, mut leaves) = (shown.slot.size, Vec::with_capacity(pending.leaves.len()));
    for (index, leaf) in pending.promise.indices.iter().zip(&pending.leaves) {
        match prove_leaf(*index, leaf, shown.tiles, (size, &root)) {
            Ok(proof) => leaves.push(proof),
            Err(Fault::Leaf(_)) => {
                let other = reader.leaf(&shown.logs.sub, *index, earlier.size_now).await?;
                let path = tile::inclusion(shown.tiles, size, *index)?;
                let path = path.iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
                let proof = LeafProof { index: *index, leaf: other, path };
                if !stands(&proof, size, &root) {
                    return Err(Fault::Leaf(*index).into());
                }
                return Ok(Err(Box::new(other_leaf(pending, &proof, shown))));
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    if let Some(finding) = back_dated(reader, pending, &leaves, shown, earlier).await? {
        return Ok(Err(Box::new(finding)));
    }
    let header_digest = pending.header_digest.clone();
    Ok(Ok(IncludedPacket { header_digest, incoming: pending.incoming, leaves }))
}

/// Whether the time of a leaf lies outside of its epoch, and what shows it.
async fn back_dated<S: LogSource>(
    reader: &mut Reader<'_, S>,
    pending: &Pending,
    leaves: &[LeafProof],
    shown: Shown<'_>,
    earlier: Earlier,
) -> Result<Option<Finding>, Stop> {
    let ended_ms = shown.root.entry.time_ms;
    let time_ms = |proof: &LeafProof| leaf_time_ms(&proof.leaf).unwrap_or_default();
    if let Some(late) = leaves.iter().find(|proof| time_ms(proof) > ended_ms) {
        let text = format!(
            "entry {} of {} says that it is of {}, and stands in an epoch that ended {}",
            late.index,
            shown.logs.sub,
            show(time_ms(late)),
            show(ended_ms)
        );
        return Ok(Some(Finding::evidence(Kind::BackDated, text, exhibits(pending, Some(late), shown))));
    }
    let Some(epoch) = earlier.epoch.checked_sub(1) else { return Ok(None) };
    let before = prove(shown.logs, reader, epoch, shown.signed).await?;
    let old = |proof: &&LeafProof| proof.index >= earlier.before && time_ms(proof) < before.entry.time_ms;
    let Some(old) = leaves.iter().find(old) else { return Ok(None) };
    let size = earlier.before;
    let (sub, now) = (&shown.logs.sub, earlier.size_now);
    let tiles = reader.tiles(sub, now, |wanted| tile::root(wanted, size).map(drop)).await?;
    let slot = open_slot(shown.logs, reader, &before, (size, &tiles)).await?;
    let text = format!(
        "entry {} of {} says that it is of {}; at {} the log had {size} entries, and not this one",
        old.index,
        shown.logs.sub,
        show(time_ms(old)),
        show(before.entry.time_ms)
    );
    let mut shows = exhibits(pending, Some(old), shown);
    shows.extend([canonical::encode(&slot), canonical::encode(&before.proof)]);
    Ok(Some(Finding::evidence(Kind::BackDated, text, shows)))
}

fn other_leaf(pending: &Pending, proof: &LeafProof, shown: Shown<'_>) -> Finding {
    let text = format!(
        "the broker promised entry {} of {} to an event of packet {}, and another one stands there",
        proof.index, shown.logs.sub, pending.packet_id
    );
    Finding::evidence(Kind::OtherLeaf, text, exhibits(pending, Some(proof), shown))
}

/// The deadline is over, and the log ends before the event.
pub(super) fn not_kept(pending: &Pending, slot: &SlotOpening, root: &Proven) -> Finding {
    let index = pending.promise.indices.last().copied().unwrap_or_default();
    let text = format!(
        "the broker promised that entry {index} of {} would stand there by {}; at {} that log had {} entries (packet {})",
        pending.promise.origin,
        show(pending.promise.deadline_ms),
        show(root.entry.time_ms),
        slot.size,
        pending.packet_id
    );
    let shows = vec![pending.receipt.clone(), canonical::encode(slot), canonical::encode(&root.proof)];
    Finding::evidence(Kind::PromiseNotKept, text, shows)
}

/// As [`not_kept`], by a checkpoint that no quorum has cosigned. With the receipt alone, so that it is told once.
pub(super) fn not_kept_unwitnessed(pending: &Pending, root: &Proven) -> Finding {
    let text = format!(
        "the broker promised that packet {} would stand in the log {} by {}; at {} it did not, by a checkpoint that no \
         quorum of witnesses has cosigned",
        pending.packet_id,
        pending.promise.origin,
        show(pending.promise.deadline_ms),
        show(root.entry.time_ms)
    );
    Finding::accusation(Kind::PromiseNotKept, text, vec![pending.receipt.clone()])
}

/// Receipt, leaf, slot, epoch.
fn exhibits(pending: &Pending, leaf: Option<&LeafProof>, shown: Shown<'_>) -> Vec<Bytes> {
    let mut shows = vec![pending.receipt.clone()];
    shows.extend(leaf.map(canonical::encode));
    shows.extend([canonical::encode(shown.slot), canonical::encode(&shown.root.proof)]);
    shows
}
