//! To whom this agency may send: whoever stood in its first directory, and whom an officer has confirmed since.
//!
//! A confirmation is for one identity key. With another one the agency is unconfirmed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::schema::{Member, MemberStatus, StoredConfirmation};

/// Whom this agency knows: a fold over confirmations.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    known: BTreeMap<String, Known>,
    first_ms: Option<u64>,
}

#[derive(Debug)]
struct Known {
    identity_key: Bytes,
    groups: BTreeSet<String>,
}

/// An active member to which something is not sent yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaiting {
    /// Its code.
    pub(crate) agency: String,
    /// Its name, as the region authority lists it.
    pub(crate) name: String,
    /// Nothing is sent to it at all; otherwise only through these groups nothing.
    pub(crate) wholly: bool,
    /// Groups that are not confirmed.
    pub(crate) groups: Vec<String>,
}

impl fmt::Display for Awaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agency, name, wholly, groups } = self;
        let groups = groups.join(", ");
        match wholly {
            true => {
                write!(f, "{agency} ({name}) is new here, or has a new identity key: nothing is sent to it")
            }
            false => {
                write!(f, "{agency} ({name}) is new in {groups}: nothing is sent to it through that group")
            }
        }?;
        write!(f, " until an officer has confirmed it: lintas confirm {agency}")
    }
}

impl Contacts {
    /// Whether there is nothing yet, not even the first directory.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// When the first directory was believed.
    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.first_ms
    }

    /// Takes a record. True if the agency had another identity key before.
    pub(crate) fn apply(&mut self, stored: &StoredConfirmation) -> bool {
        if stored.first_directory {
            self.first_ms.get_or_insert(stored.time_ms);
        }
        let groups = stored.groups.iter().cloned();
        match self.known.get_mut(&stored.agency) {
            Some(known) if known.identity_key == stored.identity_key => {
                known.groups.extend(groups);
                false
            }
            before => {
                let changed = before.is_some();
                let known = Known { identity_key: stored.identity_key.clone(), groups: groups.collect() };
                self.known.insert(stored.agency.clone(), known);
                changed
            }
        }
    }

    /// Whether a member is confirmed under its present identity key.
    pub(crate) fn knows(&self, member: &Member) -> bool {
        self.of(member).is_some()
    }

    /// Whether a member may be reached through a group.
    pub(crate) fn knows_in(&self, member: &Member, group: &str) -> bool {
        self.of(member).is_some_and(|known| known.groups.contains(group))
    }

    /// Active members but `own` of which something waits for an officer. Those that are held are told apart.
    pub(crate) fn awaiting(&self, directory: &Directory, own: &str) -> Vec<Awaiting> {
        let held = |agency: &str| directory.held().iter().any(|held| held.agency == agency);
        let others = active(directory).filter(|member| member.agency != own && !held(&member.agency));
        others.filter_map(|member| self.awaits(member)).collect()
    }

    fn awaits(&self, member: &Member) -> Option<Awaiting> {
        let wholly = !self.knows(member);
        let groups: Vec<String> =
            member.groups.iter().filter(|group| !self.knows_in(member, group)).cloned().collect();
        (wholly || !groups.is_empty()).then(|| Awaiting {
            agency: member.agency.clone(),
            name: member.name.clone(),
            wholly,
            groups,
        })
    }

    fn of(&self, member: &Member) -> Option<&Known> {
        self.known.get(&member.agency).filter(|known| known.identity_key == member.identity_key)
    }
}

/// The records for the first directory that a node believes: all active members, itself among them, so that there is
/// one in any case.
pub(crate) fn first(directory: &Directory, now_ms: u64) -> Vec<StoredConfirmation> {
    let record = |member: &Member| StoredConfirmation {
        agency: member.agency.clone(),
        identity_key: member.identity_key.clone(),
        groups: member.groups.clone(),
        time_ms: now_ms,
        first_directory: true,
    };
    active(directory).map(record).collect()
}

/// Active members.
pub(crate) fn active(directory: &Directory) -> impl Iterator<Item = &Member> {
    let is_active = |member: &&Member| MemberStatus::try_from(member.status) == Ok(MemberStatus::Active);
    directory.roster().members.iter().filter(is_active)
}
