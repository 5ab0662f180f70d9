//! The rosters of the past, without keysets: under which members, witnesses and brokers an audit log was kept.
//!
//! | a roster is believed when | because |
//! |---|---|
//! | it is the one of a verified directory | it was verified |
//! | the next one is believed and names its hash | whoever signed the next one knew it |
//! | k of the authorities of the nearest believed one before or after it signed it | they are the authorities |
//!
//! And always k of the authorities that it names itself signed it. Nothing here replaces a [`Directory`].

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    audit::note::{WitnessKey, witness_name},
    canonical,
    id::{Digest, sha256},
    limits,
    schema::{Roster, SignedRoster},
    sign::VerifyingKey,
};

use super::{
    Bootstrap, Broker, Directory, DirectoryError,
    chain::STEPS_MAX,
    is_active,
    parts::brokers,
    roster::{Authorities, check, read, rule},
};

/// One roster that is believed, and what a log needs of it.
#[derive(Debug, Clone)]
pub struct PastRoster {
    /// Version.
    pub version: u64,
    /// Every member, active or not, in the roster's order: the slots.
    pub agencies: Vec<String>,
    /// Its witnesses.
    pub witnesses: Vec<WitnessKey>,
    /// Its brokers.
    pub brokers: Vec<Broker>,
    /// Audit epoch in milliseconds.
    pub epoch_ms: u32,
    /// From when on it holds.
    pub not_before_ms: u64,
    /// Identity keys of the active members.
    pub identities: BTreeMap<String, Bytes>,
    /// SHA-256 of its bytes.
    pub hash: Digest,
    prev_hash: Bytes,
    authorities: Authorities,
}

/// Rosters that are believed, by version.
#[derive(Debug, Clone)]
pub struct PastRosters {
    region: String,
    /// Who signs as long as no roster is believed.
    first: Authorities,
    known: BTreeMap<u64, PastRoster>,
}

impl PastRosters {
    /// Begins with the roster of a verified directory.
    ///
    /// # Errors
    /// [`DirectoryError`]; does not happen for a directory that was verified.
    pub fn of(directory: &Directory) -> Result<Self, DirectoryError> {
        let roster = directory.roster();
        let known = PastRoster::of(roster, *directory.roster_hash())?;
        Ok(Self {
            region: roster.region.clone(),
            first: Authorities::of(roster)?,
            known: [(known.version, known)].into(),
        })
    }

    /// Begins with the authorities of a bootstrap file alone.
    ///
    /// # Errors
    /// [`DirectoryError`] when the file breaks a rule.
    pub fn from_bootstrap(bootstrap: &Bootstrap) -> Result<Self, DirectoryError> {
        let first = bootstrap.authorities()?;
        Ok(Self { region: bootstrap.region.clone(), first, known: BTreeMap::new() })
    }

    /// A believed roster.
    #[must_use]
    pub fn get(&self, version: u64) -> Option<&PastRoster> {
        self.known.get(&version)
    }

    /// All believed rosters, the oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &PastRoster> {
        self.known.values()
    }

    /// The newest believed roster.
    #[must_use]
    pub fn newest(&self) -> Option<&PastRoster> {
        self.known.last_key_value().map(|(_, roster)| roster)
    }

    /// Looks at rosters (canonical bytes of `SignedRoster`, under the version that each is said to be of) and believes
    /// those that may be; the others, with the reason.
    pub fn believe(&mut self, offered: &BTreeMap<u64, Bytes>) -> Vec<(u64, DirectoryError)> {
        let mut refused = Vec::new();
        let start = self.newest().map_or(0, |newest| newest.version);
        let newer = offered.range(start.saturating_add(1)..);
        let older = offered.range(..=start).rev();
        for (version, bytes) in older.chain(newer).take(STEPS_MAX) {
            match self.one(*version, bytes) {
                Ok(roster) => drop(self.known.insert(*version, roster)),
                Err(error) => refused.push((*version, error)),
            }
        }
        refused
    }

    fn one(&self, version: u64, bytes: &Bytes) -> Result<PastRoster, DirectoryError> {
        let signed: SignedRoster = canonical::decode(bytes, limits::ROSTER_BYTES_MAX)?;
        let roster = read(&signed, &self.region)?;
        let past = PastRoster::of(&roster, sha256(&[&signed.roster]))?;
        past.authorities.signed(&signed)?;
        if roster.version != version {
            return Err(rule("roster", "it is of another version than its name says"));
        }
        if let Some(known) = self.known.get(&version) {
            let same = known.hash == past.hash;
            let what = "it is another one than the roster of that version that is believed here";
            return if same { Ok(past) } else { Err(rule("roster", what)) };
        }
        let before = self.known.range(..version).next_back().map(|(_, roster)| roster);
        let after = self.known.range(version..).next().map(|(_, roster)| roster);
        let follows = |before: &PastRoster, after: &PastRoster| {
            before.version.checked_add(1) != Some(after.version) || after.prev_hash == before.hash.as_slice()
        };
        if before.is_some_and(|before| !follows(before, &past))
            || after.is_some_and(|after| !follows(&past, after))
        {
            return Err(rule(
                "roster",
                "it does not follow from the one before it, or the next one not from it",
            ));
        }
        match (before, after) {
            (_, Some(after)) if version.checked_add(1) == Some(after.version) => {}
            (Some(near), _) | (None, Some(near)) => near.authorities.signed(&signed)?,
            (None, None) => self.first.signed(&signed)?,
        }
        Ok(past)
    }
}

impl PastRoster {
    fn of(roster: &Roster, hash: Digest) -> Result<Self, DirectoryError> {
        check(roster)?;
        let witness = |member: &lintas_proto::schema::Member| {
            let key = VerifyingKey::parse(&member.witness_key).ok()?;
            Some(WitnessKey { name: witness_name(&roster.region, &member.agency), key })
        };
        Ok(Self {
            version: roster.version,
            agencies: roster.members.iter().map(|member| member.agency.clone()).collect(),
            witnesses: roster.members.iter().filter(|member| is_active(member)).filter_map(witness).collect(),
            brokers: brokers(roster)?,
            epoch_ms: roster.epoch_ms,
            not_before_ms: roster.not_before_ms,
            identities: roster
                .members
                .iter()
                .filter(|member| is_active(member))
                .map(|member| (member.agency.clone(), member.identity_key.clone()))
                .collect(),
            hash,
            prev_hash: roster.prev_hash.clone(),
            authorities: Authorities::of(roster)?,
        })
    }

    /// Place of an agency among the slots.
    #[must_use]
    pub fn index_of(&self, agency: &str) -> Option<u32> {
        let at = self.agencies.binary_search_by(|known| known.as_str().cmp(agency)).ok()?;
        u32::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use lintas_proto::id::sha256;

    use super::*;
    use crate::testing::region;

    /// Four versions, each signed; and the directory of the last.
    fn history() -> (Vec<Bytes>, crate::testing::Region) {
        let (mut region, mut rosters) = (region(), Vec::new());
        for version in 1..=4u64 {
            if version > 1 {
                region.next_version();
                region.roster.reads_told_after_days = u32::try_from(version).unwrap();
            }
            rosters.push(canonical::encode(&region.sign()));
        }
        (rosters, region)
    }

    fn offered(rosters: &[Bytes], which: &[u64]) -> BTreeMap<u64, Bytes> {
        which.iter().map(|v| (*v, rosters[usize::try_from(*v).unwrap() - 1].clone())).collect()
    }

    #[test]
    fn a_log_s_rosters_are_believed_from_a_directory_and_from_a_bootstrap_file() {
        let (rosters, region) = history();
        let mut past = PastRosters::of(&region.open().unwrap()).unwrap();
        assert!(past.believe(&offered(&rosters, &[1, 2, 4])).is_empty());
        assert_eq!(past.get(1).unwrap().agencies, ["KH", "TH"]);
        assert_eq!(past.get(2).unwrap().index_of("TH"), Some(1));
        let mut past = PastRosters::from_bootstrap(&region.bootstrap()).unwrap();
        assert!(past.believe(&offered(&rosters, &[2, 3])).is_empty());
        assert_eq!(past.newest().unwrap().version, 3);
    }

    #[test]
    fn a_roster_that_nobody_signed_or_that_was_changed_is_not_believed() {
        let (rosters, mut region) = history();
        for at in (0..rosters[1].len()).step_by(7) {
            let mut bytes = rosters[1].to_vec();
            bytes[at] ^= 1;
            let mut past = PastRosters::of(&region.open().unwrap()).unwrap();
            let mut all = offered(&rosters, &[1, 3]);
            all.insert(2, bytes.into());
            // A surplus signature of a stranger harms nothing; here both are needed.
            assert!(!past.believe(&all).is_empty(), "byte {at}");
        }
        // Another history, signed by the same authorities.
        region.roster.version = 2;
        region.roster.prev_hash = Bytes::copy_from_slice(&sha256(&[b"other"]));
        let other = canonical::encode(&region.sign());
        let mut past = PastRosters::from_bootstrap(&region.bootstrap()).unwrap();
        let refused = past.believe(&[(1, rosters[0].clone()), (2, other)].into());
        assert_eq!(refused.len(), 1);
    }
}
