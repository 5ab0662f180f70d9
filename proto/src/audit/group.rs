//! One signature for a group of statements: it covers the Merkle root over all of them, and each carries its
//! path. A signature each would cost a broker a third of its throughput.

use std::{cell::RefCell, collections::VecDeque, num::NonZeroU64};

use bytes::Bytes;
use thiserror::Error;

use super::merkle;
use crate::{
    canonical::fixed,
    id::{Digest, sha256},
    limits,
    schema::GroupProof,
    sign::{Signed, SigningKey, VerifyingKey},
};

/// Most groups whose signatures a thread remembers.
const HELD_MAX: usize = 8;

thread_local! {
    /// Signatures that held, verified on this thread last: SHA-256 of key, kind, root, size and signature. The statements of a
    /// group mostly come one after another, and to verify a signature costs more than all else about them.
    static HELD: RefCell<VecDeque<Digest>> = const { RefCell::new(VecDeque::new()) };
}

/// What a group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOf {
    /// Receipts of a broker.
    Receipts,
    /// Evidence of a node or broker.
    Evidence,
}

impl GroupOf {
    fn signed(self) -> Signed {
        match self {
            Self::Receipts => Signed::ReceiptGroup,
            Self::Evidence => Signed::EvidenceGroup,
        }
    }
}

/// A proof that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GroupError {
    /// Sizes or path cannot belong to a group.
    #[error("group proof is malformed")]
    Malformed,
    /// No such key, or none that may sign this.
    #[error("group was signed by an unknown key")]
    UnknownKey,
    /// The signature does not fit.
    #[error("group signature does not fit")]
    Signature,
}

/// Signs `statements` as one group (at most [`limits::GROUP_STATEMENTS_MAX`]); proofs in their order.
///
/// # Errors
/// [`GroupError::Malformed`] for an empty or too large group.
pub fn sign(of: GroupOf, statements: &[Bytes], key: &SigningKey) -> Result<Vec<GroupProof>, GroupError> {
    if statements.is_empty() || statements.len() > limits::GROUP_STATEMENTS_MAX {
        return Err(GroupError::Malformed);
    }
    let leaves: Vec<Digest> = statements.iter().map(|statement| merkle::leaf_hash(statement)).collect();
    let size = u32::try_from(leaves.len()).map_err(|_| GroupError::Malformed)?;
    let (root, paths) = merkle::paths(&leaves);
    let signature = Bytes::copy_from_slice(&key.sign(of.signed(), &signed_bytes(&root, size)));
    let key_id = Bytes::copy_from_slice(key.id());
    let proof = |(index, path): (u32, Vec<Bytes>)| GroupProof {
        index,
        size,
        path,
        key_id: key_id.clone(),
        signature: signature.clone(),
    };
    Ok((0..).zip(paths).map(proof).collect())
}

/// Checks that `statement` stands in a group signed by the key that `find` gives for the proof's key id.
///
/// # Errors
/// [`GroupError`].
pub fn verify<'k>(
    of: GroupOf,
    statement: &[u8],
    proof: &GroupProof,
    find: impl FnOnce(&Digest) -> Option<&'k VerifyingKey>,
) -> Result<(), GroupError> {
    let malformed = |_| GroupError::Malformed;
    let size = NonZeroU64::new(proof.size.into()).ok_or(GroupError::Malformed)?;
    if size.get() > limits::GROUP_STATEMENTS_MAX as u64 {
        return Err(GroupError::Malformed);
    }
    let path: Result<Vec<Digest>, _> = proof.path.iter().map(|hash| fixed("path", hash)).collect();
    let path = path.map_err(malformed)?;
    let leaf = merkle::leaf_hash(statement);
    let root =
        merkle::root_from_path(leaf, proof.index.into(), size, &path).map_err(|_| GroupError::Malformed)?;
    let key = find(&fixed("key_id", &proof.key_id).map_err(malformed)?).ok_or(GroupError::UnknownKey)?;
    let signed = signed_bytes(&root, proof.size);
    let name = sha256(&[key.as_bytes(), &[of as u8], &signed, &proof.signature]);
    if HELD.with_borrow(|held| held.contains(&name)) {
        return Ok(());
    }
    key.verify(of.signed(), &signed, &proof.signature).map_err(|_| GroupError::Signature)?;
    HELD.with_borrow_mut(|held| {
        held.truncate(HELD_MAX - 1);
        held.push_front(name);
    });
    Ok(())
}

/// Root ‖ size, 36 bytes.
fn signed_bytes(root: &Digest, size: u32) -> Vec<u8> {
    [root.as_slice(), &size.to_be_bytes()].concat()
}
