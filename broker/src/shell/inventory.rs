//! The account of attachments: what each agency has here, whole or in part, and how much more it may bring.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lintas_proto::id::Digest;
use tokio::sync::Semaphore;

/// Most attachments that no packet has named yet, those in part included, of one agency.
pub(crate) const UNNAMED_BLOBS_MAX: usize = 1_024;
/// How long an attachment waits for a packet that names it, and a part for its rest, milliseconds: 1 day.
pub(crate) const UNNAMED_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most attachments of one agency.
pub(crate) const HELD_BLOBS_MAX: usize = 65_536;

/// All agencies' accounts. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory(Arc<Mutex<HashMap<String, Account>>>);

#[derive(Debug, Default)]
struct Account {
    kept: HashMap<Digest, Kept>,
    parts: HashMap<Digest, Part>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    length: u64,
    /// Since when it waits for a packet; none when one names it.
    unnamed_since_ms: Option<u64>,
}

/// An attachment that is not whole yet. It takes its full length from the account.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Announced bytes.
    pub(super) length: u64,
    /// Bytes that are here.
    pub(super) here: u64,
    /// When the last of them came.
    pub(super) since_ms: u64,
    /// One upload of it at a time.
    pub(super) turn: Arc<Semaphore>,
}

impl Part {
    pub(super) fn new(length: u64, here: u64, since_ms: u64) -> Self {
        Self { length, here, since_ms, turn: Arc::new(Semaphore::new(1)) }
    }
}

/// Why there is no room in an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// So many bytes are taken.
    Bytes(u64),
    /// Too many attachments.
    Count,
}

impl Inventory {
    pub(super) fn has(&self, agency: &str, blob: &Digest) -> bool {
        self.lock().get(agency).is_some_and(|account| account.kept.contains_key(blob))
    }

    /// The part of a blob of `length` bytes; a new one only if all of it fits below `bytes_max`.
    pub(super) fn part(
        &self,
        agency: &str,
        blob: Digest,
        length: u64,
        bytes_max: u64,
        now_ms: u64,
    ) -> Result<Part, Full> {
        let mut accounts = self.lock();
        let account = accounts.entry(agency.to_owned()).or_default();
        if let Some(part) = account.parts.get(&blob) {
            return Ok(part.clone());
        }
        account.check_room(length, bytes_max)?;
        let part = Part::new(length, 0, now_ms);
        account.parts.insert(blob, part.clone());
        Ok(part)
    }

    /// A part that an earlier process left.
    pub(super) fn add_part(&self, agency: &str, blob: Digest, part: Part) {
        self.lock().entry(agency.to_owned()).or_default().parts.insert(blob, part);
    }

    /// Whether the account still knows this very part.
    pub(super) fn knows(&self, agency: &str, blob: &Digest, part: &Part) -> bool {
        let accounts = self.lock();
        let known = accounts.get(agency).and_then(|account| account.parts.get(blob));
        known.is_some_and(|known| Arc::ptr_eq(&known.turn, &part.turn))
    }

    /// So many bytes of a part are here now.
    pub(super) fn progress(&self, agency: &str, blob: &Digest, here: u64, now_ms: u64) {
        let mut accounts = self.lock();
        if let Some(part) = accounts.get_mut(agency).and_then(|account| account.parts.get_mut(blob)) {
            (part.here, part.since_ms) = (here, now_ms);
        }
    }

    /// The part is gone.
    pub(super) fn remove_part(&self, agency: &str, blob: &Digest) {
        if let Some(account) = self.lock().get_mut(agency) {
            account.parts.remove(blob);
        }
    }

    /// An attachment is complete and durable.
    pub(super) fn keep(&self, agency: &str, blob: Digest, length: u64, unnamed_since_ms: Option<u64>) {
        let mut accounts = self.lock();
        let account = accounts.entry(agency.to_owned()).or_default();
        account.parts.remove(&blob);
        account.kept.entry(blob).or_insert(Kept { length, unnamed_since_ms });
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

    /// Bytes that all uploads together have announced and not brought yet.
    pub(super) fn outstanding(&self) -> u64 {
        let accounts = self.lock();
        let parts = accounts.values().flat_map(|account| account.parts.values());
        parts.map(|part| part.length.saturating_sub(part.here)).fold(0, u64::saturating_add)
    }

    /// Attachments that have waited too long for a packet.
    pub(super) fn overdue(&self, now_ms: u64) -> Vec<(String, Digest)> {
        let late = |kept: &Kept| kept.unnamed_since_ms.is_some_and(|since| is_over(since, now_ms));
        let accounts = self.lock();
        let all = accounts.iter().flat_map(|(agency, account)| {
            account.kept.iter().map(move |(blob, kept)| (agency.clone(), *blob, kept))
        });
        all.filter(|(_, _, kept)| late(kept)).map(|(agency, blob, _)| (agency, blob)).collect()
    }

    /// Parts that have waited too long for their rest, with their announced lengths; they leave the account.
    /// One that is being uploaded stays.
    pub(super) fn take_stale_parts(&self, now_ms: u64) -> Vec<(String, Digest, u64)> {
        let mut stale = Vec::new();
        for (agency, account) in self.lock().iter_mut() {
            account.parts.retain(|blob, part| {
                let live = part.turn.available_permits() == 0 || Arc::strong_count(&part.turn) > 1;
                let goes = !live && is_over(part.since_ms, now_ms);
                if goes {
                    stale.push((agency.clone(), *blob, part.length));
                }
                !goes
            });
        }
        stale
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_over(since_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= UNNAMED_MS_MAX
}

impl Account {
    fn check_room(&self, length: u64, bytes_max: u64) -> Result<(), Full> {
        let unnamed = self.kept.values().filter(|kept| kept.unnamed_since_ms.is_some());
        if unnamed.count() + self.parts.len() >= UNNAMED_BLOBS_MAX
            || self.kept.len() + self.parts.len() >= HELD_BLOBS_MAX
        {
            return Err(Full::Count);
        }
        let kept = self.kept.values().map(|kept| kept.length);
        let taken = kept.chain(self.parts.values().map(|part| part.length)).fold(0, u64::saturating_add);
        if taken.saturating_add(length) <= bytes_max { Ok(()) } else { Err(Full::Bytes(taken)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1 << 30;

    #[test]
    fn all_that_an_agency_brings_has_a_limit_and_parts_count_whole() {
        let inventory = Inventory::default();
        inventory.keep("TH", [1; 32], MAX - 100, None);
        let part = inventory.part("TH", [2; 32], 90, MAX, 5).unwrap();
        assert_eq!(inventory.part("TH", [3; 32], 11, MAX, 5).unwrap_err(), Full::Bytes(MAX - 10));
        assert!(inventory.part("KH", [3; 32], 11, MAX, 5).is_ok(), "each agency has its own");
        assert!(inventory.knows("TH", &[2; 32], &part));
        assert_eq!(inventory.part("TH", [2; 32], 90, MAX, 5).unwrap().length, 90, "the same one goes on");
        inventory.progress("TH", &[2; 32], 60, 6);
        assert_eq!(inventory.outstanding(), 30 + 11);
        inventory.keep("TH", [2; 32], 90, Some(7));
        assert!(!inventory.knows("TH", &[2; 32], &part));
        assert!(inventory.part("TH", [3; 32], 11, MAX, 5).is_err());
        inventory.remove("TH", &[2; 32]);
        assert!(inventory.part("TH", [3; 32], 100, MAX, 5).is_ok());
    }

    #[test]
    fn what_no_packet_names_is_counted() {
        let inventory = Inventory::default();
        for n in 0..UNNAMED_BLOBS_MAX {
            let mut blob = [0; 32];
            blob[..8].copy_from_slice(&(n as u64).to_be_bytes());
            inventory.keep("KH", blob, 1, Some(5));
        }
        assert_eq!(inventory.part("KH", [9; 32], 1, MAX, 5).unwrap_err(), Full::Count);
        inventory.name("KH", &[0; 32]);
        assert!(inventory.part("KH", [9; 32], 1, MAX, 5).is_ok());
    }

    #[test]
    fn only_what_nobody_names_or_goes_on_with_grows_too_old() {
        let inventory = Inventory::default();
        inventory.keep("TH", [1; 32], 1, Some(5));
        inventory.keep("TH", [2; 32], 1, None);
        assert!(inventory.overdue(4 + UNNAMED_MS_MAX).is_empty());
        assert_eq!(inventory.overdue(5 + UNNAMED_MS_MAX), [("TH".to_owned(), [1; 32])]);
        inventory.add_part("TH", [3; 32], Part::new(9, 4, 5));
        assert!(inventory.take_stale_parts(4 + UNNAMED_MS_MAX).is_empty());
        let part = inventory.part("TH", [3; 32], 9, MAX, 5).unwrap();
        assert!(inventory.take_stale_parts(5 + UNNAMED_MS_MAX).is_empty(), "it goes on");
        drop(part);
        assert_eq!(inventory.take_stale_parts(5 + UNNAMED_MS_MAX), [("TH".to_owned(), [3; 32], 9)]);
        assert!(inventory.take_stale_parts(5 + UNNAMED_MS_MAX).is_empty());
    }
}
