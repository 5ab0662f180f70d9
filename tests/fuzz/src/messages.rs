//! Every message of the schema. tests/tests/fuzz.rs holds this list against the schema.

use bytes::Bytes;
use lintas_proto::{
    canonical::{DecodeError, Problem, Shaped, decode, encode},
    schema,
};

use crate::{draws::Draws, edit::edited, shaped};

/// Longest message here: the fuzzer's inputs are far shorter.
const MAX: usize = 1 << 20;

macro_rules! messages {
    ($($message:ident),+ $(,)?) => {
        /// One function for each message.
        static ALL: &[fn(&mut Draws<'_>)] = &[$(exercise::<schema::$message>),+];
        /// Their names, in the same order.
        pub static NAMES: &[&str] = &[$(stringify!($message)),+];
    };
}

messages!(
    UnitRef,
    Classification,
    Label,
    Core,
    PacketRef,
    AttachmentRef,
    Header,
    Opening,
    GrantCore,
    Grant,
    Evidence,
    GroupProof,
    SignedEvidence,
    AuditEvent,
    PolicyFacts,
    LoggedEvent,
    Receipt,
    SignedReceipt,
    Text,
    PartialDate,
    PersonName,
    Person,
    Vessel,
    Vehicle,
    Document,
    Phone,
    Account,
    Position,
    Location,
    RouteLeg,
    Route,
    Organisation,
    Event,
    Relation,
    Grading,
    Thread,
    AttachmentKey,
    Alert,
    Notice,
    Request,
    Reply,
    Recall,
    Body,
    RosterUnit,
    Member,
    EndedLog,
    BrokerKeys,
    Roster,
    LeavingPolicy,
    ClassificationScheme,
    Marking,
    RosterSignature,
    SignedRoster,
    EncryptionKey,
    Keyset,
    Delegation,
    SignedKeyset,
    DirectoryBundle,
    PolicyBundle,
    SignedPolicyBundle,
    SlotOpening,
    LeafProof,
    RootProof,
    ErasureOrder,
    SignedErasureOrder,
    EvidenceFile,
    EncryptionSeed,
    KeyPage,
    NodeSecrets,
    BrokerSecrets,
    JoinRequest,
    StoredAdmission,
    StoredRecipient,
    StoredOutcome,
    StoredEvent,
    StoredTaken,
    StoredEpoch,
    StoredEvents,
    StoredRead,
    StoredSlotKey,
    StoredMembers,
    StoredErasure,
    StoredLogBegun,
    SnapshotItem,
    SnapshotAudit,
    SnapshotSlotKey,
    SnapshotRead,
    SnapshotLog,
    PublishedLog,
    PublishedSubLog,
    KeyLock,
    LockedKeys,
    StoredOutgoing,
    StoredReceipt,
    StoredRefusal,
    StoredIncoming,
    StoredEvidence,
    StoredRejection,
    MovedKey,
    StoredPurge,
    StoredConfirmation,
    StoredInclusion,
    IncludedPacket,
    StoredRootProof,
    StoredReview,
    StoredFinding,
    Hello,
    HelloAck,
    Submission,
    Refusal,
    Delivery,
    EvidenceDelivery,
    Acknowledgement,
    BlobPut,
    BlobGet,
    BlobStatus,
    KnownKeyset,
    DirectoryGet,
    DirectoryHead,
    DirectoryUpdate,
    KeysetPut,
    KeysetStatus,
    DirectoryNotice,
    WitnessRequest,
    WitnessAnswer,
    LogGet,
    LogHead,
    ErasurePut,
    ErasureStatus,
    PolicyPut,
    PolicyStatus,
    PolicyGet,
    PolicyHead,
    PolicyUpdate,
);

/// Makes bytes that are a message, nearly one, or none, and puts them through the gate as the message that the first
/// choice names.
pub fn any(draws: &mut Draws<'_>) {
    let chosen = draws.below(ALL.len());
    ALL[chosen](draws);
}

fn exercise<M: Shaped + PartialEq>(draws: &mut Draws<'_>) {
    match draws.byte() % 4 {
        0 => drop(gate::<M>(&Bytes::copy_from_slice(draws.clone().rest()))),
        1 => {
            let bytes = Bytes::from(shaped::built::<M>(draws));
            // Canonical by construction.
            assert!(gate::<M>(&bytes).is_some(), "{}: {:?}", M::shape().name, decode::<M>(&bytes, MAX).err());
        }
        _ => {
            let bytes = shaped::built::<M>(draws);
            gate::<M>(&Bytes::from(edited(&bytes, draws)));
        }
    }
}

/// What holds for any bytes at the gate. The message, if they are one.
///
/// # Panics
/// If it does not hold.
pub fn gate<M: Shaped + PartialEq>(bytes: &Bytes) -> Option<M> {
    let message = match decode::<M>(bytes, MAX) {
        Ok(message) => message,
        Err(error) => {
            refused::<M>(bytes, &error);
            return None;
        }
    };
    assert_eq!(encode(&message), bytes, "{}: two encodings", M::shape().name);
    assert!(decode::<M>(&encode(&message), MAX).is_ok_and(|again| again == message));
    assert_eq!(bytes.is_empty(), message == M::default(), "a default that is present");
    if let Some(less) = bytes.len().checked_sub(1) {
        let error = decode::<M>(bytes, less).err().map(|error| error.problem);
        assert_eq!(error, Some(Problem::TooLarge { have: bytes.len(), max: less }));
    }
    let longer = Bytes::from([bytes, [0].as_slice()].concat());
    assert!(decode::<M>(&longer, MAX).is_err(), "a byte behind the end");
    Some(message)
}

/// What is refused although prost reads it and writes it again as it came, is refused for one of four reasons.
fn refused<M: Shaped>(bytes: &Bytes, error: &DecodeError) {
    assert!(error.offset <= bytes.len(), "{error}");
    assert_ne!(error.problem, Problem::Reencode, "the walk passed what prost reads otherwise: {error}");
    let again = M::decode(bytes.clone()).map(|message| message.encode_to_vec());
    if again.is_ok_and(|again| again == *bytes) {
        let stricter = matches!(
            error.problem,
            Problem::Default
                | Problem::UnknownValue { .. }
                | Problem::TooMany { .. }
                | Problem::TooLarge { .. }
        );
        assert!(stricter, "a canonical message was refused: {error}");
    }
}
