//! Sealing a packet, and keeping it before the officer is told.

use std::path::PathBuf;

use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::seal::{SealError, seal},
    id::{PacketId, hex},
    limits,
    schema::StoredOutgoing,
};
use rand_core::CryptoRng;

use super::{Desk, stored};
use crate::{
    core::{
        archive::OUTGOING_PURPOSE,
        draft::{Draft, Sender, compose},
        preflight::{self, Objection},
        records::Record,
        state::name,
        view::Kept,
    },
    shell::{
        blobs, clock,
        failure::{Code, Failure},
    },
};

impl Desk {
    /// Reads, checks, seals and keeps a draft. When it returns, the packet survives a power cut.
    pub(super) fn send(
        &self,
        draft: &str,
        attach: &[PathBuf],
        to: &[String],
        from: Option<&str>,
        entropy: &mut dyn CryptoRng,
    ) -> Result<Kept, Failure> {
        let refused = |error: &dyn std::fmt::Display| Failure::new(Code::Draft, error);
        let now_ms = clock::now_ms();
        let draft = Draft::parse(draft, to, from).map_err(|error| refused(&error))?;
        let keys = self.keys();
        let agency = &keys.agency;
        let directory = self.directory();
        let originator = draft.originator(&directory, agency).map_err(|error| refused(&error))?;
        let cleared = preflight::check(&draft, &originator, &directory, now_ms)
            .map_err(|objections| refused(&objected(&objections)))?;
        let to: Vec<String> = cleared.iter().map(|recipient| name(&recipient.unit)).collect();

        let packet_id = PacketId::new(now_ms, entropy);
        let attachments = blobs::seal_all(&self.folder, packet_id, attach, entropy)?;
        let sender = Sender { originator, packet_id };
        let draft = compose(draft, sender, cleared, attachments, &directory, &self.store.state());
        let deliver_by_ms = draft.core.deliver_by_ms;
        let sealed = seal(draft, &keys.packet, entropy).map_err(|error| match error {
            SealError::Chunk(_) => Failure::internal(error),
            SealError::Core(_)
            | SealError::Body(_)
            | SealError::Pad(_)
            | SealError::Recipient { .. }
            | SealError::HeaderTooLarge { .. } => refused(&error),
        })?;
        // Until the record is kept: meanwhile no page is destroyed.
        let _sealing = self.sealing();
        let (key_page, page) = self.page(now_ms)?;
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
            created_ms: now_ms,
            key_page,
            supersedes: Bytes::new(),
            despite_stale: false,
            sign_key: Bytes::copy_from_slice(&keys.packet.public_key()),
        });
        self.store.keep(vec![record]).map_err(stored)?;
        self.bell.notify_one();
        tracing::info!(%packet_id, recipients = to.len(), "packet kept");
        Ok(Kept {
            packet_id: packet_id.to_string(),
            digest: hex(&sealed.digest),
            to,
            deliver_by_ms,
            daemon: self.daemon,
        })
    }
}

fn objected(objections: &[Objection]) -> String {
    let lines: Vec<String> = objections.iter().map(|objection| format!("\n  - {objection}")).collect();
    format!("this node's preflight says no, and nothing was sealed:{}", lines.concat())
}
