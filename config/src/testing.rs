//! A small region for tests, which can change and sign what it changed.

use bytes::Bytes;
use lintas_proto::{
    canonical,
    id::sha256,
    schema::{
        BrokerSecrets, Member, MemberStatus, NodeSecrets, Purpose, Role, Roster, RosterUnit, SignedKeyset,
        SignedRoster, UnitFunction,
    },
    sign::{KeyRole, SigningKey, VerifyingKey},
};

use crate::{
    Bootstrap, Directory, DirectoryError,
    issue::{bundle, fresh_seed, new_agency, new_broker, sign_keyset, sign_roster},
    os_entropy,
};

pub(crate) const NOW: u64 = 1_790_000_000_000;

/// A region with the secrets of everybody in it.
pub(crate) struct Region {
    pub(crate) authorities: Vec<SigningKey>,
    pub(crate) roster: Roster,
    pub(crate) keysets: Vec<SignedKeyset>,
    pub(crate) secrets: Vec<NodeSecrets>,
    pub(crate) identities: Vec<SigningKey>,
    pub(crate) broker: BrokerSecrets,
}

pub(crate) fn member(agency: &str) -> Member {
    let unit = |unit: String| RosterUnit {
        unit,
        name: "Unit".to_owned(),
        functions: vec![UnitFunction::Spoc as i32],
        clearance: 2,
        purposes: vec![Purpose::Investigation as i32],
    };
    Member {
        agency: agency.to_owned(),
        name: format!("Police of {agency}"),
        roles: vec![Role::Agency as i32],
        units: vec![unit(format!("{agency}-A")), unit(format!("{agency}-B"))],
        status: MemberStatus::Active as i32,
        ..Member::default()
    }
}

pub(crate) fn key(role: KeyRole) -> SigningKey {
    SigningKey::from_seed(role, &fresh_seed(&mut os_entropy())).unwrap()
}

pub(crate) fn public(key: &SigningKey) -> Bytes {
    Bytes::copy_from_slice(&key.public_key())
}

pub(crate) fn region() -> Region {
    let mut entropy = os_entropy();
    let authorities: Vec<SigningKey> = (0..3).map(|_| key(KeyRole::Authority)).collect();
    let (secrets, broker) = new_broker("hub.example", &mut entropy).unwrap();
    let roster = Roster {
        format: 1,
        region: "example".to_owned(),
        version: 1,
        not_before_ms: NOW - 1,
        not_after_ms: NOW + 1_000_000_000,
        authority_keys: authorities.iter().map(public).collect(),
        threshold: 2,
        brokers: vec![broker],
        suite_min: 1,
        epoch_ms: 10_000,
        ..Roster::default()
    };
    let (keysets, identities) = (vec![], vec![]);
    let mut region = Region { authorities, roster, keysets, secrets: vec![], identities, broker: secrets };
    region.join("KH");
    region.join("TH");
    region
}

impl Region {
    /// Adds a member, which must come last in order of codes.
    pub(crate) fn join(&mut self, agency: &str) {
        let (seed, secrets, request) = new_agency("example", member(agency), NOW, &mut os_entropy()).unwrap();
        self.roster.members.push(request.member.unwrap());
        self.keysets.push(request.keyset.unwrap());
        self.secrets.push(secrets);
        self.identities.push(SigningKey::from_seed(KeyRole::Identity, &seed).unwrap());
    }

    pub(crate) fn bootstrap(&self) -> Bootstrap {
        let keys = self.authorities.iter().map(|key| VerifyingKey::parse(&key.public_key()).unwrap());
        Bootstrap { region: "example".to_owned(), authority_keys: keys.collect(), threshold: 2 }
    }

    pub(crate) fn sign(&self) -> SignedRoster {
        sign_roster(&self.roster, &self.authorities[..2]).unwrap()
    }

    pub(crate) fn bundle(&self) -> Bytes {
        bundle(&self.sign(), self.keysets.clone())
    }

    pub(crate) fn open(&self) -> Result<Directory, DirectoryError> {
        Directory::open(&self.bundle(), &self.bootstrap())
    }

    /// Makes the roster the next version; what is changed after this is part of it.
    pub(crate) fn next_version(&mut self) {
        self.roster.prev_hash = Bytes::copy_from_slice(&sha256(&[&canonical::encode(&self.roster)]));
        self.roster.version += 1;
    }

    /// A keyset of member `at`, `ahead` versions further, with fresh signing keys.
    pub(crate) fn rotate(&mut self, at: usize, ahead: u64) {
        let before = self.keyset(at);
        let mut entropy = os_entropy();
        let secrets = &mut self.secrets[at];
        secrets.packet_seed = Bytes::copy_from_slice(fresh_seed(&mut entropy).as_slice());
        secrets.transport_seed = Bytes::copy_from_slice(fresh_seed(&mut entropy).as_slice());
        let hash = Bytes::copy_from_slice(&sha256(&[&self.keysets[at].keyset]));
        self.keysets[at] = sign_keyset(secrets, before.version + ahead, hash, NOW).unwrap();
    }

    pub(crate) fn keyset(&self, at: usize) -> lintas_proto::schema::Keyset {
        canonical::decode(&self.keysets[at].keyset, lintas_proto::limits::KEYSET_BYTES_MAX).unwrap()
    }
}
