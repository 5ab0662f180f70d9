//! A directory at one moment.

use lintas_proto::{
    envelope::{verify::PacketKeys, wrap::EncryptionKey},
    id::Digest,
    limits,
    schema::UnitRef,
    sign::VerifyingKey,
};

use super::{
    Directory,
    keyset::{AgencyKeys, UnitKey, epoch_begins_ms},
};

/// A directory at one moment: expired keys are not found.
///
/// | question | needs a roster in force | needs a keyset that has not expired |
/// |---|---|---|
/// | [`encryption_key`](Self::encryption_key): to whom may I send, and with which key? | yes | yes |
/// | [`accepts_encryption_key`](Self::accepts_encryption_key): may this still be sent on? | yes | yes |
/// | [`packet_key`](PacketKeys::packet_key): who signed this? | no: ask [`in_force`](Self::in_force) | yes |
/// | [`Directory::agency_of_transport`]: who may connect? | no | no |
///
/// A node that was offline for months must be able to connect, in order to fetch the directory in force and to
/// publish a new keyset. What it does then is checked with the keys of that moment.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryAt<'a> {
    pub(super) directory: &'a Directory,
    pub(super) now_ms: u64,
}

impl<'a> DirectoryAt<'a> {
    /// Whether the roster itself is valid now.
    #[must_use]
    pub fn in_force(&self) -> bool {
        let roster = self.directory.roster();
        (roster.not_before_ms..roster.not_after_ms).contains(&self.now_ms)
    }

    /// The key to encrypt to for a unit now, as [`encryption_key_until`](Self::encryption_key_until) finds it.
    #[must_use]
    pub fn encryption_key(&self, unit: &UnitRef) -> Option<&'a EncryptionKey> {
        self.encryption_key_until(unit).map(|(key, _)| key)
    }

    /// The key to encrypt to for a unit now, and its end in milliseconds since 1970: the newest one whose epoch has
    /// begun by this clock and that is not over. So an agency that was away for longer than the epochs that it
    /// published can still be written to, until 90 days after the last of them. Whoever judges the packet by a clock
    /// that is a little behind grants the skew: see [`accepts_encryption_key`](Self::accepts_encryption_key). Nothing
    /// is to be delivered after the key's end. `None` under a roster that is not in force.
    #[must_use]
    pub fn encryption_key_until(&self, unit: &UnitRef) -> Option<(&'a EncryptionKey, u64)> {
        let begun = self.unit_keys(unit).filter(|key| epoch_begins_ms(key.epoch) <= self.now_ms);
        begun.last().map(|key| (&key.key, key.not_after_ms))
    }

    /// Whether `key_id` is a key of that unit that may still be encrypted to: its epoch has begun (but for the skew
    /// of clocks) and its end is not past. A packet may wait long between sealing and submission.
    #[must_use]
    pub fn accepts_encryption_key(&self, unit: &UnitRef, key_id: &[u8]) -> bool {
        let begun = |key: &UnitKey| epoch_begins_ms(key.epoch) <= self.now_ms + limits::CLOCK_SKEW_MS_MAX;
        self.unit_keys(unit).any(|key| key.key.id() == key_id && begun(key))
    }

    fn unit_keys(&self, unit: &UnitRef) -> impl Iterator<Item = &'a UnitKey> {
        let known = self.in_force() && self.directory.has_unit(unit);
        let keys = self.keys(&unit.agency).filter(|_| known);
        let of_agency = keys.map_or(&[][..], |keys| &keys.encryption);
        let begin = of_agency.partition_point(|key| key.unit < unit.unit);
        let end = of_agency.partition_point(|key| key.unit <= unit.unit);
        let of_unit = of_agency.get(begin..end).unwrap_or_default();
        let now_ms = self.now_ms;
        of_unit.iter().filter(move |key| now_ms < key.not_after_ms)
    }

    /// Keys of an active member whose keyset has not expired.
    fn keys(&self, agency: &str) -> Option<&'a AgencyKeys> {
        self.directory.member(agency)?;
        self.directory.keys_of(agency).filter(|keys| self.now_ms < keys.not_after_ms)
    }
}

impl PacketKeys for DirectoryAt<'_> {
    fn packet_key(&self, originator: &UnitRef, key_id: &Digest) -> Option<&VerifyingKey> {
        let known = self.directory.has_unit(originator);
        let keys = self.keys(&originator.agency).filter(|_| known)?;
        keys.packet.iter().find(|(id, _)| id == key_id).map(|(_, key)| key)
    }
}
