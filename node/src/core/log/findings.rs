//! What the broker's log should not show. What convinces others is told apart from what is only this node's word.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use lintas_proto::{
    id::{Digest, sha256},
    schema::StoredFinding,
};

/// Most findings of each weight that are kept: accusations never take the place of evidence. Further ones are counted.
pub(crate) const FINDINGS_MAX: usize = if cfg!(test) { 4 } else { 500 };
/// Longest exhibits of one finding, bytes: two receipts with the most events.
pub(crate) const EXHIBITS_BYTES_MAX: usize = 640 * 1024;

/// What was found. Names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Two trees of one log, of which neither continues the other.
    Fork,
    /// The log shows less than it did before.
    Rollback,
    /// Another event stands, or is promised, where one was promised.
    OtherLeaf,
    /// An event has a time before the epoch that it stands behind, or after its own.
    BackDated,
    /// The deadline of a receipt is over, and its events are not in the log.
    PromiseNotKept,
    /// The broker does not show what it has to show.
    Withheld,
    /// A recipient has signed that it has a packet that was not released to it, says the broker's receipt.
    DeliveredThoughDenied,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Fork,
        Self::Rollback,
        Self::OtherLeaf,
        Self::BackDated,
        Self::PromiseNotKept,
        Self::Withheld,
        Self::DeliveredThoughDenied,
    ];

    /// The one with that stable name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::OtherLeaf => "other-leaf",
            Self::BackDated => "back-dated",
            Self::PromiseNotKept => "promise-not-kept",
            Self::Withheld => "withheld",
            Self::DeliveredThoughDenied => "delivered-though-denied",
        }
    }
}

/// What a finding is worth to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Its exhibits convince whoever has the roster.
    Evidence,
    /// It is this node's word against the broker's.
    Accusation,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was found.
    pub(crate) kind: Kind,
    /// What it is worth.
    pub(crate) weight: Weight,
    /// For people.
    pub(crate) text: String,
    /// What it consists of; docs/AUDIT.md says in which order.
    pub(crate) exhibits: Vec<Bytes>,
}

impl Finding {
    /// What convinces others.
    pub(crate) fn evidence(kind: Kind, text: impl Into<String>, exhibits: Vec<Bytes>) -> Self {
        Self { kind, weight: Weight::Evidence, text: text.into(), exhibits }
    }

    /// What is only this node's word.
    pub(crate) fn accusation(kind: Kind, text: impl Into<String>, exhibits: Vec<Bytes>) -> Self {
        Self { kind, weight: Weight::Accusation, text: text.into(), exhibits }
    }

    /// The record to keep. Exhibits beyond all bounds are left out, and it is an accusation then.
    pub(crate) fn into_stored(self, time_ms: u64) -> StoredFinding {
        let fits = self.exhibits.iter().map(Bytes::len).fold(0, usize::saturating_add) <= EXHIBITS_BYTES_MAX;
        StoredFinding {
            kind: self.kind.as_str().to_owned(),
            text: self.text,
            is_evidence: self.weight == Weight::Evidence && fits,
            exhibits: if fits { self.exhibits } else { Vec::new() },
            time_ms,
        }
    }
}

/// Tells one finding from another, whenever it is found: its kind and exhibits; its text if it has none.
fn id(stored: &StoredFinding) -> Digest {
    let mut parts: Vec<Bytes> = stored.exhibits.iter().map(|one| sha256(&[one]).to_vec().into()).collect();
    if parts.is_empty() {
        parts.push(Bytes::copy_from_slice(&sha256(&[stored.text.as_bytes()])));
    }
    sha256(&[stored.kind.as_bytes(), &[0, u8::from(stored.is_evidence)], &parts.concat()])
}

/// A finding that was kept, without its exhibits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The stable name of what was found.
    pub(crate) kind: String,
    /// For people.
    pub(crate) text: String,
    /// What it is worth.
    pub(crate) weight: Weight,
    /// When.
    pub(crate) time_ms: u64,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, text, .. } = self;
        match self.weight {
            Weight::Evidence => write!(
                f,
                "the audit log is not what it should be ({kind}): {text}. This can be proven: show it to the region \
                 authority; `lintas audit findings --out FILE` writes what convinces others"
            ),
            Weight::Accusation => write!(
                f,
                "the audit log may not be what it should be ({kind}): {text}. This is this node's word only: ask the \
                 broker's operator, and tell the region authority if it goes on"
            ),
        }
    }
}

/// The findings that were kept, folded over the journal.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By the sequence of their record.
    noted: BTreeMap<u64, Noted>,
    ids: BTreeSet<Digest>,
    evidence: usize,
}

impl Findings {
    /// Whether it is to be kept: new, and there is room for one of its weight.
    pub(crate) fn wants(&self, stored: &StoredFinding) -> Wanted {
        let of_weight = if stored.is_evidence { self.evidence } else { self.noted.len() - self.evidence };
        if self.ids.contains(&id(stored)) {
            Wanted::Known
        } else if of_weight >= FINDINGS_MAX {
            Wanted::NoRoom
        } else {
            Wanted::Yes
        }
    }

    /// Takes the record with this sequence.
    pub(crate) fn apply(&mut self, sequence: u64, stored: &StoredFinding) {
        if !self.ids.insert(id(stored)) {
            return;
        }
        let weight = if stored.is_evidence { Weight::Evidence } else { Weight::Accusation };
        self.evidence += usize::from(stored.is_evidence);
        let noted =
            Noted { kind: stored.kind.clone(), text: stored.text.clone(), weight, time_ms: stored.time_ms };
        self.noted.insert(sequence, noted);
    }

    /// Oldest first, each with the sequence of its record.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = (u64, &Noted)> {
        self.noted.iter().map(|(sequence, noted)| (*sequence, noted))
    }
}

/// Whether a finding is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is new.
    Yes,
    /// The same was kept before.
    Known,
    /// There are too many of its weight.
    NoRoom,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(number: u8) -> StoredFinding {
        Finding::evidence(Kind::Fork, "two trees", vec![Bytes::from(vec![number])]).into_stored(1)
    }

    #[test]
    fn accusations_take_no_room_from_evidence_and_nothing_is_kept_twice() {
        let mut findings = Findings::default();
        for number in 0..20 {
            let text = format!("the broker does not answer {number}");
            let stored = Finding::accusation(Kind::Withheld, text, Vec::new()).into_stored(1);
            if findings.wants(&stored) == Wanted::Yes {
                findings.apply(number, &stored);
            }
        }
        assert_eq!(findings.all().count(), FINDINGS_MAX);
        assert_eq!(findings.wants(&evidence(1)), Wanted::Yes);
        findings.apply(100, &evidence(1));
        assert_eq!(findings.wants(&evidence(1)), Wanted::Known);
        assert_eq!(findings.wants(&StoredFinding { time_ms: 7, ..evidence(1) }), Wanted::Known);
        assert_eq!(findings.wants(&StoredFinding { is_evidence: false, ..evidence(1) }), Wanted::NoRoom);
        (2..5).for_each(|number| findings.apply(100 + u64::from(number), &evidence(number)));
        assert_eq!(findings.wants(&evidence(9)), Wanted::NoRoom);
    }

    #[test]
    fn what_has_lost_its_exhibits_is_no_evidence() {
        let long = vec![Bytes::from(vec![0; EXHIBITS_BYTES_MAX + 1])];
        let stored = Finding::evidence(Kind::OtherLeaf, "two leaves", long).into_stored(1);
        assert!(!stored.is_evidence && stored.exhibits.is_empty());
    }
}
