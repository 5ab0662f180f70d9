//! Which directories of then a file needs.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    canonical,
    envelope::{core::Core, verify::PacketKeys as _},
    evidence::Evidence,
    id::Digest,
    limits,
    schema::{DirectoryBundle, Header, SignedEvidence, UnitRef},
};

use super::open_bundle;

/// The key and time by which somebody spoke, for whoever looks for its keyset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Speaker {
    /// Who.
    pub(crate) unit: UnitRef,
    /// Id of the packet key.
    pub(crate) key_id: Digest,
    /// When.
    pub(crate) time_ms: u64,
}

/// Whose keysets a file needs: the sender's first, then those of all who said something; brokers have none.
pub(crate) fn speakers(header: &Bytes, evidence: &[Bytes]) -> Vec<Speaker> {
    let mut speakers = Vec::new();
    let core = canonical::decode::<Header>(header, limits::HEADER_BYTES_MAX).ok();
    if let Some(core) = core.and_then(|header| Core::parse(&header.core).ok()) {
        let (unit, key_id) = (core.originator, core.sign_key_id);
        speakers.push(Speaker { unit, key_id, time_ms: core.created_ms });
    }
    for bytes in evidence {
        let signed = canonical::decode::<SignedEvidence>(bytes, limits::SIGNED_EVIDENCE_BYTES_MAX).ok();
        let Some(signed) = signed else { continue };
        let key_id = signed.proof.as_ref().and_then(|proof| Digest::try_from(proof.key_id.as_ref()).ok());
        let Some((said, key_id)) = Evidence::parse(&signed.evidence).ok().zip(key_id) else { continue };
        if !said.actor.unit.is_empty() {
            speakers.push(Speaker { unit: said.actor, key_id, time_ms: said.time_ms });
        }
    }
    speakers
}

/// Bundles in which every speaker's key is found, from rosters and keysets that were seen; the sender's first. What is not
/// found is left out, and whoever verifies says so.
pub(crate) fn bundles(
    speakers: &[Speaker],
    rosters: &BTreeMap<u64, Bytes>,
    keysets: &[(String, Bytes)],
) -> Vec<Bytes> {
    let mut bundles: Vec<(u64, BTreeMap<String, Bytes>)> = Vec::new();
    for speaker in speakers {
        let agency = &speaker.unit.agency;
        let fits = |roster: &Bytes, keyset: &Bytes| {
            let bundle = DirectoryBundle { roster: roster.clone(), keysets: vec![keyset.clone()] };
            let opened = open_bundle(&canonical::encode(&bundle)).ok();
            opened.is_some_and(|d| d.at(speaker.time_ms).packet_key(&speaker.unit, &speaker.key_id).is_some())
        };
        let of_agency = keysets.iter().filter(|(whose, _)| whose == agency);
        let found = of_agency.rev().find_map(|(_, keyset)| {
            let (version, _) = rosters.iter().rev().find(|(_, roster)| fits(roster, keyset))?;
            Some((*version, keyset.clone()))
        });
        let Some((version, keyset)) = found else { continue };
        let same = |(of, keysets): &&mut (u64, BTreeMap<String, Bytes>)| {
            *of == version && keysets.get(agency).is_none_or(|known| *known == keyset)
        };
        match bundles.iter_mut().find(same) {
            Some((_, keysets)) => drop(keysets.insert(agency.clone(), keyset)),
            None => bundles.push((version, [(agency.clone(), keyset)].into())),
        }
    }
    let pack = |(version, keysets): (u64, BTreeMap<String, Bytes>)| {
        let roster = rosters.get(&version)?.clone();
        Some(canonical::encode(&DirectoryBundle { roster, keysets: keysets.into_values().collect() }))
    };
    bundles.into_iter().filter_map(pack).collect()
}
