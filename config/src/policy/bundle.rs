//! Bundles: the policies of an agency as it signs and numbers them. A chain, like the keysets: each version names the hash of
//! the one before, none is ever taken back; to go back to an older text is a new version.

use std::sync::Arc;

use bytes::Bytes;
use lintas_proto::{
    canonical::{self, DecodeError},
    id::{Digest, hex, sha256},
    limits,
    schema::{Delegation, NodeSecrets, PolicyBundle, SignedPolicyBundle},
    sign::{KeyRole, Signed, SigningKey},
};
use thiserror::Error;

use super::{
    set::{Owner, PolicySet, Problem},
    vocabulary::schema_hash,
};
use crate::{
    Directory, DirectoryError,
    directory::{delegate, is_title},
    issue::{self, IssueError},
};

/// The bundle format of this version.
pub const FORMAT: u32 = 1;

/// Why a bundle was refused. The one in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleError {
    /// Not canonical.
    #[error("it cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Delegation or signature.
    #[error("its signature cannot be believed: {0}")]
    Directory(#[from] DirectoryError),
    /// Its owner is no active member, or its identity key is not confirmed.
    #[error("{0} is not an active member of the region whose keys are known")]
    Owner(String),
    /// A rule of bundles.
    #[error("{0}")]
    Rule(&'static str),
    /// Written for another schema.
    #[error(
        "it was written for another version of the policy schema; update the software, check it, and publish it again"
    )]
    Schema,
    /// Signed under a delegation that another one has ended.
    #[error("it was signed with keys that {0} has replaced")]
    OldKeys(String),
    /// Not newer than the one in force.
    #[error(
        "it is version {have}, and version {present} is in force; to go back to an older text, publish it as a new version"
    )]
    Old {
        /// Its version.
        have: u64,
        /// Version in force.
        present: u64,
    },
    /// It does not follow the one in force.
    #[error("version {have} does not follow version {present}: {why}")]
    Chain {
        /// Its version.
        have: u64,
        /// Version of the newest one known; 0 for none.
        present: u64,
        /// What does not fit.
        why: String,
    },
    /// What it says is wrong; every place.
    #[error("{}", first(.0))]
    Policies(Vec<Problem>),
}

fn first(problems: &[Problem]) -> String {
    let more = problems.len().saturating_sub(1);
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    if more == 0 { first } else { format!("{first} (and {more} more)") }
}

/// A bundle whose signature and form were verified. Made by [`Bundle::open`] and [`Bundle::kept`] only.
#[derive(Debug, Clone)]
pub struct Bundle {
    bundle: PolicyBundle,
    hash: Digest,
    policies: PolicySet,
    bytes: Bytes,
}

impl Bundle {
    /// Verifies the canonical bytes of a `SignedPolicyBundle` under the directory in force: whose it is, its form, its
    /// policies. Whether it may follow the one in force: [`follows`](Self::follows). Whether it may be activated:
    /// [`check`](super::check).
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn open(bytes: &Bytes, directory: &Directory) -> Result<Arc<Self>, BundleError> {
        let signed: SignedPolicyBundle = canonical::decode(bytes, limits::POLICY_BUNDLE_BYTES_MAX)?;
        let bundle: PolicyBundle = canonical::decode(&signed.bundle, limits::POLICY_BUNDLE_BYTES_MAX)?;
        let owner = || BundleError::Owner(bundle.owner.clone());
        let member = directory.member(&bundle.owner).ok_or_else(owner)?;
        let known = directory.delegation_version(&bundle.owner).ok_or_else(owner)?;
        let (delegation, key) = delegate(member, &signed.delegation, &signed.delegation_signature)?;
        key.verify(Signed::PolicyBundle, &signed.bundle, &signed.bundle_signature)
            .map_err(|_| DirectoryError::Signature(format!("policy bundle of {}", bundle.owner)))?;
        if let Some((what, _)) = rules(directory, &delegation, &bundle).iter().find(|(_, holds)| !holds) {
            return Err(BundleError::Rule(what));
        }
        if delegation.version < known {
            return Err(BundleError::OldKeys(bundle.owner));
        }
        if bundle.schema_hash.as_ref() != schema_hash() {
            return Err(BundleError::Schema);
        }
        Self::read(bundle, sha256(&[&signed.bundle]), bytes)
    }

    /// The bundle of bytes that were verified before, and that nobody could have changed since: `hash` is its own.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn kept(bytes: &Bytes, hash: &Digest) -> Result<Arc<Self>, BundleError> {
        let signed: SignedPolicyBundle = canonical::decode(bytes, limits::POLICY_BUNDLE_BYTES_MAX)?;
        if sha256(&[&signed.bundle]) != *hash {
            return Err(BundleError::Rule("it is not the one that was kept"));
        }
        let bundle = canonical::decode(&signed.bundle, limits::POLICY_BUNDLE_BYTES_MAX)?;
        Self::read(bundle, *hash, bytes)
    }

    fn read(bundle: PolicyBundle, hash: Digest, bytes: &Bytes) -> Result<Arc<Self>, BundleError> {
        let owner = Owner::Agency(bundle.owner.clone());
        let policies = PolicySet::read(owner, &bundle.policies).map_err(BundleError::Policies)?;
        Ok(Arc::new(Self { bundle, hash, policies, bytes: bytes.clone() }))
    }

    /// Whether it may come after `present`, the newest one of its owner that is known.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn follows(&self, present: Option<&Self>) -> Result<(), BundleError> {
        follows(&self.bundle, present)
    }

    /// Agency code of its owner.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.bundle.owner
    }

    /// Version, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.bundle.version
    }

    /// SHA-256 of the canonical bytes of the `PolicyBundle`.
    #[must_use]
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// What it says.
    #[must_use]
    pub fn said(&self) -> &PolicyBundle {
        &self.bundle
    }

    /// Its policies.
    #[must_use]
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// Canonical bytes of the `SignedPolicyBundle`.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Whether what was said may come after `present`: [`Bundle::follows`], for what is not opened yet.
///
/// # Errors
/// [`BundleError::Old`] and [`BundleError::Chain`].
pub fn follows(said: &PolicyBundle, present: Option<&Bundle>) -> Result<(), BundleError> {
    let (have, known) = (said.version, present.map_or(0, |present| present.bundle.version));
    if have <= known {
        return Err(BundleError::Old { have, present: known });
    }
    let chain = |why: String| Err(BundleError::Chain { have, present: known, why });
    if have != known + 1 {
        return chain(format!("version {} is missing", known + 1));
    }
    let Some(present) = present else { return Ok(()) };
    if said.prev_hash.as_ref() != present.hash {
        return chain(format!("it names {} as the one before", hex(&said.prev_hash)));
    }
    if said.not_before_ms < present.bundle.not_before_ms {
        return chain("it would be in force before the version before it".to_owned());
    }
    Ok(())
}

/// Signs a bundle with a node's delegate key; `said.owner` and `said.region` are those of the secrets.
///
/// # Errors
/// [`IssueError`] for secrets that are none.
pub fn sign(secrets: &NodeSecrets, said: &PolicyBundle) -> Result<SignedPolicyBundle, IssueError> {
    let bundle = canonical::encode(said);
    let key = SigningKey::from_seed(KeyRole::Delegate, &issue::seed("delegate", &secrets.delegate_seed)?)?;
    Ok(SignedPolicyBundle {
        delegation: secrets.delegation.clone(),
        delegation_signature: secrets.delegation_signature.clone(),
        bundle_signature: Bytes::copy_from_slice(&key.sign(Signed::PolicyBundle, &bundle)),
        bundle,
    })
}

fn rules(directory: &Directory, delegation: &Delegation, bundle: &PolicyBundle) -> [(&'static str, bool); 8] {
    let region = &directory.roster().region;
    [
        ("its format must be 1", bundle.format == FORMAT),
        ("it is for another region", bundle.region == *region),
        ("its delegation is for another agency or region", {
            delegation.region == *region && delegation.agency == bundle.owner
        }),
        ("a delegation of a signing key is not a handover", delegation.identity_key.is_empty()),
        ("its version must be 1 or more", bundle.version > 0),
        (
            "the first version has no previous one, every other names its 32 bytes",
            bundle.prev_hash.len() == if bundle.version == 1 { 0 } else { 32 },
        ),
        (
            "policies and cases are at most 256 KiB each",
            bundle.policies.len() <= limits::POLICY_TEXT_BYTES_MAX
                && bundle.cases.len() <= limits::POLICY_TEXT_BYTES_MAX,
        ),
        (
            "its note is at most 256 bytes without control characters",
            bundle.note.is_empty() || is_title(&bundle.note),
        ),
    ]
}
