//! Who has left: what waits for an agency or a unit that the directory in force no longer knows is withheld, and its
//! originator is told. Fail closed: nothing is kept for somebody who might come back, since the packet was sealed for
//! whoever held the keys then, and the region authority has decided that they get nothing more.
//!
//! | the recipient | what waits for it |
//! |---|---|
//! | is suspended or revoked by a roster | withheld |
//! | is a unit that its agency no longer has | withheld |
//! | has revoked its own keys | withheld: they may be in other hands, and the agency destroys its own |
//! | has a new identity key that the old one vouches for | waits |
//! | has one that nobody vouches for | withheld: nobody knows who holds the keys before. Then it is served again |
//! | has a new keyset | waits; its node still opens what was sealed to the keys before |

use std::ops::Bound;

use lintas_config::Directory;
use lintas_proto::{id::Digest, schema::UnitRef};

use super::{ledger::Ledger, queue::Held};

/// Most entries looked at in one call, so that a long queue holds up nobody else.
pub const LOOK_ENTRIES_MAX: usize = 4_096;
/// Most entries withheld in one round.
pub const WITHHELD_MAX: usize = 256;

/// In which way a recipient has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its agency is no active member.
    Agency,
    /// Its agency has revoked its own keys.
    Keys,
    /// Its agency has a new identity key that the one before does not vouch for.
    Identity,
    /// Its agency has no such unit.
    Unit,
}

impl Left {
    /// Whether the agency has left as a whole.
    #[must_use]
    pub fn agency(directory: &Directory, agency: &str) -> Option<Self> {
        if directory.member(agency).is_none() {
            return Some(Self::Agency);
        }
        if directory.held().iter().any(|held| held.agency == agency) {
            return Some(Self::Identity);
        }
        directory.is_self_revoked(agency).then_some(Self::Keys)
    }

    /// For the sender: who decided, about whom, why, what to do.
    #[must_use]
    pub fn text(self, unit: &UnitRef, roster_version: u64) -> String {
        let UnitRef { agency, unit } = unit;
        match self {
            Self::Agency => format!(
                "{agency} / {unit} had not acknowledged the packet, and by roster version {roster_version} of the region \
                 authority {agency} is no longer an active member. Nothing of it is delivered any more; ask the region \
                 authority before you send it another way."
            ),
            Self::Keys => format!(
                "{agency} / {unit} had not acknowledged the packet, and {agency} has revoked its own keys. Nothing \
                 sealed to them is delivered any more; ask {agency} by another way, and send it anew when it has new \
                 keys."
            ),
            Self::Identity => format!(
                "{agency} / {unit} had not acknowledged the packet, and by roster version {roster_version} {agency} has a \
                 new identity key that its old one does not vouch for. Nothing sealed to the keys before is delivered; \
                 ask {agency} by another way, confirm its key, and send it anew."
            ),
            Self::Unit => format!(
                "{agency} / {unit} had not acknowledged the packet, and by roster version {roster_version} of the region \
                 authority {agency} no longer has this unit. Send it anew to another unit of {agency}."
            ),
        }
    }
}

/// A way through all queues after a change of the directory, in parts.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Whether units are looked at; otherwise whole agencies only.
    units: bool,
    /// The queue, and the last entry looked at.
    at: Option<(String, u64)>,
    over: bool,
}

impl Sweep {
    /// From the beginning. Only a roster takes units away, so after a change of keysets `units` may be false.
    #[must_use]
    pub fn new(units: bool) -> Self {
        Self { units, at: None, over: false }
    }

    /// Whether every entry was looked at.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The next entries to be withheld: whose queue, number, why.
    pub fn next(&mut self, ledger: &Ledger, directory: &Directory) -> Vec<(String, u64, Left)> {
        let (at, mut looked, mut found) = (self.at.take(), 0, Vec::new());
        let begin = at.as_ref().map_or(Bound::Unbounded, |(agency, _)| Bound::Included(agency.as_str()));
        for (agency, queue) in ledger.queues.range::<str, _>((begin, Bound::Unbounded)) {
            let whole = Left::agency(directory, agency);
            if whole.is_none() && !self.units {
                continue;
            }
            let mut after = at.as_ref().filter(|(at, _)| at == agency).map_or(0, |(_, after)| *after);
            for (number, entry) in queue.after(after) {
                if looked >= LOOK_ENTRIES_MAX || found.len() >= WITHHELD_MAX {
                    self.at = Some((agency.clone(), after));
                    return found;
                }
                (after, looked) = (number, looked + 1);
                let Held::Packet { admission, recipient_index } = entry.held else { continue };
                let gone = || {
                    let unit = ledger.packet(admission)?.recipients.get(recipient_index)?;
                    (!directory.has_unit(unit)).then_some(Left::Unit)
                };
                found.extend(whole.or_else(gone).map(|left| (agency.clone(), number, left)));
            }
        }
        self.over = true;
        found
    }
}

/// Under which directory every queue was searched to its end, and from which durable record on that will hold after a
/// power cut, too: what was withheld is in the ledger before it is on the disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought(Option<(Digest, u64)>);

impl Sought {
    /// The search is over under that directory, none while it is not; `last_sequence` is the last record so far.
    pub fn set(&mut self, under: Option<Digest>, last_sequence: u64) {
        let same = self.0.filter(|(before, _)| Some(*before) == under);
        self.0 = same.or(under.map(|under| (under, last_sequence)));
    }

    /// More is about to be withheld.
    pub fn begin(&mut self) {
        self.0 = None;
    }

    /// Whether the search under that directory is over and durable, when records up to `durable` are.
    #[must_use]
    pub fn is_over(&self, directory: &Digest, durable: u64) -> bool {
        self.0.is_some_and(|(under, record)| under == *directory && record <= durable)
    }
}

#[cfg(test)]
mod tests;
