//! A proposal: a directory on its way from office to office, until k of n have signed its roster.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::{Digest, sha256},
    schema::{DirectoryBundle, Roster, RosterSignature, SignedKeyset, SignedRoster},
    sign::{Signed, SigningKey, VerifyingKey},
};
use thiserror::Error;

use crate::{
    directory::{Bootstrap, DirectoryError, check_unsigned, signers},
    issue::{IssueError, bundle, sign_roster},
};

/// A directory that keeps every rule, but that its authorities may not have signed yet. The file is an ordinary
/// `DirectoryBundle`.
#[derive(Debug, Clone)]
pub struct Proposal {
    signed: SignedRoster,
    roster: Roster,
    keysets: Vec<Bytes>,
}

/// Why two files are not two copies of one proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MergeError {
    /// Other rosters.
    #[error("it holds another roster than the first file; signatures of two proposals do not add up")]
    Roster,
    /// Same roster, other keysets.
    #[error("it holds other keysets than the first file; sign copies of one and the same proposal")]
    Keysets,
}

impl Proposal {
    /// A proposal that nobody has signed.
    ///
    /// # Errors
    /// [`IssueError`] when it breaks a rule.
    pub fn new(roster: &Roster, keysets: Vec<SignedKeyset>) -> Result<Self, IssueError> {
        Ok(Self::parse(&bundle(&sign_roster(roster, &[])?, keysets))?)
    }

    /// Reads one and checks every rule, and the signatures of the authorities that it names. Which signatures are
    /// still missing is another question.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn parse(bytes: &Bytes) -> Result<Self, DirectoryError> {
        let (signed, roster, keysets) = check_unsigned(bytes)?;
        Ok(Self { signed, roster, keysets })
    }

    /// Canonical bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let roster = canonical::encode(&self.signed);
        canonical::encode(&DirectoryBundle { roster, keysets: self.keysets.clone() })
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// SHA-256 of the roster: what is signed.
    #[must_use]
    pub fn hash(&self) -> Digest {
        sha256(&[&self.signed.roster])
    }

    /// Canonical bytes of the keysets, in roster order.
    #[must_use]
    pub fn keysets(&self) -> &[Bytes] {
        &self.keysets
    }

    /// The authorities that it names.
    ///
    /// # Errors
    /// None: it was checked; the type of the check.
    pub fn bootstrap(&self) -> Result<Bootstrap, DirectoryError> {
        Bootstrap::of(&self.roster)
    }

    /// Those of `keys` that signed it.
    ///
    /// # Errors
    /// [`DirectoryError::Signature`] for a signature that does not fit.
    pub fn signers<'a>(&self, keys: &'a [VerifyingKey]) -> Result<Vec<&'a VerifyingKey>, DirectoryError> {
        signers(&self.signed, keys)
    }

    /// How many signatures it carries, also those of strangers.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.signed.signatures.len()
    }

    /// Adds an office's signature, in the place of one that it made before.
    pub fn sign(&mut self, key: &SigningKey) {
        let signature = Bytes::copy_from_slice(&key.sign(Signed::Roster, &self.signed.roster));
        self.add(RosterSignature { key_id: Bytes::copy_from_slice(key.id()), signature });
    }

    fn add(&mut self, signature: RosterSignature) {
        self.signed.signatures.retain(|known| known.key_id != signature.key_id);
        self.signed.signatures.push(signature);
        self.signed.signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    }

    /// Takes over the signatures of another copy.
    ///
    /// # Errors
    /// [`MergeError`] when it is a copy of another proposal.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.signed.roster != other.signed.roster {
            return Err(MergeError::Roster);
        }
        if self.keysets != other.keysets {
            return Err(MergeError::Keysets);
        }
        other.signed.signatures.iter().cloned().for_each(|signature| self.add(signature));
        Ok(())
    }

    /// Leaves out signatures by keys that are none of `keys`: they prove nothing to anybody.
    pub fn keep_signatures_of(&mut self, keys: &[VerifyingKey]) {
        let known: Vec<Digest> = keys
            .iter()
            .map(|key| lintas_proto::sign::key_id(lintas_proto::sign::KeyRole::Authority, key.as_bytes()))
            .collect();
        self.signed.signatures.retain(|by| known.iter().any(|id| by.key_id == id.as_slice()));
    }
}
