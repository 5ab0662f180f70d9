//! Signed checkpoints and cosignatures, as others write them too.
//!
//! A checkpoint says: the tree of this origin has this size and this root (C2SP tlog-checkpoint). It is the text of a
//! signed note (C2SP signed-note): text, empty line, signature lines. The log signs with type 1 under the origin as key
//! name; witnesses cosign with type 4 and a time (C2SP tlog-cosignature, `cosignature/v1`).
//!
//! These signatures are over the bare text, not over a PAE: the keys of role Log and Witness sign nothing else.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use thiserror::Error;

use crate::{
    id::{Digest, sha256},
    limits,
    sign::{KeyRole, SigningKey, VerifyingKey},
};

/// Signature type of a log: Ed25519 over the text.
const TYPE_LOG: u8 = 1;
/// Signature type of a witness: Ed25519 with a time.
const TYPE_COSIGNATURE: u8 = 4;
/// Begins a signature line: em dash and space.
const DASH: &str = "\u{2014} ";
/// Longest origin or key name, bytes.
const NAME_BYTES_MAX: usize = 200;

/// A checkpoint or signature that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteError {
    /// More than [`limits::CHECKPOINT_BYTES_MAX`].
    #[error("checkpoint is longer than {} bytes", limits::CHECKPOINT_BYTES_MAX)]
    TooLong,
    /// Not a signed note, or no checkpoint in it.
    #[error("checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// It is of another log.
    #[error("checkpoint is of another log")]
    Origin,
    /// No signature by that key, or one that does not fit.
    #[error("checkpoint has no valid signature of its log")]
    Signature,
    /// A key of another role.
    #[error("that key may not sign this")]
    Role,
}

/// Size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log, e.g. `hub.mekong/audit`.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Digest,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    name: String,
    key_hash: [u8; 4],
    signature: Vec<u8>,
}

/// A checkpoint with signatures of which none is believed yet: see [`verify`](Self::verify) and
/// [`cosigned_at`](Self::cosigned_at).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    text: String,
    lines: Vec<Line>,
}

/// A witness as the roster names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    /// Key name: see [`witness_name`].
    pub name: String,
    /// Key of role Witness.
    pub key: VerifyingKey,
}

/// Name of the root log of a broker's present log: `<broker>`, and after n logs have ended `<broker>.log<n+1>`.
#[must_use]
pub fn log_name(broker: &str, ended: usize) -> String {
    if ended == 0 { broker.to_owned() } else { format!("{broker}.log{}", ended.saturating_add(1)) }
}

/// Origin of a root log: `<log name>/audit`.
#[must_use]
pub fn root_origin(log_name: &str) -> String {
    format!("{log_name}/audit")
}

/// Key name of an agency as a witness: `<region>/witness/<agency>`.
#[must_use]
pub fn witness_name(region: &str, agency: &str) -> String {
    format!("{region}/witness/{agency}")
}

/// How many of `witnesses` must cosign: ceil((n + f + 1) / 2) with f = floor((n - 1) / 3), so that two quorums have an
/// honest witness in common as long as at most f are false. Below 4 witnesses f is 0. None needed without witnesses.
#[must_use]
pub fn quorum(witnesses: usize) -> usize {
    let false_ones = false_witnesses(witnesses);
    if witnesses == 0 { 0 } else { witnesses.saturating_add(false_ones).saturating_add(1).div_ceil(2) }
}

/// How many of `witnesses` may be false without two trees getting a quorum: floor((n - 1) / 3).
#[must_use]
pub fn false_witnesses(witnesses: usize) -> usize {
    witnesses.saturating_sub(1) / 3
}

impl Checkpoint {
    /// The text that is signed: origin, size in decimal, root in base64, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("not origin, size and root");
        let lines: Vec<&str> = text.strip_suffix('\n').ok_or(malformed)?.split('\n').collect();
        let [origin, size, root] = lines.as_slice() else { return Err(malformed) };
        let root: Digest =
            STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or(malformed)?;
        let checkpoint =
            Self { origin: (*origin).to_owned(), size: size.parse().map_err(|_| malformed)?, root };
        // One reading, one writing: no leading zeros, no other base64.
        if checkpoint.text() == text && is_key_name(origin) { Ok(checkpoint) } else { Err(malformed) }
    }
}

impl SignedCheckpoint {
    /// Signs a checkpoint as the log.
    ///
    /// # Errors
    /// [`NoteError::Role`] if the key is no log key; [`NoteError::Malformed`] for an origin that is none.
    pub fn sign(checkpoint: Checkpoint, key: &SigningKey) -> Result<Self, NoteError> {
        if !key.is(KeyRole::Log) {
            return Err(NoteError::Role);
        }
        let text = checkpoint.text();
        Checkpoint::parse(&text)?;
        let line = Line {
            name: checkpoint.origin.clone(),
            key_hash: key_hash(&checkpoint.origin, TYPE_LOG, &key.public_key()),
            signature: key.sign_raw(text.as_bytes()).to_vec(),
        };
        Ok(Self { checkpoint, text, lines: vec![line] })
    }

    /// Reads a signed note of at most [`limits::CHECKPOINT_BYTES_MAX`] bytes. No signature is checked.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > limits::CHECKPOINT_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Malformed("control characters"));
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed("no signatures"))?;
        let text = format!("{text}\n");
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Malformed("no last newline"))?;
        let lines = signatures.split('\n').map(Line::parse).collect::<Option<Vec<_>>>();
        let lines = lines.ok_or(NoteError::Malformed("a signature line"))?;
        Ok(Self { checkpoint: Checkpoint::parse(&text)?, text, lines })
    }

    /// The signed note's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.to_string().into_bytes().into()
    }

    /// What it says; believed by nobody before [`verify`](Self::verify).
    #[must_use]
    pub fn claim(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What the log of `origin` has signed with `log_key`.
    ///
    /// # Errors
    /// [`NoteError::Origin`] or [`NoteError::Signature`].
    pub fn verify(&self, origin: &str, log_key: &VerifyingKey) -> Result<&Checkpoint, NoteError> {
        if self.checkpoint.origin != origin {
            return Err(NoteError::Origin);
        }
        let key_hash = key_hash(origin, TYPE_LOG, log_key.as_bytes());
        let line = self.lines.iter().find(|line| line.name == origin && line.key_hash == key_hash);
        let signature = line.map(|line| line.signature.as_slice()).unwrap_or_default();
        log_key.verify_raw(self.text.as_bytes(), signature).map_err(|_| NoteError::Signature)?;
        Ok(&self.checkpoint)
    }

    /// Whether a signature of the log says that it is by that key; believed by nobody before [`verify`](Self::verify).
    #[must_use]
    pub fn claims_key(&self, log_key: &VerifyingKey) -> bool {
        let origin = &self.checkpoint.origin;
        let key_hash = key_hash(origin, TYPE_LOG, log_key.as_bytes());
        self.lines.iter().any(|line| line.name == *origin && line.key_hash == key_hash)
    }

    /// When that witness cosigned, seconds since 1970; `None` if it did not.
    #[must_use]
    pub fn cosigned_at(&self, witness: &WitnessKey) -> Option<u64> {
        let key_hash = key_hash(&witness.name, TYPE_COSIGNATURE, witness.key.as_bytes());
        let mut lines =
            self.lines.iter().filter(|line| line.name == witness.name && line.key_hash == key_hash);
        lines.find_map(|line| verify_cosignature(&self.text, &line.signature, &witness.key))
    }

    /// Times of the cosignatures of `witnesses`, in ascending order; each witness counts once.
    #[must_use]
    pub fn cosignatures(&self, witnesses: &[WitnessKey]) -> Vec<u64> {
        let mut times: Vec<u64> = witnesses.iter().filter_map(|witness| self.cosigned_at(witness)).collect();
        times.sort_unstable();
        times
    }

    /// By when a quorum of `witnesses` had cosigned, seconds since 1970; `None` without a quorum, or without witnesses.
    #[must_use]
    pub fn witnessed_at(&self, witnesses: &[WitnessKey]) -> Option<u64> {
        let last = quorum(witnesses.len()).checked_sub(1)?;
        self.cosignatures(witnesses).get(last).copied()
    }

    /// A witness's timestamped signature, 72 bytes: that now, at `time_s` (seconds since 1970), this is the largest
    /// consistent tree of this log that it has seen. Only for whoever has verified just that, and kept it.
    ///
    /// # Errors
    /// [`NoteError::Role`] if the key is no witness key.
    pub fn cosign(&self, key: &SigningKey, time_s: u64) -> Result<[u8; 72], NoteError> {
        if !key.is(KeyRole::Witness) {
            return Err(NoteError::Role);
        }
        let mut out = [0; 72];
        let (time, signature) = out.split_at_mut(8);
        time.copy_from_slice(&time_s.to_be_bytes());
        signature.copy_from_slice(&key.sign_raw(&cosigned_text(&self.text, time_s)));
        Ok(out)
    }

    /// Adds a witness's timestamped signature, in place of an earlier one of the same key.
    ///
    /// # Errors
    /// [`NoteError::Signature`] if it does not fit; [`NoteError::TooLong`] if there is no room.
    pub fn add_cosignature(&mut self, witness: &WitnessKey, cosignature: &[u8]) -> Result<(), NoteError> {
        verify_cosignature(&self.text, cosignature, &witness.key).ok_or(NoteError::Signature)?;
        let key_hash = key_hash(&witness.name, TYPE_COSIGNATURE, witness.key.as_bytes());
        let mut lines = self.lines.clone();
        lines.retain(|line| line.name != witness.name || line.key_hash != key_hash);
        lines.push(Line { name: witness.name.clone(), key_hash, signature: cosignature.to_vec() });
        let with = Self { lines, ..self.clone() };
        if with.to_string().len() > limits::CHECKPOINT_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        *self = with;
        Ok(())
    }

    /// This note with nothing but the log's signature and the cosignatures of `witnesses`, from here and from `other`, a
    /// note of the same checkpoint.
    #[must_use]
    pub fn joined(&self, other: &Self, log_key: &VerifyingKey, witnesses: &[WitnessKey]) -> Self {
        let log_hash = key_hash(&self.checkpoint.origin, TYPE_LOG, log_key.as_bytes());
        let by_log = |line: &&Line| line.name == self.checkpoint.origin && line.key_hash == log_hash;
        let by = |witness: &WitnessKey| {
            let key_hash = key_hash(&witness.name, TYPE_COSIGNATURE, witness.key.as_bytes());
            let both = self.lines.iter().chain(&other.lines);
            let mut lines = both.filter(|line| line.name == witness.name && line.key_hash == key_hash);
            lines
                .find(|line| verify_cosignature(&self.text, &line.signature, &witness.key).is_some())
                .cloned()
        };
        let lines = self.lines.iter().find(by_log).cloned();
        let lines = lines.into_iter().chain(witnesses.iter().filter_map(by)).collect();
        Self { lines, ..self.clone() }
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.lines.iter().try_for_each(|Line { name, key_hash, signature }| {
            let bytes = [key_hash.as_slice(), signature].concat();
            writeln!(f, "{DASH}{name} {}", STANDARD.encode(bytes))
        })
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (key_hash, signature) = bytes.split_first_chunk::<4>()?;
        let sound = is_key_name(name) && !signature.is_empty();
        sound.then(|| Self { name: name.to_owned(), key_hash: *key_hash, signature: signature.to_vec() })
    }
}

/// A log's public key as `vkey` (C2SP signed-note): what other verifiers are told.
#[must_use]
pub fn log_vkey(origin: &str, key: &VerifyingKey) -> String {
    vkey(origin, TYPE_LOG, key)
}

/// A witness's public key as `vkey` (C2SP tlog-cosignature).
#[must_use]
pub fn witness_vkey(witness: &WitnessKey) -> String {
    vkey(&witness.name, TYPE_COSIGNATURE, &witness.key)
}

fn vkey(name: &str, kind: u8, key: &VerifyingKey) -> String {
    let hash = crate::id::hex(&key_hash(name, kind, key.as_bytes()));
    let material = [[kind].as_slice(), key.as_bytes()].concat();
    format!("{name}+{hash}+{}", STANDARD.encode(material))
}

fn key_hash(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[kind], key]);
    [a, b, c, d]
}

/// Neither empty, nor with spaces or `+`, nor too long.
fn is_key_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
}

fn cosigned_text(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

fn verify_cosignature(text: &str, cosignature: &[u8], key: &VerifyingKey) -> Option<u64> {
    let (time, signature) = cosignature.split_first_chunk::<8>()?;
    let time_s = u64::from_be_bytes(*time);
    key.verify_raw(&cosigned_text(text, time_s), signature).ok().map(|()| time_s)
}

#[cfg(test)]
mod tests;
