//! Directories that their authorities may not have signed yet: every rule but their signatures.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    canonical, limits,
    schema::{Roster, SignedRoster},
};

use super::{
    Bootstrap, Directory, DirectoryError, IdentityChanged, SuccessionError, chain, check_keys_once, roster,
    unpack, verify_keysets,
};

impl Directory {
    /// Whether the directory of `bytes`, which its authorities may not have signed yet, would follow this one: its
    /// roster is the next, names this one's as its predecessor, brings nobody back; its keysets are in order. Those
    /// agencies that would be held here.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn proposed(&self, bytes: &Bytes) -> Result<Vec<IdentityChanged>, SuccessionError> {
        let (signed, keysets) = unpack(bytes)?;
        let roster = roster::read(&signed, &self.mark.region)?;
        let mark = chain::propose(&self.mark, &self.roster, &signed, &roster)?;
        Self::assemble(bytes, roster, &keysets, mark, &self.keys).map(|directory| directory.held)
    }
}

/// Checks a directory whose authorities may not have signed it yet: every rule but their signatures. Its signed
/// roster, read, and its keysets.
pub(crate) fn check(bytes: &Bytes) -> Result<(SignedRoster, Roster, Vec<Bytes>), DirectoryError> {
    let (signed, keysets) = unpack(bytes)?;
    let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX)?;
    roster::check(&roster)?;
    check_keys_once(&roster, &verify_keysets(&roster, &keysets, &BTreeMap::new())?)?;
    roster::signers(&signed, &Bootstrap::of(&roster)?.authority_keys)?;
    Ok((signed, roster, keysets))
}
