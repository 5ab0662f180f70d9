//! Kept packets, opened again from disk: the header is verified once more, the body decrypted with the content
//! key from its page.

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    canonical::{self, DecodeError, fixed},
    envelope::{
        chunk::ContentKey,
        open::{OpenError, reopen},
        verify::{PacketKeys, VerifiedHeader, VerifyError, verify_header},
    },
    id::{Digest, hex, sha256},
    limits,
    schema::{Body, StoredIncoming, StoredOutgoing, Submission, UnitRef},
    sign::{KeyRole, VerifyingKey, key_id},
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    handling::{is_restricted, restrictions},
    inbox::{INCOMING_PURPOSE, incoming_id},
    ledger::Ledger,
    pages::{Page, Pages},
    state::name,
    vault::VaultError,
    view::{AttachmentView, PacketView},
};

/// Purpose under which content keys of own packets are sealed; the id is the header digest.
pub(crate) const OUTGOING_PURPOSE: &str = "lintas/v1/store/outgoing";

const LATE: &str = "this packet came after the time until which its sender wanted it delivered: ask whether it still \
                    holds";

/// A kept packet that does not open any more.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    /// The header.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The body.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The content key.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The key page.
    #[error(
        "key page {0}, under which its key is sealed, is not in node.keys: that is an older copy; put the newest one back"
    )]
    NoPage(u64),
    /// The record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The body cannot be shown.
    #[error("the body cannot be shown: {0}")]
    Json(#[from] serde_json::Error),
}

/// A kept packet, open.
pub(crate) struct Open {
    /// Its header.
    pub(crate) header: VerifiedHeader,
    /// Its body.
    pub(crate) body: Body,
    /// What the officer must know.
    pub(crate) warnings: Vec<String>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Open { .. }")
    }
}

/// The key that verified a packet when it was kept. Packets outlive the keys in the directory.
#[derive(Debug)]
struct KeptKey {
    id: Digest,
    key: Option<VerifyingKey>,
}

impl KeptKey {
    fn new(bytes: &Bytes) -> Self {
        Self { id: key_id(KeyRole::Packet, bytes), key: VerifyingKey::parse(bytes).ok() }
    }
}

impl PacketKeys for KeptKey {
    fn packet_key(&self, _: &UnitRef, key_id: &Digest) -> Option<&VerifyingKey> {
        self.key.as_ref().filter(|_| self.id == *key_id)
    }
}

/// Where the content key of a kept packet is.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Purpose and id for which it is sealed.
    purpose: &'static str,
    id: Vec<u8>,
    /// Its page.
    page: u64,
    bytes: Bytes,
}

impl Sealed {
    /// Of the packet in record `sequence`; a purge may have moved it.
    pub(crate) fn incoming(sequence: u64, stored: &StoredIncoming, ledger: &Ledger) -> Self {
        let unit = stored.opening.as_ref().map(|opening| opening.unit.as_str()).unwrap_or_default();
        let id = incoming_id(&sha256(&[&stored.header]), unit);
        let (page, bytes) = ledger.moved(sequence).unwrap_or((stored.key_page, &stored.sealed_key));
        Self { purpose: INCOMING_PURPOSE, id, page, bytes: bytes.clone() }
    }

    /// As above.
    pub(crate) fn outgoing(sequence: u64, stored: &StoredOutgoing, ledger: &Ledger) -> Self {
        let (page, bytes) = ledger.moved(sequence).unwrap_or((stored.key_page, &stored.sealed_key));
        Self { purpose: OUTGOING_PURPOSE, id: stored.header_digest.to_vec(), page, bytes: bytes.clone() }
    }

    fn open(&self, pages: &Pages) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
        let page = pages.key(self.page).ok_or(ArchiveError::NoPage(self.page))?;
        Ok(page.open(self.purpose, &self.id, &self.bytes)?)
    }

    /// The same key, sealed under another page.
    pub(crate) fn reseal(
        &self,
        pages: &Pages,
        under: &Page,
        entropy: &mut dyn CryptoRng,
    ) -> Result<Bytes, ArchiveError> {
        Ok(under.1.seal(self.purpose, &self.id, &self.open(pages)?, entropy)?)
    }

    fn content_key(&self, pages: &Pages) -> Result<ContentKey, ArchiveError> {
        let plain = self.open(pages)?;
        Ok(ContentKey::new(fixed("content key", &plain).map_err(|_| VaultError::Damaged)?))
    }
}

/// Opens a received packet.
pub(crate) fn open_incoming(
    stored: &StoredIncoming,
    sealed: &Sealed,
    pages: &Pages,
    directory: &Directory,
    now_ms: u64,
) -> Result<Open, ArchiveError> {
    let mut warnings = Vec::new();
    let header = match verify_header(&stored.header, &stored.signature, &directory.at(now_ms)) {
        Err(VerifyError::UnknownKey { .. }) => {
            warnings.push(
                "the key that signed this packet was valid when it came but is no longer in the directory"
                    .to_owned(),
            );
            verify_header(&stored.header, &stored.signature, &KeptKey::new(&stored.sign_key))?
        }
        other => other?,
    };
    if stored.received_ms > header.core().deliver_by_ms {
        warnings.push(LATE.to_owned());
    }
    let content_key = sealed.content_key(pages)?;
    let body = reopen(&header, &content_key, &stored.body)?;
    Ok(Open { header, body, warnings })
}

/// Opens a packet of our own.
pub(crate) fn open_outgoing(
    stored: &StoredOutgoing,
    sealed: &Sealed,
    pages: &Pages,
) -> Result<Open, ArchiveError> {
    let submission: Submission = canonical::decode(&stored.submission, limits::FRAME_BYTES_MAX)?;
    let key = KeptKey::new(&stored.sign_key);
    let header = verify_header(&submission.header, &submission.signature, &key)?;
    let content_key = sealed.content_key(pages)?;
    let body = reopen(&header, &content_key, &submission.body)?;
    Ok(Open { header, body, warnings: Vec::new() })
}

/// The first title, for lists.
pub(crate) fn title(body: &Body) -> String {
    body.title.first().map(|title| title.text.clone()).unwrap_or_default()
}

/// Attachments without their keys.
pub(crate) fn attachments(body: &Body) -> Vec<AttachmentView> {
    let view = |(number, key): (usize, &lintas_proto::schema::AttachmentKey)| AttachmentView {
        number,
        claimed_name: key.file_name.clone(),
        bytes: key.length,
        sha256: hex(&key.sha256),
    };
    (1..).zip(&body.attachments).map(view).collect()
}

/// Everything an officer may see; `to` and what else the caller knows is filled in by it.
pub(crate) fn show(open: Open) -> Result<PacketView, ArchiveError> {
    let Open { header, mut body, warnings } = open;
    let core = header.core();
    let unit = |o: &lintas_proto::schema::Opening| format!("{}/{}", o.agency, o.unit);
    let audience = body.audience.iter().map(unit).collect();
    let attachments = attachments(&body);
    // Keys and salts are for programs, not for people.
    body.attachments.clear();
    body.audience.clear();
    Ok(PacketView {
        packet_id: core.packet_id.to_string(),
        digest: hex(header.digest()),
        direction: String::new(),
        from: name(&core.originator),
        to: Vec::new(),
        audience,
        kind: core.kind.as_str_name().to_owned(),
        onward: core.onward.as_str_name().to_owned(),
        label: serde_json::to_value(&core.label)?,
        restrictions: restrictions(&core.label, &body),
        restricted: is_restricted(&core.label),
        created_ms: core.created_ms,
        deliver_by_ms: core.deliver_by_ms,
        received_ms: None,
        proven: None,
        outbox: None,
        warnings,
        body: serde_json::to_value(&body)?,
        attachments,
    })
}
