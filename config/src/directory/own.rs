//! What a directory says of one agency, for a machine that takes the place of that agency's node and has nothing but the
//! identity key. Nothing of the roster is verified: what counts is what the identity key itself has signed.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::{Digest, sha256},
    limits,
    schema::{Delegation, Keyset, Member, Roster, SignedKeyset},
};

use super::{DirectoryError, check_keyset, keyset_agency, unpack};

/// What a directory says of the agency with that identity key.
#[derive(Debug, Clone)]
pub struct OwnEntry {
    /// Region.
    pub region: String,
    /// The agency, as the roster names it.
    pub member: Member,
    /// Version of its delegation; 0 without a keyset.
    pub delegation_version: u64,
    /// Version and SHA-256 of its keyset.
    pub keyset: Option<(u64, Digest)>,
}

/// Finds the agency with that identity key in the canonical bytes of a `DirectoryBundle`; none if there is none.
///
/// # Errors
/// [`DirectoryError`], also when its keyset is not signed under that identity key.
pub fn own_entry(bytes: &Bytes, identity_key: &[u8; 32]) -> Result<Option<OwnEntry>, DirectoryError> {
    let (signed, keysets) = unpack(bytes)?;
    let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX)?;
    let region = roster.region;
    let member = roster.members.into_iter().find(|member| member.identity_key == identity_key.as_slice());
    let Some(member) = member else { return Ok(None) };
    for bytes in keysets {
        let signed: SignedKeyset = canonical::decode(&bytes, limits::KEYSET_BYTES_MAX)?;
        if keyset_agency(&signed).as_ref() != Some(&member.agency) {
            continue;
        }
        check_keyset(&region, &member, &signed)?;
        let delegation: Delegation = canonical::decode(&signed.delegation, limits::KEYSET_BYTES_MAX)?;
        let keyset: Keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX)?;
        let stamp = Some((keyset.version, sha256(&[&signed.keyset])));
        return Ok(Some(OwnEntry { region, member, delegation_version: delegation.version, keyset: stamp }));
    }
    Ok(Some(OwnEntry { region, member, delegation_version: 0, keyset: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::region;

    #[test]
    fn an_agency_finds_itself_by_its_identity_key() {
        let region = region();
        let found = own_entry(&region.bundle(), &region.identities[1].public_key()).unwrap().unwrap();
        assert_eq!((found.region.as_str(), found.member.agency.as_str()), ("example", "TH"));
        assert_eq!(found.delegation_version, 1);
        let directory = region.open().unwrap();
        assert_eq!(found.keyset, Some((1, *directory.keyset_hash("TH").unwrap())));
        assert!(own_entry(&region.bundle(), &[7; 32]).unwrap().is_none());
        // A keyset that this identity key has not certified is not believed.
        let mut forged = crate::testing::region();
        forged.keysets[1].delegation_signature = Bytes::from_static(&[0; 64]);
        assert!(own_entry(&forged.bundle(), &forged.identities[1].public_key()).is_err());
    }
}
