//! This agency's keys as time goes by, and what of them the region does not know yet.

use std::{path::Path, sync::PoisonError};

use bytes::Bytes;
use lintas_config::{Directory, os_entropy, words::fingerprint_words};
use lintas_proto::{
    canonical, limits,
    schema::{NodeSecrets, SignedKeyset},
    sign::{Signed, VerifyingKey},
};

use super::{
    Desk, check_membership,
    keyring::{Part, Secret},
};
use crate::{
    core::{
        keys::{KeysError, OwnKeyset, wipe_all},
        paper,
        rotation::{self, Published, RENEW_BEFORE_MS},
        view::{KeysView, UnitKeys},
    },
    shell::{
        clock,
        failure::{Code, Failure},
        files,
    },
};

/// Keysets of others, to be brought to the broker.
const KEYSETS: &str = "keysets";
/// Most of them.
const KEYSETS_MAX: usize = 1_024;
/// How often a keyset that this node did not sign is followed up, at most: once a day.
const STRANGER_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest file that holds a keyset: on paper it is longer.
const FILE_BYTES_MAX: u64 = 2 * limits::KEYSET_BYTES_MAX as u64;

impl Desk {
    /// Makes, signs and destroys what is due at `now_ms`, by a clock that is taken for agreed.
    #[cfg(test)]
    pub(crate) fn rotate(&self, now_ms: u64) -> Result<(), Failure> {
        self.rotate_under(self.published_at(now_ms), now_ms)
    }

    fn rotate_under(&self, published: Published, now_ms: u64) -> Result<(), Failure> {
        let mut strange = None;
        let rotated = self.change_secrets(Part::All, |secrets| {
            let rotated = rotation::rotate(secrets, &published, now_ms, &mut os_entropy())?;
            strange = rotated.strange;
            Ok(Some(rotated).filter(|rotated| rotated.changed()))
        })?;
        if let Some(version) = strange {
            self.meet_stranger(version, rotated.is_some_and(|rotated| rotated.signed.is_some()), now_ms);
        }
        let Some(rotated) = rotated else { return Ok(()) };
        let (made, destroyed) = (rotated.made, rotated.destroyed);
        tracing::info!(made, destroyed, keyset = rotated.signed, "keys were rotated");
        if rotated.switched {
            self.rekeyed.notify_one();
        }
        if rotated.signed.is_some() {
            self.want_directory();
        }
        Ok(())
    }

    /// The directory has a keyset that this node did not sign.
    fn meet_stranger(&self, version: u64, signed: bool, now_ms: u64) {
        let mut met = self.stranger.lock().unwrap_or_else(PoisonError::into_inner);
        let followed_ms = signed.then_some(now_ms).or(met.and_then(|(_, followed_ms)| followed_ms));
        if met.replace((version, followed_ms)).is_none_or(|(before, _)| before != version) {
            tracing::warn!(version, "the directory has a keyset that this node did not sign");
        }
    }

    /// What is to be said of a keyset that this node did not sign.
    pub(super) fn warning_of_stranger(&self) -> Option<String> {
        let (version, _) = (*self.stranger.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(format!(
            "the directory had keyset {version} of this agency, which this node did not sign: node.keys was put back from \
             an older copy, or another machine uses the same keys. What comes for keys that are not here cannot be \
             opened. If another machine runs with these keys, stop it, then start this node again; if it is nobody of \
             yours, run `lintas keys renew --all --identity FILE`"
        ))
    }

    /// Makes, signs and destroys what is due at `now_ms`: durable when it returns. The daemon calls it at its start, every 10
    /// minutes, when a broker agrees with this clock, and whenever a directory was taken up. Without that agreement nothing is
    /// made, signed or destroyed. What goes wrong is told in `lintas status`.
    pub(crate) fn rotate_or_tell(&self, now_ms: u64) {
        let mut published = self.published_at(now_ms);
        published.in_force &= self.is_agreed(now_ms);
        if let Err(failure) = self.rotate_under(published, now_ms) {
            self.trouble(&format!("keys were not rotated: {failure}"));
        }
    }

    /// Waits until the session needs another transport key.
    pub(crate) async fn rekeyed(&self) {
        self.rekeyed.notified().await;
    }

    /// Canonical bytes of the `SignedKeyset` that a broker should take into its directory; none if the directory in
    /// force has it, or one that counts more.
    pub(crate) fn unpublished_keyset(&self) -> Option<Bytes> {
        let (keys, directory) = (self.keys(), self.directory());
        let own = keys.keyset.as_ref()?;
        let known = directory.keyset_version(&keys.agency).unwrap_or_default();
        (own.says.version > known).then(|| own.bytes.clone())
    }

    /// Canonical bytes of the `SignedKeyset`s of agencies that have asked this node to bring them to the broker. What
    /// the directory in force has, or has gone beyond, is forgotten.
    pub(crate) fn keysets_to_publish(&self) -> Vec<Bytes> {
        let directory = self.directory();
        let Ok(found) = std::fs::read_dir(self.folder.path(KEYSETS)) else { return Vec::new() };
        let mut waiting = Vec::new();
        for path in found.take(KEYSETS_MAX).filter_map(|entry| Some(entry.ok()?.path())) {
            let Some(keyset) = read_keyset(&path).ok().filter(|_| path.extension() == Some("bin".as_ref()))
            else {
                continue;
            };
            let known = directory.keyset_version(&keyset.says.agency).unwrap_or_default();
            if known < keyset.says.version {
                waiting.push(keyset.bytes);
            } else if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, "a keyset that is published could not be removed");
            }
        }
        waiting
    }

    /// What must be said of this agency's keys, if anything.
    pub(super) fn warning_of_keys(&self, now_ms: u64) -> Option<String> {
        let keys = self.keys();
        if keys.keyset.as_ref().is_some_and(OwnKeyset::is_revocation) {
            return Some("this agency has revoked its keys: it takes no part any more".to_owned());
        }
        let left_ms = keys.delegated_until_ms.saturating_sub(now_ms);
        (left_ms < RENEW_BEFORE_MS).then(|| {
            let ends = if left_ms == 0 { "ended" } else { "ends" };
            format!(
                "what the identity key lets this node do {ends} on {}; fetch the identity key and run `lintas keys renew \
                 --identity FILE`",
                clock::show(keys.delegated_until_ms)
            )
        })
    }

    /// The keys of this agency.
    pub(super) fn keys_view(&self) -> Result<KeysView, Failure> {
        let (keys, directory) = (self.keys(), self.directory());
        let mut units: Vec<UnitKeys> = Vec::new();
        for (unit, epoch) in keys.epochs() {
            let until_ms = (u64::from(epoch) + 1) * limits::EPOCH_MS;
            match units.last_mut().filter(|known| known.unit == unit) {
                Some(known) => (known.last_epoch, known.until_ms) = (epoch, until_ms),
                None => units.push(UnitKeys {
                    unit: unit.to_owned(),
                    first_epoch: epoch,
                    last_epoch: epoch,
                    until_ms,
                }),
            }
        }
        let own = keys.keyset.as_ref();
        let known = directory.keyset_hash(&keys.agency);
        let agency = |bytes: &Bytes| OwnKeyset::parse(bytes).ok().map(|keyset| keyset.says.agency);
        Ok(KeysView {
            agency: keys.agency.clone(),
            region: keys.region.clone(),
            units,
            delegation_version: keys.delegation_version,
            delegated_until_ms: keys.delegated_until_ms,
            keyset_version: own.map(|own| own.says.version),
            published_version: directory.keyset_version(&keys.agency),
            published: own.is_none_or(|own| known == Some(&own.hash)),
            revoked: own.is_some_and(OwnKeyset::is_revocation),
            keys_to_come: keys.keys_to_come,
            witness_words: fingerprint_words(&keys.witness.public_key()),
            witness_named: directory
                .witness(&keys.agency)
                .map(|named| *named.key.as_bytes() == keys.witness.public_key()),
            to_publish: self.keysets_to_publish().iter().filter_map(agency).collect(),
            pages: self.pages().count(),
        })
    }

    /// Takes up a new word of the identity key, and writes the revocation that fits it.
    pub(super) fn renew_keys(&self, word: &Secret, all: bool, now_ms: u64) -> Result<(), Failure> {
        let bytes = word.bytes().map(|bytes| Bytes::copy_from_slice(&bytes));
        let word: Option<NodeSecrets> =
            bytes.and_then(|bytes| canonical::decode(&bytes, limits::KEYSET_BYTES_MAX).ok());
        let word = word.ok_or_else(|| Failure::new(Code::Usage, "this is no word of an identity key"))?;
        self.check_identity(&word)?;
        let published = self.published_at(now_ms);
        let done = self.change_secrets(Part::All, |secrets| {
            rotation::renew(secrets, &word, all, &published, now_ms, &mut os_entropy())?;
            let revocation = lintas_config::issue::sign_revocation(secrets, now_ms)?;
            Ok(Some(canonical::encode(&revocation)))
        });
        wipe_all(word);
        if let Some(revocation) = done? {
            let text = revocation_text(&self.keys().agency, &self.keys().region, &revocation);
            for (name, bytes) in
                [("revocation.bin", revocation.as_ref()), ("revocation.txt", text.as_bytes())]
            {
                let path = self.folder.path(name);
                files::replace(&path, bytes).map_err(|error| Failure::file("write", &path, &error))?;
            }
        }
        self.want_directory();
        Ok(())
    }

    /// Takes this agency out: its revocation is published before anything else.
    pub(super) fn revoke_keys(&self, revocation: Option<&Path>, now_ms: u64) -> Result<(), Failure> {
        let given = match revocation {
            Some(path) => {
                let keyset = self.believed(path)?;
                if keyset.says.agency != self.keys().agency || !keyset.is_revocation() {
                    let message = "this file holds no revocation of this agency; one of another agency goes to the \
                                   broker with `lintas keys publish FILE`";
                    return Err(Failure::new(Code::Usage, message));
                }
                Some(keyset.bytes)
            }
            None => None,
        };
        self.change_secrets(Part::All, |secrets| {
            match given {
                Some(bytes) => secrets.keyset = bytes,
                None => rotation::revoke(secrets, now_ms)?,
            }
            Ok(Some(()))
        })?;
        tracing::warn!("this agency's keys are revoked");
        self.want_directory();
        Ok(())
    }

    /// Keeps a keyset until the broker has it.
    pub(super) fn publish_keyset(&self, file: &Path) -> Result<(), Failure> {
        let keyset = self.believed(file)?;
        let folder = self.folder.path(KEYSETS);
        files::private_folder(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
        // The directory has such an agency, so its code is no path.
        let path = folder.join(format!("{}.bin", keyset.says.agency));
        // Above all a revocation that waits stays.
        let waits = read_keyset(&path).is_ok_and(|waiting| waiting.says.version > keyset.says.version);
        if !waits {
            files::replace(&path, &keyset.bytes).map_err(|error| Failure::file("write", &path, &error))?;
        }
        self.want_directory();
        Ok(())
    }

    /// A keyset from a file, which may follow what the directory in force has.
    fn believed(&self, path: &Path) -> Result<OwnKeyset, Failure> {
        let keyset = read_keyset(path)?;
        let signed: SignedKeyset =
            canonical::decode(&keyset.bytes, limits::KEYSET_BYTES_MAX).map_err(Failure::internal)?;
        let directory = self.directory();
        directory.with_keyset(&signed).map_err(|error| {
            let message = format!(
                "the keyset in `{}` is not believed, and nothing was changed: {error}; ask its agency for its newest. One of \
                 `init --replace` was made under an old directory: make it again with directory.current of a running node",
                path.display()
            );
            Failure::new(Code::NotSetUp, message)
        })?;
        Ok(keyset)
    }

    fn check_identity(&self, word: &NodeSecrets) -> Result<(), Failure> {
        let (keys, directory) = (self.keys(), self.directory());
        let known =
            directory.member(&keys.agency).and_then(|member| VerifyingKey::parse(&member.identity_key).ok());
        let check = |key: VerifyingKey| {
            key.verify(Signed::Delegation, &word.delegation, &word.delegation_signature).is_ok()
        };
        if known.is_some_and(check) {
            return Ok(());
        }
        let message = format!(
            "the directory names another identity key for {}, and nothing was changed; fetch the right identity.key",
            keys.agency
        );
        Err(Failure::new(Code::Locked, message))
    }

    fn published_at(&self, now_ms: u64) -> Published {
        let met = *self.stranger.lock().unwrap_or_else(PoisonError::into_inner);
        let enough =
            met.and_then(|(_, followed_ms)| followed_ms).is_some_and(|ms| now_ms.abs_diff(ms) < STRANGER_MS);
        let directory = self.directory();
        let surely_ms = if self.is_agreed(now_ms) { now_ms } else { directory.roster().not_before_ms };
        Published { enough, surely_ms, ..published(&directory, &self.keys(), now_ms) }
    }
}

fn published(directory: &Directory, keys: &crate::core::keys::Keys, now_ms: u64) -> Published {
    let agency = &keys.agency;
    let units =
        directory.member(agency).map(|member| member.units.iter().map(|unit| unit.unit.clone()).collect());
    Published {
        units: units.unwrap_or_default(),
        keyset: directory.keyset_version(agency).zip(directory.keyset_hash(agency).copied()),
        member: check_membership(directory, keys).is_ok(),
        in_force: directory.at(now_ms).in_force(),
        surely_ms: 0,
        enough: false,
    }
}

/// Reads a keyset as bytes, or as it stands on paper. Nothing of it is verified.
pub(crate) fn read_keyset(path: &Path) -> Result<OwnKeyset, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let message = format!("`{}` holds no keyset: {why}", path.display());
        Failure::new(Code::NotSetUp, message)
    };
    let bytes = files::read(path, FILE_BYTES_MAX).map_err(|error| Failure::file("read", path, &error))?;
    let parsed = OwnKeyset::parse(&Bytes::from(bytes.clone()));
    match (parsed, std::str::from_utf8(&bytes)) {
        (Ok(keyset), _) => Ok(keyset),
        (Err(error), Err(_)) => Err(wrong(&error)),
        (Err(_), Ok(text)) => {
            let bytes = paper::read(text).map_err(|error| wrong(&error))?;
            OwnKeyset::parse(&Bytes::from(bytes)).map_err(|error: KeysError| wrong(&error))
        }
    }
}

/// A revocation for the safe.
pub(crate) fn revocation_text(agency: &str, region: &str, revocation: &[u8]) -> String {
    let title = format!(
        "Revocation of the keys of {agency} in region {region}. Keep it on paper, out of reach of others."
    );
    let says = [
        title.as_str(),
        "If the node is stolen or its keys are lost, any node of the region can bring it to the broker:",
        "  lintas keys publish revocation.txt",
        "From then on nothing can be sent or received with those keys, and nothing can undo it.",
    ];
    paper::write(&says, revocation)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test writes need not survive a power cut")]
mod tests;
