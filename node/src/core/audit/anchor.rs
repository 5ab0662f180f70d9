//! Whom a scan believes: the broker's log key and the rosters, from a directory or from a bootstrap file alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::{
    Bootstrap, Directory, DirectoryError,
    directory::{PastRoster, PastRosters},
};
use lintas_proto::{
    audit::{
        files::LogFile,
        note::{WitnessKey, log_name},
    },
    schema::EndedLog,
    sign::VerifyingKey,
};
use thiserror::Error;

use super::{
    finding::{Finding, Findings, Kind, Severity},
    source::{LogFiles, whole},
};

/// What the reader believes before anything of the log is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// A verified directory.
    Directory(&'a Directory),
    /// The region's authorities; the log brings the rosters.
    Bootstrap(&'a Bootstrap),
}

/// Why a log cannot be checked at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AnchorError {
    /// What is believed breaks a rule.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No believed roster names that broker.
    #[error(
        "no roster that is believed here names a broker that keeps the log `{0}`; give the directory of its region \
         (--directory), or the right bootstrap file"
    )]
    Stranger(String),
    /// With a bootstrap file alone the log must bring its rosters, and they are damaged or missing.
    #[error(
        "the rosters of the log `{log}` cannot be used, and without them nothing can be checked by a bootstrap file alone: \
         {what}; fetch these files again, or give the region's directory (--directory)"
    )]
    Rosters {
        /// Origin of the root log.
        log: String,
        /// Files, and what is wrong with them.
        what: String,
        /// They are not there; that says nothing against anybody.
        missing: bool,
    },
}

/// Rosters and keys of one root log.
pub(crate) struct Anchor {
    /// Origin of the root log.
    pub(crate) origin: String,
    pub(crate) log_key: VerifyingKey,
    /// What the region authority says of its end.
    pub(crate) ended: Option<EndedLog>,
    witnesses: Vec<WitnessKey>,
    rosters: PastRosters,
    /// From which epoch on which version.
    turns: Vec<(u64, u64)>,
}

impl Anchor {
    /// Reads the log's rosters and finds its key.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub(crate) fn read(
        files: &dyn LogFiles,
        trust: Trust<'_>,
        origin: &str,
        found: &mut Findings,
    ) -> Result<Self, AnchorError> {
        let mut rosters = match trust {
            Trust::Directory(directory) => PastRosters::of(directory)?,
            Trust::Bootstrap(bootstrap) => PastRosters::from_bootstrap(bootstrap)?,
        };
        let turns = match whole(files, origin, None, LogFile::Rosters) {
            Ok(bytes) => turns(&bytes, origin, found),
            Err(finding) => {
                found.push(finding);
                Vec::new()
            }
        };
        let mut offered = BTreeMap::new();
        for (_, version) in &turns {
            match whole(files, origin, None, LogFile::Roster(*version)) {
                Ok(bytes) => drop(offered.insert(*version, bytes)),
                Err(finding) => found.push(finding.of(LogFile::Rosters)),
            }
        }
        for (version, error) in rosters.believe(&offered) {
            let text = format!("it is not believed: {error}");
            found.push(
                Finding::new(Kind::ForeignRoster, origin, text)
                    .of(LogFile::Roster(version))
                    .of(LogFile::Rosters),
            );
        }
        let stranger = || AnchorError::of(origin, found);
        let name = origin.strip_suffix("/audit").ok_or_else(stranger)?;
        let newest = rosters.newest().ok_or_else(stranger)?;
        let of = |broker: &&lintas_config::directory::Broker| {
            (0..=broker.ended_logs.len()).any(|ended| log_name(&broker.name, ended) == name)
        };
        let broker = newest.brokers.iter().find(of).ok_or_else(stranger)?;
        let number = (0..=broker.ended_logs.len()).find(|ended| log_name(&broker.name, *ended) == name);
        let (log_key, ended) =
            (broker.log_key.clone(), number.and_then(|number| broker.ended_logs.get(number)).cloned());
        let named = turns.iter().filter_map(|(_, version)| rosters.get(*version)).chain([newest]);
        let mut witnesses: Vec<WitnessKey> = Vec::new();
        for witness in named.flat_map(|roster| &roster.witnesses) {
            if !witnesses.contains(witness) {
                witnesses.push(witness.clone());
            }
        }
        Ok(Self { origin: origin.to_owned(), log_key, ended, witnesses, rosters, turns })
    }

    /// The roster whose members have the slots of an epoch; `None` if it is not believed.
    pub(crate) fn roster_at(&self, epoch: u64) -> Option<&PastRoster> {
        let after = self.turns.partition_point(|(from, _)| *from <= epoch);
        let (_, version) = self.turns.get(after.checked_sub(1)?)?;
        self.rosters.get(*version)
    }

    /// The version whose members have the slots from that epoch on.
    pub(crate) fn turn_at(&self, epoch: u64) -> Option<u64> {
        let at = self.turns.binary_search_by_key(&epoch, |(from, _)| *from).ok()?;
        self.turns.get(at).map(|(_, version)| *version)
    }

    /// A believed roster.
    pub(crate) fn roster(&self, version: u64) -> Option<&PastRoster> {
        self.rosters.get(version)
    }

    /// The witnesses of every roster that the log names, and of the newest.
    pub(crate) fn witnesses(&self) -> &[WitnessKey] {
        &self.witnesses
    }

    /// The newest roster believed.
    pub(crate) fn newest(&self) -> Option<&PastRoster> {
        self.rosters.newest()
    }
}

impl AnchorError {
    /// Nobody believed keeps that log. What was found in its rosters may be why.
    fn of(origin: &str, found: &Findings) -> Self {
        let found = found.clone().into_shown();
        if found.is_empty() {
            return Self::Stranger(origin.to_owned());
        }
        let missing = found.iter().all(|one| one.severity == Severity::Incomplete);
        let what: Vec<String> =
            found.iter().take(3).map(|one| format!("{}: {}", one.files.join(" or "), one.what)).collect();
        Self::Rosters { log: origin.to_owned(), what: what.join("; "), missing }
    }
}

/// Reads `rosters`: both numbers go up, and the first epoch has a roster.
fn turns(bytes: &Bytes, origin: &str, found: &mut Findings) -> Vec<(u64, u64)> {
    let mut turns: Vec<(u64, u64)> = Vec::new();
    let wrong = |text: &str| Finding::new(Kind::Damaged, origin, text).of(LogFile::Rosters);
    for record in bytes.chunks(16) {
        let Some((epoch, version)) = pair(record) else {
            found.push(wrong("it ends within a record"));
            break;
        };
        let follows = turns.last().map_or(epoch == 0, |(before, old)| *before < epoch && *old < version);
        if !follows {
            found.push(wrong("it does not begin with epoch 0, or its epochs and versions do not go up"));
            break;
        }
        turns.push((epoch, version));
    }
    if bytes.is_empty() {
        found.push(wrong("it is empty"));
    }
    turns
}

/// Two numbers of 8 bytes.
pub(crate) fn pair(record: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = record.split_first_chunk::<8>()?;
    let second: &[u8; 8] = rest.try_into().ok()?;
    Some((u64::from_be_bytes(*first), u64::from_be_bytes(*second)))
}
