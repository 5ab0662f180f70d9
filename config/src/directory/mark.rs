//! The high-water mark: what a broker or a node keeps, beside the directory and out of reach of whoever can put an
//! old directory in its place, so that it refuses a rollback after a restart too.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LINTASHW` |
//! | 1 | format, 2 |
//! | 1 + n | length and name of the region |
//! | 8 + 32 | roster: version and SHA-256 |
//! | 1 | threshold k |
//! | 1 + 32 n | number of authorities, and their keys |
//! | 4 | number of agencies; then for each, in ascending order: |
//! | 1 + n | length and code of the agency |
//! | 32 | identity key that is believed here |
//! | 1 | flags: 1 revoked, 2 has a delegation and a keyset |
//! | 40 + 40 | if so: version and SHA-256 of the delegation and of the keyset |
//! | 2 | number of brokers that any roster has named; then for each, in ascending order: |
//! | 1 + n | length and name of the broker |
//! | 32 | its log key |
//! | 1 + 32 | how many of its logs have ended, and SHA-256 of their sizes (8 bytes each) and roots, in order |
//! | 32 | SHA-256 of all before it: finds damage. Forgery must be kept out by where the mark is kept. |
//!
//! Numbers are big-endian. One reading, one encoding: [`HighWater::decode`] refuses everything else.

use std::collections::BTreeMap;

use lintas_proto::{
    id::{Digest, check_code, check_name, sha256},
    schema::{BrokerKeys, Roster},
    sign::VerifyingKey,
};
use thiserror::Error;

use super::{DirectoryError, roster::Authorities};

const MAGIC: &[u8; 8] = b"LINTASHW";
const FORMAT: u8 = 2;
const REVOKED: u8 = 1;
const HAS_KEYS: u8 = 2;
/// Most agencies of a mark: as many as a roster can name.
const AGENCIES_MAX: usize = lintas_proto::limits::LIST_ITEMS_MAX;

/// Most brokers of a mark: those that went are remembered, lest their logs begin again.
const BROKERS_MAX: usize = 1_024;

/// Version and hash of something signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) version: u64,
    pub(super) hash: Digest,
}

/// What is believed of an agency here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) identity_key: [u8; 32],
    pub(super) revoked: bool,
    /// Delegation and keyset seen last under that identity key.
    pub(super) keys: Option<(Stamp, Stamp)>,
}

/// What is known of a broker's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenLogs {
    pub(super) log_key: [u8; 32],
    /// How many have ended.
    pub(super) ended: u8,
    /// SHA-256 of what is said of them.
    pub(super) hash: Digest,
}

/// What must be remembered of the directory in force, so that no older and no other one takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighWater {
    pub(super) region: String,
    pub(super) roster: Stamp,
    pub(super) authorities: Authorities,
    pub(super) agencies: BTreeMap<String, Seen>,
    pub(super) brokers: BTreeMap<String, SeenLogs>,
}

/// Bytes that are no high-water mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the high-water mark is damaged at byte {offset} ({what}); restore it from the backup, or have the \
     directory confirmed anew by the region authority"
)]
pub struct MarkError {
    /// Where.
    pub offset: usize,
    /// What stands there, or should.
    pub what: &'static str,
}

impl HighWater {
    pub(super) fn new(roster: &Roster, stamp: Stamp) -> Result<Self, DirectoryError> {
        let authorities = Authorities::of(roster)?;
        let brokers = roster.brokers.iter().map(|b| (b.name.clone(), SeenLogs::of(b, b.ended_logs.len())));
        let (region, brokers) = (roster.region.clone(), brokers.collect());
        Ok(Self { region, roster: stamp, authorities, agencies: BTreeMap::new(), brokers })
    }

    /// Region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Version of the roster.
    #[must_use]
    pub fn roster_version(&self) -> u64 {
        self.roster.version
    }

    /// The bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(FORMAT);
        put_text(&mut out, &self.region);
        put_stamp(&mut out, &self.roster);
        out.push(u8::try_from(self.authorities.threshold).unwrap_or(u8::MAX));
        out.push(u8::try_from(self.authorities.keys.len()).unwrap_or(u8::MAX));
        self.authorities.keys.iter().for_each(|key| out.extend(key.as_bytes()));
        out.extend(u32::try_from(self.agencies.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (agency, seen) in &self.agencies {
            put_text(&mut out, agency);
            out.extend(seen.identity_key);
            let revoked = if seen.revoked { REVOKED } else { 0 };
            out.push(revoked | if seen.keys.is_some() { HAS_KEYS } else { 0 });
            if let Some((delegation, keyset)) = &seen.keys {
                put_stamp(&mut out, delegation);
                put_stamp(&mut out, keyset);
            }
        }
        out.extend(u16::try_from(self.brokers.len()).unwrap_or(u16::MAX).to_be_bytes());
        for (broker, SeenLogs { log_key, ended, hash }) in &self.brokers {
            put_text(&mut out, broker);
            out.extend(log_key);
            out.push(*ended);
            out.extend(hash);
        }
        let sum = sha256(&[&out]);
        out.extend(sum);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`MarkError`] with the place.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkError> {
        let wrong = |what| MarkError { offset: bytes.len(), what };
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or(wrong("too short"))?;
        if sha256(&[body]) != *sum {
            return Err(wrong("its checksum differs"));
        }
        let mut cursor = Cursor { bytes: body, offset: 0 };
        if cursor.array::<8>("magic")? != *MAGIC || cursor.byte("format")? != FORMAT {
            return Err(MarkError { offset: 0, what: "not a mark of this format" });
        }
        let region = cursor.text("region", |text| check_name(text).is_ok())?;
        let roster = cursor.stamp("roster")?;
        let threshold = usize::from(cursor.byte("threshold")?);
        let count = cursor.byte("number of authorities")?;
        let mut keys = Vec::new();
        for _ in 0..count {
            let bytes = cursor.array::<32>("authority key")?;
            keys.push(VerifyingKey::parse(&bytes).map_err(|_| cursor.wrong("authority key"))?);
        }
        let authorities = Authorities { keys, threshold };
        authorities.check("mark").map_err(|_| cursor.wrong("threshold or authority keys"))?;
        let agencies = cursor.agencies()?;
        let brokers = cursor.brokers()?;
        if !cursor.bytes.is_empty() {
            return Err(cursor.wrong("bytes after the end"));
        }
        Ok(Self { region, roster, authorities, agencies, brokers })
    }
}

impl SeenLogs {
    /// Of a broker of a roster, with the first `ended` of its logs that have ended.
    pub(super) fn of(broker: &BrokerKeys, ended: usize) -> Self {
        let parts = broker.ended_logs.iter().take(ended);
        let said = parts.flat_map(|log| [log.size.to_be_bytes().to_vec(), log.root.to_vec()].concat());
        Self {
            log_key: broker.log_key.as_ref().try_into().unwrap_or_default(),
            ended: u8::try_from(ended).unwrap_or(u8::MAX),
            hash: sha256(&[&said.collect::<Vec<u8>>()]),
        }
    }
}

/// Whether a mark has room for one broker more.
pub(super) fn room_for_broker(brokers: usize) -> bool {
    brokers < BROKERS_MAX
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend(stamp.version.to_be_bytes());
    out.extend(stamp.hash);
}

struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Cursor<'_> {
    fn wrong(&self, what: &'static str) -> MarkError {
        MarkError { offset: self.offset, what }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], MarkError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(self.wrong(what))?;
        self.bytes = rest;
        self.offset += N;
        Ok(*taken)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, MarkError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn text(&mut self, what: &'static str, sound: impl Fn(&str) -> bool) -> Result<String, MarkError> {
        let length = usize::from(self.byte(what)?);
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(self.wrong(what))?;
        let text = std::str::from_utf8(taken).ok().filter(|text| sound(text)).ok_or(self.wrong(what))?;
        self.bytes = rest;
        self.offset += length;
        Ok(text.to_owned())
    }

    fn stamp(&mut self, what: &'static str) -> Result<Stamp, MarkError> {
        let stamp = Stamp { version: u64::from_be_bytes(self.array(what)?), hash: self.array(what)? };
        if stamp.version > 0 { Ok(stamp) } else { Err(self.wrong(what)) }
    }

    fn agencies(&mut self) -> Result<BTreeMap<String, Seen>, MarkError> {
        let count = u32::from_be_bytes(self.array("number of agencies")?);
        let mut agencies = BTreeMap::new();
        if usize::try_from(count).map_or(true, |count| count > AGENCIES_MAX) {
            return Err(self.wrong("number of agencies"));
        }
        for _ in 0..count {
            let agency = self.text("agency", |text| check_code(text).is_ok())?;
            let identity_key = self.array("identity key")?;
            let flags = self.byte("flags")?;
            if flags & !(REVOKED | HAS_KEYS) != 0 {
                return Err(self.wrong("flags"));
            }
            let keys = if flags & HAS_KEYS == 0 {
                None
            } else {
                Some((self.stamp("delegation")?, self.stamp("keyset")?))
            };
            if agencies.last_key_value().is_some_and(|(last, _)| *last >= agency) {
                return Err(self.wrong("agencies out of order"));
            }
            agencies.insert(agency, Seen { identity_key, revoked: flags & REVOKED != 0, keys });
        }
        Ok(agencies)
    }

    fn brokers(&mut self) -> Result<BTreeMap<String, SeenLogs>, MarkError> {
        let count = usize::from(u16::from_be_bytes(self.array("number of brokers")?));
        let mut brokers = BTreeMap::new();
        if count > BROKERS_MAX {
            return Err(self.wrong("number of brokers"));
        }
        for _ in 0..count {
            let broker = self.text("broker", |text| check_name(text).is_ok())?;
            let log_key = self.array("log key")?;
            let (ended, hash) = (self.byte("ended logs")?, self.array("hash of ended logs")?);
            if brokers.last_key_value().is_some_and(|(last, _)| *last >= broker) {
                return Err(self.wrong("brokers out of order"));
            }
            brokers.insert(broker, SeenLogs { log_key, ended, hash });
        }
        Ok(brokers)
    }
}
