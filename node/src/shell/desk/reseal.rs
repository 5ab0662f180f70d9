//! A packet that the broker refused because keys or directory had moved is sealed again, and takes the place of the
//! first. So is one that a person has released in review ([`super::review`]). The preflight asks the policies of today:
//! what they deny now is not sealed again and stays refused, what they want reviewed now waits for that.
//!
//! Nothing is doubled by it: what the broker refused, no recipient has seen. Should a broker lie about that and hand
//! both on, the new body names the old packet (`supersedes`), so that its reader knows them for one.
//!
//! Until the new packet is durable nothing is: after a crash, or in a new session, the old one is submitted again, and
//! refused again or taken after all. Between its refusal and the new one it is not submitted, so that never both can be
//! taken. The refusal of the old one and the new one are kept in one group, both or neither.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError, RwLockReadGuard},
};

use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    envelope::core::Core,
    id::{Digest, PacketId, hex},
    limits,
    schema::{AttachmentKey, Opening, Reason, Refusal, StoredOutgoing, StoredRefusal, Submission, UnitRef},
};
use rand_core::CryptoRng;

use super::{
    Desk,
    send::{Clearing, Made, Order},
};
use crate::{
    core::{
        archive::Open,
        draft::{Addressee, Attachments, Draft, Sender},
        records::{Record, RecordError},
        state::{Fate, Outgoing, State},
    },
    shell::{
        blobs::{self, Wanted},
        failure::{Code, Failure},
        store::StoreError,
    },
};

/// How often the same is sealed again, at most.
const GENERATIONS_MAX: u32 = 5;
/// Most refusals that wait for a newer directory. Beyond it a packet is submitted, and refused, again later.
const PENDING_MAX: usize = 1_024;
const WHY: &str = "keys have changed; the node fetches the newest directory and seals it again";

/// Refusals that wait for a newer directory, by the packet's header digest.
pub(super) type Pending = BTreeMap<Digest, StoredRefusal>;

/// What becomes of a refused packet.
enum Next<'a> {
    /// Another one takes its place. `sealing` is held until it is kept.
    Replaced { with: PacketId, records: Vec<Record>, blobs: Vec<String>, sealing: RwLockReadGuard<'a, ()> },
    /// The refusal stands, for this reason.
    Final(String),
    /// The broker did not know the directory, and has just given the same one: it is submitted as it is.
    Again,
    /// Something is missing that may come.
    Wait(String),
}

/// A packet that is sealed again, and what was made for it.
pub(super) struct Resealed<'a> {
    pub(super) with: PacketId,
    pub(super) made: Made,
    pub(super) blobs: Vec<String>,
    /// Held until it is kept.
    pub(super) sealing: RwLockReadGuard<'a, ()>,
}

impl Desk {
    /// Whether a verified refusal is to be answered by sealing again.
    pub(super) fn may_seal_again(
        &self,
        state: &State,
        digest: &Digest,
        stored: &StoredRefusal,
        now_ms: u64,
    ) -> bool {
        let Ok(refusal) = canonical::decode::<Refusal>(&stored.refusal, limits::HELLO_BYTES_MAX) else {
            return false;
        };
        let reason = Reason::try_from(refusal.reason).unwrap_or_default();
        matches!(reason, Reason::Reseal | Reason::StaleDirectory)
            && state.own(digest).is_some_and(|(_, packet)| {
                // Submitted again after a log has ended: whoever has it is not to get it twice.
                let somebody_has_it =
                    packet.recipients.iter().any(|(_, fate)| matches!(fate, Fate::Delivered { .. }));
                packet.generation < GENERATIONS_MAX && now_ms < packet.deliver_by_ms && !somebody_has_it
            })
    }

    /// A refused packet waits for the newest directory; nothing is kept of it yet.
    pub(super) fn seal_again_later(&self, digest: Digest, stored: StoredRefusal) {
        let mut pending = self.pending();
        if pending.len() >= PENDING_MAX {
            drop(pending);
            self.put_off(digest, Reason::Reseal, WHY.to_owned());
        } else {
            pending.insert(digest, stored);
            self.pipeline().set_aside(digest);
        }
        self.want_directory();
    }

    /// What to tell of a packet that waits so.
    pub(super) fn why_pending(&self, digest: &Digest) -> Option<String> {
        self.pending().contains_key(digest).then(|| WHY.to_owned())
    }

    /// Seals again what waits for it; true if something still waits. The newest directory has just been fetched.
    pub(crate) fn seal_again(&self) -> Result<bool, StoreError> {
        let waiting: Vec<_> =
            self.pending().iter().map(|(digest, stored)| (*digest, stored.clone())).collect();
        for (digest, refusal) in waiting {
            let found = self.store.state().own(&digest).map(|(sequence, packet)| (sequence, packet.clone()));
            let Some((sequence, packet)) = found else { continue };
            let next = self.replace(sequence, &packet, &refusal)?;
            self.conclude(&digest, &packet, refusal, next)?;
        }
        self.bell.notify_one();
        Ok(!self.pending().is_empty())
    }

    fn conclude(
        &self,
        digest: &Digest,
        packet: &Outgoing,
        refusal: StoredRefusal,
        next: Next<'_>,
    ) -> Result<(), StoreError> {
        let id = packet.packet_id;
        // Held to the end: once the session is over the packet is submitted again, and must not be replaced.
        let mut pending = self.pending();
        let (refused, again) = (pending.contains_key(digest), matches!(next, Next::Again));
        let done = match next {
            Next::Replaced { with, records, blobs, sealing } => {
                let kept = refused && self.store.keep_together(records)?;
                drop(sealing);
                if kept {
                    tracing::info!(%id, %with, "sealed again under the newest directory");
                } else {
                    self.remove_blobs(&blobs);
                }
                if refused && !kept {
                    self.trouble("the disk is full: packets cannot be sealed again; make room");
                }
                kept
            }
            Next::Final(why) => {
                self.trouble(&format!("packet {id} was refused and is not sealed again: {why}"));
                if refused {
                    let refusal = StoredRefusal { not_resealed: why, ..refusal };
                    self.store.keep(vec![Record::Refusal(refusal)])?;
                }
                refused
            }
            Next::Again => {
                let why = "the broker has caught up with the directory; the packet is submitted again";
                self.put_off(*digest, Reason::StaleDirectory, why.to_owned());
                true
            }
            Next::Wait(why) => {
                self.trouble(&format!("packet {id} waits to be sealed again: {why}"));
                false
            }
        };
        if done {
            pending.remove(digest);
        }
        if done && !again {
            self.pipeline().answered(digest);
        }
        Ok(())
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(
        &self,
        sequence: u64,
        packet: &Outgoing,
        refusal: &StoredRefusal,
    ) -> Result<Next<'_>, StoreError> {
        let Ok(now_ms) = self.agreed_ms() else {
            return Ok(Next::Wait("no broker has agreed with this machine's clock yet".to_owned()));
        };
        if now_ms >= packet.deliver_by_ms {
            return Ok(Next::Final("its time to be delivered is over".to_owned()));
        }
        if let Some(stale) = self.stale().filter(|_| !packet.despite_stale) {
            return Ok(Next::Wait(stale));
        }
        let Record::Outgoing(stored) = self.store.read(sequence)? else {
            return Err(RecordError::Missing("an outgoing packet").into());
        };
        let openings = openings(&stored)?;
        let open = match self.open_sent(sequence) {
            Ok(open) => open,
            Err(failure) => return Ok(after(failure)),
        };
        let reviewed = open.header.core().reviewed;
        Ok(match self.reseal(open, &openings, packet, reviewed, now_ms) {
            Ok(Some(Resealed { with, made, blobs, sealing })) => {
                let records = vec![Record::Refusal(refusal.clone()), made.record];
                Next::Replaced { with, records, blobs, sealing }
            }
            Ok(None) if is_stale(refusal) => Next::Again,
            Ok(None) => {
                Next::Final("there is no newer directory and no newer key to seal it under".to_owned())
            }
            Err(failure) => after(failure),
        })
    }

    /// The same body, label and recipients under the directory in force, reviewed or not; none if nothing would be
    /// different.
    pub(super) fn reseal(
        &self,
        open: Open,
        openings: &[Opening],
        packet: &Outgoing,
        reviewed: bool,
        now_ms: u64,
    ) -> Result<Option<Resealed<'_>>, Failure> {
        let (directory, mut entropy) = (self.directory(), os_entropy());
        let core = open.header.core().clone();
        let visible_audience = !open.body.audience.is_empty();
        let mut body = open.body;
        body.audience.clear();
        let keys = std::mem::take(&mut body.attachments);
        let draft = Draft {
            kind: core.kind,
            from: core.originator.unit.clone(),
            to: openings.iter().map(|o| Addressee::Again { unit: unit(o), named: o.named }).collect(),
            label: core.label.clone(),
            onward: core.onward,
            // Its times are given below.
            deliver_within_hours: 1,
            visible_audience,
            body,
        };
        let clearance = self.clear(&draft, &core.originator, &directory, Clearing::again(reviewed))?;
        let (recipients, awaits_review) = (clearance.recipients, !clearance.review_by.is_empty());
        let same_keys =
            recipients.iter().zip(openings).all(|(cleared, o)| o.enc_key_id == cleared.key.id().as_slice());
        if core.directory_hash == *directory.hash()
            && same_keys
            && core.sign_key_id == *self.keys().packet.id()
            && core.reviewed == reviewed
        {
            return Ok(None);
        }
        let packet_id = PacketId::new(now_ms, &mut entropy);
        let (sealed, blobs) = self.seal_blobs_again(&core, &keys, packet_id, &mut entropy)?;
        let order = Order {
            draft,
            sender: Sender { originator: core.originator, packet_id, reviewed },
            recipients,
            attachments: sealed,
            directory: &directory,
            times: Some((core.not_before_ms, core.deliver_by_ms)),
            supersedes: Bytes::copy_from_slice(&packet.digest),
            despite_stale: packet.despite_stale,
            awaits_review,
        };
        let sealing = self.sealing();
        match self.make(order, &sealing, &mut entropy) {
            Ok(made) => Ok(Some(Resealed { with: packet_id, made, blobs, sealing })),
            Err(failure) => {
                self.remove_blobs(&blobs);
                Err(failure)
            }
        }
    }

    /// The attachments of a packet, sealed again for the one that takes its place; and the names of their files.
    fn seal_blobs_again(
        &self,
        core: &Core,
        keys: &[AttachmentKey],
        packet_id: PacketId,
        entropy: &mut dyn CryptoRng,
    ) -> Result<(Attachments, Vec<String>), Failure> {
        let mut attachments: Attachments = Vec::with_capacity(keys.len());
        let mut blobs = Vec::with_capacity(keys.len());
        if !keys.is_empty() {
            let more = core.attachments.iter().map(|blob| blob.length).fold(0, u64::saturating_add);
            self.room().check(&self.folder, more).map_err(|error| Failure::new(Code::Storage, error))?;
        }
        let pairs = core.attachments.iter().zip(keys);
        let sealed = (0u32..).zip(pairs).try_for_each(|(index, (reference, key))| {
            let sealed = self.folder.blob_out(&hex(&reference.blob_id));
            let wanted = Wanted { packet_id: core.packet_id, index, reference, key, sealed };
            let goes_on = || !self.is_leaving();
            let again = blobs::seal_again(&self.folder, &wanted, packet_id, entropy, &goes_on)?;
            blobs.push(hex(&again.0.blob_id));
            attachments.push(again);
            Ok(())
        });
        match sealed {
            Ok(()) => Ok((attachments, blobs)),
            Err(failure) => {
                self.remove_blobs(&blobs);
                Err(failure)
            }
        }
    }

    /// What was sealed for a packet that is not kept.
    pub(super) fn remove_blobs(&self, names: &[String]) {
        for name in names {
            if let Err(error) = std::fs::remove_file(self.folder.blob_out(name)) {
                tracing::warn!(%error, "an attachment that belongs to no packet was not removed");
            }
        }
    }
}

/// Whether the broker refused a packet because it did not know the directory that it names.
fn is_stale(stored: &StoredRefusal) -> bool {
    canonical::decode::<Refusal>(&stored.refusal, limits::HELLO_BYTES_MAX)
        .is_ok_and(|refusal| refusal.reason == Reason::StaleDirectory as i32)
}

/// What this node says no to, or has lost, stays refused. A full disk may get room, a key file may be put back.
fn after<'a>(failure: Failure) -> Next<'a> {
    match failure.code {
        Code::Draft | Code::Forbidden | Code::NotFound => Next::Final(failure.message),
        Code::Internal
        | Code::Usage
        | Code::NotSetUp
        | Code::Locked
        | Code::InUse
        | Code::NoAnswer
        | Code::Refused
        | Code::Storage
        | Code::DaemonEnded
        | Code::Stale
        | Code::NodeLocked
        | Code::Evidence
        | Code::AuditDamaged
        | Code::AuditIncomplete
        | Code::AuditNotAttested
        | Code::Warned
        | Code::Wrong => Next::Wait(failure.message),
    }
}

/// To whom a kept packet is sealed.
pub(super) fn openings(stored: &StoredOutgoing) -> Result<Vec<Opening>, RecordError> {
    let submission: Submission = canonical::decode(&stored.submission, limits::FRAME_BYTES_MAX)?;
    Ok(submission.openings)
}

fn unit(opening: &Opening) -> UnitRef {
    UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() }
}
