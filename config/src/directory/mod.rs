//! The directory in its two layers: the roster (who is a member; signed by k of n region authorities) and one
//! keyset per agency (which keys it uses now; signed by the agency under its offline identity key).
//!
//! [`Directory::open`] is the only way to one, so whoever holds a [`Directory`] holds verified keys. TLS, packet
//! signatures and recipients are all looked up here: one source of trust.

mod bootstrap;
mod keyset;
mod roster;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lintas_proto::{
    canonical::{self, DecodeError},
    envelope::{verify::PacketKeys, wrap::EncryptionKey},
    id::{Digest, IdError, sha256},
    limits,
    schema::{DirectoryBundle, Member, MemberStatus, Roster, SignedKeyset, SignedRoster, UnitRef},
    sign::{SignatureError, VerifyingKey},
};
use thiserror::Error;

pub use self::bootstrap::Bootstrap;
use self::keyset::AgencyKeys;
pub(crate) use self::{
    keyset::{FORMAT as KEYSET_FORMAT, agency as keyset_agency},
    roster::check as check_roster,
};

/// Why a directory was refused. The directory in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DirectoryError {
    /// Not canonical.
    #[error("directory: {0}")]
    Decode(#[from] DecodeError),
    /// A code or name that is none.
    #[error("{what} `{text}` is {error}")]
    Id {
        /// What it should name.
        what: &'static str,
        /// What it says.
        text: String,
        /// What is wrong.
        error: IdError,
    },
    /// A field that must be there is not, or breaks a rule.
    #[error("{whose}: {what}")]
    Rule {
        /// "roster", or whose keyset.
        whose: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A key that cannot be used.
    #[error("{whose}: {error}")]
    Key {
        /// Whose key.
        whose: String,
        /// What is wrong.
        error: SignatureError,
    },
    /// Too few authorities signed the roster.
    #[error("roster is signed by {have} of the region's authorities, {need} are needed")]
    TooFewSignatures {
        /// Valid signatures of different authorities.
        have: usize,
        /// Signatures needed.
        need: usize,
    },
    /// A signature that does not fit.
    #[error("{0}: the signature does not fit")]
    Signature(String),
    /// A key that appears twice or in two roles.
    #[error("{0}: this key is used twice; each key serves one role of one agency")]
    KeyTwice(String),
    /// For another region.
    #[error("directory is for region `{have}`, this node belongs to `{need}`")]
    WrongRegion {
        /// Region of the directory.
        have: String,
        /// Region expected.
        need: String,
    },
}

/// A verified directory.
#[derive(Debug, Clone)]
pub struct Directory {
    roster: Roster,
    roster_hash: Digest,
    hash: Digest,
    keys: BTreeMap<String, AgencyKeys>,
    /// Agency by transport key; active members only.
    transports: BTreeMap<[u8; 32], String>,
    brokers: Vec<Broker>,
    bytes: Bytes,
}

/// A broker's verified keys.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Name: the first part of its log origins.
    pub name: String,
    /// TLS raw public key.
    pub transport_key: [u8; 32],
    /// Signs receipts and evidence.
    pub receipt_key: VerifyingKey,
}

impl Directory {
    /// Verifies the canonical bytes of a `DirectoryBundle` against the keys of `bootstrap`.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(bytes: &Bytes, bootstrap: &Bootstrap) -> Result<Self, DirectoryError> {
        let bundle: DirectoryBundle = canonical::decode(bytes, limits::DIRECTORY_BYTES_MAX)?;
        let signed: SignedRoster = canonical::decode(&bundle.roster, limits::ROSTER_BYTES_MAX)?;
        let roster = roster::verify(&signed, bootstrap)?;
        let roster_hash = sha256(&[&signed.roster]);
        let mut signed_keysets = Vec::with_capacity(bundle.keysets.len());
        for bytes in &bundle.keysets {
            signed_keysets.push(canonical::decode::<SignedKeyset>(bytes, limits::KEYSET_BYTES_MAX)?);
        }
        let (keys, hashes) = verify_keysets(&roster, &signed_keysets)?;
        let brokers = brokers(&roster)?;
        check_keys_once(&roster, &keys)?;
        let hash = sha256(&[&roster_hash, &hashes.concat()]);
        let active =
            |agency: &str| roster.members.iter().any(|member| member.agency == agency && is_active(member));
        let transports = keys
            .iter()
            .filter(|(agency, _)| active(agency))
            .flat_map(|(agency, keys)| keys.transport.iter().map(|key| (*key.as_bytes(), agency.clone())))
            .collect();
        Ok(Self { roster, roster_hash, hash, keys, transports, brokers, bytes: bytes.clone() })
    }

    /// The bytes it was verified from.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// directory_hash: SHA-256(roster hash ‖ keyset hashes in roster order); zeros stand for a member without keyset.
    #[must_use]
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// SHA-256 of the roster bytes.
    #[must_use]
    pub fn roster_hash(&self) -> &Digest {
        &self.roster_hash
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The brokers of the region.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// A broker's receipt key by its key id.
    #[must_use]
    pub fn receipt_key(&self, key_id: &Digest) -> Option<&VerifyingKey> {
        let id = |broker: &Broker| {
            lintas_proto::sign::key_id(lintas_proto::sign::KeyRole::Receipt, broker.receipt_key.as_bytes())
        };
        self.brokers.iter().find(|broker| id(broker) == *key_id).map(|broker| &broker.receipt_key)
    }

    /// An active member.
    #[must_use]
    pub fn member(&self, agency: &str) -> Option<&Member> {
        self.roster.members.iter().find(|member| member.agency == agency && is_active(member))
    }

    /// Whether an active member has that unit.
    #[must_use]
    pub fn has_unit(&self, unit: &UnitRef) -> bool {
        self.member(&unit.agency)
            .is_some_and(|member| member.units.iter().any(|known| known.unit == unit.unit))
    }

    /// The agency that a transport key belongs to.
    #[must_use]
    pub fn agency_of_transport(&self, key: &[u8; 32]) -> Option<&str> {
        self.transports.get(key).map(String::as_str)
    }

    /// Version of an agency's keyset.
    #[must_use]
    pub fn keyset_version(&self, agency: &str) -> Option<u64> {
        self.keys.get(agency).map(|keys| keys.version)
    }

    /// What is valid at `now_ms`.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> DirectoryAt<'_> {
        DirectoryAt { directory: self, now_ms }
    }
}

/// A directory at one moment: expired keys are not found.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryAt<'a> {
    directory: &'a Directory,
    now_ms: u64,
}

impl<'a> DirectoryAt<'a> {
    /// Whether the roster itself is valid now.
    #[must_use]
    pub fn in_force(&self) -> bool {
        let roster = &self.directory.roster;
        (roster.not_before_ms..roster.not_after_ms).contains(&self.now_ms)
    }

    /// The key to encrypt to for a unit now.
    #[must_use]
    pub fn encryption_key(&self, unit: &UnitRef) -> Option<&'a EncryptionKey> {
        let epoch = self.now_ms / limits::EPOCH_MS;
        self.unit_keys(unit)?.filter(|key| u64::from(key.epoch) == epoch).map(|key| &key.key).next()
    }

    /// Whether `key_id` is a key of that unit that may still be encrypted to.
    #[must_use]
    pub fn accepts_encryption_key(&self, unit: &UnitRef, key_id: &[u8]) -> bool {
        self.unit_keys(unit).is_some_and(|mut keys| keys.any(|key| key.key.id() == key_id))
    }

    fn unit_keys(&self, unit: &UnitRef) -> Option<impl Iterator<Item = &'a keyset::UnitKey>> {
        let known = self.directory.has_unit(unit);
        let keys = self.keys(&unit.agency).filter(|_| known)?;
        let (name, now_ms) = (unit.unit.clone(), self.now_ms);
        Some(keys.encryption.iter().filter(move |key| key.unit == name && now_ms < key.not_after_ms))
    }

    /// Keys of an active member whose keyset has not expired.
    fn keys(&self, agency: &str) -> Option<&'a AgencyKeys> {
        self.directory.member(agency)?;
        self.directory.keys.get(agency).filter(|keys| self.now_ms < keys.not_after_ms)
    }
}

impl PacketKeys for DirectoryAt<'_> {
    fn packet_key(&self, originator: &UnitRef, key_id: &Digest) -> Option<&VerifyingKey> {
        let known = self.directory.has_unit(originator);
        let keys = self.keys(&originator.agency).filter(|_| known)?;
        keys.packet.iter().find(|(id, _)| id == key_id).map(|(_, key)| key)
    }
}

fn is_active(member: &Member) -> bool {
    MemberStatus::try_from(member.status) == Ok(MemberStatus::Active)
}

type VerifiedKeysets = (BTreeMap<String, AgencyKeys>, Vec<Digest>);

/// Keys by agency, and the keyset hashes in roster order.
fn verify_keysets(roster: &Roster, signed: &[SignedKeyset]) -> Result<VerifiedKeysets, DirectoryError> {
    let mut keys = BTreeMap::new();
    let mut hashes = Vec::with_capacity(roster.members.len());
    let mut pending = signed.iter().peekable();
    for member in &roster.members {
        match pending.next_if(|signed| keyset::agency(signed).as_deref() == Some(member.agency.as_str())) {
            Some(signed) => {
                hashes.push(sha256(&[&signed.keyset]));
                keys.insert(member.agency.clone(), keyset::verify(roster, member, signed)?);
            }
            None => hashes.push([0; 32]),
        }
    }
    if pending.next().is_some() {
        let what = "keysets stand in roster order, at most one a member, none of a stranger";
        return Err(DirectoryError::Rule { whose: "directory".to_owned(), what });
    }
    Ok((keys, hashes))
}

fn brokers(roster: &Roster) -> Result<Vec<Broker>, DirectoryError> {
    let key = |name: &str, bytes: &[u8]| {
        VerifyingKey::parse(bytes)
            .map_err(|error| DirectoryError::Key { whose: format!("broker {name}"), error })
    };
    let broker = |broker: &lintas_proto::schema::BrokerKeys| {
        Ok(Broker {
            name: broker.name.clone(),
            transport_key: *key(&broker.name, &broker.transport_key)?.as_bytes(),
            receipt_key: key(&broker.name, &broker.receipt_key)?,
        })
    };
    roster.brokers.iter().map(broker).collect()
}

/// Each public key stands once in the whole directory, whatever its role.
fn check_keys_once(roster: &Roster, keys: &BTreeMap<String, AgencyKeys>) -> Result<(), DirectoryError> {
    let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
    let authorities = roster.authority_keys.iter().map(|key| ("authority", key.as_ref()));
    let identities =
        roster.members.iter().map(|member| (member.agency.as_str(), member.identity_key.as_ref()));
    let brokers = roster.brokers.iter().flat_map(|broker| {
        [
            (broker.name.as_str(), broker.transport_key.as_ref()),
            (broker.name.as_str(), broker.receipt_key.as_ref()),
        ]
    });
    let agencies = keys.iter().flat_map(|(agency, keys)| keys.all().map(move |key| (agency.as_str(), key)));
    for (whose, key) in authorities.chain(identities).chain(brokers).chain(agencies) {
        if !seen.insert(key) {
            return Err(DirectoryError::KeyTwice(whose.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
