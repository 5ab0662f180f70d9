//! `lintas policy replay`: the past decided again, from the mirror of the own sub-log, the rosters and the bundles of then.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use clap::Args;
use lintas_config::policy::{
    Owner, PolicySet,
    replay::{Archive, Replay as Replaying, Report},
};
use lintas_proto::{
    audit::files::LogFile,
    canonical,
    id::{Digest, sha256},
    limits,
    schema::{Roster, SignedRoster},
};
use serde::Serialize;

use super::{Basis, Officer, agency, explain::candidate, label::moment, words};
use crate::{
    core::audit::{
        anchor::Anchor,
        finding::{Finding, Findings},
        past::{Past, walk},
        source::LogFiles as _,
    },
    shell::{
        audit::folder::Place,
        failure::{Code, Failure},
        files::read,
        folder::Folder,
        policies::files::{Version, said, versions},
    },
};

/// Options of `replay`.
#[derive(Args)]
pub(super) struct Replay {
    /// From that day (2026-11-01, UTC) or moment (2026-11-01T12:00:00Z) on; without it from the first event.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Policy folder or file to decide by, instead of what was in force; then the list says what would flip.
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Folder of the mirror, if not the one in the data folder.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Name of the log, where there are several.
    #[arg(long, value_name = "NAME")]
    log: Option<String>,
    #[command(flatten)]
    basis: Basis,
}

/// What came out.
#[derive(Serialize)]
pub(super) struct Replayed {
    #[serde(flatten)]
    pub(super) report: Report,
    /// What of the log could not be read.
    pub(super) findings: Vec<Finding>,
}

/// Decides again, and says.
pub(super) fn run(officer: &Officer, asked: &Replay) -> Result<(), Failure> {
    let owner = officer.owner(&asked.basis)?;
    let since_ms = asked.since.as_deref().map_or(Ok(0), |text| moment(text, "--since"))?;
    let policies = asked.policy.as_deref().map(|path| candidate(officer, path, &owner)).transpose()?;
    let given = |path: &Option<PathBuf>| path.as_deref().map(crate::cli::absolute).transpose();
    let (from, directory) = (given(&asked.from)?, given(&asked.basis.directory)?);
    let trust = (directory.as_deref(), None);
    let place = Place::find(from.as_deref(), officer.data.as_ref(), trust, asked.log.as_deref())?;
    let replayed = decide_again(officer, &place, &owner, policies.as_ref(), since_ms)?;
    officer.print(&replayed, plain)?;
    verdict(&replayed)
}

/// With what was in force the log and the policies must agree; under a candidate nothing is wrong.
fn verdict(replayed: &Replayed) -> Result<(), Failure> {
    let Replayed { report, findings } = replayed;
    if !report.candidate && report.decided != report.same {
        let message = format!(
            "{} decisions of the log are not those of the policies in force then; see above",
            report.decided - report.same
        );
        return Err(Failure::new(Code::AuditDamaged, message));
    }
    let missing: u64 = report.not_replayed.values().sum();
    if missing > 0 || !findings.is_empty() {
        let message = format!("not everything could be decided again ({missing} decisions); see above");
        return Err(Failure::new(Code::AuditIncomplete, message));
    }
    Ok(())
}

/// As an officer reads it.
pub(super) fn plain(replayed: &Replayed) -> String {
    let findings: String = replayed.findings.iter().map(crate::cli::audit::finding_words).collect();
    format!("{}{findings}", words::safe(&replayed.report.to_string()))
}

/// Walks the own sub-log and decides again whatever was decided from `since_ms` on.
pub(super) fn decide_again(
    officer: &Officer,
    place: &Place,
    owner: &str,
    policies: Option<&PolicySet>,
    since_ms: u64,
) -> Result<Replayed, Failure> {
    if !place.files.agencies().iter().any(|there| there == owner) {
        let message = format!(
            "the sub-log of {owner} is not in `{}`; fetch it with `lintas audit mirror`",
            place.files.root().display()
        );
        return Err(Failure::new(Code::NotFound, message));
    }
    let mut found = Findings::default();
    let anchor = Anchor::read(&place.files, place.trust(), &place.origin, &mut found)
        .map_err(|error| Failure::new(Code::NotSetUp, error))?;
    let shelf = Shelf::open(officer.data.as_ref(), place, &anchor, owner)?;
    let mut replay = Replaying::new(owner, shelf, policies, since_ms);
    let bar = crate::cli::audit::bar("deciding again", "{msg} [{bar:30}] {pos} of {len} events, {eta} left");
    let mut take = |past: Past<'_>| match past {
        Past::Event(index, event) => replay.event(index, event),
        Past::Erased(kind, time_ms) => replay.erased(kind, time_ms),
    };
    let mut tell = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let mut findings = found.into_shown();
    findings.extend(walk(&place.files, &anchor, owner, &mut take, &mut tell));
    bar.finish_and_clear();
    Ok(Replayed { report: replay.finish(), findings })
}

/// Rosters and bundles of the past. Each is read when it is asked for.
struct Shelf<'a> {
    folder: Option<&'a Folder>,
    place: &'a Place,
    anchor: &'a Anchor,
    owner: Owner,
    versions: Vec<Version>,
    rosters: BTreeMap<u64, Arc<Roster>>,
    bundles: BTreeMap<Digest, Arc<PolicySet>>,
}

/// Most rosters, and bundles, that are held at a time.
const HELD_MAX: usize = 64;

impl<'a> Shelf<'a> {
    fn open(
        folder: Option<&'a Folder>,
        place: &'a Place,
        anchor: &'a Anchor,
        owner: &str,
    ) -> Result<Self, Failure> {
        let mut versions = folder.map(versions).transpose()?.unwrap_or_default();
        versions.retain(|one| one.owner == owner);
        let owner = agency(owner);
        let (rosters, bundles) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { folder, place, anchor, owner, versions, rosters, bundles })
    }

    /// As the mirror has it, else as this node kept it; believed by its hash alone.
    fn read_roster(&self, version: u64) -> Option<Roster> {
        let believed = self.anchor.roster(version).map(|known| known.hash);
        let max = limits::ROSTER_BYTES_MAX as u64;
        let mirrored = self.place.files.read(None, LogFile::Roster(version), 0, max).ok().flatten();
        let seen = || {
            let path = self.folder?.path("seen/rosters").join(format!("{version:012}.bin"));
            read(&path, max).ok().map(Bytes::from)
        };
        let open = |bytes: Bytes, trusted: bool| {
            let signed: SignedRoster = canonical::decode(&bytes, limits::ROSTER_BYTES_MAX).ok()?;
            let same = believed == Some(sha256(&[&signed.roster]));
            let roster: Roster = canonical::decode(&signed.roster, limits::ROSTER_BYTES_MAX).ok()?;
            (roster.version == version && (same || (trusted && believed.is_none()))).then_some(roster)
        };
        // What lies in `seen` was verified by this node.
        mirrored.and_then(|bytes| open(bytes, false)).or_else(|| open(seen()?, true))
    }
}

impl Archive for Shelf<'_> {
    fn roster(&mut self, version: u64) -> Option<Arc<Roster>> {
        if let Some(known) = self.rosters.get(&version) {
            return Some(Arc::clone(known));
        }
        let roster = Arc::new(self.read_roster(version)?);
        if self.rosters.len() >= HELD_MAX {
            self.rosters.clear();
        }
        self.rosters.insert(version, Arc::clone(&roster));
        Some(roster)
    }

    fn bundle(&mut self, hash: &Digest) -> Option<Arc<PolicySet>> {
        if let Some(known) = self.bundles.get(hash) {
            return Some(Arc::clone(known));
        }
        let version = self.versions.iter().find(|one| one.hash == *hash)?;
        let said = said(self.folder?, version).ok()?;
        let policies = Arc::new(PolicySet::read(self.owner.clone(), &said.policies).ok()?);
        if self.bundles.len() >= HELD_MAX {
            self.bundles.clear();
        }
        self.bundles.insert(*hash, Arc::clone(&policies));
        Some(policies)
    }
}
