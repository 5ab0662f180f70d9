//! The first roster of a region, from sources and requests; and the frame of every next one.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use lintas_proto::{
    schema::{BrokerKeys, JoinRequest, Member, MemberStatus, Roster, RosterUnit, SignedKeyset},
    sign::{SUITE, VerifyingKey},
};
use thiserror::Error;

use crate::{
    directory::{Directory, DirectoryError, ROSTER_FORMAT, check_keyset, check_member, check_roster},
    policy::{Owner, PolicySet, Problem, baseline::STANDARD, check},
    source::{BaselineSource, FileError, MemberSource, RegionSource},
};

/// How far back the validity of a roster begins, milliseconds: honest clocks differ.
pub(super) const BEGINS_BEFORE_MS: u64 = lintas_proto::limits::CLOCK_SKEW_MS_MAX;
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Why sources and requests make no roster.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FoundError {
    /// A request for another region.
    #[error("the request of {agency} is for region `{have}`, this is `{need}`; have it made again")]
    Region {
        /// Agency.
        agency: String,
        /// Region of the request.
        have: String,
        /// This region.
        need: String,
    },
    /// A request by somebody of whom no source says anything.
    #[error("{agency} asks to join, but no file describes it; write one, e.g. `{file}`")]
    Stranger {
        /// Agency.
        agency: String,
        /// Name of the file to write.
        file: String,
    },
    /// Two requests of one agency.
    #[error("there are two requests of {agency}; find out by another way which one is its own")]
    Twice {
        /// Agency.
        agency: String,
    },
    /// A source without a request.
    #[error(
        "{agency} is described in `{file}` but there is no request of it; ask {agency} to run `init` and to \
         hand over its request, or move the file away until then"
    )]
    Missing {
        /// Agency.
        agency: String,
        /// File.
        file: String,
    },
    /// A request that asks for more than the authority attests.
    #[error(
        "the request of {agency} names unit {unit} {what}; agree on it, then change the request or `{file}`"
    )]
    More {
        /// Agency.
        agency: String,
        /// Unit.
        unit: String,
        /// What is more.
        what: &'static str,
        /// File.
        file: String,
    },
    /// A witness without a key.
    #[error(
        "`{file}` says that {agency} is a witness, but its request has no witness key; have it made again, or write \
         witness = false"
    )]
    NoWitnessKey {
        /// Agency.
        agency: String,
        /// File.
        file: String,
    },
    /// The request says nothing of who asks.
    #[error("a request holds no member or no keyset; have it made again")]
    Empty,
    /// A broker that the source names without keys, or keys of a broker that it does not name.
    #[error("broker `{0}` must be named in `region.toml` and must have handed over its public keys")]
    Broker(String),
    /// Not as many authority keys as the source says.
    #[error("`region.toml` names {need} authorities, {have} keys were given")]
    Authorities {
        /// Keys given.
        have: usize,
        /// Authorities named.
        need: usize,
    },
    /// The baseline names somebody who is not there, or does not do what its cases say.
    #[error("the baseline policy does not stand: {0}")]
    Baseline(FileError),
    /// What came out, or a request by itself, breaks a rule.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// The first roster of a region, and the keysets for [`bundle`](crate::issue::bundle). Every member that the source
/// describes must have handed over its request. Sign the roster with [`sign_roster`](crate::issue::sign_roster).
///
/// # Errors
/// [`FoundError`], which says whom to ask for what.
pub fn found(
    source: &RegionSource,
    requests: &[JoinRequest],
    brokers: &[BrokerKeys],
    authorities: &[VerifyingKey],
    now_ms: u64,
) -> Result<(Roster, Vec<SignedKeyset>), FoundError> {
    let mut by_agency = admitted(source, requests)?;
    let (mut members, mut keysets) = (Vec::new(), Vec::new());
    for described in &source.members {
        let (member, keyset) = by_agency.remove(described.agency.as_str()).ok_or_else(|| {
            FoundError::Missing { agency: described.agency.clone(), file: described.file.clone() }
        })?;
        members.push(member);
        keysets.push(keyset);
    }
    if authorities.len() != source.authorities.len() {
        return Err(FoundError::Authorities { have: authorities.len(), need: source.authorities.len() });
    }
    // Written out even if it is the standard one: with new software nobody shall forbid less, or more, than before.
    let baseline = source.baseline.as_ref().map_or(STANDARD, |baseline| &baseline.text).to_owned();
    let roster = Roster {
        format: ROSTER_FORMAT,
        region: source.region.clone(),
        version: 1,
        not_before_ms: now_ms.saturating_sub(BEGINS_BEFORE_MS),
        not_after_ms: now_ms.saturating_add(u64::from(source.valid_days) * DAY_MS),
        authority_keys: authorities.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect(),
        threshold: source.threshold,
        members,
        brokers: named_brokers(source, brokers)?,
        suite_min: u32::from(SUITE),
        epoch_ms: source.epoch_ms,
        reads_told_after_days: source.reads_told_after_days,
        baseline,
        schemes: source.schemes.clone(),
        ..Roster::default()
    };
    check_roster(&roster)?;
    source.baseline.as_ref().map_or(Ok(()), |baseline| stands(baseline, &roster, now_ms))?;
    Ok((roster, keysets))
}

/// The roster after `directory`'s, as `change` leaves it: everything is taken over, the version counts up, the
/// predecessor is named, the validity begins anew.
///
/// # Errors
/// [`DirectoryError`] when the result breaks a rule.
pub fn next_roster(
    directory: &Directory,
    valid_days: u32,
    now_ms: u64,
    change: impl FnOnce(&mut Roster),
) -> Result<Roster, DirectoryError> {
    let mut roster = directory.roster().clone();
    change(&mut roster);
    roster.members.sort_by(|a, b| a.agency.cmp(&b.agency));
    roster.brokers.sort_by(|a, b| a.name.cmp(&b.name));
    roster.version = directory.roster().version.saturating_add(1);
    roster.prev_hash = Bytes::copy_from_slice(directory.roster_hash());
    roster.not_before_ms = now_ms.saturating_sub(BEGINS_BEFORE_MS);
    roster.not_after_ms = now_ms.saturating_add(u64::from(valid_days) * DAY_MS);
    check_roster(&roster)?;
    Ok(roster)
}

/// Checks a request to join against its source: it holds the private half of its identity key (which signed the
/// delegation of its keyset), and asks for no more than the authority attests. The member as the roster names it.
///
/// # Errors
/// [`FoundError`].
pub fn admit(source: &RegionSource, request: &JoinRequest) -> Result<(Member, SignedKeyset), FoundError> {
    let (Some(asks), Some(keyset)) = (&request.member, &request.keyset) else {
        return Err(FoundError::Empty);
    };
    check_member(asks)?;
    let agency = asks.agency.clone();
    if request.region != source.region {
        let (have, need) = (request.region.chars().take(64).collect(), source.region.clone());
        return Err(FoundError::Region { agency, have, need });
    }
    let described = source.members.iter().find(|member| member.agency == agency);
    let described = described.ok_or_else(|| {
        let file = format!("{}.toml", agency.to_ascii_lowercase());
        FoundError::Stranger { agency: agency.clone(), file }
    })?;
    for unit in &asks.units {
        no_more(described, unit)?;
    }
    if described.witness && asks.witness_key.is_empty() {
        return Err(FoundError::NoWitnessKey { agency, file: described.file.clone() });
    }
    let witness_key = if described.witness { asks.witness_key.clone() } else { Bytes::new() };
    let member = Member { witness_key, ..described.member(asks.identity_key.clone()) };
    check_member(&member)?;
    check_keyset(&source.region, &member, keyset)?;
    Ok((member, keyset.clone()))
}

fn no_more(described: &MemberSource, asks: &RosterUnit) -> Result<(), FoundError> {
    let more = |what| {
        let (agency, unit) = (described.agency.clone(), asks.unit.clone());
        Err(FoundError::More { agency, unit, what, file: described.file.clone() })
    };
    let Some(known) = described.units.iter().find(|unit| unit.unit == asks.unit) else {
        return more("that the source does not know");
    };
    if asks.functions.iter().any(|asked| !known.functions.iter().any(|function| *function as i32 == *asked)) {
        return more("with a function that the source does not attest");
    }
    if asks.clearance > known.clearance {
        return more("with a higher clearance than the source attests");
    }
    if asks.purposes.iter().any(|asked| !known.purposes.iter().any(|purpose| *purpose as i32 == *asked)) {
        return more("with a purpose that the source does not attest");
    }
    Ok(())
}

fn admitted(
    source: &RegionSource,
    requests: &[JoinRequest],
) -> Result<BTreeMap<String, (Member, SignedKeyset)>, FoundError> {
    let mut by_agency = BTreeMap::new();
    for request in requests {
        let (member, keyset) = admit(source, request)?;
        let agency = member.agency.clone();
        if by_agency.insert(agency.clone(), (member, keyset)).is_some() {
            return Err(FoundError::Twice { agency });
        }
    }
    Ok(by_agency)
}

fn named_brokers(source: &RegionSource, brokers: &[BrokerKeys]) -> Result<Vec<BrokerKeys>, FoundError> {
    let mut sorted = brokers.to_vec();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let stranger = sorted.iter().find(|broker| !source.brokers.contains(&broker.name));
    let missing = source.brokers.iter().find(|name| !brokers.iter().any(|broker| broker.name == **name));
    match (stranger.map(|broker| &broker.name), missing) {
        (Some(name), _) | (None, Some(name)) => {
            Err(FoundError::Broker(name.chars().take(64).flat_map(char::escape_debug).collect()))
        }
        (None, None) => Ok(sorted),
    }
}

/// Whether everybody whom a baseline names stands in the roster, and its cases come out as they say.
pub(super) fn stands(baseline: &BaselineSource, roster: &Roster, now_ms: u64) -> Result<(), FoundError> {
    let wrong =
        |file: &str, problems: &[Problem]| FoundError::Baseline(FileError::of_problems(file, problems));
    let policies = PolicySet::read(Owner::Baseline, &baseline.text)
        .and_then(|policies| check::literals(&policies, roster).map(|()| policies))
        .map_err(|problems| wrong(&baseline.file, &problems))?;
    if baseline.cases.trim().is_empty() {
        return Ok(());
    }
    check::activation(&policies, &baseline.cases, &Arc::new(roster.clone()), now_ms)
        .map_err(|problems| wrong(&baseline.cases_file, &problems))
}

/// Suspends, revokes or reinstates a member of a roster that is being written.
///
/// # Errors
/// [`DirectoryError::Rule`] if the roster does not name it.
pub fn set_status(roster: &mut Roster, agency: &str, status: MemberStatus) -> Result<(), DirectoryError> {
    let member = roster.members.iter_mut().find(|member| member.agency == agency);
    let what = "no such member in the roster";
    let member = member.ok_or_else(|| DirectoryError::Rule { whose: agency.to_owned(), what })?;
    member.status = status as i32;
    Ok(())
}
