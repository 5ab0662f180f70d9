//! From a directory and what shall change to the proposal of the next one.

mod error;

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_proto::{
    canonical, limits,
    schema::{
        BrokerKeys, ClassificationScheme, DirectoryBundle, JoinRequest, Member, MemberStatus, Roster,
        SignedKeyset,
    },
    sign::VerifyingKey,
};

pub use self::error::ChangeError;
use super::{
    found::{BEGINS_BEFORE_MS, DAY_MS, FoundError, admit, next_roster, stands},
    logs::LogEnd,
    proposal::Proposal,
};
use crate::{
    directory::{Directory, DirectoryError, check_keyset, check_member, keyset_agency, vouches},
    policy::{baseline, loosening},
    source::{BaselineSource, MemberSource, RegionSource},
};

/// What shall change. With nothing in it only the validity begins anew.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Requests of newcomers.
    pub admit: Vec<JoinRequest>,
    /// Requests of members with a new identity key.
    pub identity: Vec<JoinRequest>,
    /// Signatures by which old identity keys vouch for new ones, 64 bytes each, in any order.
    pub handovers: Vec<Bytes>,
    /// Members of which the sources say something new.
    pub update: Vec<String>,
    /// Members that are suspended.
    pub suspend: Vec<String>,
    /// Members that are no longer suspended.
    pub reinstate: Vec<String>,
    /// Members that leave for ever.
    pub revoke: Vec<String>,
    /// Authority keys that come.
    pub add_offices: Vec<VerifyingKey>,
    /// Authority keys that go.
    pub drop_offices: Vec<VerifyingKey>,
    /// How many authorities must sign from then on; as before if none.
    pub threshold: Option<u32>,
    /// New keys of brokers, or new brokers.
    pub brokers: Vec<BrokerKeys>,
    /// Requests of members that become witnesses, or have a new witness key, by agency.
    pub witness: Vec<(String, JoinRequest)>,
    /// Members that are witnesses no longer.
    pub no_witness: Vec<String>,
    /// Auditors, and whose sub-logs they may read from now on; `*` alone for all.
    pub audits: Vec<(String, Vec<String>)>,
    /// Logs that end.
    pub end_logs: Vec<LogEnd>,
    /// End them although no quorum of witnesses has cosigned those checkpoints.
    pub without_quorum: bool,
    /// After how many days an agency is told that an auditor read its sub-log; as before if none.
    pub reads_told_after_days: Option<u32>,
    /// Another baseline policy. What it lacks of the one before goes on to forbid for 14 days.
    pub baseline: Option<BaselineSource>,
    /// Other classification schemes, in the place of all of before.
    pub schemes: Option<Vec<ClassificationScheme>>,
    /// Days; as the sources say, or as long as before, if none.
    pub valid_days: Option<u32>,
}

/// The proposal of the directory after `directory`, which nobody has signed yet.
///
/// # Errors
/// [`ChangeError`] with what to do.
pub fn change(
    directory: &Directory,
    source: Option<&RegionSource>,
    changes: &Changes,
    now_ms: u64,
) -> Result<Proposal, ChangeError> {
    let region = &directory.roster().region;
    if let Some(source) = source.filter(|source| source.region != *region) {
        return Err(ChangeError::Region { have: source.region.clone(), need: region.clone() });
    }
    let mut next = Next { roster: directory.roster().clone(), keysets: keysets(directory)?, source };
    next.once(changes)?;
    next.identities(changes)?;
    next.statuses(changes)?;
    next.updates(changes)?;
    next.newcomers(changes)?;
    next.audits(changes)?;
    next.witnesses(changes)?;
    next.offices(changes)?;
    next.brokers(changes)?;
    next.ends(directory, changes)?;
    next.log_keys(directory)?;
    next.policies(directory, changes, now_ms);
    let days = changes.valid_days.or(source.map(|source| source.valid_days)).unwrap_or_else(|| {
        let roster = directory.roster();
        let length =
            roster.not_after_ms.saturating_sub(roster.not_before_ms.saturating_add(BEGINS_BEFORE_MS));
        u32::try_from(length / DAY_MS).unwrap_or(u32::MAX).max(1)
    });
    let Next { roster: changed, keysets, .. } = next;
    let roster = next_roster(directory, days, now_ms, |roster| *roster = changed)?;
    changes.baseline.as_ref().map_or(Ok(()), |baseline| stands(baseline, &roster, now_ms))?;
    let proposal = Proposal::new(&roster, keysets.into_values().collect())?;
    directory.proposed(&proposal.to_bytes())?;
    Ok(proposal)
}

/// The next roster while it is written.
pub(super) struct Next<'a> {
    pub(super) roster: Roster,
    keysets: BTreeMap<String, SignedKeyset>,
    source: Option<&'a RegionSource>,
}

impl Next<'_> {
    /// No agency is named for two of the changes that exclude each other.
    fn once(&self, changes: &Changes) -> Result<(), ChangeError> {
        let mut named: Vec<&String> =
            [&changes.suspend, &changes.reinstate, &changes.revoke].into_iter().flatten().collect();
        named.sort();
        match named.iter().zip(named.iter().skip(1)).find(|(a, b)| a == b) {
            Some((agency, _)) => Err(ChangeError::Twice { agency: (*agency).clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn member(&mut self, agency: &str) -> Result<&mut Member, ChangeError> {
        let member = self.roster.members.iter_mut().find(|member| member.agency == agency);
        member.ok_or_else(|| ChangeError::Stranger { agency: shown(agency) })
    }

    pub(super) fn described(&self, agency: &str, what: &'static str) -> Result<&MemberSource, ChangeError> {
        let source = self.source.ok_or(ChangeError::Sources { what })?;
        source.members.iter().find(|member| member.agency == agency).ok_or_else(|| {
            let file = format!("{}.toml", agency.to_ascii_lowercase());
            ChangeError::Found(FoundError::Stranger { agency: shown(agency), file })
        })
    }

    /// New identity keys, with a handover if there is one.
    fn identities(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        let region = self.roster.region.clone();
        let mut unused: Vec<&Bytes> = changes.handovers.iter().collect();
        for request in &changes.identity {
            let (Some(asks), Some(keyset)) = (&request.member, &request.keyset) else {
                return Err(FoundError::Empty.into());
            };
            check_member(asks)?;
            let agency = asks.agency.clone();
            if request.region != region {
                let (have, need) = (shown(&request.region), region);
                return Err(FoundError::Region { agency, have, need }.into());
            }
            let member = self.member(&agency)?;
            if member.identity_key == asks.identity_key {
                return Err(ChangeError::SameIdentity { agency });
            }
            let before: [u8; 32] = member.identity_key.as_ref().try_into().unwrap_or_default();
            member.identity_key = asks.identity_key.clone();
            member.handover = Bytes::new();
            // A witness goes on with the key of its new node; the old one may be in other hands.
            if !member.witness_key.is_empty() {
                member.witness_key = asks.witness_key.clone();
            }
            for offered in unused.clone().into_iter().chain([&asks.handover]) {
                let vouched = Member { handover: offered.clone(), ..member.clone() };
                if vouches(&region, &before, &vouched) {
                    unused.retain(|known| *known != offered);
                    *member = vouched;
                }
            }
            check_keyset(&region, member, keyset)?;
            self.keysets.insert(agency, keyset.clone());
        }
        if unused.is_empty() { Ok(()) } else { Err(ChangeError::Handover) }
    }

    fn statuses(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        let new_identity = |agency: &str| {
            changes.identity.iter().filter_map(|request| request.member.as_ref()).any(|m| m.agency == agency)
        };
        let wanted = [
            (&changes.suspend, MemberStatus::Suspended, "suspended"),
            (&changes.reinstate, MemberStatus::Active, "an active member"),
            (&changes.revoke, MemberStatus::Revoked, "revoked"),
        ];
        for (agencies, status, is) in wanted {
            for agency in agencies {
                let member = self.member(agency)?;
                if member.status == status as i32 {
                    return Err(ChangeError::Already { agency: agency.clone(), is });
                }
                if member.status == MemberStatus::Revoked as i32 && !new_identity(agency) {
                    return Err(ChangeError::Revoked { agency: agency.clone() });
                }
                member.status = status as i32;
            }
        }
        Ok(())
    }

    /// Names, units, groups and roles from the sources again.
    fn updates(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        for agency in &changes.update {
            let described = self.described(agency, "an update")?;
            let (witness, described) = (described.witness, described.member(Bytes::new()));
            let member = self.member(agency)?;
            let witness_key = if witness { member.witness_key.clone() } else { Bytes::new() };
            *member = Member {
                identity_key: member.identity_key.clone(),
                handover: member.handover.clone(),
                status: member.status,
                witness_key,
                ..described
            };
        }
        Ok(())
    }

    fn newcomers(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        for request in &changes.admit {
            let source = self.source.ok_or(ChangeError::Sources { what: "a new member" })?;
            let (member, keyset) = admit(source, request)?;
            let agency = member.agency.clone();
            if self.roster.members.iter().any(|known| known.agency == agency) {
                return Err(ChangeError::There { agency });
            }
            self.roster.members.push(member);
            self.keysets.insert(agency, keyset);
        }
        Ok(())
    }

    fn offices(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        let keys = &mut self.roster.authority_keys;
        for key in &changes.drop_offices {
            let at = keys.iter().position(|known| known == key.as_bytes().as_slice());
            let Some(at) = at else {
                return Err(ChangeError::Office { what: "go is none of the region's" });
            };
            keys.remove(at);
        }
        for key in &changes.add_offices {
            if keys.iter().any(|known| known == key.as_bytes().as_slice()) {
                return Err(ChangeError::Office { what: "come is one of the region's already" });
            }
            keys.push(Bytes::copy_from_slice(key.as_bytes()));
        }
        self.roster.threshold = changes.threshold.unwrap_or(self.roster.threshold);
        let days = changes.reads_told_after_days;
        self.roster.reads_told_after_days = days.unwrap_or(self.roster.reads_told_after_days);
        Ok(())
    }

    fn brokers(&mut self, changes: &Changes) -> Result<(), ChangeError> {
        for broker in &changes.brokers {
            match self.roster.brokers.iter_mut().find(|known| known.name == broker.name) {
                Some(known) => {
                    let ended_logs = std::mem::take(&mut known.ended_logs);
                    *known = BrokerKeys { ended_logs, ..broker.clone() };
                }
                None if self.source.is_some_and(|source| source.brokers.contains(&broker.name)) => {
                    self.roster.brokers.push(broker.clone());
                }
                None => return Err(ChangeError::Broker(shown(&broker.name))),
            }
        }
        Ok(())
    }

    /// Baseline and classification schemes. With every roster those policies go whose time to leave is over.
    fn policies(&mut self, directory: &Directory, changes: &Changes, now_ms: u64) {
        if let Some(baseline) = &changes.baseline {
            self.roster.baseline.clone_from(&baseline.text);
        }
        if let Some(schemes) = &changes.schemes {
            self.roster.schemes.clone_from(schemes);
        }
        let begins_ms = now_ms.saturating_sub(BEGINS_BEFORE_MS);
        let leaving = loosening::leaving(directory.roster(), baseline::text(&self.roster), begins_ms);
        self.roster.leaving = leaving;
    }

    /// A new log key begins with a new log; said here in the words of this command.
    fn log_keys(&self, directory: &Directory) -> Result<(), ChangeError> {
        let same_log = |known: &&BrokerKeys| {
            let before = directory.brokers().iter().find(|broker| broker.name == known.name);
            before.is_some_and(|before| {
                before.ended_logs.len() == known.ended_logs.len()
                    && before.log_key.as_bytes() != known.log_key.as_ref()
            })
        };
        match self.roster.brokers.iter().find(same_log) {
            Some(broker) => Err(ChangeError::LogGoesOn { broker: broker.name.clone() }),
            None => Ok(()),
        }
    }
}

/// The keysets of a directory by agency.
fn keysets(directory: &Directory) -> Result<BTreeMap<String, SignedKeyset>, DirectoryError> {
    let bundle: DirectoryBundle = canonical::decode(directory.bytes(), limits::DIRECTORY_BYTES_MAX)?;
    let mut found = BTreeMap::new();
    for bytes in bundle.keysets {
        let signed: SignedKeyset = canonical::decode(&bytes, limits::KEYSET_BYTES_MAX)?;
        found.insert(keyset_agency(&signed).unwrap_or_default(), signed);
    }
    Ok(found)
}

/// What a stranger wrote, fit for one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
