//! What does not hold: where exactly, whose doing it may be, whether it convinces others, what to do.

use std::collections::BTreeMap;

use lintas_proto::audit::files::LogFile;
use serde::{Deserialize, Serialize};

/// How bad it is. The worst decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// To be known; nothing is wrong.
    Note,
    /// The log is whole, but no quorum of witnesses vouches for a time or a tree.
    NotAttested,
    /// Files are not there, so that something could not be checked.
    Incomplete,
    /// Bytes are not what they must be.
    Damaged,
    /// The broker said one thing and did another.
    BrokenPromise,
}

/// Whether it convinces somebody who trusts neither side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Proof {
    /// Files signed by the broker contradict each other: give them to anybody.
    Evidence,
    /// It is the word of who holds these files against the broker's.
    Accusation,
    /// It accuses nobody.
    Nobody,
}

/// What it is. Stable; docs/AUDIT.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A file is not there.
    Missing,
    /// A file cannot be read.
    Unreadable,
    /// A file is not as it must be, or not what other files give.
    Damaged,
    /// The entries do not lead to the root that was signed.
    RootDiffers,
    /// A checkpoint without a valid signature of the log.
    Unsigned,
    /// A roster that no authority vouches for.
    ForeignRoster,
    /// Two signed checkpoints of one size with different roots.
    Fork,
    /// A signed checkpoint that is larger than the log that is shown.
    Rollback,
    /// A signed entry of the root log that breaks its rules.
    WrongEpoch,
    /// Time goes back, or an event stands in an epoch whose time it is not of.
    BackDated,
    /// The slot of an epoch is not that of this sub-log.
    WrongSlot,
    /// An opening was taken away without an ERASED event.
    OpeningGone,
    /// Events that contradict each other.
    Contradiction,
    /// An event without the event that must stand in another agency's sub-log.
    NoCounterpart,
    /// The log lacks what the broker promised to put into it.
    Omitted,
    /// Another leaf than the one promised.
    OtherLeaf,
    /// No quorum of witnesses cosigned within 60 seconds.
    TimeNotAttested,
    /// The rosters name no witnesses.
    NoWitnesses,
    /// Something to be known.
    Note,
}

impl Kind {
    /// Severity, proof, who may be behind it, what to do.
    fn in_words(self) -> (Severity, Proof, &'static str, &'static str) {
        let copy = "nobody: a copy that is not finished looks the same";
        let again = "run `lintas audit mirror` and verify again; if it is still so, the broker withholds it: ask its operator";
        let disk = "nobody by this alone: a disk or a copy that failed looks the same";
        let compare = "delete the named files here, mirror again, verify again; if the broker serves the same bytes, keep them \
                       and tell the region authority";
        let broker = "whoever holds the broker's log key";
        let keep = "keep this folder as it is, copy it to somebody else, and give it to the region authority";
        let witnesses = "nobody by this alone: witnesses may have been away, or the broker did not ask them";
        match self {
            Self::Missing | Self::Unreadable => (Severity::Incomplete, Proof::Nobody, copy, again),
            Self::Damaged | Self::RootDiffers | Self::Unsigned => {
                (Severity::Damaged, Proof::Nobody, disk, compare)
            }
            Self::ForeignRoster => (
                Severity::Damaged,
                Proof::Nobody,
                disk,
                "compare the roster with the region authority's; then as for a damaged file",
            ),
            Self::Fork | Self::Rollback | Self::WrongEpoch | Self::BackDated => {
                (Severity::BrokenPromise, Proof::Evidence, broker, keep)
            }
            Self::WrongSlot => (
                Severity::Damaged,
                Proof::Accusation,
                "the broker, or a disk or a copy that failed: `sizes` and `slot-keys` carry no signature",
                compare,
            ),
            Self::OpeningGone => (
                Severity::BrokenPromise,
                Proof::Accusation,
                "the broker, or whoever keeps this copy: nobody can prove that something was not shown",
                "mirror again; if it is still so, ask the broker's operator for the order of erasure",
            ),
            Self::Contradiction | Self::NoCounterpart => (
                Severity::BrokenPromise,
                Proof::Evidence,
                "the broker: it logged what cannot both be true",
                "read both events (`lintas audit show`), ask the agencies concerned, then the region authority",
            ),
            Self::Omitted | Self::OtherLeaf => (
                Severity::BrokenPromise,
                Proof::Evidence,
                "whoever holds the broker's receipt key: its signed receipt says otherwise",
                "keep the receipt (`lintas evidence ID`) and this folder, and give both to the region authority",
            ),
            Self::TimeNotAttested => (
                Severity::NotAttested,
                Proof::Nobody,
                witnesses,
                "do not rely on these times against the broker's word; ask its operator why the witnesses were away",
            ),
            Self::NoWitnesses => (
                Severity::NotAttested,
                Proof::Nobody,
                "nobody: the region has none",
                "ask the region authority to name witnesses, at least four",
            ),
            Self::Note => (Severity::Note, Proof::Nobody, "nobody", "nothing is to be done"),
        }
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    pub(crate) proof: Proof,
    /// Origin of the log.
    pub(crate) log: String,
    /// Files that are concerned; one of them is not as it must be.
    pub(crate) files: Vec<String>,
    /// First and last entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entries: Option<(u64, u64)>,
    /// First and last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epochs: Option<(u64, u64)>,
    pub(crate) what: String,
    pub(crate) who: String,
    pub(crate) to_do: String,
}

impl Finding {
    pub(crate) fn new(kind: Kind, log: &str, what: impl Into<String>) -> Self {
        let (severity, proof, who, to_do) = kind.in_words();
        Self {
            kind,
            severity,
            proof,
            log: log.to_owned(),
            files: Vec::new(),
            entries: None,
            epochs: None,
            what: what.into(),
            who: who.to_owned(),
            to_do: to_do.to_owned(),
        }
    }

    /// Names a file.
    pub(crate) fn of(mut self, file: LogFile) -> Self {
        self.files.push(file.to_string());
        self
    }

    /// Names an entry.
    pub(crate) fn entry(mut self, index: u64) -> Self {
        self.entries = Some((index, index));
        self
    }

    /// Names an epoch.
    pub(crate) fn epoch(mut self, epoch: u64) -> Self {
        self.epochs = Some((epoch, epoch));
        self
    }

    /// Takes in the one that comes next to it.
    fn joins(&mut self, next: &Self) -> bool {
        let same = self.kind == next.kind && self.log == next.log && self.what == next.what;
        let (mine, other) = match (self.epochs, next.epochs, self.entries, next.entries) {
            (Some(mine), Some(other), None, None) => (mine, other),
            (None, None, Some(mine), Some(other)) => (mine, other),
            _ => return false,
        };
        if !same || self.files != next.files || mine.1.checked_add(1) != Some(other.0) {
            return false;
        }
        let joined = Some((mine.0, other.1));
        if self.epochs.is_some() {
            self.epochs = joined
        } else {
            self.entries = joined
        }
        true
    }
}

impl From<Box<Finding>> for Finding {
    fn from(boxed: Box<Finding>) -> Self {
        *boxed
    }
}

/// Most findings of one kind that are shown; all are counted.
pub(crate) const SHOWN_MAX: u64 = 100;

/// All that does not hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Findings {
    shown: Vec<Finding>,
    /// By kind: how many ranges there are, and how many of them are shown.
    counted: BTreeMap<Kind, (u64, u64)>,
    worst: Option<Severity>,
}

impl Findings {
    /// Takes one in; epochs or entries in a row are one.
    pub(crate) fn push(&mut self, finding: impl Into<Finding>) {
        let finding = finding.into();
        self.worst = self.worst.max(Some(finding.severity));
        let last =
            self.shown.iter_mut().rev().find(|last| last.kind == finding.kind && last.log == finding.log);
        if last.is_some_and(|last| last.joins(&finding)) {
            return;
        }
        // A scan that went on after an interruption reads some files again.
        if self.shown.contains(&finding) {
            return;
        }
        let (all, shown) = self.counted.entry(finding.kind).or_default();
        *all = all.saturating_add(1);
        if *shown < SHOWN_MAX {
            *shown += 1;
            self.shown.push(finding);
        }
    }

    /// Takes in those of a part of the scan.
    pub(crate) fn append(&mut self, part: Self) {
        part.shown.into_iter().for_each(|finding| self.push(finding));
        for (kind, (all, shown)) in part.counted {
            let (mine, _) = self.counted.entry(kind).or_default();
            *mine = mine.saturating_add(all.saturating_sub(shown));
        }
        self.worst = self.worst.max(part.worst);
    }

    /// Those that are shown, the worst first.
    pub(crate) fn into_shown(self) -> Vec<Finding> {
        let mut shown = self.shown;
        shown.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        shown
    }

    /// How many of each kind there are, shown or not.
    pub(crate) fn counts(&self) -> BTreeMap<Kind, u64> {
        self.counted.iter().map(|(kind, (all, _))| (*kind, *all)).collect()
    }

    pub(crate) fn worst(&self) -> Option<Severity> {
        self.worst
    }
}
