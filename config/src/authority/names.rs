//! What stands in a roster, by the names that people write.

use lintas_proto::{
    canonical,
    id::{Digest, sha256},
    limits,
    schema::{Keyset, Member, MemberStatus, Role, SignedKeyset},
};

use crate::source::{functions, purposes};

/// A keyset and its hash, from the bytes of a directory that was verified.
pub(super) fn read_keyset(bytes: &bytes::Bytes) -> Option<(Keyset, Digest)> {
    let signed: SignedKeyset = canonical::decode(bytes, limits::KEYSET_BYTES_MAX).ok()?;
    let keyset: Keyset = canonical::decode(&signed.keyset, limits::KEYSET_BYTES_MAX).ok()?;
    Some((keyset, sha256(&[&signed.keyset])))
}

/// A status.
pub(super) fn status(status: i32) -> &'static str {
    match MemberStatus::try_from(status) {
        Ok(MemberStatus::Active) => "active",
        Ok(MemberStatus::Suspended) => "suspended",
        Ok(MemberStatus::Revoked) => "revoked",
        Ok(MemberStatus::Unspecified) | Err(_) => "unknown",
    }
}

/// Roles.
pub(super) fn role_names(member: &Member) -> Vec<String> {
    let name = |role: &i32| {
        let name = Role::try_from(*role).map_or("unknown", |role| role.as_str_name());
        name.trim_start_matches("ROLE_").to_ascii_lowercase()
    };
    member.roles.iter().map(name).collect()
}

/// Functions of a unit.
pub(super) fn function_list(values: &[i32]) -> Vec<String> {
    names(values, functions().into_iter().map(|(name, function)| (name, function as i32)).collect())
}

/// What a unit may use for what it receives.
pub(super) fn purpose_list(values: &[i32]) -> Vec<String> {
    names(values, purposes().into_iter().map(|(name, purpose)| (name, purpose as i32)).collect())
}

fn names(values: &[i32], known: Vec<(String, i32)>) -> Vec<String> {
    let name = |value: &i32| {
        let found = known.iter().find(|(_, number)| number == value);
        found.map_or_else(|| format!("unknown ({value})"), |(name, _)| name.clone())
    };
    values.iter().map(name).collect()
}
