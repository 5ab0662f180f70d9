//! The packet core: parsed once, then it is what the type says.

use std::collections::BTreeSet;

use bytes::Bytes;
use thiserror::Error;

use super::{chunk, segment::blob_id};
use crate::{
    canonical::{self, DecodeError, WrongSize, fixed},
    id::{Digest, IdError, PacketId, check_code, check_name, sha256},
    label::{self, LabelError},
    limits,
    schema::{self, Kind, Onward, UnitRef},
    sign::SUITE,
};

/// Why a core was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CoreError {
    /// Not canonical.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A fixed-size field of another size.
    #[error(transparent)]
    Size(#[from] WrongSize),
    /// A packet id, code or name that is none.
    #[error("{field}: {error}")]
    Id {
        /// Field of the core.
        field: &'static str,
        /// What is wrong.
        error: IdError,
    },
    /// A suite that this version does not know.
    #[error("suite {0} is unknown; this version knows suite 1")]
    Suite(u32),
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The label breaks a rule.
    #[error("label: {0}")]
    Label(#[from] LabelError),
    /// `created`, `not_before` and `deliver_by` do not follow each other within 90 days, or the id was made at another time.
    #[error(
        "times must be created <= not_before < deliver_by <= created + 90 days, and the packet id made at `created`"
    )]
    Times,
    /// No recipients, too many, or one twice.
    #[error("a packet has 1 to {} recipients, each once", limits::RECIPIENTS_MAX)]
    Recipients,
    /// A grant without the originator's consent where it is asked for, with one where it is not, or for a packet that
    /// may not be passed on at all.
    #[error("the packet's `onward` does not allow this grant")]
    Onward,
    /// `refers_to` without RECALL, or the other way round.
    #[error("RECALL names the packet that it recalls; no other kind does")]
    RefersTo,
    /// Too many attachments, one twice, or one whose length or id cannot be.
    #[error("attachment {0} is not sound")]
    Attachment(usize),
}

/// A checked packet core. Shape in docs/FORMAT.md, "Core".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// UUIDv7.
    pub packet_id: PacketId,
    /// Who wrote and signed it.
    pub originator: UnitRef,
    /// Key that signed the header.
    pub sign_key_id: Digest,
    /// Region in which it may travel.
    pub region: String,
    /// Roster under which it was made.
    pub roster_version: u64,
    /// The originator's keyset under which it was made.
    pub keyset_version: u64,
    /// Directory under which it was made.
    pub directory_hash: Digest,
    /// What it is.
    pub kind: Kind,
    /// What a policy may read.
    pub label: schema::Label,
    /// Whether it may be passed on.
    pub onward: Onward,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: u64,
    /// Not delivered earlier.
    pub not_before_ms: u64,
    /// Not delivered later.
    pub deliver_by_ms: u64,
    /// One per recipient.
    pub recipient_commit: Vec<Digest>,
    /// The packet recalled.
    pub refers_to: Option<(PacketId, Digest)>,
    /// Ciphertext blobs.
    pub attachments: Vec<schema::AttachmentRef>,
    /// A person of the originator has reviewed the release.
    pub reviewed: bool,
}

impl Core {
    /// Reads canonical core bytes.
    ///
    /// # Errors
    /// [`CoreError`].
    pub fn parse(bytes: &Bytes) -> Result<Self, CoreError> {
        let wire: schema::Core = canonical::decode(bytes, limits::CORE_BYTES_MAX)?;
        if wire.suite != u32::from(SUITE) {
            return Err(CoreError::Suite(wire.suite));
        }
        let enum_value = |field| move |_| CoreError::Missing(field);
        let core = Self {
            packet_id: packet_id("packet_id", &wire.packet_id)?,
            originator: wire.originator.ok_or(CoreError::Missing("originator"))?,
            sign_key_id: fixed("sign_key_id", &wire.sign_key_id)?,
            region: wire.region,
            roster_version: wire.roster_version,
            keyset_version: wire.keyset_version,
            directory_hash: fixed("directory_hash", &wire.directory_hash)?,
            kind: Kind::try_from(wire.kind).map_err(enum_value("kind"))?,
            label: wire.label.ok_or(CoreError::Missing("label"))?,
            onward: Onward::try_from(wire.onward).map_err(enum_value("onward"))?,
            created_ms: wire.created_ms,
            not_before_ms: wire.not_before_ms,
            deliver_by_ms: wire.deliver_by_ms,
            recipient_commit: digests("recipient_commit", &wire.recipient_commit)?,
            refers_to: wire.refers_to.map(|packet| packet_ref(&packet)).transpose()?,
            attachments: wire.attachments,
            reviewed: wire.reviewed,
        };
        core.check()?;
        Ok(core)
    }

    /// Canonical bytes, after the same checks as [`parse`](Self::parse).
    ///
    /// # Errors
    /// [`CoreError`].
    pub fn to_bytes(&self) -> Result<Bytes, CoreError> {
        self.check()?;
        let bytes = canonical::encode(&schema::Core {
            suite: SUITE.into(),
            packet_id: Bytes::copy_from_slice(self.packet_id.as_bytes()),
            originator: Some(self.originator.clone()),
            sign_key_id: Bytes::copy_from_slice(&self.sign_key_id),
            region: self.region.clone(),
            roster_version: self.roster_version,
            keyset_version: self.keyset_version,
            directory_hash: Bytes::copy_from_slice(&self.directory_hash),
            kind: self.kind as i32,
            label: Some(self.label.clone()),
            onward: self.onward as i32,
            created_ms: self.created_ms,
            not_before_ms: self.not_before_ms,
            deliver_by_ms: self.deliver_by_ms,
            recipient_commit: self.recipient_commit.iter().map(|c| Bytes::copy_from_slice(c)).collect(),
            refers_to: self.refers_to.as_ref().map(|(id, digest)| schema::PacketRef {
                packet_id: Bytes::copy_from_slice(id.as_bytes()),
                header_digest: Bytes::copy_from_slice(digest),
            }),
            attachments: self.attachments.clone(),
            reviewed: self.reviewed,
        });
        Self::parse(&bytes).map(|_| bytes)
    }

    /// Rules that hold between fields.
    fn check(&self) -> Result<(), CoreError> {
        check_unit("originator", &self.originator)?;
        check_name(&self.region).map_err(|error| CoreError::Id { field: "region", error })?;
        label::check(&self.label)?;
        let zero = [
            ("roster_version", self.roster_version == 0),
            ("keyset_version", self.keyset_version == 0),
            ("kind", self.kind == Kind::Unspecified),
            ("onward", self.onward == Onward::Unspecified),
        ];
        if let Some((field, _)) = zero.iter().find(|(_, missing)| *missing) {
            return Err(CoreError::Missing(field));
        }
        let deliver_by_max = self.created_ms.saturating_add(limits::DELIVER_WITHIN_MS_MAX);
        let ordered = self.created_ms <= self.not_before_ms
            && self.not_before_ms < self.deliver_by_ms
            && self.deliver_by_ms <= deliver_by_max;
        if !ordered || self.packet_id.created_ms() != self.created_ms {
            return Err(CoreError::Times);
        }
        let recipients = &self.recipient_commit;
        if recipients.is_empty() || recipients.len() > limits::RECIPIENTS_MAX || !distinct(recipients) {
            return Err(CoreError::Recipients);
        }
        if (self.kind == Kind::Recall) != self.refers_to.is_some() {
            return Err(CoreError::RefersTo);
        }
        check_attachments(&self.attachments)
    }
}

fn check_attachments(attachments: &[schema::AttachmentRef]) -> Result<(), CoreError> {
    if attachments.len() > limits::ATTACHMENTS_MAX {
        return Err(CoreError::Attachment(attachments.len()));
    }
    let ids: Vec<_> = attachments.iter().map(|attachment| &attachment.blob_id).collect();
    for (index, attachment) in attachments.iter().enumerate() {
        let root: Digest = fixed("root", &attachment.root)?;
        let sound = attachment.length <= limits::BLOB_BYTES_MAX
            && chunk::plain_length(attachment.length).is_some()
            && attachment.blob_id == blob_id(&root, attachment.length).as_slice();
        if !sound || ids.iter().take(index).any(|id| **id == attachment.blob_id) {
            return Err(CoreError::Attachment(index));
        }
    }
    Ok(())
}

/// Commitment to one recipient:
/// SHA-256("lintas/v1/recipient" 00 salt(16) ‖ agency ‖ 00 ‖ unit ‖ 00 ‖ enc_key_id(32)), then 01 if the unit is named.
#[must_use]
pub fn recipient_commitment(opening: &schema::Opening) -> Digest {
    let (agency, unit) = (opening.agency.as_bytes(), opening.unit.as_bytes());
    let named: &[u8] = if opening.named { &[1] } else { &[] };
    let key_id = &opening.enc_key_id;
    sha256(&[b"lintas/v1/recipient\0", &opening.salt, agency, b"\0", unit, b"\0", key_id, named])
}

/// Whether `opening` is sound and opens `commitment`.
#[must_use]
pub fn opens(opening: &schema::Opening, commitment: &Digest) -> bool {
    let sound = opening.salt.len() == 16
        && opening.enc_key_id.len() == 32
        && check_code(&opening.agency).is_ok()
        && check_code(&opening.unit).is_ok();
    sound && recipient_commitment(opening) == *commitment
}

/// Checks that the units named have codes that can be, and that none stands twice. Commitments hide a unit that
/// stands twice under two salts, so whoever has all openings looks.
pub(crate) fn check_audience<'a>(
    openings: impl Iterator<Item = &'a schema::Opening>,
) -> Result<(), CoreError> {
    let mut units = BTreeSet::new();
    for opening in openings {
        let id = |error| CoreError::Id { field: "recipient", error };
        check_code(&opening.agency).map_err(id)?;
        check_code(&opening.unit).map_err(id)?;
        if !units.insert((&opening.agency, &opening.unit)) {
            return Err(CoreError::Recipients);
        }
    }
    Ok(())
}

pub(crate) fn check_unit(field: &'static str, unit: &UnitRef) -> Result<(), CoreError> {
    let id = |error| CoreError::Id { field, error };
    check_code(&unit.agency).map_err(id)?;
    check_code(&unit.unit).map_err(id)
}

pub(crate) fn packet_id(field: &'static str, bytes: &[u8]) -> Result<PacketId, CoreError> {
    PacketId::from_bytes(bytes).map_err(|error| CoreError::Id { field, error })
}

pub(crate) fn digests(field: &'static str, list: &[Bytes]) -> Result<Vec<Digest>, WrongSize> {
    list.iter().map(|digest| fixed(field, digest)).collect()
}

pub(crate) fn distinct(digests: &[Digest]) -> bool {
    let mut sorted: Vec<_> = digests.iter().collect();
    sorted.sort_unstable();
    sorted.iter().zip(sorted.iter().skip(1)).all(|(a, b)| a != b)
}

fn packet_ref(packet: &schema::PacketRef) -> Result<(PacketId, Digest), CoreError> {
    Ok((packet_id("refers_to", &packet.packet_id)?, fixed("refers_to", &packet.header_digest)?))
}
