//! Verifying sealed segments after opening, beside everything else: in small pieces, and behind everybody who has work.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::Disk;
use crate::error::{Field, OpenError};
use crate::group::{ALIGN, GROUP_HEADER_BYTES, GroupHeader};
use crate::layout::window;
use crate::limits::CHUNK_BYTES;
use crate::scan::Walk;
use crate::sealed::Sealed;

/// A part of a segment in memory: at least one group, and a chunk.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    base: u32,
    bytes: Vec<u8>,
}

impl Pane {
    /// Holds at least `count` bytes from `at` on, as far as `end`.
    fn show<D: Disk>(&mut self, disk: &D, sealed: &Sealed, at: u32, count: u32) -> Result<(), OpenError> {
        let left = sealed.end.saturating_sub(at);
        let count = count.min(left);
        if at.checked_sub(self.base).is_some_and(|from| window(&self.bytes, from, count).is_some()) {
            return Ok(());
        }
        let chunk = u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX);
        self.base = at;
        self.bytes.resize(count.max(chunk).min(left) as usize, 0);
        let read = disk.read(sealed.found.file, u64::from(at), &mut self.bytes);
        read.map_err(|source| OpenError::Io { doing: "verify a segment", source })
    }

    /// Length of the group at `at`, by its header; of a header alone if that is none.
    fn group_bytes(&self, sealed: &Sealed, at: u32) -> u32 {
        let header = at.checked_sub(self.base).and_then(|from| self.bytes.get(from as usize..));
        let header = header.and_then(|rest| GroupHeader::decode(rest, sealed.found.header.number, at).ok());
        let bytes = header.and_then(|header| header.body_bytes.checked_add(GROUP_HEADER_BYTES));
        bytes.and_then(|bytes| bytes.checked_next_multiple_of(ALIGN)).unwrap_or(GROUP_HEADER_BYTES)
    }
}

/// Walks over a sealed segment from its first group to its end; false if it was told to stop.
///
/// # Errors
/// `Io`, `Damaged`.
pub(crate) fn verify<D: Disk>(
    disk: &D,
    sealed: &Sealed,
    pane: &mut Pane,
    stop: &AtomicBool,
) -> Result<bool, OpenError> {
    let found = &sealed.found;
    *pane = Pane { base: 0, bytes: std::mem::take(&mut pane.bytes) };
    pane.bytes.clear();
    if sealed.end > found.length {
        return Err(sealed.damage(found.length, Field::SegmentEnd, found.header.first_sequence));
    }
    let (mut state, mut map) = (Walk::new(&found.header, &[]), found.empty_map());
    while state.at < sealed.end {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        pane.show(disk, sealed, state.at, GROUP_HEADER_BYTES)?;
        pane.show(disk, sealed, state.at, pane.group_bytes(sealed, state.at))?;
        let mut walk = state.over(pane.base, &pane.bytes);
        let Some(group) = walk.step().map_err(|fault| found.damage(fault, sealed.evidence))? else { break };
        map.add(&group);
        sealed.check_index(&map, &group)?;
        let next = walk.over(0, &[]);
        state = next;
    }
    sealed.check_end(&map, state.next_sequence)?;
    Ok(true)
}
