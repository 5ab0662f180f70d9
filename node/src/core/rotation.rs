//! Keys that change by themselves: encryption keys by the week, the keyset that publishes them, and their end.
//!
//! | what | when |
//! |---|---|
//! | a unit's keys for the weeks to come are made | [`EPOCHS_AHEAD`] weeks ahead, this one included |
//! | a private key is destroyed | 90 days and the skew of clocks after its week has ended, by a clock on which a broker has agreed, or by the beginning of the roster in force |
//! | a keyset is signed | when the keys to publish are others than published, when its end can be put off by a day or more and is less than 60 days away, when the directory has one that this node did not sign |
//! | transport and packet keys to come take over | when the directory has the keyset that names them |
//!
//! But for the last, only while the roster in force says that this clock is right.

use bytes::Bytes;
use lintas_config::issue::{
    EPOCHS_AHEAD, KEYSET_VALID_MS, delegate, epoch_at, epoch_dies_ms, fresh_seed, sign_keyset_beside,
    sign_revocation, signing_keys,
};
use lintas_proto::{
    canonical,
    id::Digest,
    limits,
    schema::{Delegation, EncryptionSeed, NodeSecrets},
    sign::SigningKey,
};
use rand_core::CryptoRng;

use super::keys::{KeysError, OwnKeyset, wipe};

/// How long before its end a keyset is signed anew, and the operator is warned of the end of the delegation: 60 days.
pub(crate) const RENEW_BEFORE_MS: u64 = 60 * DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What the directory in force says of this agency.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// Units that the roster names.
    pub(crate) units: Vec<String>,
    /// Version and hash of the keyset.
    pub(crate) keyset: Option<(u64, Digest)>,
    /// The directory has this agency as an active member with this node's keys. Otherwise nothing is made or signed.
    pub(crate) member: bool,
    /// The roster is valid at this time, and a broker agrees with this clock. Otherwise nothing is made, signed or destroyed.
    pub(crate) in_force: bool,
    /// What has died by then may be destroyed: a roster holds for up to 400 days, and a clock that is wrong within them
    /// would destroy the keys of packets that are on their way.
    pub(crate) surely_ms: u64,
    /// A keyset that this node did not sign has been followed up already: no other one is, or two machines with the same
    /// keys would outdo each other without end.
    pub(crate) enough: bool,
}

/// What [`rotate`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// Private keys made.
    pub(crate) made: usize,
    /// Private keys destroyed.
    pub(crate) destroyed: usize,
    /// Version of the keyset that was signed.
    pub(crate) signed: Option<u64>,
    /// Transport and packet keys took over from those before.
    pub(crate) switched: bool,
    /// Version of the directory's keyset, if this node did not sign it.
    pub(crate) strange: Option<u64>,
}

impl Rotated {
    /// Whether the secrets are to be kept.
    pub(crate) fn changed(self) -> bool {
        Self { strange: None, ..self } != Self::default()
    }
}

/// Does all that is due at `now_ms`. The secrets are durable before anything of them is published.
pub(crate) fn rotate(
    secrets: &mut NodeSecrets,
    published: &Published,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<Rotated, KeysError> {
    let own = own_keyset(secrets)?;
    let mut rotated = Rotated { switched: switch(secrets, published, own.as_ref()), ..Rotated::default() };
    rotated.strange = strange(published, own.as_ref());
    if !published.in_force {
        return Ok(rotated);
    }
    rotated.destroyed = destroy(secrets, now_ms.min(published.surely_ms));
    if !published.member
        || (published.enough && rotated.strange.is_some())
        || own.as_ref().is_some_and(OwnKeyset::is_revocation)
        || published.keyset.is_some_and(|(v, _)| v == u64::MAX)
    {
        return Ok(rotated);
    }
    rotated.made = make(secrets, &published.units, now_ms, entropy);
    if delegated_until(secrets)? > now_ms && is_due(secrets, published, own.as_ref(), now_ms)? {
        rotated.signed = Some(sign_next(secrets, published, true, now_ms)?);
    }
    Ok(rotated)
}

/// Until when the identity key lets these secrets sign keysets.
pub(crate) fn delegated_until(secrets: &NodeSecrets) -> Result<u64, KeysError> {
    Ok(delegation(secrets)?.not_after_ms)
}

pub(crate) fn delegation(secrets: &NodeSecrets) -> Result<Delegation, KeysError> {
    Ok(canonical::decode(&Bytes::copy_from_slice(&secrets.delegation), limits::KEYSET_BYTES_MAX)?)
}

fn own_keyset(secrets: &NodeSecrets) -> Result<Option<OwnKeyset>, KeysError> {
    Some(&secrets.keyset).filter(|bytes| !bytes.is_empty()).map(OwnKeyset::parse).transpose()
}

/// A word of the identity key: a new delegate key, certified as delegation `version`. Nothing else is in these secrets.
pub(crate) fn word(
    region: &str,
    agency: &str,
    version: u64,
    identity: &SigningKey,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<NodeSecrets, KeysError> {
    let (region, agency) = (region.to_owned(), agency.to_owned());
    let mut word = NodeSecrets { region, agency, ..NodeSecrets::default() };
    delegate(&mut word, identity, version, now_ms, entropy)?;
    Ok(word)
}

/// Takes up a [`word`] of the identity key and signs a keyset under it. With `all`, transport and packet keys are made as
/// well: they take over once the directory names them, and only the packet key in use stays beside them.
pub(crate) fn renew(
    secrets: &mut NodeSecrets,
    word: &NodeSecrets,
    all: bool,
    published: &Published,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<u64, KeysError> {
    let own = (&secrets.region, &secrets.agency) == (&word.region, &word.agency);
    if !own || delegation(word)?.version <= delegation(secrets)?.version {
        return Err(KeysError::OtherWord);
    }
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    wipe(std::mem::replace(&mut secrets.delegate_seed, copy(&word.delegate_seed)));
    secrets.delegation = copy(&word.delegation);
    secrets.delegation_signature = copy(&word.delegation_signature);
    if all {
        secrets.next_transport_seed = fresh(entropy);
        secrets.next_packet_seed = fresh(entropy);
    }
    make(secrets, &published.units, now_ms, entropy);
    sign_next(secrets, published, !all, now_ms)
}

/// Takes this agency out: what is published next holds no key, and nothing can follow it.
pub(crate) fn revoke(secrets: &mut NodeSecrets, now_ms: u64) -> Result<(), KeysError> {
    secrets.keyset = canonical::encode(&sign_revocation(secrets, now_ms)?);
    Ok(())
}

/// All keys anew, under a [`word`] of the identity key: for a machine that takes the place of another.
pub(crate) fn replace(
    word: NodeSecrets,
    published: &Published,
    now_ms: u64,
    entropy: &mut dyn CryptoRng,
) -> Result<NodeSecrets, KeysError> {
    let mut secrets = word;
    secrets.transport_seed = fresh(entropy);
    secrets.packet_seed = fresh(entropy);
    secrets.slot_key = fresh(entropy);
    secrets.witness_seed = fresh(entropy);
    make(&mut secrets, &published.units, now_ms, entropy);
    sign_next(&mut secrets, published, false, now_ms)?;
    Ok(secrets)
}

fn fresh(entropy: &mut dyn CryptoRng) -> Bytes {
    Bytes::copy_from_slice(fresh_seed(entropy).as_slice())
}

/// Keys to come take over once the others know them.
fn switch(secrets: &mut NodeSecrets, published: &Published, own: Option<&OwnKeyset>) -> bool {
    let known = own.zip(published.keyset).is_some_and(|(own, (_, hash))| own.hash == hash);
    if !known || secrets.next_transport_seed.is_empty() {
        return false;
    }
    let next = std::mem::take(&mut secrets.next_transport_seed);
    wipe(std::mem::replace(&mut secrets.transport_seed, next));
    let next = std::mem::take(&mut secrets.next_packet_seed);
    wipe(std::mem::replace(&mut secrets.packet_seed, next));
    true
}

fn destroy(secrets: &mut NodeSecrets, now_ms: u64) -> usize {
    let (dead, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut secrets.encryption_seeds)
        .into_iter()
        .partition(|known| epoch_dies_ms(known.epoch) <= now_ms);
    secrets.encryption_seeds = kept;
    let count = dead.len();
    dead.into_iter().for_each(|known| wipe(known.seed));
    count
}

fn make(secrets: &mut NodeSecrets, units: &[String], now_ms: u64, entropy: &mut dyn CryptoRng) -> usize {
    let this = epoch_at(now_ms);
    let before = secrets.encryption_seeds.len();
    for unit in units {
        for epoch in this..this.saturating_add(EPOCHS_AHEAD) {
            let known = |seed: &EncryptionSeed| seed.unit == *unit && seed.epoch == epoch;
            if !secrets.encryption_seeds.iter().any(known) {
                let seed = fresh(entropy);
                secrets.encryption_seeds.push(EncryptionSeed { unit: unit.clone(), epoch, seed });
            }
        }
    }
    secrets.encryption_seeds.sort_by(|a, b| (&a.unit, a.epoch).cmp(&(&b.unit, b.epoch)));
    secrets.encryption_seeds.len() - before
}

/// Version of a keyset in the directory that takes the place of this node's own.
fn strange(published: &Published, own: Option<&OwnKeyset>) -> Option<u64> {
    let (own, (version, hash)) = own.zip(published.keyset)?;
    let is_strange = version >= own.says.version && hash != own.hash && version != u64::MAX;
    is_strange.then_some(version)
}

/// Whether a keyset is to be signed.
fn is_due(
    secrets: &NodeSecrets,
    published: &Published,
    own: Option<&OwnKeyset>,
    now_ms: u64,
) -> Result<bool, KeysError> {
    let Some(own) = own else { return Ok(true) };
    let says = &own.says;
    if strange(published, Some(own)).is_some() {
        return Ok(true);
    }
    let listed = says.encryption_keys.iter().map(|key| (key.unit.as_str(), key.epoch));
    let oldest = epoch_at(now_ms).saturating_sub(lintas_config::issue::EPOCHS_BEHIND);
    let known = secrets.encryption_seeds.iter().map(|seed| (seed.unit.as_str(), seed.epoch));
    if !listed.eq(known.filter(|(_, epoch)| *epoch >= oldest)) {
        return Ok(true);
    }
    let (transport, packet) = signing_keys(secrets)?;
    if says.transport_keys != transport || !packet.iter().all(|key| says.packet_keys.contains(key)) {
        return Ok(true);
    }
    let could_end_ms = now_ms.saturating_add(KEYSET_VALID_MS).min(delegated_until(secrets)?);
    let soon = says.not_after_ms.saturating_sub(now_ms) < RENEW_BEFORE_MS;
    Ok(soon && could_end_ms >= says.not_after_ms.saturating_add(DAY_MS))
}

/// Signs the keyset that follows the newest one known: this node's own, or the one of the directory.
fn sign_next(
    secrets: &mut NodeSecrets,
    published: &Published,
    keep_packet_keys: bool,
    now_ms: u64,
) -> Result<u64, KeysError> {
    let own = own_keyset(secrets)?;
    let earlier = own.as_ref().filter(|_| keep_packet_keys).map(|own| own.says.packet_keys.clone());
    let own = own.map(|own| (own.says.version, own.hash));
    // Of two with the same version the directory's counts: the other one can never be taken.
    let (before, hash) = match (own, published.keyset) {
        (Some(own), Some(theirs)) if own.0 > theirs.0 => own,
        (_, Some(theirs)) => theirs,
        (Some(own), None) => own,
        (None, None) => (0, Digest::default()),
    };
    let version = before.checked_add(1).filter(|version| *version < u64::MAX).ok_or(KeysError::Revoked)?;
    let prev_hash = if version == 1 { Bytes::new() } else { Bytes::copy_from_slice(&hash) };
    let earlier = earlier.unwrap_or_default();
    let signed = sign_keyset_beside(secrets, version, prev_hash, &earlier, now_ms)?;
    secrets.keyset = canonical::encode(&signed);
    Ok(version)
}

#[cfg(test)]
mod tests;
