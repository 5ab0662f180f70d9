//! How a directory travels from the broker to a node: what the node has, and what turns that into the broker's
//! directory. Nothing is believed on the word of whoever brings it: the parts are put together into a bundle, and
//! the bundle must follow the directory in force like any other.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::sha256,
    limits,
    schema::{
        DirectoryBundle, DirectoryGet, DirectoryUpdate, KnownKeyset, Member, Roster, SignedKeyset,
        SignedRoster,
    },
};

use super::{
    Bootstrap, Directory, DirectoryError, SuccessionError, chain,
    keyset::{self, AgencyKeys},
    keyset_agency, rule,
};

/// Canonical bytes of `SignedKeyset` by agency.
type Keysets = BTreeMap<String, Bytes>;

impl Directory {
    /// What this directory asks of a broker: everything newer.
    ///
    /// # Errors
    /// [`DirectoryError`]; does not happen for a directory that was verified.
    pub fn question(&self) -> Result<DirectoryGet, DirectoryError> {
        let roster = self.roster();
        let known = |(agency, bytes)| KnownKeyset { agency, hash: hash(&bytes) };
        let keysets = self.keysets()?.into_iter().map(known).collect();
        Ok(DirectoryGet { region: roster.region.clone(), roster_version: roster.version, keysets })
    }

    /// What a node that has nothing but the bootstrap file asks.
    #[must_use]
    pub fn first_question(bootstrap: &Bootstrap) -> DirectoryGet {
        DirectoryGet { region: bootstrap.region.clone(), ..DirectoryGet::default() }
    }

    /// What turns the directory of whoever asks into this one. `rosters` are the canonical bytes of the `SignedRoster`s
    /// above the version that it has, in order, this directory's last.
    ///
    /// # Errors
    /// [`DirectoryError`]; does not happen for a directory that was verified.
    pub fn answer(&self, get: &DirectoryGet, rosters: Vec<Bytes>) -> Result<DirectoryUpdate, DirectoryError> {
        let known: BTreeMap<&str, &Bytes> =
            get.keysets.iter().map(|known| (known.agency.as_str(), &known.hash)).collect();
        let mut update = DirectoryUpdate { rosters, ..DirectoryUpdate::default() };
        for (agency, bytes) in self.keysets()? {
            let hash = hash(&bytes);
            if known.get(agency.as_str()).is_some_and(|known| **known == hash) {
                update.unchanged.push(agency);
            } else {
                update.keysets.push(bytes);
            }
        }
        Ok(update)
    }

    /// The directory that `update` makes of this one.
    ///
    /// # Errors
    /// [`SuccessionError`]; this directory stays in force.
    pub fn take(&self, update: &DirectoryUpdate) -> Result<Self, SuccessionError> {
        let mut known = self.keysets()?;
        let mut keysets = Keysets::new();
        for agency in &update.unchanged {
            let bytes =
                known.remove(agency).ok_or_else(|| rule("an update names a keyset that is not here"))?;
            keysets.insert(agency.clone(), bytes);
        }
        put_all(&mut keysets, &update.keysets)?;
        let bundle: DirectoryBundle = decode(&self.bytes, limits::DIRECTORY_BYTES_MAX)?;
        let (steps, roster) = match update.rosters.split_last() {
            Some((last, steps)) => (steps, last.clone()),
            None => (&[][..], bundle.roster),
        };
        self.succeed(&pack(roster, keysets), steps)
    }

    /// Canonical bytes of the `SignedKeyset`s here of which `update` holds an older one: what a broker lacks that was
    /// put back from a backup. Of active members only; no broker takes another's. The versions in `update` are
    /// believed, so this is for nothing but to bring it what everybody may see.
    ///
    /// # Errors
    /// [`DirectoryError`] if `update` cannot be read.
    pub fn newer_than(&self, update: &DirectoryUpdate) -> Result<Vec<Bytes>, DirectoryError> {
        let (ours, mut offered, mut newer) = (self.keysets()?, Keysets::new(), Vec::new());
        put_all(&mut offered, &update.keysets)?;
        for (agency, theirs) in &offered {
            let Some(ours) = ours.get(agency).filter(|_| self.member(agency).is_some()) else { continue };
            if version(theirs)? < version(ours)? {
                newer.push(ours.clone());
            }
        }
        Ok(newer)
    }

    /// The first directory of a node that has nothing but the bootstrap file. It has seen nobody before, so every
    /// identity key is believed on the word of k authorities, also one that was another in an earlier roster.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn take_first(update: &DirectoryUpdate, bootstrap: &Bootstrap) -> Result<Self, SuccessionError> {
        let Some((last, steps)) = update.rosters.split_last() else {
            return Err(rule("an update for a newcomer holds a roster").into());
        };
        let mut keysets = Keysets::new();
        put_all(&mut keysets, &update.keysets)?;
        let bytes = pack(last.clone(), keysets);
        // The newest roster that the bootstrap vouches for: who sees the region for the first time has nobody's older
        // identity key to compare with, its own agency's least of all.
        let vouched = |step: &Bytes| Self::open(&pack(step.clone(), Keysets::new()), bootstrap).is_ok();
        if vouched(last) {
            return Ok(Self::open(&bytes, bootstrap)?);
        }
        let begin = steps.iter().rposition(vouched).unwrap_or(steps.len());
        Self::open_along(&bytes, steps.get(begin..).unwrap_or_default(), bootstrap)?.by_roster_alone()
    }

    /// The directory with the roster of `bytes`, which follows this one by `steps`, and of each agency the newest
    /// keyset that either has: what the region authority publishes was gathered some time ago. A keyset in it that may
    /// not follow the one here counts for nothing: no agency can keep out a roster by signing two keysets.
    ///
    /// # Errors
    /// [`SuccessionError`]; this directory stays in force.
    pub fn merge(&self, bytes: &Bytes, steps: &[Bytes]) -> Result<Self, SuccessionError> {
        let offered: DirectoryBundle = decode(bytes, limits::DIRECTORY_BYTES_MAX)?;
        let signed: SignedRoster = decode(&offered.roster, limits::ROSTER_BYTES_MAX)?;
        let roster: Roster = decode(&signed.roster, limits::ROSTER_BYTES_MAX)?;
        let mut keysets = Keysets::new();
        put_all(&mut keysets, &offered.keysets)?;
        let (members, known) = (by_agency(&roster), by_agency(&self.roster));
        for (agency, ours) in self.keysets()? {
            let Some(member) = members.get(agency.as_str()) else { continue };
            let same_identity =
                known.get(agency.as_str()).is_some_and(|known| known.identity_key == member.identity_key);
            let newer = keysets.get(&agency).is_some_and(|theirs| self.is_overtaken(member, &ours, theirs));
            if same_identity && !newer {
                keysets.insert(agency, ours);
            }
        }
        self.succeed(&pack(offered.roster, keysets), steps)
    }

    /// Canonical bytes of the `SignedRoster` in force.
    ///
    /// # Errors
    /// [`DirectoryError`]; does not happen for a directory that was verified.
    pub fn signed_roster(&self) -> Result<Bytes, DirectoryError> {
        let bundle: DirectoryBundle = decode(&self.bytes, limits::DIRECTORY_BYTES_MAX)?;
        Ok(bundle.roster)
    }

    /// Whether an agency has taken back all its keys: its keyset names none. It stays a member, and nobody can write
    /// to it or believe it.
    #[must_use]
    pub fn is_self_revoked(&self, agency: &str) -> bool {
        self.keys_of(agency).is_some_and(AgencyKeys::are_none)
    }

    /// Whether `theirs` is a newer keyset of that member than `ours`, and may follow it.
    fn is_overtaken(&self, member: &Member, ours: &Bytes, theirs: &Bytes) -> bool {
        if ours == theirs {
            return false;
        }
        let Ok(keys) = keyset::verify(&self.roster.region, member, theirs) else { return false };
        match self.mark.agencies.get(&member.agency) {
            Some(seen) if chain::held(seen, member).is_none() => {
                let stamps = Some((keys.delegation, keys.keyset));
                seen.keys != stamps && chain::follow_keys(&mut seen.clone(), member, Some(&keys)).is_ok()
            }
            // Nothing of it is believed yet.
            Some(_) | None => version(ours).is_ok_and(|ours| ours < keys.keyset.version),
        }
    }

    fn keysets(&self) -> Result<Keysets, DirectoryError> {
        let bundle: DirectoryBundle = decode(&self.bytes, limits::DIRECTORY_BYTES_MAX)?;
        let mut keysets = Keysets::new();
        put_all(&mut keysets, &bundle.keysets)?;
        Ok(keysets)
    }
}

fn by_agency(roster: &Roster) -> BTreeMap<&str, &Member> {
    roster.members.iter().map(|member| (member.agency.as_str(), member)).collect()
}

/// Of the whole `SignedKeyset`: after a handover the same keyset may stand under another delegation.
fn hash(signed: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&sha256(&[signed]))
}

fn version(signed: &Bytes) -> Result<u64, DirectoryError> {
    let signed: SignedKeyset = decode(signed, limits::KEYSET_BYTES_MAX)?;
    let keyset: lintas_proto::schema::Keyset = decode(&signed.keyset, limits::KEYSET_BYTES_MAX)?;
    Ok(keyset.version)
}

/// Keysets by the agency that each claims; two of one agency are refused.
fn put_all(into: &mut Keysets, keysets: &[Bytes]) -> Result<(), DirectoryError> {
    for bytes in keysets {
        let signed: SignedKeyset = decode(bytes, limits::KEYSET_BYTES_MAX)?;
        let agency = keyset_agency(&signed).ok_or_else(|| rule("a keyset is not canonical"))?;
        if into.insert(agency, bytes.clone()).is_some() {
            return Err(rule("two keysets of one agency"));
        }
    }
    Ok(())
}

fn pack(roster: Bytes, keysets: Keysets) -> Bytes {
    canonical::encode(&DirectoryBundle { roster, keysets: keysets.into_values().collect() })
}

fn decode<M: canonical::Shaped>(bytes: &Bytes, max: usize) -> Result<M, DirectoryError> {
    Ok(canonical::decode(bytes, max)?)
}
