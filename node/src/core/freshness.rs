//! How new a directory others have: what verified packets name. Nothing here is believed on an unsigned word. Whether the
//! audit log attests the directory in force is in `log/attested.rs`.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    envelope::{
        core::Core,
        verify::{PacketKeys, verify_header},
    },
    id::PacketId,
};

use super::contacts::Contacts;

/// A version that a verified packet names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    version: u64,
    packet_id: PacketId,
    agency: String,
}

/// The highest versions that each agency has named so far: at most two entries for each that signs packets.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    rosters: BTreeMap<String, Claim>,
    keysets: BTreeMap<String, Claim>,
}

/// Why the directory here is known to be out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behind {
    what: String,
    have: u64,
    claim: Claim,
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, have, claim } = self;
        write!(
            f,
            "the directory here is out of date: packet {}, signed by {}, names {what} version {}, and version \
             {have} is in force here",
            claim.packet_id, claim.agency, claim.version
        )
    }
}

impl Seen {
    /// Notes what a packet names. Its signature has been verified.
    pub(crate) fn note(&mut self, core: &Core) {
        let agency = &core.originator.agency;
        let claim = |version| Claim { version, packet_id: core.packet_id, agency: agency.clone() };
        if self.rosters.get(agency).is_none_or(|seen| seen.version < core.roster_version) {
            self.rosters.insert(agency.clone(), claim(core.roster_version));
        }
        if self.keysets.get(agency).is_none_or(|seen| seen.version < core.keyset_version) {
            self.keysets.insert(agency.clone(), claim(core.keyset_version));
        }
    }

    /// Forgets the keysets of an agency: under another identity key they are counted anew.
    pub(crate) fn forget(&mut self, agency: &str) {
        self.keysets.remove(agency);
    }

    /// Whether somebody has a newer directory. Only the word of active members counts: whoever names versions that do not
    /// exist stops nobody any more once the authority has suspended it. Keysets count of agencies whose present identity
    /// key is confirmed.
    pub(crate) fn behind(&self, directory: &Directory, contacts: &Contacts) -> Option<Behind> {
        let have = directory.roster().version;
        let newer = |claim: &&Claim| claim.version > have && directory.member(&claim.agency).is_some();
        if let Some(claim) = self.rosters.values().filter(newer).max_by_key(|claim| claim.version) {
            return Some(Behind { what: "roster".to_owned(), have, claim: claim.clone() });
        }
        self.keysets.iter().find_map(|(agency, claim)| {
            let have = directory.keyset_version(agency)?;
            let member = directory.member(agency)?;
            (claim.version > have && contacts.knows(member)).then(|| Behind {
                what: "its own keyset".to_owned(),
                have,
                claim: claim.clone(),
            })
        })
    }
}

/// What a header names, if its signature holds under the directory in force. Whoever cannot be verified stops nothing.
pub(crate) fn sighting(header: &Bytes, signature: &Bytes, keys: &impl PacketKeys) -> Option<Core> {
    verify_header(header, signature, keys).ok().map(|header| header.core().clone())
}
