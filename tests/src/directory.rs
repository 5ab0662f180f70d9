//! A directory whose authority is in the hands of a test: one key that signs alone.

use std::{fs, ops::Range, path::Path};

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory,
    issue::{bundle, fresh_seed, sign_roster},
    os_entropy,
};
use lintas_proto::{
    canonical, limits,
    schema::{BrokerKeys, Member, MemberStatus, Roster, SignedKeyset},
    sign::{KeyRole, SigningKey, VerifyingKey},
};

use crate::region::now_ms;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Where the operator puts it.
const FILE: &str = "directory.bin";

/// The first directory of a region, and what the next one is made of.
#[derive(Debug)]
pub struct Issued {
    authority: SigningKey,
    roster: Roster,
    keysets: Vec<SignedKeyset>,
    directory: Directory,
}

impl Issued {
    /// Founds `region` of these members around the broker that was made in `folder`, and puts directory and bootstrap file there.
    #[must_use]
    pub fn found(
        folder: &Path,
        region: &str,
        epoch_ms: u32,
        (members, keysets): (Vec<Member>, Vec<SignedKeyset>),
    ) -> Self {
        let keys = Bytes::from(fs::read(folder.join("broker.roster")).unwrap());
        let keys: BrokerKeys = canonical::decode(&keys, limits::HELLO_BYTES_MAX).unwrap();
        let authority = SigningKey::from_seed(KeyRole::Authority, &fresh_seed(&mut os_entropy())).unwrap();
        let roster = Roster {
            format: 1,
            region: region.to_owned(),
            version: 1,
            not_before_ms: now_ms() - DAY_MS,
            not_after_ms: now_ms() + 100 * DAY_MS,
            authority_keys: vec![Bytes::copy_from_slice(&authority.public_key())],
            threshold: 1,
            members,
            brokers: vec![keys],
            suite_min: 1,
            epoch_ms,
            ..Roster::default()
        };
        let bootstrap = Bootstrap {
            region: region.to_owned(),
            authority_keys: vec![VerifyingKey::parse(&authority.public_key()).unwrap()],
            threshold: 1,
        };
        let bytes = bundle(&sign_roster(&roster, std::slice::from_ref(&authority)).unwrap(), keysets.clone());
        fs::write(folder.join("bootstrap.toml"), bootstrap.to_text()).unwrap();
        fs::write(folder.join(FILE), &bytes).unwrap();
        let directory = Directory::open(&bytes, &bootstrap).unwrap();
        Self { authority, roster, keysets, directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The authority revokes these members; the broker's operator puts the new directory in its place, whole.
    pub fn revoke(&self, folder: &Path, numbers: Range<usize>) {
        let mut roster = Roster {
            version: 2,
            prev_hash: Bytes::copy_from_slice(self.directory.roster_hash()),
            ..self.roster.clone()
        };
        for number in numbers {
            roster.members[number].status = MemberStatus::Revoked as i32;
        }
        let signed = sign_roster(&roster, std::slice::from_ref(&self.authority)).unwrap();
        let place = folder.join(FILE);
        fs::write(place.with_extension("part"), bundle(&signed, self.keysets.clone())).unwrap();
        fs::rename(place.with_extension("part"), place).unwrap();
    }
}
