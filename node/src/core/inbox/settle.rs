//! What is kept and answered: the evidence of all verdicts is signed as one group.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    evidence::{Evidence, EvidenceError, sign_evidence},
    id::{Digest, PacketId},
    schema::{StoredIncoming, StoredRejection},
};
use rand_core::CryptoRng;
use thiserror::Error;

use super::{Accepted, INCOMING_PURPOSE, Rejected, incoming_id};
use crate::core::{keys::Keys, pages::Page, records::Record, vault::VaultError};

/// Why answers were not made.
#[derive(Debug, Error)]
pub(crate) enum SettleError {
    /// The content key was not sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Fewer pages than packets.
    #[error("there is no key page for a packet")]
    NoPage,
    /// The evidence was not signed.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// A judgement that is to be kept.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Opened.
    Accept(Box<Accepted>),
    /// Not opened.
    Reject(Box<Rejected>),
}

impl Verdict {
    /// SHA-256 of the header, and for which unit.
    pub(crate) fn delivery(&self) -> (&Digest, &str) {
        match self {
            Self::Accept(accepted) => (&accepted.digest, &accepted.unit),
            Self::Reject(rejected) => (&rejected.digest, &rejected.unit),
        }
    }

    /// The packet, if it was opened.
    pub(crate) fn taken(&self) -> Option<PacketId> {
        match self {
            Self::Accept(accepted) => Some(accepted.packet_id()),
            Self::Reject(_) => None,
        }
    }
}

/// Signs the evidence of all verdicts as one group: for each, in order, the record to keep and the evidence
/// to send once it is kept. `pages` are as many as there are verdicts that accept.
pub(crate) fn settle(
    verdicts: Vec<Verdict>,
    keys: &Keys,
    pages: Vec<Page>,
    entropy: &mut dyn CryptoRng,
) -> Result<Vec<(Record, Bytes)>, SettleError> {
    if verdicts.is_empty() {
        return Ok(Vec::new());
    }
    let statements: Vec<Evidence> = verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Accept(accepted) => accepted.evidence.clone(),
            Verdict::Reject(rejected) => rejected.evidence.clone(),
        })
        .collect();
    let signed = sign_evidence(&statements, &keys.packet)?;
    let (mut settled, mut pages) = (Vec::with_capacity(verdicts.len()), pages.into_iter());
    for (verdict, signed) in verdicts.into_iter().zip(&signed) {
        let evidence = canonical::encode(signed);
        let record = match verdict {
            Verdict::Accept(accepted) => {
                let Accepted { digest, unit, stored, content_key, .. } = *accepted;
                let id = incoming_id(&digest, &unit);
                let (key_page, page) = pages.next().ok_or(SettleError::NoPage)?;
                let sealed_key = page.seal(INCOMING_PURPOSE, &id, content_key.as_slice(), entropy)?;
                Record::Incoming(Box::new(StoredIncoming {
                    key_page,
                    sealed_key,
                    evidence: evidence.clone(),
                    ..stored
                }))
            }
            Verdict::Reject(rejected) => Record::Rejection(StoredRejection {
                header_digest: Bytes::copy_from_slice(&rejected.digest),
                unit: Some(rejected.evidence.actor.clone()),
                reason: rejected.evidence.reason as i32,
                text: rejected.text.clone(),
                evidence: evidence.clone(),
                received_ms: rejected.evidence.time_ms,
            }),
        };
        settled.push((record, evidence));
    }
    Ok(settled)
}
