//! The structs that prost makes of `schema/lintas/v1/*.proto`, and the shape of each message.
//!
//! A decoded struct proves nothing. [`crate::canonical::decode`] is the only decoder in this workspace: it
//! accepts one encoding of each message and refuses every other.

#![allow(missing_docs, reason = "field docs stand in the schema; enum values are named after what they are")]
#![allow(clippy::all, reason = "generated")]

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

unprintable!(AttachmentKey, Body, BrokerSecrets, EncryptionSeed, Hello, KeyLock, LockedKeys, NodeSecrets);
