//! The account of attachments: what each agency has here, and how much more it may bring.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lintas_proto::id::Digest;

/// Most bytes of attachments that no packet has named yet, uploads in progress included, of one agency.
pub(crate) const UNNAMED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Most attachments that no packet has named yet, uploads in progress included, of one agency.
pub(crate) const UNNAMED_BLOBS_MAX: usize = 1_024;
/// How long an attachment waits for a packet that names it, milliseconds: 1 day.
pub(crate) const UNNAMED_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most bytes of attachments of one agency.
pub(crate) const HELD_BYTES_MAX: u64 = 128 * 1024 * 1024 * 1024;
/// Most attachments of one agency.
pub(crate) const HELD_BLOBS_MAX: usize = 65_536;

/// All agencies' accounts. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory(Arc<Mutex<HashMap<String, Account>>>);

#[derive(Debug, Default)]
struct Account {
    kept: HashMap<Digest, Kept>,
    /// Uploads in progress.
    uploads: usize,
    uploading_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    length: u64,
    /// Since when it waits for a packet; none when one names it.
    unnamed_since_ms: Option<u64>,
}

/// Room for one upload, given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    inventory: Inventory,
    agency: String,
    length: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(account) = self.inventory.lock().get_mut(&self.agency) {
            account.uploads = account.uploads.saturating_sub(1);
            account.uploading_bytes = account.uploading_bytes.saturating_sub(self.length);
        }
    }
}

impl Inventory {
    pub(super) fn has(&self, agency: &str, blob: &Digest) -> bool {
        self.lock().get(agency).is_some_and(|account| account.kept.contains_key(blob))
    }

    /// Room for an upload of `length` bytes; none when the agency has used up its own.
    pub(super) fn reserve(&self, agency: &str, length: u64) -> Option<Reserved> {
        let mut accounts = self.lock();
        let account = accounts.entry(agency.to_owned()).or_default();
        if !account.has_room(length) {
            return None;
        }
        account.uploads += 1;
        account.uploading_bytes = account.uploading_bytes.saturating_add(length);
        Some(Reserved { inventory: self.clone(), agency: agency.to_owned(), length })
    }

    /// An attachment is complete and durable.
    pub(super) fn keep(&self, agency: &str, blob: Digest, length: u64, unnamed_since_ms: Option<u64>) {
        let mut accounts = self.lock();
        let kept = &mut accounts.entry(agency.to_owned()).or_default().kept;
        // Two uploads of the same: the first one counts, it may be named already.
        kept.entry(blob).or_insert(Kept { length, unnamed_since_ms });
    }

    /// A packet names it.
    pub(super) fn name(&self, agency: &str, blob: &Digest) {
        let mut accounts = self.lock();
        if let Some(kept) = accounts.get_mut(agency).and_then(|account| account.kept.get_mut(blob)) {
            kept.unnamed_since_ms = None;
        }
    }

    /// It is gone.
    pub(super) fn remove(&self, agency: &str, blob: &Digest) {
        if let Some(account) = self.lock().get_mut(agency) {
            account.kept.remove(blob);
        }
    }

    /// Attachments that have waited too long for a packet.
    pub(super) fn overdue(&self, now_ms: u64) -> Vec<(String, Digest)> {
        let late = |kept: &Kept| {
            kept.unnamed_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= UNNAMED_MS_MAX)
        };
        let accounts = self.lock();
        let all = accounts.iter().flat_map(|(agency, account)| {
            account.kept.iter().map(move |(blob, kept)| (agency.clone(), *blob, kept))
        });
        all.filter(|(_, _, kept)| late(kept)).map(|(agency, blob, _)| (agency, blob)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn has_room(&self, length: u64) -> bool {
        let unnamed = self.kept.values().filter(|kept| kept.unnamed_since_ms.is_some());
        let unnamed_bytes: u64 = unnamed.clone().map(|kept| kept.length).fold(0, u64::saturating_add);
        let held_bytes: u64 = self.kept.values().map(|kept| kept.length).fold(0, u64::saturating_add);
        let more = self.uploading_bytes.saturating_add(length);
        unnamed.count() + self.uploads < UNNAMED_BLOBS_MAX
            && self.kept.len() + self.uploads < HELD_BLOBS_MAX
            && unnamed_bytes.saturating_add(more) <= UNNAMED_BYTES_MAX
            && held_bytes.saturating_add(more) <= HELD_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    #[test]
    fn an_agency_may_not_bring_more_than_its_packets_name() {
        let inventory = Inventory::default();
        let first = inventory.reserve("TH", UNNAMED_BYTES_MAX - 1).unwrap();
        assert!(inventory.reserve("TH", 2).is_none(), "uploads in progress count");
        assert!(inventory.reserve("KH", 2).is_some(), "for their own agency");
        drop(first);
        inventory.keep("TH", [1; 32], UNNAMED_BYTES_MAX - 1, Some(5));
        assert!(inventory.reserve("TH", 2).is_none(), "kept ones count");
        inventory.name("TH", &[1; 32]);
        assert!(inventory.reserve("TH", 2).is_some(), "named ones do not");
    }

    #[test]
    fn all_that_an_agency_holds_has_a_limit() {
        let inventory = Inventory::default();
        inventory.keep("TH", [1; 32], HELD_BYTES_MAX - GIB, None);
        assert!(inventory.reserve("TH", GIB).is_some() && inventory.reserve("TH", GIB + 1).is_none());
        for n in 0..UNNAMED_BLOBS_MAX {
            let mut blob = [0; 32];
            blob[..8].copy_from_slice(&(n as u64).to_be_bytes());
            inventory.keep("KH", blob, 1, Some(5));
        }
        assert!(inventory.reserve("KH", 1).is_none());
    }

    #[test]
    fn only_what_nobody_names_grows_too_old() {
        let inventory = Inventory::default();
        inventory.keep("TH", [1; 32], 1, Some(5));
        inventory.keep("TH", [2; 32], 1, None);
        assert!(inventory.overdue(4 + UNNAMED_MS_MAX).is_empty());
        assert_eq!(inventory.overdue(5 + UNNAMED_MS_MAX), [("TH".to_owned(), [1; 32])]);
    }
}
