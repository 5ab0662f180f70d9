//! Frames: how messages follow each other on a QUIC stream.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | payload length, u32 big-endian, at most [`limits::FRAME_BYTES_MAX`] |
//! | 4 | 1 | type, see [`FrameType`] |
//! | 5 | length | payload: canonical bytes of the message that the type names |

use thiserror::Error;

use crate::limits;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 5;

/// What a frame carries. Values are stable; a retired one is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// `Hello`, node to broker: the first frame of a session.
    Hello = 1,
    /// `HelloAck`, broker to node: the answer.
    HelloAck = 2,
    /// `Submission`, node to broker.
    Submission = 3,
    /// `SignedReceipt`, broker to node: accepted and durable.
    Receipt = 4,
    /// `Refusal`, broker to node: not accepted.
    Refusal = 5,
    /// `Delivery`, broker to node.
    Delivery = 6,
    /// `EvidenceDelivery`, broker to node.
    Evidence = 7,
    /// `Acknowledgement`, node to broker.
    Acknowledgement = 8,
    /// `BlobPut`, node to broker: the first frame of an upload stream; the bytes follow unframed.
    BlobPut = 9,
    /// `BlobGet`, node to broker: the first frame of a download stream.
    BlobGet = 10,
    /// `BlobStatus`, broker to node.
    BlobStatus = 11,
    /// `DirectoryGet`, node to broker: the first frame of a directory stream.
    DirectoryGet = 12,
    /// `DirectoryHead`, broker to node; the bytes of a `DirectoryUpdate` follow unframed.
    DirectoryHead = 13,
    /// `KeysetPut`, node to broker: the first frame of a keyset stream.
    KeysetPut = 14,
    /// `KeysetStatus`, broker to node.
    KeysetStatus = 15,
    /// `DirectoryNotice`, broker to node: the directory has changed.
    DirectoryNotice = 16,
    /// `WitnessRequest`, broker to node: a checkpoint to be cosigned.
    WitnessRequest = 17,
    /// `WitnessAnswer`, node to broker.
    WitnessAnswer = 18,
    /// `LogGet`, node to broker: the first frame of a stream for a file of the log.
    LogGet = 19,
    /// `LogHead`, broker to node; the bytes follow unframed.
    LogHead = 20,
    /// `ErasurePut`, node to broker: the first frame of an erasure stream.
    ErasurePut = 21,
    /// `ErasureStatus`, broker to node.
    ErasureStatus = 22,
    /// `PolicyPut`, node to broker: the first frame of a stream for a policy bundle.
    PolicyPut = 23,
    /// `PolicyStatus`, broker to node.
    PolicyStatus = 24,
    /// `PolicyGet`, node to broker: the first frame of a stream for the agency's own bundles.
    PolicyGet = 25,
    /// `PolicyHead`, broker to node; the bytes of a `PolicyUpdate` follow unframed.
    PolicyHead = 26,
}

/// A frame header that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Type byte that this protocol does not know.
    #[error("frame type {0} is unknown")]
    UnknownType(u8),
    /// Payload beyond the limit; nothing is allocated for it.
    #[error("frame of {have} bytes, at most {max} are allowed")]
    TooLarge {
        /// Announced length.
        have: usize,
        /// The limit.
        max: usize,
    },
}

impl TryFrom<u8> for FrameType {
    type Error = FrameError;

    fn try_from(byte: u8) -> Result<Self, FrameError> {
        Ok(match byte {
            1 => Self::Hello,
            2 => Self::HelloAck,
            3 => Self::Submission,
            4 => Self::Receipt,
            5 => Self::Refusal,
            6 => Self::Delivery,
            7 => Self::Evidence,
            8 => Self::Acknowledgement,
            9 => Self::BlobPut,
            10 => Self::BlobGet,
            11 => Self::BlobStatus,
            12 => Self::DirectoryGet,
            13 => Self::DirectoryHead,
            14 => Self::KeysetPut,
            15 => Self::KeysetStatus,
            16 => Self::DirectoryNotice,
            17 => Self::WitnessRequest,
            18 => Self::WitnessAnswer,
            19 => Self::LogGet,
            20 => Self::LogHead,
            21 => Self::ErasurePut,
            22 => Self::ErasureStatus,
            23 => Self::PolicyPut,
            24 => Self::PolicyStatus,
            25 => Self::PolicyGet,
            26 => Self::PolicyHead,
            other => return Err(FrameError::UnknownType(other)),
        })
    }
}

impl FrameType {
    /// Longest payload of this type, bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::HelloAck | Self::BlobPut | Self::BlobGet | Self::BlobStatus => {
                limits::HELLO_BYTES_MAX
            }
            Self::DirectoryHead | Self::KeysetStatus | Self::DirectoryNotice => limits::HELLO_BYTES_MAX,
            Self::WitnessRequest | Self::WitnessAnswer => limits::HELLO_BYTES_MAX,
            Self::LogGet | Self::LogHead | Self::ErasureStatus => limits::HELLO_BYTES_MAX,
            Self::ErasurePut => limits::ERASURE_BYTES_MAX,
            Self::PolicyPut => limits::POLICY_PUT_BYTES_MAX,
            Self::PolicyStatus | Self::PolicyGet | Self::PolicyHead => limits::HELLO_BYTES_MAX,
            Self::DirectoryGet => limits::DIRECTORY_GET_BYTES_MAX,
            Self::KeysetPut => limits::KEYSET_PUT_BYTES_MAX,
            Self::Submission | Self::Delivery => limits::FRAME_BYTES_MAX,
            Self::Receipt => limits::RECEIPT_BYTES_MAX,
            Self::Refusal | Self::Evidence | Self::Acknowledgement => limits::HELLO_BYTES_MAX,
        }
    }
}

/// Header of a frame of `length` payload bytes.
///
/// # Errors
/// [`FrameError::TooLarge`].
pub fn header(kind: FrameType, length: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let too_large = FrameError::TooLarge { have: length, max: kind.bytes_max() };
    let wire = u32::try_from(length).map_err(|_| too_large)?;
    if length > kind.bytes_max() {
        return Err(too_large);
    }
    let [a, b, c, d] = wire.to_be_bytes();
    Ok([a, b, c, d, kind as u8])
}

/// Type and payload length of a frame.
///
/// # Errors
/// [`FrameError`].
pub fn parse_header(bytes: [u8; HEADER_BYTES]) -> Result<(FrameType, usize), FrameError> {
    let [a, b, c, d, kind] = bytes;
    let kind = FrameType::try_from(kind)?;
    let have = u32::from_be_bytes([a, b, c, d]) as usize;
    let max = kind.bytes_max();
    if have > max { Err(FrameError::TooLarge { have, max }) } else { Ok((kind, have)) }
}
