//! The own agency's policy bundles over streams of their own. What comes is bytes on nobody's word: whoever takes them
//! verifies them.

use std::time::Duration;

use bytes::Bytes;
use lintas_link::{FrameReader, FrameWriter, LinkError};
use lintas_proto::{
    canonical,
    frame::FrameType,
    limits,
    schema::{PolicyGet, PolicyHead, PolicyPut, PolicyStatus, PolicyUpdate, Reason},
};
use thiserror::Error;
use tokio::time::timeout;

use super::directory_link::receive_raw;
use crate::core::text::one_line;

/// Most bundles of one answer.
const BUNDLES_MAX: usize = 64;
/// Longest answer, bytes.
const UPDATE_BYTES_MAX: usize = BUNDLES_MAX * (limits::POLICY_BUNDLE_BYTES_MAX + 16);
/// How long one question may take, over the slowest link.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);

/// Why a question about policies was not answered.
#[derive(Debug, Error)]
pub(crate) enum PolicyError {
    /// The connection.
    #[error("the broker did not answer about release policies ({0}); it is asked again")]
    Link(#[from] LinkError),
    /// The broker says no.
    #[error("the broker says: {text}")]
    Refused {
        /// Why.
        reason: Reason,
        /// Its sentence.
        text: String,
    },
    /// More than there can be.
    #[error("the broker offers {0} bytes of release policies; at most {UPDATE_BYTES_MAX} are taken")]
    TooLong(u64),
    /// Not what was asked for.
    #[error("the broker's answer about release policies cannot be read: {0}")]
    Unreadable(#[from] canonical::DecodeError),
    /// It takes too long.
    #[error("the broker did not send its answer about release policies within {} minutes", ANSWER_TIME_MAX.as_secs() / 60)]
    Slow,
}

impl PolicyError {
    /// Whether the whole connection ended, not one stream.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Link(
                LinkError::StreamReset(_) | LinkError::StreamStopped(_) | LinkError::Truncated { .. },
            ) => false,
            Self::Link(_) => true,
            Self::Refused { .. } | Self::TooLong(_) | Self::Unreadable(_) | Self::Slow => false,
        }
    }
}

/// What the broker has.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Its newest version, 0 for none, and the hash of that.
    pub(crate) version: u64,
    pub(crate) hash: Bytes,
    /// Canonical bytes of `SignedPolicyBundle`, of which nothing is verified: those above the asked version.
    pub(crate) bundles: Vec<Bytes>,
}

/// Asks for everything above a version.
pub(crate) async fn ask(streams: (FrameWriter, FrameReader), version: u64) -> Result<Offer, PolicyError> {
    timeout(ANSWER_TIME_MAX, receive(streams, version)).await.unwrap_or(Err(PolicyError::Slow))
}

async fn receive(
    (mut writer, mut reader): (FrameWriter, FrameReader),
    version: u64,
) -> Result<Offer, PolicyError> {
    writer.send_message(FrameType::PolicyGet, &PolicyGet { version }).await?;
    let head: PolicyHead = reader.next_message(FrameType::PolicyHead).await?;
    check(head.reason, &head.text)?;
    let length = usize::try_from(head.length).ok().filter(|length| *length <= UPDATE_BYTES_MAX);
    let bytes = receive_raw(&mut reader, length.ok_or(PolicyError::TooLong(head.length))?).await?;
    let update: PolicyUpdate = canonical::decode(&bytes, UPDATE_BYTES_MAX)?;
    Ok(Offer { version: head.version, hash: head.hash, bundles: update.bundles })
}

/// Brings a bundle: returns once it is durable at the broker.
pub(crate) async fn bring(
    (mut writer, mut reader): (FrameWriter, FrameReader),
    bundle: Bytes,
) -> Result<(), PolicyError> {
    let bring = async {
        writer.send_message(FrameType::PolicyPut, &PolicyPut { bundle }).await?;
        let status: PolicyStatus = reader.next_message(FrameType::PolicyStatus).await?;
        check(status.reason, &status.text)
    };
    timeout(ANSWER_TIME_MAX, bring).await.unwrap_or(Err(PolicyError::Slow))
}

fn check(reason: i32, text: &str) -> Result<(), PolicyError> {
    let reason = Reason::try_from(reason).unwrap_or_default();
    if reason == Reason::Accepted {
        return Ok(());
    }
    Err(PolicyError::Refused { reason, text: one_line(text) })
}
