//! Grants: a relayer adds recipients to a packet that stays as it is. The originator's bytes and signature
//! never change; the grant carries key wraps for the new recipients under the relayer's signature.

use bytes::Bytes;
use rand_core::CryptoRng;
use thiserror::Error;

use super::{
    chunk::{ContentKey, fresh},
    core::{
        CoreError, check_audience, check_unit, digests, distinct, opens, packet_id, recipient_commitment,
    },
    open::{OpenError, Opened, decrypt},
    seal::Recipient,
    verify::{PacketKeys, Part, VerifiedHeader, VerifyError, count},
    wrap::{DecryptionKey, WRAP_BYTES, Wrapped, unwrap, wrap},
};
use crate::{
    canonical::{self, fixed},
    id::{Digest, PacketId, sha256},
    limits,
    schema::{self, Onward, Opening, UnitRef},
    sign::{SUITE, Signed, SigningKey},
};

/// What a relayer says; see `GrantCore` in the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTerms {
    /// UUIDv7.
    pub grant_id: PacketId,
    /// Grant that this one builds on.
    pub previous_grant: Option<Digest>,
    /// Who relays.
    pub relayer: UnitRef,
    /// Directory under which the grant was made.
    pub directory_hash: Digest,
    /// The originator's signed consent, where the packet asks for one.
    pub consent_digest: Option<Digest>,
    /// Not delivered later; not after the packet's own `deliver_by`.
    pub expires_ms: u64,
}

/// A grant ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedGrant {
    /// Canonical bytes of `Grant`.
    pub grant: Bytes,
    /// Ed25519 over PAE, 64 bytes.
    pub signature: Bytes,
    /// One per new recipient.
    pub openings: Vec<Opening>,
    /// One per new recipient.
    pub wraps: Vec<Bytes>,
}

/// A grant whose signature was checked. Made by [`verify_grant`] only.
#[derive(Debug, Clone)]
pub struct VerifiedGrant {
    terms: GrantTerms,
    core_digest: Digest,
    digest: Digest,
    recipient_commit: Vec<Digest>,
    wrap_sha256: Vec<Digest>,
}

impl VerifiedGrant {
    /// What the relayer said.
    #[must_use]
    pub fn terms(&self) -> &GrantTerms {
        &self.terms
    }

    /// SHA-256 of the grant bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Checks that `opening` is new recipient `index`'s.
    ///
    /// # Errors
    /// [`VerifyError::Digest`].
    pub fn check_opening(&self, index: usize, opening: &Opening) -> Result<(), VerifyError> {
        let fits = self.recipient_commit.get(index).is_some_and(|commitment| opens(opening, commitment));
        if fits { Ok(()) } else { Err(VerifyError::Digest(Part::Opening(index))) }
    }

    /// Checks that `wrap` is new recipient `index`'s.
    ///
    /// # Errors
    /// [`VerifyError::Digest`].
    pub fn check_wrap(&self, index: usize, wrap: &[u8]) -> Result<(), VerifyError> {
        let expected = self.wrap_sha256.get(index);
        let fits = wrap.len() == WRAP_BYTES && expected.is_some_and(|digest| sha256(&[wrap]) == *digest);
        if fits { Ok(()) } else { Err(VerifyError::Digest(Part::Wrap(index))) }
    }

    /// Checks everything that travels beside the grant when it is submitted, and that no unit stands twice among
    /// its recipients.
    ///
    /// # Errors
    /// [`VerifyError::Count`], [`VerifyError::Digest`], [`CoreError::Recipients`].
    pub fn check_parts(&self, openings: &[Opening], wraps: &[Bytes]) -> Result<(), VerifyError> {
        let commitments = self.recipient_commit.len();
        count("opening", commitments, openings.len())?;
        count("key wrap", commitments, wraps.len())?;
        for (index, opening) in openings.iter().enumerate() {
            self.check_opening(index, opening)?;
        }
        check_audience(openings.iter())?;
        wraps.iter().enumerate().try_for_each(|(index, wrap)| self.check_wrap(index, wrap))
    }
}

/// Why a grant was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// A recipient's key cannot be used.
    #[error("recipient {0}: encryption key cannot be used")]
    Recipient(usize),
    /// The terms break a rule, or there are no recipients, too many, or one twice.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// `info` of a granted wrap: "lintas/v1/grant" 00 ctx SHA-256(GrantCore bytes) enc_key_id.
fn grant_info(context: &Digest, grant_core: &Digest, enc_key_id: &[u8]) -> Vec<u8> {
    [b"lintas/v1/grant\0".as_slice(), context, grant_core, enc_key_id].concat()
}

/// Rules between a grant's terms and the packet that it is for.
fn check_terms(packet: &VerifiedHeader, terms: &GrantTerms) -> Result<(), CoreError> {
    check_unit("relayer", &terms.relayer)?;
    if terms.expires_ms == 0 || terms.expires_ms > packet.core().deliver_by_ms {
        return Err(CoreError::Times);
    }
    let allowed = match packet.core().onward {
        Onward::Unspecified | Onward::None => false,
        Onward::WithConsent => terms.consent_digest.is_some(),
        Onward::Region | Onward::Any => terms.consent_digest.is_none(),
    };
    if allowed { Ok(()) } else { Err(CoreError::Onward) }
}

/// Seals a grant for a packet that the relayer holds and may open.
///
/// # Errors
/// [`GrantError`].
pub fn seal_grant(
    packet: &VerifiedHeader,
    terms: &GrantTerms,
    content_key: &ContentKey,
    recipients: &[Recipient],
    signer: &SigningKey,
    entropy: &mut dyn CryptoRng,
) -> Result<SealedGrant, GrantError> {
    let opening = |recipient: &Recipient| Opening {
        salt: Bytes::copy_from_slice(fresh::<16>(entropy).as_slice()),
        agency: recipient.unit.agency.clone(),
        unit: recipient.unit.unit.clone(),
        enc_key_id: Bytes::copy_from_slice(recipient.key.id()),
        named: recipient.named,
    };
    check_terms(packet, terms)?;
    let openings: Vec<Opening> = recipients.iter().map(opening).collect();
    check_audience(openings.iter())?;
    if openings.is_empty() || openings.len() > limits::RECIPIENTS_MAX {
        return Err(CoreError::Recipients.into());
    }
    let optional = |digest: &Option<Digest>| digest.map(|d| Bytes::copy_from_slice(&d)).unwrap_or_default();
    let grant_core = canonical::encode(&schema::GrantCore {
        suite: SUITE.into(),
        grant_id: Bytes::copy_from_slice(terms.grant_id.as_bytes()),
        header_digest: Bytes::copy_from_slice(packet.digest()),
        prev_grant: optional(&terms.previous_grant),
        relayer: Some(terms.relayer.clone()),
        sign_key_id: Bytes::copy_from_slice(signer.id()),
        directory_hash: Bytes::copy_from_slice(&terms.directory_hash),
        consent_digest: optional(&terms.consent_digest),
        recipient_commit: openings.iter().map(|o| Bytes::copy_from_slice(&recipient_commitment(o))).collect(),
        expires_ms: terms.expires_ms,
    });
    let core_digest = sha256(&[&grant_core]);
    let mut wraps = Vec::with_capacity(recipients.len());
    for (index, Recipient { key, previous, .. }) in recipients.iter().enumerate() {
        let wrapped = Wrapped { content_key: content_key.clone(), previous: *previous };
        let sealed = wrap(key, &grant_info(packet.context(), &core_digest, key.id()), &wrapped, entropy);
        wraps.push(Bytes::from(sealed.map_err(|_| GrantError::Recipient(index))?));
    }
    let wrap_sha256 = wraps.iter().map(|wrap| Bytes::copy_from_slice(&sha256(&[wrap]))).collect();
    let grant = canonical::encode(&schema::Grant { grant_core, wrap_sha256 });
    let signature = Bytes::copy_from_slice(&signer.sign(Signed::Grant, &grant));
    Ok(SealedGrant { grant, signature, openings, wraps })
}

/// Checks a grant for `packet`: canonical bytes, rules, relayer's key from the directory, signature.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_grant(
    packet: &VerifiedHeader,
    grant: &Bytes,
    signature: &[u8],
    keys: &impl PacketKeys,
) -> Result<VerifiedGrant, VerifyError> {
    let wire: schema::Grant = canonical::decode(grant, limits::HEADER_BYTES_MAX)?;
    let core: schema::GrantCore = canonical::decode(&wire.grant_core, limits::CORE_BYTES_MAX)?;
    if core.suite != u32::from(SUITE) {
        return Err(CoreError::Suite(core.suite).into());
    }
    let relayer = core.relayer.ok_or(CoreError::Missing("relayer"))?;
    let optional =
        |field, bytes: &Bytes| if bytes.is_empty() { Ok(None) } else { fixed(field, bytes).map(Some) };
    let terms = GrantTerms {
        grant_id: packet_id("grant_id", &core.grant_id)?,
        previous_grant: optional("prev_grant", &core.prev_grant)?,
        directory_hash: fixed("directory_hash", &core.directory_hash)?,
        consent_digest: optional("consent_digest", &core.consent_digest)?,
        expires_ms: core.expires_ms,
        relayer,
    };
    let recipient_commit = digests("recipient_commit", &core.recipient_commit)?;
    let wrap_sha256 = digests("wrap_sha256", &wire.wrap_sha256)?;
    count("key wrap", recipient_commit.len(), wrap_sha256.len())?;
    if recipient_commit.is_empty()
        || recipient_commit.len() > limits::RECIPIENTS_MAX
        || !distinct(&recipient_commit)
    {
        return Err(CoreError::Recipients.into());
    }
    check_terms(packet, &terms)?;
    if fixed::<32>("header_digest", &core.header_digest)? != *packet.digest() {
        return Err(VerifyError::Digest(Part::Header));
    }
    let key_id: Digest = fixed("sign_key_id", &core.sign_key_id)?;
    let key = keys.packet_key(&terms.relayer, &key_id).ok_or_else(|| VerifyError::UnknownKey {
        agency: terms.relayer.agency.clone(),
        unit: terms.relayer.unit.clone(),
        key_id,
    })?;
    key.verify(Signed::Grant, grant, signature).map_err(|_| VerifyError::Signature)?;
    let (core_digest, digest) = (sha256(&[&wire.grant_core]), sha256(&[grant]));
    Ok(VerifiedGrant { terms, core_digest, digest, recipient_commit, wrap_sha256 })
}

/// Opens a packet through a grant.
///
/// # Errors
/// [`OpenError`].
pub fn open_granted(
    packet: &VerifiedHeader,
    grant: &VerifiedGrant,
    parts: super::open::Parts<'_>,
    secret: &DecryptionKey,
) -> Result<Opened, OpenError> {
    grant.check_opening(parts.index, parts.opening)?;
    grant.check_wrap(parts.index, parts.wrap)?;
    if parts.opening.enc_key_id != secret.public().id().as_slice() {
        return Err(OpenError::OtherKey);
    }
    packet.check_body(parts.body)?;
    let info = grant_info(packet.context(), &grant.core_digest, secret.public().id());
    let wrapped = unwrap(secret, &info, parts.wrap)?;
    let body = decrypt(packet, &wrapped.content_key, parts.body)?;
    Ok(Opened { body, content_key: wrapped.content_key, previous: wrapped.previous })
}
