//! Purging: the content keys of packets are destroyed, so that nobody can open them again, whoever has the disk.
//!
//! | step | if the process ends after it |
//! |---|---|
//! | new pages for the keys that live on are durable in node.keys | they serve later; nothing is purged |
//! | one record for each few pages: what is purged, the moved keys, the pages to be destroyed | opening destroys the pages |
//! | node.keys is written without those pages, under a new key; the old file is overwritten | opening removes the blobs |
//! | the sealed attachments are removed | |

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLockReadGuard},
};

use lintas_config::os_entropy;
use lintas_proto::{
    id::hex,
    schema::{MovedKey, StoredPurge},
};

use super::{
    Desk,
    read::{DIGITS_MIN, ENTRIES_MAX, no_such, unopened, wrong_record},
    stored,
};
use crate::{
    core::{
        archive::Sealed,
        pages::{PAGE_KEYS_MAX, Page},
        records::Record,
        state::{Answer, Incoming, Outgoing, State, name},
        view::{Purged, PurgedEntry},
    },
    shell::{
        clock,
        failure::{Code, Failure},
    },
};

/// Most pages of one record: 2,048 keys at most, so that it fits.
const PAGES_PER_RECORD: usize = if cfg!(test) { 2 } else { 8 };

/// Which packets.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    /// Packet ids, or first digits of header digests.
    pub(super) ids: &'a [String],
    /// Those that came, or were sealed, before that time.
    pub(super) before_ms: Option<u64>,
    /// Those whose sender's time is over.
    pub(super) expired: bool,
}

impl Desk {
    /// Purges, or with `confirmed` false only says what would be purged. When it returns, nothing opens the content any
    /// more.
    pub(super) fn purge(&self, chosen: &Chosen<'_>, confirmed: bool, now_ms: u64) -> Result<Purged, Failure> {
        if chosen.ids.is_empty() && chosen.before_ms.is_none() && !chosen.expired {
            return Err(Failure::new(
                Code::Usage,
                "which packets? name their ids, or give --before or --expired",
            ));
        }
        // Nothing is sealed and not yet kept meanwhile: the ledger knows every key of every page.
        let _alone = self.sealing.write().unwrap_or_else(PoisonError::into_inner);
        let (victims, purged) = {
            let state = self.store.state();
            let (victims, left_waiting) = choose(&state, chosen, now_ms)?;
            let packets =
                victims.iter().rev().take(ENTRIES_MAX).filter_map(|at| entry(&state, *at)).collect();
            let total = victims.len();
            (victims, Purged { done: confirmed, total, packets, left_waiting })
        };
        if !confirmed {
            return Ok(purged);
        }
        if victims.is_empty() {
            // An earlier purge may have been kept and not carried out: the disk was full, say.
            let used = self.store.state().ledger().newest().0;
            self.destroy_pages(used, false)?;
            self.remove_purged_blobs()?;
            return Ok(purged);
        }
        let (kept, used) = self.keep_purge(&victims, now_ms)?;
        self.destroy_pages(used, true)?;
        self.remove_blobs_of(&victims)?;
        tracing::info!(packets = victims.len(), "purged");
        self.page_wanted.notify_one();
        kept.map(|()| purged)
    }

    /// Makes the purge durable. What could not be kept is told after what was kept is carried out. Also the highest
    /// page that keys moved to.
    #[allow(clippy::type_complexity, reason = "two outcomes: that of the whole, and that of the last record")]
    fn keep_purge(
        &self,
        victims: &BTreeSet<u64>,
        now_ms: u64,
    ) -> Result<(Result<(), Failure>, u64), Failure> {
        let (pages, moving) = {
            let state = self.store.state();
            let pages: BTreeSet<u64> = victims.iter().filter_map(|at| state.ledger().page_of(*at)).collect();
            let pages: Vec<u64> = pages.into_iter().collect();
            let lives = |at: &u64| !victims.contains(at);
            let moving: Vec<Vec<u64>> = pages
                .chunks(PAGES_PER_RECORD)
                .map(|pages| {
                    pages.iter().flat_map(|page| state.ledger().on_page(*page).filter(lives)).collect()
                })
                .collect();
            (pages, moving)
        };
        let needed = moving.iter().map(|keys| keys.len().div_ceil(PAGE_KEYS_MAX)).sum();
        let numbers = if needed == 0 { Vec::new() } else { self.make_pages(needed)? };
        let used = numbers.last().copied().unwrap_or_default();
        let mut numbers = numbers.into_iter();
        for (pages, moving) in pages.chunks(PAGES_PER_RECORD).zip(moving) {
            let of_pages = |state: &State, at: &u64| {
                state.ledger().page_of(*at).is_some_and(|page| pages.contains(&page))
            };
            let records = {
                let state = self.store.state();
                victims.iter().copied().filter(|at| of_pages(&state, at)).collect()
            };
            let mut moved = Vec::with_capacity(moving.len());
            for keys in moving.chunks(PAGE_KEYS_MAX) {
                let number = numbers.next().unwrap_or_default();
                let key = self.pages().key(number).cloned();
                let page = (number, key.ok_or_else(|| Failure::internal("a new key page is not there"))?);
                for record in keys {
                    match self.move_key(*record, &page) {
                        Ok(key) => moved.push(key),
                        Err(failure) => return Ok((Err(failure), used)),
                    }
                }
            }
            let purge = StoredPurge { records, moved, pages: pages.to_vec(), time_ms: now_ms };
            if let Err(error) = self.store.keep(vec![Record::Purge(purge)]) {
                return Ok((Err(stored(error)), used));
            }
        }
        Ok((Ok(()), used))
    }

    fn move_key(&self, record: u64, page: &Page) -> Result<MovedKey, Failure> {
        let found = self.store.read(record).map_err(stored)?;
        let sealed = {
            let state = self.store.state();
            match &found {
                Record::Incoming(stored) => Sealed::incoming(record, stored, state.ledger()),
                Record::Outgoing(stored) => Sealed::outgoing(record, stored, state.ledger()),
                Record::Receipt(_)
                | Record::Refusal(_)
                | Record::Evidence(_)
                | Record::Rejection(_)
                | Record::Doubted(_)
                | Record::Inclusion(_)
                | Record::RootProof(_)
                | Record::Confirmation(_)
                | Record::Review(_)
                | Record::Finding(_)
                | Record::Purge(_) => return Err(wrong_record()),
            }
        };
        let sealed_key = sealed.reseal(&self.pages(), page, &mut os_entropy()).map_err(unopened)?;
        Ok(MovedKey { record, key_page: page.0, sealed_key })
    }

    /// Removes the sealed attachments of packets that were ever purged: what an interrupted purge has left.
    pub(super) fn remove_purged_blobs(&self) -> Result<(), Failure> {
        let purged = self.store.state().ledger().purged().collect();
        self.remove_blobs_of(&purged)
    }

    /// Removes the sealed attachments of purged packets, but for those that another packet names too.
    fn remove_blobs_of(&self, purged: &BTreeSet<u64>) -> Result<(), Failure> {
        let (out, received) = {
            let state = self.store.state();
            let ids = |attachments: &[lintas_proto::schema::AttachmentRef]| {
                attachments.iter().map(|blob| hex(&blob.blob_id)).collect::<Vec<_>>()
            };
            let sent = state.outgoing().map(|(at, packet)| (at, ids(&packet.attachments)));
            let came = state.incoming().map(|(at, packet)| (at, ids(&packet.attachments)));
            (unneeded(&state, purged, sent), unneeded(&state, purged, came))
        };
        let paths = out.iter().map(|id| self.folder.blob_out(id));
        for path in paths.chain(received.iter().map(|id| self.folder.blob_in(id))) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::file("remove", &path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// When a packet was purged.
    pub(super) fn purged_ms(&self, sequence: u64) -> Option<u64> {
        self.store.state().ledger().purged_ms(sequence)
    }

    /// That its key is there, and stays there while the guard is held.
    pub(super) fn not_purged(&self, sequence: u64) -> Result<RwLockReadGuard<'_, ()>, Failure> {
        let guard = self.sealing();
        match self.purged_ms(sequence) {
            None => Ok(guard),
            Some(ms) => {
                let message = format!(
                    "this packet was purged here on {}: its content and its attachments cannot be opened again; its id, \
                     its digest and what is known of its delivery stay",
                    clock::show(ms)
                );
                Err(Failure::new(Code::NotFound, message))
            }
        }
    }
}

/// Blobs that the purged packets name and no packet that lives.
fn unneeded(
    state: &State,
    purged: &BTreeSet<u64>,
    packets: impl Iterator<Item = (u64, Vec<String>)>,
) -> BTreeSet<String> {
    let (mut gone, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for (sequence, blobs) in packets {
        if state.ledger().purged_ms(sequence).is_none() {
            needed.extend(blobs);
        } else if purged.contains(&sequence) {
            gone.extend(blobs);
        }
    }
    gone.difference(&needed).cloned().collect()
}

/// Records to purge; and how many packets fit but wait for an answer.
fn choose(state: &State, chosen: &Chosen<'_>, now_ms: u64) -> Result<(BTreeSet<u64>, usize), Failure> {
    let lives = |sequence: u64| state.ledger().purged_ms(sequence).is_none();
    let (mut victims, mut left_waiting) = (BTreeSet::new(), 0);
    for id in chosen.ids {
        let id = id.to_ascii_lowercase();
        let digits = id.len() >= DIGITS_MIN && !id.contains('-');
        let fits = |packet: String, digest: &[u8]| packet == id || (digits && hex(digest).starts_with(&id));
        let came = state.incoming().filter(|(_, p)| fits(p.packet_id.to_string(), &p.digest));
        let mut found: Vec<u64> = came.map(|(at, _)| at).collect();
        for (at, packet) in state.outgoing().filter(|(_, p)| fits(p.packet_id.to_string(), &p.digest)) {
            if packet.is_open(now_ms) {
                return Err(still_waiting(packet));
            }
            found.push(at);
        }
        if found.is_empty() {
            return Err(no_such(&id));
        }
        victims.extend(found.into_iter().filter(|at| lives(*at)));
    }
    let old = |time_ms: u64, deliver_by_ms: u64| {
        chosen.before_ms.is_some_and(|before| time_ms < before) || (chosen.expired && deliver_by_ms < now_ms)
    };
    let came = state.incoming().filter(|(at, p)| lives(*at) && old(p.received_ms, p.deliver_by_ms));
    victims.extend(came.map(|(at, _)| at));
    for (at, packet) in state.outgoing().filter(|(at, p)| lives(*at) && old(p.created_ms, p.deliver_by_ms)) {
        if packet.is_open(now_ms) {
            left_waiting += 1;
        } else {
            victims.insert(at);
        }
    }
    Ok((victims, left_waiting))
}

fn still_waiting(packet: &Outgoing) -> Failure {
    let id = packet.packet_id;
    let message = if packet.answer == Answer::AwaitsReview {
        format!(
            "packet {id} waits for review, and nothing was purged; refuse it first: lintas review {id} --refuse"
        )
    } else {
        format!(
            "packet {id} is still waiting for the broker's answer, and nothing was purged; start `lintas run`, wait until \
             `lintas outbox` shows an answer, then purge it"
        )
    };
    Failure::new(Code::NoAnswer, message)
}

fn entry(state: &State, sequence: u64) -> Option<PurgedEntry> {
    let received = |packet: &Incoming| PurgedEntry {
        packet_id: packet.packet_id.to_string(),
        direction: "received".to_owned(),
        with: vec![name(&packet.originator)],
        kind: packet.kind.as_str_name().to_owned(),
        time_ms: packet.received_ms,
    };
    let sent = |packet: &Outgoing| PurgedEntry {
        packet_id: packet.packet_id.to_string(),
        direction: "sent".to_owned(),
        with: packet.recipients.iter().map(|(unit, _)| name(unit)).collect(),
        kind: packet.kind.as_str_name().to_owned(),
        time_ms: packet.created_ms,
    };
    state.received_in(sequence).map(received).or_else(|| state.sent_in(sequence).map(sent))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests;
