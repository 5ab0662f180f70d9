//! Decisions that were made before. Each belongs to one roster, because the memory lives and dies with it; to the policies that
//! were asked and to everything that a question says but the time. It is forgotten at the next moment that any policy asked
//! names. So one agency's new policies are no reason to ask all the others again. Bounded: when it is full, it begins anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use lintas_proto::{
    canonical,
    id::{Digest, sha256},
};

use super::{
    decide::{Asked, Decision, Layers},
    question::{Question, Way},
    set::PolicySet,
};

/// Most decisions remembered.
const DECISIONS_MAX: usize = 65_536;

#[derive(Debug)]
struct Known {
    decision: Arc<Decision>,
    /// From when, and until when (not included), milliseconds since 1970: a clock may go back.
    from_ms: u64,
    until_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<Digest, Known>>);

impl Memory {
    /// The decision, and until when it holds.
    pub(super) fn recall(&self, key: &Digest, now_ms: u64) -> Option<(Arc<Decision>, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(key).filter(|known| (known.from_ms..known.until_ms).contains(&now_ms))?;
        Some((Arc::clone(&known.decision), known.until_ms))
    }

    pub(super) fn keep(&self, key: Digest, decision: &Arc<Decision>, from_ms: u64, until_ms: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= DECISIONS_MAX {
            known.clear();
        }
        known.insert(key, Known { decision: Arc::clone(decision), from_ms, until_ms });
    }
}

/// Of everything that a question says but the time, and of the policies that are asked. Every part with its length: no two
/// questions have one key.
pub(super) fn key(
    question: &Question<'_>,
    layers: Layers,
    (asked, baseline): (Asked<'_>, &Digest),
) -> Digest {
    let Question { originator, recipient, named, kind, label, onward, reviewed, way, now_ms: _ } = question;
    let (via, hops, consent) = match *way {
        Way::Direct => ("", 0, false),
        Way::Relayed { via, hops, consent } => (via, hops, consent),
    };
    let flags = [
        layers as u8,
        u8::from(*named),
        u8::from(*reviewed),
        u8::from(consent),
        u8::from(matches!(way, Way::Relayed { .. })),
        u8::from(asked.originator.is_some()),
        u8::from(asked.recipient.is_some()),
    ];
    let numbers = [(*kind as i32).to_be_bytes(), (*onward as i32).to_be_bytes(), hops.to_be_bytes()];
    let hash = |set: Option<&PolicySet>| set.map_or(Digest::default(), |set| *set.hash());
    let policies = [*baseline, hash(asked.originator), hash(asked.recipient)];
    let codes = [&originator.agency, &originator.unit, &recipient.agency, &recipient.unit];
    let ([a, b, c, d], e) = (codes.map(|code| code.as_bytes()), via.as_bytes());
    let lengths = [a, b, c, d, e].map(|part| (part.len() as u64).to_be_bytes());
    let fixed = [&flags, numbers.as_flattened(), policies.as_flattened(), lengths.as_flattened()];
    let [flags, numbers, policies, lengths] = fixed;
    sha256(&[flags, numbers, policies, lengths, a, b, c, d, e, &canonical::encode(*label)])
}
