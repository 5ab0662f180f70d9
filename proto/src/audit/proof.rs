//! One entry's place in a log, as text that anybody can check offline (C2SP tlog-proof, `c2sp.org/tlog-proof@v1`).

use std::{fmt::Write as _, num::NonZeroU64};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

use super::{
    merkle::{leaf_hash, root_from_path},
    note::{NoteError, SignedCheckpoint},
};
use crate::{id::Digest, sign::VerifyingKey};

const HEAD: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof, bytes: 64 hashes and a checkpoint.
pub const PROOF_BYTES_MAX: usize = 8 * 1024;

/// A proof that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Not a proof.
    #[error("tlog-proof is malformed: {0}")]
    Malformed(&'static str),
    /// Its checkpoint.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The path does not lead from the entry to the checkpoint's root.
    #[error("the entry does not stand at index {0} of that tree")]
    Path(u64),
}

/// An entry's index and path, and the checkpoint that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// 0-based.
    pub index: u64,
    /// Leaf to root.
    pub path: Vec<Digest>,
    /// With the log's signature, and perhaps cosignatures.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\nindex {}\n", self.index);
        for hash in &self.path {
            let _ = writeln!(text, "{}", STANDARD.encode(hash));
        }
        format!("{text}\n{}", self.checkpoint)
    }

    /// Reads the text. Extra data is refused: we have none, and it would not be authenticated.
    ///
    /// # Errors
    /// [`ProofError`]; nothing is verified.
    pub fn parse(text: &[u8]) -> Result<Self, ProofError> {
        let malformed = ProofError::Malformed;
        if text.len() > PROOF_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| malformed("not UTF-8"))?;
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(malformed("no checkpoint"))?;
        let mut lines = proof.split('\n');
        if lines.next() != Some(HEAD) {
            return Err(malformed("its first line"));
        }
        let index =
            lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(malformed("its index"))?;
        let hash = |line| STANDARD.decode(line).ok().and_then(|hash| Digest::try_from(hash).ok());
        let path = lines.map(hash).collect::<Option<Vec<_>>>().ok_or(malformed("a hash"))?;
        let proof = Self {
            index: index.parse().map_err(|_| malformed("its index"))?,
            path,
            checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())?,
        };
        if proof.to_text() == text { Ok(proof) } else { Err(malformed("not as it is written")) }
    }

    /// Checks that `entry` stands at the index in the tree that the log of `origin` signed with `log_key`. Cosignatures
    /// are the caller's: ask [`SignedCheckpoint::witnessed_at`].
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, entry: &[u8], origin: &str, log_key: &VerifyingKey) -> Result<(), ProofError> {
        let checkpoint = self.checkpoint.verify(origin, log_key)?;
        let wrong = ProofError::Path(self.index);
        let size = NonZeroU64::new(checkpoint.size).ok_or(wrong)?;
        let root = root_from_path(leaf_hash(entry), self.index, size, &self.path).map_err(|_| wrong)?;
        if root == checkpoint.root { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::{
        super::{merkle, note::Checkpoint},
        *,
    };
    use crate::sign::{KeyRole, SigningKey};

    #[test]
    fn a_proof_reads_as_it_was_written_and_holds_for_its_entry_only() {
        let secret = SigningKey::from_seed(KeyRole::Log, &Zeroizing::new([1; 32])).unwrap();
        let key = VerifyingKey::parse(&secret.public_key()).unwrap();
        let entries: Vec<Vec<u8>> = (0..11u8).map(|n| vec![n; 5]).collect();
        let leaves: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let origin = "hub.mekong/audit".to_owned();
        let checkpoint = Checkpoint { origin: origin.clone(), size: 11, root: merkle::root(&leaves) };
        let checkpoint = SignedCheckpoint::sign(checkpoint, &secret).unwrap();
        for index in 0..11 {
            let path = merkle::path(&leaves, index).unwrap();
            let proof = TlogProof { index: index as u64, path, checkpoint: checkpoint.clone() };
            let text = proof.to_text();
            let read = TlogProof::parse(text.as_bytes()).unwrap();
            assert_eq!(read, proof);
            for (other, entry) in entries.iter().enumerate() {
                assert_eq!(read.verify(entry, &origin, &key).is_ok(), other == index);
            }
            assert!(read.verify(&entries[index], "other/audit", &key).is_err());
            assert!(TlogProof::parse(text.replace("index ", "index 0").as_bytes()).is_err());
            assert!(TlogProof::parse(text.replace("index ", "extra AA==\nindex ").as_bytes()).is_err());
        }
    }
}
