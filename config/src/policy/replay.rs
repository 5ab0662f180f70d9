//! The past, decided again: from one agency's own sub-log, in order, event by event.
//!
//! | without a candidate | with one |
//! |---|---|
//! | each decision is made again under the roster and the bundle of then, at the time of then; what differs from the log is an error of the broker | each decision is made again with the candidate in place of the bundle of then; what differs would have flipped |
//!
//! | event | what is decided again | about |
//! |---|---|---|
//! | `RELEASED`, `DENIED` | baseline and own Release | facts of its own, or those of the `SUBMITTED` before it |
//! | `NOT_ACCEPTED` that another agency's policy decided | the same: what it let go, another did not take | the same |
//! | `RECEIVED`, `NOT_ACCEPTED` by the own policy | baseline and own Accept | facts of its own |
//! | `POLICY_CHANGED` | nothing: from here on that bundle is in force | |
//!
//! What cannot be decided again is counted by cause, never passed over. Of the log only one `SUBMITTED` is kept in memory.

mod report;

use std::sync::Arc;

use bytes::Bytes;
use lintas_proto::{
    id::{Digest, PacketId, hex},
    schema::{AuditEvent, EventType, Kind, Label, Onward, PolicyFacts, Reason, Roster, UnitRef},
};

pub use self::report::{Cause, Found, Report};
use super::{
    baseline::Baseline,
    decide::{self, Decision, Layers, NOT_ACCEPTED, REVIEW_H3},
    memory::{Memory, key},
    question::{Question, Way},
    set::PolicySet,
    view::{name, seen},
};

/// Most differences that are listed; the rest is counted.
pub const FOUND_MAX: usize = 10_000;

/// What was in force in the past.
pub trait Archive {
    /// The roster of a version.
    fn roster(&mut self, version: u64) -> Option<Arc<Roster>>;
    /// The policies of the agency's bundle with this hash.
    fn bundle(&mut self, hash: &Digest) -> Option<Arc<PolicySet>>;
}

/// The bundle in force at a place of the log.
#[derive(Debug, Clone)]
enum InForce {
    Nothing,
    Bundle(Arc<PolicySet>),
    /// The archive does not have it, or the event that names it was erased.
    Unknown,
}

/// A roster at a time, and the decisions that were made under it.
#[derive(Debug)]
struct Ground {
    version: u64,
    roster: Arc<Roster>,
    baseline: Vec<PolicySet>,
    /// While the baseline is the same, milliseconds since 1970.
    from_ms: u64,
    until_ms: u64,
    memory: Memory,
}

/// What the log says of a recipient.
#[derive(Debug, Clone)]
struct Said {
    event: EventType,
    layers: Layers,
    /// Whether the own policy let it through.
    allowed: bool,
    /// Which policies it names. Of a packet that another agency did not take: none of the own.
    policies: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Replay<'a, A> {
    archive: A,
    candidate: Option<&'a PolicySet>,
    since_ms: u64,
    in_force: InForce,
    ground: Option<Ground>,
    submitted: Option<(Bytes, PolicyFacts)>,
    report: Report,
}

impl<'a, A: Archive> Replay<'a, A> {
    /// Begins at the first event of a sub-log, where no bundle is in force; decisions before `since_ms` are only walked past.
    pub fn new(agency: &str, archive: A, candidate: Option<&'a PolicySet>, since_ms: u64) -> Self {
        let report = Report::new(agency, candidate.is_some());
        let in_force = InForce::Nothing;
        Self { archive, candidate, since_ms, in_force, ground: None, submitted: None, report }
    }

    /// The next event.
    pub fn event(&mut self, index: u64, event: &AuditEvent) {
        match EventType::try_from(event.r#type).unwrap_or_default() {
            EventType::PolicyChanged => self.policy_changed(&event.evidence_digest),
            EventType::Submitted => {
                let facts = event.facts.clone();
                self.submitted = facts.map(|facts| (event.header_digest.clone(), facts));
            }
            kind @ (EventType::Released
            | EventType::Denied
            | EventType::NotAccepted
            | EventType::Received) => {
                if event.time_ms >= self.since_ms
                    && let Some(said) = self.said(kind, event)
                {
                    self.judge(index, event, &said);
                }
            }
            EventType::Withheld => {
                let by_policy = event.reason == Reason::Policy as i32 && event.time_ms >= self.since_ms;
                self.report.withheld += u64::from(by_policy);
            }
            EventType::Unspecified
            | EventType::Delivered
            | EventType::Acknowledged
            | EventType::Expired
            | EventType::Recalled
            | EventType::Destroyed
            | EventType::Relayed
            | EventType::DirectoryChanged
            | EventType::KeyChanged
            | EventType::Erased
            | EventType::AuditRead
            | EventType::AuditReadTold => {}
        }
    }

    /// The next event, whose opening was erased: its leaf still says what it was, and when.
    pub fn erased(&mut self, kind: EventType, time_ms: u64) {
        match kind {
            EventType::PolicyChanged => self.set_in_force(InForce::Unknown),
            EventType::Submitted => self.submitted = None,
            EventType::Released | EventType::Denied | EventType::NotAccepted | EventType::Received => {
                if time_ms >= self.since_ms {
                    self.report.cannot(Cause::Erased);
                }
            }
            EventType::Unspecified
            | EventType::Withheld
            | EventType::Delivered
            | EventType::Acknowledged
            | EventType::Expired
            | EventType::Recalled
            | EventType::Destroyed
            | EventType::Relayed
            | EventType::DirectoryChanged
            | EventType::KeyChanged
            | EventType::Erased
            | EventType::AuditRead
            | EventType::AuditReadTold => {}
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Report {
        self.report
    }

    fn policy_changed(&mut self, hash: &Bytes) {
        let known = <Digest>::try_from(hash.as_ref()).ok().and_then(|hash| self.archive.bundle(&hash));
        let none = hash.iter().all(|byte| *byte == 0);
        let in_force = match known {
            _ if none => InForce::Nothing,
            Some(policies) => InForce::Bundle(policies),
            None => InForce::Unknown,
        };
        self.set_in_force(in_force);
    }

    fn set_in_force(&mut self, in_force: InForce) {
        self.in_force = in_force;
        if let Some(ground) = &mut self.ground {
            ground.memory = Memory::default();
        }
    }

    /// What the log says; `None` for a refusal that is no policy's.
    fn said(&mut self, event: EventType, logged: &AuditEvent) -> Option<Said> {
        let foreign = |id: &String| id.ends_with(&format!("/{NOT_ACCEPTED}"));
        let told = event == EventType::NotAccepted && logged.policy_ids.iter().any(foreign);
        let by_policy = logged.recipient.is_some();
        let (layers, allowed) = if event == EventType::Received {
            (Layers::Accept, true)
        } else if event == EventType::Released || told {
            (Layers::Release, true)
        } else if !by_policy {
            self.report.otherwise += 1;
            return None;
        } else if event == EventType::NotAccepted {
            (Layers::Accept, false)
        } else {
            (Layers::Release, false)
        };
        Some(Said {
            event,
            layers,
            allowed,
            policies: if told { Vec::new() } else { logged.policy_ids.clone() },
        })
    }

    fn judge(&mut self, index: u64, event: &AuditEvent, said: &Said) {
        let facts = event.facts.as_ref().or_else(|| {
            let submitted = self.submitted.as_ref().filter(|(digest, _)| *digest == event.header_digest);
            submitted.map(|(_, facts)| facts)
        });
        let Some(facts) = facts.cloned() else { return self.report.cannot(Cause::NoFacts) };
        let asked = Asked::of(event, &facts);
        let Some(asked) = asked else { return self.report.cannot(Cause::Unreadable) };
        match self.decide(&asked, said.layers, event) {
            Ok(decision) => self.compare(index, event, said, &decision),
            Err(cause) => self.report.cannot(cause),
        }
    }

    fn decide(
        &mut self,
        asked: &Asked<'_>,
        layers: Layers,
        event: &AuditEvent,
    ) -> Result<Arc<Decision>, Cause> {
        let question = asked.question(event);
        let (now_ms, version) = (event.time_ms, event.version);
        let holds = |ground: &Ground| {
            ground.version == version && (ground.from_ms..ground.until_ms).contains(&now_ms)
        };
        if !self.ground.as_ref().is_some_and(holds) {
            let roster = self.archive.roster(version).ok_or(Cause::UnknownRoster)?;
            self.ground = Some(Ground::new(version, roster, now_ms)?);
        }
        let ground = self.ground.as_ref().ok_or(Cause::UnknownRoster)?;
        let own = match (&self.candidate, &self.in_force) {
            (Some(candidate), _) => Some(*candidate),
            (None, InForce::Bundle(policies)) => Some(policies.as_ref()),
            (None, InForce::Nothing) => None,
            (None, InForce::Unknown) => return Err(Cause::UnknownBundle),
        };
        // The ground has one baseline.
        let sets = decide::Asked { baseline: &ground.baseline, originator: own, recipient: own };
        let key = key(&question, layers, (sets, &[0; 32]));
        if let Some((known, _)) = ground.memory.recall(&key, now_ms) {
            return Ok(known);
        }
        let decision = Arc::new(seen(&ground.baseline, own, &ground.roster, &question, layers));
        let moments = ground.baseline.iter().chain(own).filter_map(|set| set.next_moment_ms(now_ms));
        ground.memory.keep(key, &decision, now_ms, moments.min().unwrap_or(u64::MAX));
        Ok(decision)
    }

    fn compare(&mut self, index: u64, event: &AuditEvent, said: &Said, decision: &Decision) {
        self.report.decided(event.time_ms);
        let same = if self.candidate.is_some() { same_outcome(said, decision) } else { said.is(decision) };
        if same {
            self.report.same += 1;
            return;
        }
        let (would, policies, why) = would_be(decision, said.layers);
        self.report.found(Found {
            index,
            time_ms: event.time_ms,
            packet: PacketId::from_bytes(&event.packet_id)
                .map_or_else(|_| hex(&event.packet_id), |id| id.to_string()),
            from: event.originator.as_ref().map(name).unwrap_or_default(),
            to: event.recipient.as_ref().map(name).unwrap_or_default(),
            was: was(said, event),
            was_by: said.policies.clone(),
            would_be: would.to_owned(),
            would_be_by: policies,
            why,
        });
    }
}

impl Ground {
    fn new(version: u64, roster: Arc<Roster>, now_ms: u64) -> Result<Self, Cause> {
        let region = Baseline::read(&roster).map_err(|_| Cause::BadBaseline)?;
        let baseline = region.at(now_ms).0.into_iter().cloned().collect();
        let until_ms = region.next_change_ms(now_ms).unwrap_or(u64::MAX);
        Ok(Self { version, roster, baseline, from_ms: now_ms, until_ms, memory: Memory::default() })
    }
}

/// What an event says was asked.
struct Asked<'e> {
    originator: &'e UnitRef,
    recipient: &'e UnitRef,
    kind: Kind,
    label: &'e Label,
    onward: Onward,
    reviewed: bool,
}

impl<'e> Asked<'e> {
    fn of(event: &'e AuditEvent, facts: &'e PolicyFacts) -> Option<Self> {
        Some(Self {
            originator: event.originator.as_ref()?,
            recipient: event.recipient.as_ref()?,
            kind: Kind::try_from(facts.kind).ok().filter(|kind| *kind != Kind::Unspecified)?,
            label: facts.label.as_ref()?,
            onward: Onward::try_from(facts.onward).ok()?,
            reviewed: facts.reviewed,
        })
    }

    fn question(&self, event: &AuditEvent) -> Question<'_> {
        Question {
            originator: self.originator,
            recipient: self.recipient,
            named: event.named,
            kind: self.kind,
            label: self.label,
            onward: self.onward,
            reviewed: self.reviewed,
            way: Way::Direct,
            now_ms: event.time_ms,
        }
    }
}

impl Said {
    /// Whether a decision is the one that the log tells, by the same policies.
    fn is(&self, decision: &Decision) -> bool {
        let told = self.event == EventType::NotAccepted && self.allowed;
        match decision {
            Decision::Release(_) | Decision::Review(_) if told => true,
            Decision::Release(allowed) => {
                let by =
                    if self.layers == Layers::Accept { &allowed.accepted_by } else { &allowed.released_by };
                self.allowed && !self.policies.is_empty() && self.policies.iter().all(|id| by.contains(id))
            }
            // The broker treats what nobody has looked at as denied.
            Decision::Review(allowed) => {
                !self.allowed && self.policies.iter().any(|id| allowed.review_by.contains(id))
            }
            Decision::Deny(denial) => {
                !self.allowed
                    && self.policies.iter().all(|id| *id == denial.policy_id)
                    && !self.policies.is_empty()
            }
        }
    }
}

/// Whether the packet would have fared the same, by whatever policy.
fn same_outcome(said: &Said, decision: &Decision) -> bool {
    let told = said.event == EventType::NotAccepted && said.allowed;
    match decision {
        Decision::Release(_) => said.allowed,
        Decision::Deny(_) => !said.allowed,
        Decision::Review(allowed) => {
            let waited = |id: &String| id == REVIEW_H3 || allowed.review_by.contains(id);
            told || (!said.allowed && said.policies.iter().any(waited))
        }
    }
}

/// What the log says, in words.
fn was(said: &Said, event: &AuditEvent) -> String {
    let to = event.recipient.as_ref().map(|unit| unit.agency.as_str()).unwrap_or_default();
    match (said.layers, said.allowed, said.event) {
        (_, true, EventType::NotAccepted) => format!("let go, and not accepted by {to}"),
        (Layers::Accept, true, _) => "accepted".to_owned(),
        (Layers::Accept, false, _) => "not accepted".to_owned(),
        (Layers::Release | Layers::All, true, _) => "released".to_owned(),
        (Layers::Release | Layers::All, false, _) => "not released".to_owned(),
    }
}

/// A decision: in words, by which policies, and why.
fn would_be(decision: &Decision, layers: Layers) -> (&'static str, Vec<String>, String) {
    let accept = layers == Layers::Accept;
    match decision {
        Decision::Release(allowed) if accept => ("accepted", allowed.accepted_by.clone(), String::new()),
        Decision::Release(allowed) => ("released", allowed.released_by.clone(), String::new()),
        Decision::Review(allowed) => {
            let why = "a person must look at it first".to_owned();
            ("held for review", allowed.review_by.clone(), why)
        }
        Decision::Deny(denial) => {
            let words = if accept { "not accepted" } else { "not released" };
            (words, vec![denial.policy_id.clone()], denial.why.clone())
        }
    }
}

#[cfg(test)]
mod tests;
