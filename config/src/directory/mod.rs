//! The directory in its two layers: the roster (who is a member; signed by k of n region authorities) and one
//! keyset per agency (which keys it uses now; signed by the agency under its offline identity key).
//!
//! There are three ways to a [`Directory`], and each verifies everything, so whoever holds one holds verified keys.
//! TLS, packet signatures and recipients are all looked up here: one source of trust.
//!
//! - [`Directory::open`]: the first one, against the [`Bootstrap`] that a human compared;
//! - [`Directory::succeed`]: the one that follows, by the rules of [`chain`];
//! - [`Directory::resume`]: after a restart, against the [`HighWater`] mark of the one in force before it.
//!
//! None of them changes the directory in force: on any error it stays in force.
//!
//! The rules of the two layers stand in `roster` and `keyset`, those of the whole in `parts`; `mark` is what must be
//! remembered, `at` what is valid at a moment. `exchange` says how a directory travels, `routing` what a broker makes
//! of identity keys that nobody vouches for, `unsigned` what can be said of a proposal, `own` of one agency alone;
//! `logs` who keeps, reads and watches the audit logs, `past` under which rosters they were kept.

mod at;
mod bootstrap;
pub mod chain;
mod error;
mod exchange;
mod keyset;
mod logs;
mod mark;
mod own;
mod parts;
mod past;
mod roster;
mod routing;
mod unsigned;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::{Digest, sha256},
    limits,
    schema::{DirectoryBundle, EndedLog, Member, MemberStatus, Roster, SignedKeyset, UnitRef},
    sign::{KeyRole, VerifyingKey, key_id},
};

pub use self::{
    at::DirectoryAt,
    bootstrap::Bootstrap,
    error::{DirectoryError, IdentityChanged, Layer, StampError, SuccessionError},
    keyset::SIGNING_KEYS_MAX,
    logs::{LogOwner, LogRef},
    mark::{HighWater, MarkError},
    own::{OwnEntry, own_entry},
    past::{PastRoster, PastRosters},
    roster::{
        AUTHORITIES_MAX, BROKERS_MAX, CLEARANCE_MAX, FORMAT as ROSTER_FORMAT, GROUPS_MAX, LEAVING_MAX,
        READS_TOLD_DAYS_MAX, ROSTER_VALID_MS_MAX, SCHEMES_MAX, TITLE_BYTES_MAX, UNITS_MAX,
    },
};
pub(crate) use self::{
    chain::{handover, vouches},
    error::moment,
    keyset::delegate,
    keyset::{FORMAT as KEYSET_FORMAT, agency as keyset_agency, epoch_ends_ms},
    parts::check_keyset,
    roster::{check as check_roster, member as check_member, signers, title as is_title},
    unsigned::check as check_unsigned,
};
use self::{
    keyset::AgencyKeys,
    parts::{brokers, check_keys_once, unpack, verify_keysets},
};

/// A verified directory.
#[derive(Debug, Clone)]
pub struct Directory {
    roster: Arc<Roster>,
    hash: Digest,
    /// By agency; none of an agency that is held.
    keys: BTreeMap<String, Arc<AgencyKeys>>,
    /// Agency by transport key; active members only.
    transports: BTreeMap<[u8; 32], String>,
    brokers: Vec<Broker>,
    held: Vec<IdentityChanged>,
    mark: HighWater,
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
    /// Signs checkpoints of its logs.
    pub log_key: VerifyingKey,
    /// Its logs that have ended, in order.
    pub ended_logs: Vec<EndedLog>,
}

impl Directory {
    /// Verifies the canonical bytes of a `DirectoryBundle` against the authorities of `bootstrap`. Only for the
    /// first directory: from then on [`succeed`](Self::succeed) and [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(bytes: &Bytes, bootstrap: &Bootstrap) -> Result<Self, DirectoryError> {
        let authorities = bootstrap.authorities()?;
        let (signed, keysets) = unpack(bytes)?;
        let roster = roster::read(&signed, &bootstrap.region)?;
        roster::verify(&signed, &roster, &authorities)?;
        let stamp = mark::Stamp { version: roster.version, hash: sha256(&[&signed.roster]) };
        let mut mark = HighWater::new(&roster, stamp)?;
        mark.agencies = roster.members.iter().map(|m| (m.agency.clone(), chain::first(m))).collect();
        match Self::assemble(bytes, roster, &keysets, mark, &BTreeMap::new()) {
            Ok(directory) => Ok(directory),
            Err(SuccessionError::Directory(error)) => Err(error),
            // Nothing was seen before a first directory.
            Err(_) => Err(rule("a first directory follows nothing")),
        }
    }

    /// As [`open`](Self::open) with a bootstrap that is older than the region's present authorities: `rosters` begins
    /// with one that the bootstrap's authorities signed and leads to the one in `bytes`.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn open_along(
        bytes: &Bytes,
        rosters: &[Bytes],
        bootstrap: &Bootstrap,
    ) -> Result<Self, SuccessionError> {
        let Some((first, steps)) = rosters.split_first() else { return Ok(Self::open(bytes, bootstrap)?) };
        let without_keysets = DirectoryBundle { roster: first.clone(), keysets: Vec::new() };
        Self::open(&canonical::encode(&without_keysets), bootstrap)?.succeed(bytes, steps)
    }

    /// The directory of `bytes`, which follows this one. `steps` are the rosters between the two (canonical bytes of
    /// `SignedRoster`, in order); none if the roster is the same or the next.
    ///
    /// An agency with a new identity key that its old key does not vouch for is [`held`](Self::held). The validity of
    /// the new roster is a question of time: ask [`at`](Self::at) before the new directory takes over.
    ///
    /// # Errors
    /// [`SuccessionError`]; this directory stays in force.
    pub fn succeed(&self, bytes: &Bytes, steps: &[Bytes]) -> Result<Self, SuccessionError> {
        Self::follow(bytes, steps, &self.mark, Some(&self.roster), &self.keys)
    }

    /// The directory of `bytes` after a restart: the one of `mark`, or one that follows it by `steps`. The mark does not
    /// hold the text of its roster's baseline, so what the next roster took out of it cannot be compared here.
    ///
    /// Keep the new bytes first and the new mark after them. If the power fails in between, the bytes follow the
    /// mark, and this call accepts them.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn resume(bytes: &Bytes, steps: &[Bytes], mark: &HighWater) -> Result<Self, SuccessionError> {
        Self::follow(bytes, steps, mark, None, &BTreeMap::new())
    }

    /// This directory with another keyset of one agency in it: how a broker takes in a keyset that a member brings.
    ///
    /// # Errors
    /// [`SuccessionError`]; this directory stays in force.
    pub fn with_keyset(&self, keyset: &SignedKeyset) -> Result<Self, SuccessionError> {
        let agency = keyset_agency(keyset).ok_or_else(|| rule("a keyset is not canonical"))?;
        let bundle: DirectoryBundle =
            canonical::decode(&self.bytes, limits::DIRECTORY_BYTES_MAX).map_err(DirectoryError::from)?;
        let mut by_agency = BTreeMap::new();
        for bytes in bundle.keysets {
            let signed: SignedKeyset =
                canonical::decode(&bytes, limits::KEYSET_BYTES_MAX).map_err(DirectoryError::from)?;
            by_agency.insert(keyset_agency(&signed), bytes);
        }
        by_agency.insert(Some(agency), canonical::encode(keyset));
        let keysets = by_agency.into_values().collect();
        self.succeed(&canonical::encode(&DirectoryBundle { roster: bundle.roster, keysets }), &[])
    }

    /// This directory with an officer's word that `identity_key` (as told by the agency by another way) is now the
    /// identity key of `agency`, which was held. Its keysets count anew.
    ///
    /// # Errors
    /// [`SuccessionError::NotConfirmed`] if the agency is not held or its key is another one.
    pub fn confirm(&self, agency: &str, identity_key: &[u8; 32]) -> Result<Self, SuccessionError> {
        let held = self.held.iter().any(|held| held.agency == agency);
        let member = self.roster.members.iter().find(|member| member.agency == agency);
        let member = member
            .filter(|member| held && member.identity_key == identity_key.as_slice())
            .ok_or_else(|| SuccessionError::NotConfirmed { agency: agency.to_owned() })?;
        let mut mark = self.mark.clone();
        mark.agencies.insert(agency.to_owned(), chain::first(member));
        Self::follow(&self.bytes, &[], &mark, Some(&self.roster), &self.keys)
    }

    fn follow(
        bytes: &Bytes,
        steps: &[Bytes],
        mark: &HighWater,
        before: Option<&Roster>,
        known: &BTreeMap<String, Arc<AgencyKeys>>,
    ) -> Result<Self, SuccessionError> {
        let (signed, keysets) = unpack(bytes)?;
        let (roster, mark) = chain::walk(mark, before, steps, &signed)?;
        Self::assemble(bytes, roster, &keysets, mark, known)
    }

    /// The rest is the same for all: keysets, their order, keys once, what is held. `known` spares the work on
    /// keysets that were verified before.
    fn assemble(
        bytes: &Bytes,
        roster: Roster,
        keysets: &[Bytes],
        mut mark: HighWater,
        known: &BTreeMap<String, Arc<AgencyKeys>>,
    ) -> Result<Self, SuccessionError> {
        let mut keys = verify_keysets(&roster, keysets, known)?;
        let brokers = brokers(&roster)?;
        check_keys_once(&roster, &keys)?;
        let mut hashes = mark.roster.hash.to_vec();
        let (mut held, mut transports) = (Vec::new(), BTreeMap::new());
        for member in &roster.members {
            let agency = &member.agency;
            hashes.extend(keys.get(agency).map_or([0; 32], |keys| keys.keyset.hash));
            let seen = mark.agencies.entry(agency.clone()).or_insert_with(|| chain::first(member));
            if let Some(changed) = chain::held(seen, member) {
                held.push(changed);
                keys.remove(agency);
                continue;
            }
            let keys = keys.get(agency);
            chain::follow_keys(seen, member, keys.map(AsRef::as_ref))?;
            let transport = keys.filter(|_| is_active(member)).map_or(&[][..], |keys| &keys.transport);
            transports.extend(transport.iter().map(|key| (*key.as_bytes(), agency.clone())));
        }
        let hash = sha256(&[&hashes]);
        let roster = Arc::new(roster);
        Ok(Self { roster, hash, keys, transports, brokers, held, mark, bytes: bytes.clone() })
    }

    /// The bytes it was verified from.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What to keep so that nothing older takes this directory's place after a restart.
    #[must_use]
    pub fn high_water(&self) -> &HighWater {
        &self.mark
    }

    /// Agencies of which nothing is believed until an officer [confirms](Self::confirm) their new identity key.
    #[must_use]
    pub fn held(&self) -> &[IdentityChanged] {
        &self.held
    }

    /// directory_hash: SHA-256(roster hash ‖ keyset hashes in roster order); zeros stand for a member without keyset.
    #[must_use]
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// SHA-256 of the roster bytes.
    #[must_use]
    pub fn roster_hash(&self) -> &Digest {
        &self.mark.roster.hash
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The roster, to keep.
    #[must_use]
    pub fn shared_roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// The brokers of the region.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// A broker's receipt key by its key id.
    #[must_use]
    pub fn receipt_key(&self, id: &Digest) -> Option<&VerifyingKey> {
        let of = |broker: &&Broker| key_id(KeyRole::Receipt, broker.receipt_key.as_bytes()) == *id;
        self.brokers.iter().find(of).map(|broker| &broker.receipt_key)
    }

    /// An active member.
    #[must_use]
    pub fn member(&self, agency: &str) -> Option<&Member> {
        let members = &self.roster.members;
        let at = members.binary_search_by(|member| member.agency.as_str().cmp(agency)).ok()?;
        members.get(at).filter(|member| is_active(member))
    }

    /// Whether an active member has that unit.
    #[must_use]
    pub fn has_unit(&self, unit: &UnitRef) -> bool {
        self.member(&unit.agency).is_some_and(|member| {
            member.units.binary_search_by(|known| known.unit.as_str().cmp(&unit.unit)).is_ok()
        })
    }

    /// The agency that a transport key belongs to.
    #[must_use]
    pub fn agency_of_transport(&self, key: &[u8; 32]) -> Option<&str> {
        self.transports.get(key).map(String::as_str)
    }

    /// Whether what `next` takes out of the regional baseline stays in sight by the clock: for whoever signs `next`, or takes
    /// it while this directory is in force.
    ///
    /// # Errors
    /// [`SuccessionError::Loosened`]; this directory stays in force.
    pub fn lets_see(&self, next: &Roster, now_ms: u64) -> Result<(), SuccessionError> {
        let seen = crate::policy::loosening::in_sight(&self.roster, next, now_ms);
        seen.map_err(|early| SuccessionError::too_early(next.version, early))
    }

    /// Version of an agency's keyset.
    #[must_use]
    pub fn keyset_version(&self, agency: &str) -> Option<u64> {
        self.keys.get(agency).map(|keys| keys.keyset.version)
    }

    /// Version of the delegation by which an agency signs its keysets, and nothing older its policy bundles.
    #[must_use]
    pub fn delegation_version(&self, agency: &str) -> Option<u64> {
        self.keys.get(agency).map(|keys| keys.delegation.version)
    }

    /// SHA-256 of an agency's keyset: what its next one names as its predecessor.
    #[must_use]
    pub fn keyset_hash(&self, agency: &str) -> Option<&Digest> {
        self.keys.get(agency).map(|keys| &keys.keyset.hash)
    }

    fn keys_of(&self, agency: &str) -> Option<&AgencyKeys> {
        self.keys.get(agency).map(AsRef::as_ref)
    }

    /// What is valid at `now_ms`.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> DirectoryAt<'_> {
        DirectoryAt { directory: self, now_ms }
    }
}

fn is_active(member: &Member) -> bool {
    MemberStatus::try_from(member.status) == Ok(MemberStatus::Active)
}

fn rule(what: &'static str) -> DirectoryError {
    DirectoryError::Rule { whose: "directory".to_owned(), what }
}

#[cfg(test)]
mod baseline_tests;
#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod routing_tests;
#[cfg(test)]
mod tests;
