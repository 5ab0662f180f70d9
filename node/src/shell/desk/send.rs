//! Sealing a packet, and keeping it before the officer is told.

use std::{path::PathBuf, sync::RwLockReadGuard};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    canonical,
    envelope::seal::{SealError, seal},
    id::{Digest, PacketId, hex},
    limits,
    schema::{StoredOutgoing, UnitRef},
};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::{Desk, review, stored};
use crate::{
    core::{
        archive::OUTGOING_PURPOSE,
        draft::{Attachments, Draft, Sender, compose},
        preflight::{self, Clearance, Cleared, Objection, Rules},
        records::Record,
        state::name,
        view::Kept,
    },
    shell::{
        blobs, clock,
        failure::{Code, Failure},
        progress::Tell,
        store::StoreError,
    },
};

/// What to do while the directory is known to be out of date.
pub(super) const WAIT_FOR_DIRECTORY: &str = "nothing new is sealed until the newer directory is here: `lintas run` \
                                             fetches it by itself when it is connected; `lintas send --despite-stale` \
                                             goes on without it";

/// What an officer asks for beyond the draft.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct How {
    /// Although the directory is known to be out of date, or the log does not attest it.
    pub(crate) despite_stale: bool,
    /// Without the members of a group that no officer has confirmed.
    pub(crate) without_unconfirmed: bool,
    /// Without those to whom a policy does not release it.
    pub(crate) without_denied: bool,
    /// Name and office of the person who has reviewed the release.
    pub(crate) reviewed: Option<String>,
}

impl How {
    fn clearing(&self) -> Clearing {
        let Self { without_unconfirmed, without_denied, .. } = *self;
        Clearing { without_unconfirmed, without_denied, reviewed: self.reviewed.is_some() }
    }
}

/// What the preflight is to leave out, and what it may count on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clearing {
    without_unconfirmed: bool,
    without_denied: bool,
    reviewed: bool,
}

impl Clearing {
    /// Of a packet that is sealed again: nobody is left out who was meant.
    pub(super) fn again(reviewed: bool) -> Self {
        Self { reviewed, ..Self::default() }
    }
}

/// What an officer hands in.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// As written.
    pub(super) draft: &'a str,
    /// Files to attach.
    pub(super) attach: &'a [PathBuf],
    /// More recipients.
    pub(super) to: &'a [String],
    /// The unit that sends.
    pub(super) from: Option<&'a str>,
    pub(super) how: &'a How,
}

/// A packet to be sealed. It takes the place of an earlier one, or of none.
pub(super) struct Order<'a> {
    pub(super) draft: Draft,
    pub(super) sender: Sender,
    pub(super) recipients: Vec<Cleared>,
    pub(super) attachments: Attachments,
    pub(super) directory: &'a Directory,
    /// As the earlier one: not before, deliver by.
    pub(super) times: Option<(u64, u64)>,
    pub(super) supersedes: Bytes,
    pub(super) despite_stale: bool,
    /// A person must look at it before it is submitted.
    pub(super) awaits_review: bool,
}

/// What was sealed, not yet kept.
pub(super) struct Made {
    pub(super) record: Record,
    pub(super) digest: Digest,
    pub(super) deliver_by_ms: u64,
}

impl Desk {
    /// As [`send_telling`](Self::send_telling), telling nobody.
    #[cfg(test)]
    pub(super) fn send(
        &self,
        draft: &str,
        attach: &[PathBuf],
        to: &[String],
        from: Option<&str>,
        how: &How,
        entropy: &mut dyn CryptoRng,
    ) -> Result<Kept, Failure> {
        let asked = Asked { draft, attach, to, from, how };
        self.send_telling(&asked, entropy, &crate::shell::progress::nobody)
    }

    /// Reads, checks, seals and keeps a draft. When it returns, the packet survives a power cut.
    pub(super) fn send_telling(
        &self,
        asked: &Asked<'_>,
        entropy: &mut dyn CryptoRng,
        tell: Tell<'_>,
    ) -> Result<Kept, Failure> {
        let Asked { draft, attach, to, from, how } = *asked;
        let now_ms = clock::now_ms();
        let draft = Draft::parse(draft, to, from).map_err(|error| refused(&error))?;
        let reviewer = how.reviewed.as_deref().map(review::reviewer).transpose()?;
        let keys = self.keys();
        let agency = &keys.agency;
        let stale = self.stale();
        if let Some(stale) = stale.as_ref().filter(|_| !how.despite_stale) {
            self.want_directory();
            return Err(Failure::new(Code::Stale, stale));
        }
        let warnings = self.warning_of_clock(now_ms).into_iter().collect();
        let directory = self.directory();
        let originator = draft.originator(&directory, agency).map_err(|error| refused(&error))?;
        let clearance = self.clear(&draft, &originator, &directory, how.clearing())?;
        let Clearance { recipients, left_out, denied, review_by } = clearance;
        let to: Vec<String> = recipients.iter().map(|recipient| name(&recipient.unit)).collect();

        let packet_id = PacketId::new(now_ms, entropy);
        let (attachments, files) =
            blobs::seal_all(&self.folder, self.room(), packet_id, attach, entropy, tell)?;
        let order = Order {
            draft,
            sender: Sender { originator, packet_id, reviewed: reviewer.is_some() },
            recipients,
            attachments,
            directory: &directory,
            times: None,
            supersedes: Bytes::new(),
            despite_stale: stale.is_some(),
            awaits_review: !review_by.is_empty(),
        };
        // Until the record is kept: meanwhile no page is destroyed.
        let sealing = self.sealing();
        let Made { record, digest, deliver_by_ms } = self.make(order, &sealing, entropy)?;
        let files = files.keep(&self.folder)?;
        let review = reviewer.map(|reviewer| review::record(&digest, true, reviewer, String::new(), now_ms));
        let kept = self.store.keep_together([Some(record), review].into_iter().flatten().collect());
        let kept = kept.and_then(|kept| if kept { Ok(()) } else { Err(StoreError::NoRoom) });
        kept.map_err(|error| {
            // Without its packet nobody wants them.
            if matches!(error, StoreError::NoRoom) {
                files.remove();
            }
            stored(error)
        })?;
        drop(sealing);
        self.bell.notify_one();
        tracing::info!(%packet_id, recipients = to.len(), review = !review_by.is_empty(), "packet kept");
        let (packet_id, digest) = (packet_id.to_string(), hex(&digest));
        let daemon = self.daemon;
        Ok(Kept { packet_id, digest, to, deliver_by_ms, left_out, denied, review_by, warnings, daemon })
    }

    /// The preflight.
    pub(super) fn clear(
        &self,
        draft: &Draft,
        originator: &UnitRef,
        directory: &Directory,
        clearing: Clearing,
    ) -> Result<Clearance, Failure> {
        let policies = self.policies(directory)?;
        let Clearing { without_unconfirmed, without_denied, reviewed } = clearing;
        let state = self.store.state();
        let rules = Rules {
            directory,
            contacts: state.contacts(),
            policies: &policies,
            without_unconfirmed,
            without_denied,
            reviewed,
            now_ms: clock::now_ms(),
        };
        preflight::check(draft, originator, rules).map_err(|objections| refused(&objected(&objections)))
    }

    /// Seals. `sealing` is to be held until the record is kept.
    pub(super) fn make(
        &self,
        order: Order<'_>,
        _sealing: &RwLockReadGuard<'_, ()>,
        entropy: &mut dyn CryptoRng,
    ) -> Result<Made, Failure> {
        let Order { draft, sender, recipients, attachments, directory, times, supersedes, .. } = order;
        let (despite_stale, awaits_review) = (order.despite_stale, order.awaits_review);
        let (packet_id, keys) = (sender.packet_id, self.keys());
        let mut draft = compose(draft, sender, recipients, attachments, directory, &self.store.state());
        if let Some((not_before_ms, deliver_by_ms)) = times {
            draft.core.not_before_ms = not_before_ms.max(draft.core.created_ms);
            draft.core.deliver_by_ms = deliver_by_ms;
        }
        draft.body.supersedes = supersedes.clone();
        // Whoever reads it compares this with its own, where the broker cannot see it.
        draft.body.root_checkpoint = self.known_note();
        let (created_ms, deliver_by_ms) = (draft.core.created_ms, draft.core.deliver_by_ms);
        let sealed = seal(draft, &keys.packet, entropy).map_err(|error| match error {
            SealError::Chunk(_) => Failure::internal(error),
            SealError::Core(_)
            | SealError::Body(_)
            | SealError::Pad(_)
            | SealError::Recipient { .. }
            | SealError::HeaderTooLarge { .. } => refused(&error),
        })?;
        let (key_page, page) = self.page(clock::now_ms())?;
        let sealed_key = page
            .seal(OUTGOING_PURPOSE, &sealed.digest, sealed.content_key.as_slice(), entropy)
            .map_err(Failure::internal)?;
        let submission = canonical::encode(&sealed.submission);
        if submission.len() > limits::FRAME_BYTES_MAX {
            return Err(refused(
                &"the packet is too large; send to fewer recipients, or attach what is long",
            ));
        }
        let record = Record::Outgoing(StoredOutgoing {
            header_digest: Bytes::copy_from_slice(&sealed.digest),
            packet_id: Bytes::copy_from_slice(packet_id.as_bytes()),
            submission,
            sealed_key,
            created_ms,
            key_page,
            supersedes,
            despite_stale,
            awaits_review,
            sign_key: Bytes::copy_from_slice(&keys.packet.public_key()),
        });
        Ok(Made { record, digest: sealed.digest, deliver_by_ms })
    }
}

fn refused(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Draft, error)
}

fn objected(objections: &[Objection]) -> String {
    let lines: Vec<String> = objections.iter().map(|objection| format!("\n  - {objection}")).collect();
    format!("this node has checked the packet and says no; nothing was sealed:{}", lines.concat())
}
