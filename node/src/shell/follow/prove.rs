//! The epochs of the root log, and this agency's slot in each.

use lintas_proto::{
    audit::{
        note::{SignedCheckpoint, WitnessKey},
        tile,
    },
    schema::SlotOpening,
};

use super::{LogSource, Reader, Stop};
use crate::{
    core::log::inclusion::{self, Fault, Proven, Tiles},
    shell::desk::Desk,
};

/// The logs that are followed, and what opens this agency's slot.
pub(super) struct Logs {
    pub(super) root: String,
    pub(super) sub: String,
    pub(super) slot_keys: [[u8; 32]; 2],
    pub(super) index: u32,
    pub(super) members: usize,
    pub(super) witnesses: Vec<WitnessKey>,
}

impl Logs {
    pub(super) fn of(desk: &Desk) -> Option<Self> {
        let (directory, keys) = (desk.directory(), desk.keys());
        let name = desk.link().broker;
        let brokers = directory.brokers();
        let broker = brokers.iter().find(|broker| broker.name == name).or(brokers.first())?;
        Some(Self {
            root: broker.root_origin(),
            sub: broker.sub_log_origin(&keys.agency),
            // Until the broker had this agency's key it used zeros.
            slot_keys: [*keys.slot_key, [0; 32]],
            index: directory.roster_index(&keys.agency)?,
            members: directory.roster().members.len(),
            witnesses: directory.witnesses(),
        })
    }
}

/// The entry of an epoch, proven under a checkpoint.
pub(super) async fn prove<S: LogSource>(
    logs: &Logs,
    reader: &mut Reader<'_, S>,
    epoch: u64,
    signed: &SignedCheckpoint,
) -> Result<Proven, Stop> {
    let size = signed.claim().size;
    let entry = reader.root_entry(&logs.root, epoch, size).await?;
    let tiles =
        reader.tiles(&logs.root, size, |wanted| tile::inclusion(wanted, size, epoch).map(drop)).await?;
    Ok(inclusion::prove_entry(&entry, epoch, &tiles, signed)?)
}

/// This agency's slot of a proven epoch: its sub-log had `size` then.
pub(super) async fn open_slot<S: LogSource>(
    logs: &Logs,
    reader: &mut Reader<'_, S>,
    proven: &Proven,
    (size, tiles): (u64, &Tiles),
) -> Result<SlotOpening, Stop> {
    let slots = reader.slots(&logs.root, &proven.entry).await?;
    let places = inclusion::slot_places(logs.index, logs.members, proven.entry.slots);
    let places = places.ok_or(Stop::Behind)?;
    let root = tile::root(tiles, size)?;
    let open = |keys: &[[u8; 32]]| {
        inclusion::open_slot((&proven.entry, &slots), &logs.root, keys, places.clone(), (size, &root))
    };
    match open(&logs.slot_keys) {
        // An epoch under a key that this agency had before: the log names it, and a wrong one opens nothing.
        Err(Fault::Closed(_)) => Ok(open(&reader.slot_keys(&logs.sub, proven.entry.epoch).await?)?),
        other => Ok(other?),
    }
}
