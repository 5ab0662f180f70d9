//! The account of free room, and the empty segments it consists of.
//!
//! A group is admitted when it is handed in, before it has a sequence: from then on it can no longer fail for
//! lack of room. The promise holds for any order and packing of what is admitted, because it counts in whole
//! segments and writes off one longest group at the end of each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, warn};

use crate::Class;
use crate::disk::{Disk, no_room};
use crate::error::CommitError;
use crate::layout::all_zero;
use crate::limits::{CHUNK_BYTES, HOUSEKEEPING_SEGMENTS, Limits};
use crate::segment::SEGMENT_HEADER_BYTES;

#[derive(Debug)]
pub(crate) struct Space<D> {
    disk: D,
    limits: Limits,
    /// Set once, never cleared: a write or a sync failed.
    poisoned: AtomicBool,
    account: Mutex<Account>,
    /// Held by whoever makes a segment ready, so that a second caller waits for the first instead of
    /// concluding that there is no room.
    preparing: Mutex<()>,
}

#[derive(Debug)]
struct Account {
    /// Files that are zero, of the right length and durable, name and all.
    spares: Vec<u64>,
    /// Files whose content is no longer needed, still to be overwritten.
    condemned: Vec<u64>,
    /// Room left in the segment being written; 0 while compaction changes it.
    active_free: u64,
    /// Encoded bytes that are admitted but not yet durable.
    pending: u64,
    /// Spares that the running compaction will take.
    held: u64,
    /// A compaction runs.
    housekeeping: bool,
    /// All segment files, in any state.
    files: u64,
    next_file: u64,
}

/// What recovery found, to start the account with.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) spares: Vec<u64>,
    pub(crate) condemned: Vec<u64>,
    pub(crate) files: u64,
    pub(crate) next_file: u64,
}

/// Whether there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Granted,
    Short,
}

impl<D: Disk> Space<D> {
    pub(crate) fn new(disk: D, limits: Limits, stock: Stock, active_free: u64) -> Self {
        let Stock { spares, condemned, files, next_file } = stock;
        let account = Account {
            spares,
            condemned,
            active_free,
            pending: 0,
            held: 0,
            housekeeping: false,
            files,
            next_file,
        };
        let account = Mutex::new(account);
        Self { disk, limits, poisoned: AtomicBool::new(false), account, preparing: Mutex::new(()) }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    /// From here on nobody is told that anything is durable.
    pub(crate) fn poison(&self, doing: &'static str, cause: &dyn std::fmt::Display) -> CommitError {
        self.poisoned.store(true, Ordering::SeqCst);
        error!(doing, %cause, "the journal is poisoned");
        CommitError::Poisoned
    }

    /// Reserves room for an encoded group, if there is.
    pub(crate) fn try_admit(&self, bytes: u64, class: Class) -> Room {
        let keep = u64::from(HOUSEKEEPING_SEGMENTS)
            + match class {
                Class::Ordinary => u64::from(self.limits.reserve_segments),
                Class::Essential => 0,
            };
        let mut account = self.account();
        let pending = account.pending.saturating_add(bytes);
        let needed = self.segments_needed(pending, account.active_free);
        if needed.saturating_add(keep).saturating_add(account.held) > account.spares.len() as u64 {
            return Room::Short;
        }
        account.pending = pending;
        Room::Granted
    }

    /// Reserves room, making segments ready as long as that helps.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`] when there is none; [`CommitError::Poisoned`].
    pub(crate) fn admit(&self, bytes: u64, class: Class) -> Result<(), CommitError> {
        while self.try_admit(bytes, class) == Room::Short {
            self.make_room()?;
        }
        Ok(())
    }

    /// Makes one more segment ready; called when there was too little room.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`] when that is impossible; [`CommitError::Poisoned`].
    pub(crate) fn make_room(&self) -> Result<(), CommitError> {
        let seen = self.account().spares.len();
        let _turn = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.account().spares.len() > seen {
            return Ok(());
        }
        if self.wipe_one()? || self.create_one()? { Ok(()) } else { Err(CommitError::DiskFull) }
    }

    /// Admitted bytes became durable, and this much room is left in their segment.
    pub(crate) fn written(&self, bytes: u64, active_free: u64) {
        let mut account = self.account();
        account.pending = account.pending.saturating_sub(bytes);
        account.active_free = if account.housekeeping { 0 } else { active_free };
    }

    /// A spare for the next segment. The account guarantees one for what is admitted.
    pub(crate) fn take_spare(&self) -> Option<u64> {
        let mut account = self.account();
        let file = account.spares.pop()?;
        account.held = account.held.saturating_sub(1);
        account.active_free = if account.housekeeping { 0 } else { self.limits.fresh_bytes() };
        Some(file)
    }

    /// Sets `segments` spares aside for a compaction that will free `freed` files, if what is admitted keeps
    /// its room and the next compaction will find its spare again.
    pub(crate) fn begin_housekeeping(&self, segments: u64, freed: u64) -> Room {
        let mut account = self.account();
        let needed = self.segments_needed(account.pending, 0);
        let spares = account.spares.len() as u64;
        let after = spares.saturating_add(freed).saturating_add(account.condemned.len() as u64);
        let promised = segments.saturating_add(needed) <= spares;
        let repeatable =
            segments.saturating_add(needed).saturating_add(u64::from(HOUSEKEEPING_SEGMENTS)) <= after;
        if !(promised && repeatable) {
            return Room::Short;
        }
        account.held = segments;
        account.housekeeping = true;
        account.active_free = 0;
        Room::Granted
    }

    /// The compaction is over; these files are to be overwritten.
    pub(crate) fn end_housekeeping(&self, active_free: u64, condemned: Vec<u64>) {
        let mut account = self.account();
        account.held = 0;
        account.housekeeping = false;
        account.active_free = active_free;
        account.condemned.extend(condemned);
    }

    /// Overwrites what is condemned, removes spares beyond the target and makes up for missing ones.
    /// A full disk is not an error here: the next one who needs the room is told.
    ///
    /// # Errors
    /// [`CommitError::Poisoned`]: a write or a sync failed.
    pub(crate) fn tend(&self) -> Result<(), CommitError> {
        loop {
            let _turn = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
            let more = self.wipe_one()? || self.trim_one()? || (self.wants_spare() && self.create_one()?);
            if !more {
                return Ok(());
            }
        }
    }

    /// Whether [`Space::tend`] has something to do.
    pub(crate) fn wants_tending(&self) -> bool {
        !self.account().condemned.is_empty() || self.wants_spare()
    }

    fn wants_spare(&self) -> bool {
        let account = self.account();
        (account.spares.len() as u64) < self.spares_wanted(&account)
    }

    fn spares_wanted(&self, account: &Account) -> u64 {
        let needed = self.segments_needed(account.pending, account.active_free);
        self.limits.spare_target().saturating_add(needed).saturating_add(account.held)
    }

    /// Whole segments that hold these bytes in any packing, when `active_free` are left in the current one.
    fn segments_needed(&self, pending: u64, active_free: u64) -> u64 {
        if pending <= active_free {
            return 0;
        }
        let waste = u64::from(self.limits.group_bytes_max);
        let each = self.limits.fresh_bytes().saturating_sub(waste).max(1);
        pending.saturating_sub(active_free.saturating_sub(waste)).div_ceil(each)
    }

    /// Overwrites one condemned file and keeps it as a spare, or removes it if its length is not that of one.
    fn wipe_one(&self) -> Result<bool, CommitError> {
        let Some(file) = self.account().condemned.pop() else { return Ok(false) };
        let length = self.disk.length(file).map_err(|cause| self.poison("measure a segment", &cause))?;
        wipe(&self.disk, file, length).map_err(|cause| self.poison("overwrite a segment", &cause))?;
        if length == u64::from(self.limits.segment_bytes) {
            self.account().spares.push(file);
        } else {
            self.remove(file)?;
        }
        Ok(true)
    }

    /// Removes one spare beyond the target.
    fn trim_one(&self) -> Result<bool, CommitError> {
        let extra = {
            let mut account = self.account();
            let wanted = self.spares_wanted(&account);
            if account.spares.len() as u64 > wanted { account.spares.pop() } else { None }
        };
        extra.map_or(Ok(false), |file| self.remove(file).map(|()| true))
    }

    fn remove(&self, file: u64) -> Result<(), CommitError> {
        let removed = self.disk.remove(file).and_then(|()| self.disk.sync_directory());
        removed.map_err(|cause| self.poison("remove a segment", &cause))?;
        let mut account = self.account();
        account.files = account.files.saturating_sub(1);
        Ok(())
    }

    /// `false` if there is no room.
    fn create_one(&self) -> Result<bool, CommitError> {
        let file = {
            let account = self.account();
            if account.files >= u64::from(self.limits.segments_max) {
                warn!(files = account.files, "segments_max is reached");
                return Ok(false);
            }
            account.next_file
        };
        match self.disk.create(file, u64::from(self.limits.segment_bytes)) {
            Ok(()) => {}
            Err(cause) if no_room(&cause) => return Ok(false),
            Err(cause) => return Err(self.poison("allocate a segment", &cause)),
        }
        self.disk.sync_directory().map_err(|cause| self.poison("sync the directory", &cause))?;
        let mut account = self.account();
        account.next_file = file.saturating_add(1);
        account.files = account.files.saturating_add(1);
        account.spares.push(file);
        Ok(true)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Overwrites a file with zeros, the header last: as long as the header is there it tells that the rest is
/// not needed, and once it is gone nothing is left of the rest. Piece by piece, as a new file is made: commits go on.
pub(crate) fn wipe<D: Disk>(disk: &D, file: u64, length: u64) -> std::io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES];
    let header = u64::from(SEGMENT_HEADER_BYTES).min(length);
    let mut at = header;
    while at < length {
        let count = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        disk.write(file, at, zeros.get(..count).unwrap_or_default())?;
        disk.sync(file)?;
        at = at.saturating_add(count as u64);
    }
    disk.write(file, 0, zeros.get(..usize::try_from(header).unwrap_or(0)).unwrap_or_default())?;
    disk.sync(file)
}

/// Whether the file is zero from `at` to its end.
pub(crate) fn blank_from<D: Disk>(disk: &D, file: u64, mut at: u64, length: u64) -> std::io::Result<bool> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while at < length {
        let count = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let part = chunk.get_mut(..count).unwrap_or_default();
        disk.read(file, at, part)?;
        if !all_zero(part) {
            return Ok(false);
        }
        at = at.saturating_add(count as u64);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_admitted_fits_in_the_order_it_came(
            sizes in prop::collection::vec(120..=2048u64, 1..100),
            active_free in 0..12_000u64,
            spares in 1..6u64,
            settled_after in 1..20usize,
        ) {
            let limits = Limits { segment_bytes: 16 << 10, record_bytes_max: 1500, group_bytes_max: 2048, ..Limits::default() };
            let disk = SimDisk::new(1, 512);
            disk.set_capacity(0);
            let stock = Stock { spares: (1..=spares).collect(), ..Stock::default() };
            let space = Space::new(disk, limits.clone(), stock, active_free);
            let (mut free, mut waiting, mut kept) = (active_free, Vec::new(), spares);
            let mut write = |space: &Space<SimDisk>, waiting: &mut Vec<u64>| {
                for bytes in waiting.drain(..) {
                    if bytes > free {
                        assert!(space.take_spare().is_some());
                        kept -= 1;
                        free = limits.fresh_bytes();
                    }
                    free -= bytes;
                    space.written(bytes, free);
                }
                assert!(kept >= u64::from(HOUSEKEEPING_SEGMENTS));
            };
            for bytes in sizes {
                if space.try_admit(bytes, Class::Essential) == Room::Granted {
                    waiting.push(bytes);
                }
                if waiting.len() >= settled_after {
                    write(&space, &mut waiting);
                }
            }
            write(&space, &mut waiting);
        }
    }
}
