//! What the owner of policies expects of them, as a file that people write: cases.toml. docs/POLICY.md shows one. The gate runs
//! them before a bundle counts, and whoever changes a policy sees what else it changed.

mod reading;

use lintas_proto::{
    id::Digest,
    limits,
    schema::{Kind, Label, Onward, Roster, UnitRef},
};
use serde::Serialize;

use self::reading::{KEYS, Reading};
use super::{
    baseline::Baseline,
    decide::{Asked, Decision, Layers, decide, decide_baseline},
    question::{Question, Way},
    set::{Owner, PROBLEMS_MAX, PolicySet, Problem, Told},
    text::statements,
};
use crate::document::{Document, FileError};

/// Most cases of one owner.
pub const CASES_MAX: usize = 1_000;
/// Longest name of a case, bytes.
pub const CASE_NAME_BYTES_MAX: usize = 128;

/// What a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It goes.
    Release,
    /// It waits for a person.
    Review,
    /// It does not go.
    Deny,
}

const EXPECTED: [(&str, Expected); 3] =
    [("release", Expected::Release), ("review", Expected::Review), ("deny", Expected::Deny)];

impl Expected {
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Release(_) => Self::Release,
            Decision::Review(_) => Self::Review,
            Decision::Deny(_) => Self::Deny,
        }
    }

    /// As it stands in a file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Review => "review",
            Self::Deny => "deny",
        }
    }
}

/// Who passes a packet on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relay {
    via: String,
    hops: u32,
    consent: bool,
}

/// One question, and the answer that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it shows, for people.
    pub name: String,
    /// Where it stands.
    pub line: usize,
    /// What must come out.
    pub expected: Expected,
    /// Which policy must decide, if that matters: its full id.
    pub by: Option<String>,
    from: UnitRef,
    to: UnitRef,
    named: bool,
    kind: Kind,
    label: Label,
    onward: Onward,
    reviewed: bool,
    relay: Option<Relay>,
    at_ms: Option<u64>,
}

impl Case {
    /// The question that it asks; at `now_ms` if it names no time.
    #[must_use]
    pub fn question(&self, now_ms: u64) -> Question<'_> {
        Question {
            originator: &self.from,
            recipient: &self.to,
            named: self.named,
            kind: self.kind,
            label: &self.label,
            onward: self.onward,
            reviewed: self.reviewed,
            way: self.relay.as_ref().map_or(Way::Direct, |Relay { via, hops, consent }| Way::Relayed {
                via,
                hops: *hops,
                consent: *consent,
            }),
            now_ms: self.at_ms.unwrap_or(now_ms),
        }
    }

    /// Whom its owner's case asks; `None`: the baseline alone.
    fn layers(&self, owner: &Owner) -> Option<Layers> {
        let Owner::Agency(code) = owner else { return None };
        Some(match (self.from.agency == *code, self.to.agency == *code) {
            (true, true) => Layers::All,
            (false, true) => Layers::Accept,
            (true | false, false) => Layers::Release,
        })
    }
}

/// What came out of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the case.
    pub name: String,
    /// Its line.
    pub line: usize,
    /// What it expects.
    pub expected: Expected,
    /// Which policy it expects to decide.
    pub by: Option<String>,
    /// What was decided.
    pub got: Decision,
    /// Whether both agree.
    pub ok: bool,
    /// What was decided, in words.
    pub sentence: String,
}

impl Outcome {
    /// Of a case that failed: what is wrong.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let by = self.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let what =
            format!("case `{}` expects {}{by}, but: {}", self.name, self.expected.word(), self.sentence);
        let mend = "change the policy, or the case if it is wrong".to_owned();
        Problem { line: self.line, column: 0, what, mend }
    }
}

/// The cases of one owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Cases {
    owner: Owner,
    cases: Vec<Case>,
}

impl Cases {
    /// Reads cases.toml.
    ///
    /// # Errors
    /// What is wrong; one problem for each case at most.
    pub fn read(text: &str, owner: &Owner) -> Result<Self, Vec<Problem>> {
        let whole =
            |what: String, mend: &str| vec![Problem { what, mend: mend.to_owned(), ..Problem::default() }];
        let max = limits::POLICY_TEXT_BYTES_MAX;
        if text.len() > max {
            let what = format!("the cases are {} bytes long, at most {max} are allowed", text.len());
            return Err(whole(what, "keep one case for each thing that matters"));
        }
        let one = |error: FileError| vec![problem(error)];
        let document = Document::parse("cases.toml", text).map_err(one)?;
        let top = document.top(&["defaults", "case"]).map_err(one)?;
        let defaults =
            top.section("defaults", KEYS.split_first().map_or(&[], |(_, defaults)| defaults)).map_err(one)?;
        let sections = top.sections("case", &KEYS).map_err(one)?;
        if sections.is_empty() {
            let what = "there is no case: nobody could tell whether these policies do what they should";
            return Err(whole(what.to_owned(), "add one under a line [[case]] for each policy"));
        }
        if sections.len() > CASES_MAX {
            let what = format!("there are {} cases, at most {CASES_MAX} are allowed", sections.len());
            return Err(whole(what, "keep one case for each thing that matters"));
        }
        let (mut cases, mut problems) = (Vec::new(), Vec::new());
        for section in &sections {
            match (Reading { case: section, defaults: defaults.as_ref() }).case(owner) {
                Ok(case) => cases.push(case),
                Err(error) => problems.push(problem(error)),
            }
        }
        problems.truncate(PROBLEMS_MAX);
        if problems.is_empty() { Ok(Self { owner: owner.clone(), cases }) } else { Err(problems) }
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Case] {
        &self.cases
    }

    /// Asks them all. Only `policies` and the baseline of the roster are asked, never another agency's bundle.
    ///
    /// # Errors
    /// What is wrong with the roster's baseline.
    pub fn run(&self, policies: &PolicySet, roster: &Roster, now_ms: u64) -> Result<Vec<Outcome>, Problem> {
        let region = Baseline::read(roster)?;
        // The baseline changes with time: what leaves it has left it at the time of some cases, and of others not.
        let mut asked_last: Option<(Digest, Vec<PolicySet>)> = None;
        let outcome = |case: &Case| {
            let question = case.question(now_ms);
            let got = match case.layers(&self.owner) {
                None => decide_baseline(policies, roster, &question),
                Some(layers) => {
                    let (sets, hash) = region.at(question.now_ms);
                    if asked_last.as_ref().is_none_or(|(last, _)| *last != hash) {
                        asked_last = Some((hash, sets.into_iter().cloned().collect()));
                    }
                    let baseline = asked_last.as_ref().map_or(&[][..], |(_, sets)| sets);
                    let asked = Asked { baseline, originator: Some(policies), recipient: Some(policies) };
                    decide(asked, roster, &question, layers)
                }
            };
            let by = case.by.as_ref().is_none_or(|by| deciders(&got).any(|id| id == by));
            Outcome {
                name: case.name.clone(),
                line: case.line,
                expected: case.expected,
                by: case.by.clone(),
                ok: by && case.expected == Expected::of(&got),
                sentence: sentence(&got, &question),
                got,
            }
        };
        Ok(self.cases.iter().map(outcome).collect())
    }
}

/// Policies that no case shows at work: a permit that let nothing go, a forbid that stopped nothing. A warning, no error.
#[must_use]
pub fn unreached(policies: &PolicySet, outcomes: &[Outcome]) -> Vec<Problem> {
    let reached: Vec<&String> = outcomes.iter().flat_map(|outcome| deciders(&outcome.got)).collect();
    let mut problems = Vec::new();
    for statement in statements(policies.text()) {
        let Some(Told { id, forbids, .. }) = policies.told(&statement.policy_id()) else { continue };
        if !reached.contains(&id) {
            let does = if *forbids { "stops something" } else { "lets something go" };
            let what = format!("no case shows that the policy {id} {does}");
            problems.push(statement.problem(0, what, "add one, with by = \"…\""));
        }
    }
    problems
}

/// Ids of the policies that made a decision.
fn deciders(decision: &Decision) -> impl Iterator<Item = &String> {
    let (allowed, denial) = match decision {
        Decision::Release(allowed) | Decision::Review(allowed) => (Some(allowed), None),
        Decision::Deny(denial) => (None, Some(&denial.policy_id)),
    };
    let ids = allowed.map(|allowed| [&allowed.released_by, &allowed.accepted_by, &allowed.review_by]);
    ids.into_iter().flatten().flatten().chain(denial)
}

fn sentence(decision: &Decision, question: &Question<'_>) -> String {
    let by = || deciders(decision).map(String::as_str).collect::<Vec<_>>().join(", ");
    let by = || if by().is_empty() { "nothing forbids it".to_owned() } else { format!("by {}", by()) };
    let (UnitRef { agency, unit }, from) = (question.recipient, &question.originator.agency);
    match decision {
        Decision::Release(_) => format!("It goes from {from} to {agency} / {unit}: {}.", by()),
        Decision::Review(allowed) => {
            let why = allowed.review_by.join(", ");
            format!("A person of {from} must look at it before it goes to {agency} / {unit} (policy {why}).")
        }
        Decision::Deny(denial) => denial.sentence(question),
    }
}

fn problem(FileError { line, problem, .. }: FileError) -> Problem {
    Problem { line, column: 0, what: problem, mend: String::new() }
}
