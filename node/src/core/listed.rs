//! What the keysets of the directory in force say, read from its verified bytes: ends, keys and their ids.

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    canonical::{self, DecodeError},
    id::{Digest, sha256},
    limits,
    schema::{Delegation, DirectoryBundle, Keyset, SignedKeyset},
    sign::{KeyRole, key_id},
};

/// A keyset that is believed.
#[derive(Debug, Clone)]
pub(crate) struct ListedKeys {
    /// Whose.
    pub(crate) agency: String,
    /// End of the keyset, milliseconds since 1970.
    pub(crate) not_after_ms: u64,
    /// Until when the identity key lets the agency sign keysets, milliseconds since 1970.
    pub(crate) delegated_until_ms: u64,
    /// TLS public keys, 32 bytes each.
    pub(crate) transport: Vec<Bytes>,
    /// Public keys that sign packets, 32 bytes each.
    pub(crate) packet: Vec<Bytes>,
    /// Sorted by unit, then epoch.
    pub(crate) encryption: Vec<ListedUnitKey>,
}

/// One unit's encryption key for one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedUnitKey {
    /// The unit.
    pub(crate) unit: String,
    /// Days since 1970-01-01 divided by 7.
    pub(crate) epoch: u32,
    /// Nothing is sealed to it later, milliseconds since 1970.
    pub(crate) not_after_ms: u64,
    /// Its key id.
    pub(crate) id: Digest,
}

/// The keysets of a directory, in its order; none of an agency of which nothing is believed.
pub(crate) fn keysets(directory: &Directory) -> Result<Vec<ListedKeys>, DecodeError> {
    let bundle: DirectoryBundle = canonical::decode(directory.bytes(), limits::DIRECTORY_BYTES_MAX)?;
    let mut found = Vec::with_capacity(bundle.keysets.len());
    for bytes in &bundle.keysets {
        let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX)?;
        let keyset: Keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX)?;
        if directory.keyset_hash(&keyset.agency) != Some(&sha256(&[&signed.keyset])) {
            continue;
        }
        let delegation: Delegation = canonical::decode(&signed.delegation, limits::KEYSET_BYTES_MAX)?;
        let unit_key = |key: &lintas_proto::schema::EncryptionKey| ListedUnitKey {
            unit: key.unit.clone(),
            epoch: key.epoch,
            not_after_ms: key.not_after_ms,
            id: key_id(KeyRole::Encryption, &key.public_key),
        };
        found.push(ListedKeys {
            agency: keyset.agency,
            not_after_ms: keyset.not_after_ms,
            delegated_until_ms: delegation.not_after_ms,
            transport: keyset.transport_keys,
            packet: keyset.packet_keys,
            encryption: keyset.encryption_keys.iter().map(unit_key).collect(),
        });
    }
    Ok(found)
}
