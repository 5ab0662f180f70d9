//! The structs that prost makes of `schema/lintas/v1/*.proto`, and the shape of each message.
//!
//! A decoded struct proves nothing. [`crate::canonical::decode`] is the only decoder in this workspace: it
//! accepts one encoding of each message and refuses every other.

#![allow(missing_docs, reason = "field docs stand in the schema; enum values are named after what they are")]
#![allow(clippy::all, clippy::too_many_lines, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, reason = "generated code allows without reasons")]

use crate::canonical::{FieldKind, FieldShape, MessageShape, Shaped};

include!(concat!(env!("OUT_DIR"), "/lintas.v1.rs"));
include!(concat!(env!("OUT_DIR"), "/lintas.v1.serde.rs"));
include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

macro_rules! unprintable {
    ($($message:ident),+) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )+};
}

unprintable!(
    Account,
    Alert,
    AttachmentKey,
    Body,
    BrokerSecrets,
    Document,
    EncryptionSeed,
    Event,
    Grading,
    Hello,
    KeyLock,
    KeyPage,
    Location,
    LockedKeys,
    NodeSecrets,
    Notice,
    Organisation,
    PartialDate,
    Person,
    PersonName,
    Phone,
    Position,
    Recall,
    Relation,
    Reply,
    Request,
    Route,
    RouteLeg,
    SnapshotSlotKey,
    StoredSlotKey,
    Text,
    Thread,
    Vehicle,
    Vessel
);
