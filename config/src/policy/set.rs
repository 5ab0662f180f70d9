//! The policies of one owner, read and checked once. Nothing gets into a [`PolicySet`] that Cedar's strict validator or the
//! rules of this region do not accept: warnings are errors.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use cedar_policy::{Effect, Policy, PolicyId, PolicySet as CedarSet, ValidationMode, Validator};
use lintas_proto::{
    id::{Digest, sha256},
    limits,
    schema::Roster,
};
use serde::Serialize;

use super::{
    contradiction::contradiction,
    decide::{BASELINE, NOT_ACCEPTED, NOTHING_ACCEPTS, NOTHING_RELEASES},
    guard::guard,
    moments::{Wrong, moments},
    scope,
    spelling::{self, NEVER_HOLDS},
    text::{Statement, statements},
    vocabulary::schema,
};

/// Most policies of one owner: each is looked at in every decision.
pub const POLICIES_MAX: usize = 1_000;
/// Most problems that are told of one text.
pub const PROBLEMS_MAX: usize = 100;
/// Longest id of a policy, bytes.
pub const ID_BYTES_MAX: usize = 32;
/// Longest reason or advice of a policy, bytes: a refusal's sentence has room for it.
pub const REASON_BYTES_MAX: usize = 160;
/// Ids that say something without any policy.
const RESERVED: [&str; 7] =
    [NOTHING_RELEASES, NOTHING_ACCEPTS, NOT_ACCEPTED, "member", "marking", "cannot-decide", "review-h3"];

/// Whose policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The region: policies that only forbid.
    Baseline,
    /// An agency, by code.
    Agency(String),
}

impl Owner {
    /// The id of a policy as everybody names it, e.g. `baseline/noforn`, `TH/alerts`.
    #[must_use]
    pub fn policy(&self, id: &str) -> String {
        format!("{self}/{id}")
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => BASELINE,
            Self::Agency(code) => code,
        })
    }
}

/// What is wrong at one place of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, from 1; 0 for the text as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 for the line as a whole.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead, as far as known; may be empty.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}", self.line)?;
            if self.column > 0 {
                write!(f, ", column {}", self.column)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.what)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "; {}", self.mend) }
    }
}

/// What a policy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// As everybody names it.
    pub id: String,
    /// Why, for its owner: part of a sentence.
    pub reason: String,
    /// What to do.
    pub advice: Option<String>,
    /// What others may know.
    pub public_reason: Option<String>,
    /// Whether it forbids.
    pub forbids: bool,
    /// Its text, as written.
    pub text: String,
}

/// The policies of one owner.
#[derive(Debug, Clone)]
pub struct PolicySet {
    owner: Owner,
    cedar: CedarSet,
    told: HashMap<PolicyId, Told>,
    hash: Digest,
    text: String,
    /// Moments at which its answers may change, milliseconds since 1970, ascending.
    moments_ms: Vec<u64>,
    groups: Vec<NamedGroup>,
}

/// A group that a policy names: a roster may come that has none of the name.
#[derive(Debug, Clone)]
struct NamedGroup {
    id: PolicyId,
    actions: Vec<&'static str>,
    group: String,
}

impl PolicySet {
    /// Reads policies. Whether the members and groups that they name exist is another question:
    /// [`check`](super::check::literals).
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the text.
    pub fn read(owner: Owner, text: &str) -> Result<Self, Vec<Problem>> {
        let whole = |what: String| vec![Problem { line: 0, column: 0, what, mend: String::new() }];
        let max =
            if owner == Owner::Baseline { limits::BASELINE_BYTES_MAX } else { limits::POLICY_TEXT_BYTES_MAX };
        if text.len() > max {
            return Err(whole(format!("the text is {} bytes long, at most {max} are allowed", text.len())));
        }
        let mut strange = guard(text);
        if !strange.is_empty() {
            strange.truncate(PROBLEMS_MAX);
            return Err(strange);
        }
        let statements = statements(text);
        if statements.len() > POLICIES_MAX {
            return Err(whole(format!(
                "there are {} policies, at most {POLICIES_MAX} are allowed",
                statements.len()
            )));
        }
        let mut reading = Reading::new(owner);
        for statement in &statements {
            reading.add(statement);
        }
        reading.validate(&statements);
        let Reading { owner, cedar, told, mut problems, .. } = reading;
        let mut moments_ms = Vec::new();
        for statement in &statements {
            let Some(policy) = cedar.policy(&statement.policy_id()) else { continue };
            match conditions(policy) {
                Ok(more) => moments_ms.extend(more),
                Err(Wrong { what, mend }) => problems.push(statement.problem(0, what, mend)),
            }
        }
        moments_ms.sort_unstable();
        moments_ms.dedup();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        problems.truncate(PROBLEMS_MAX);
        let hash = sha256(&[text.as_bytes()]);
        if problems.is_empty() {
            let groups = cedar.policies().flat_map(named_groups).collect();
            Ok(Self { owner, cedar, told, hash, text: text.to_owned(), moments_ms, groups })
        } else {
            Err(problems)
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// As they were written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// All of them, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Told> {
        self.told.values()
    }

    /// The next moment after `now_ms` at which its answers may change.
    #[must_use]
    pub fn next_moment_ms(&self, now_ms: u64) -> Option<u64> {
        let behind = self.moments_ms.partition_point(|moment| *moment <= now_ms);
        self.moments_ms.get(behind).copied()
    }

    pub(super) fn cedar(&self) -> &CedarSet {
        &self.cedar
    }

    /// Policies about an action that name a group which no member of a roster has, each with one such group. Whoever was meant
    /// is not known, so none of them may be in anybody's favour.
    pub(super) fn gone<'a>(&'a self, roster: &Roster, action: &str) -> Vec<(&'a Told, &'a str)> {
        let known = |group: &String| roster.members.iter().any(|member| member.groups.contains(group));
        let about = self.groups.iter().filter(|named| named.actions.contains(&action));
        let gone = about.filter(|named| !known(&named.group));
        let mut gone: Vec<_> =
            gone.filter_map(|named| Some((self.told(&named.id)?, named.group.as_str()))).collect();
        gone.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        gone
    }

    pub(super) fn told(&self, id: &PolicyId) -> Option<&Told> {
        self.told.get(id)
    }
}

/// What Cedar does not look at in the conditions of a policy, and the moments that they name.
fn conditions(policy: &Policy) -> Result<Vec<u64>, Wrong> {
    let tree = policy.to_json().map_err(|error| Wrong { what: error.to_string(), mend: "" })?;
    match contradiction(&tree) {
        Some(what) => Err(Wrong { what: format!("this policy can never hold: {what}"), mend: NEVER_HOLDS }),
        None => moments(&tree),
    }
}

fn named_groups(policy: &Policy) -> Vec<NamedGroup> {
    let named = policy.entity_literals().into_iter().filter(|uid| scope::kind(uid) == "Group");
    let (id, actions) = (policy.id(), scope::actions(policy));
    named
        .map(|uid| NamedGroup {
            id: id.clone(),
            actions: actions.clone(),
            group: scope::name(&uid).to_owned(),
        })
        .collect()
}

struct Reading {
    owner: Owner,
    cedar: CedarSet,
    told: HashMap<PolicyId, Told>,
    ids: HashSet<String>,
    problems: Vec<Problem>,
}

impl Reading {
    fn new(owner: Owner) -> Self {
        Self {
            owner,
            cedar: CedarSet::new(),
            told: HashMap::new(),
            ids: HashSet::new(),
            problems: Vec::new(),
        }
    }

    fn add(&mut self, statement: &Statement<'_>) {
        let policy = match Policy::parse(Some(statement.policy_id()), statement.text) {
            Ok(policy) => policy,
            Err(errors) => {
                self.problems.extend(errors.iter().map(|error| spelling::unparsed(statement, error)));
                return;
            }
        };
        match self.rules(statement, &policy) {
            Ok(told) => {
                self.ids.insert(told.id.clone());
                self.told.insert(policy.id().clone(), told);
            }
            Err(problem) => self.problems.push(problem),
        }
        if let Err(error) = self.cedar.add(policy) {
            self.problems.push(statement.problem(0, error.to_string(), ""));
        }
    }

    /// Ids and reasons, and what a baseline may hold.
    fn rules(&self, statement: &Statement<'_>, policy: &Policy) -> Result<Told, Problem> {
        let wrong = |what: String, mend: &str| Err(statement.problem(0, what, mend));
        let Some(id) = policy.annotation("id").filter(|id| is_id(id)) else {
            return wrong(
                "a policy needs an id of its own: small letters, digits and hyphens, at most 32".to_owned(),
                "write @id(\"a-name-of-its-own\") above it",
            );
        };
        if RESERVED.contains(&id) {
            return wrong(format!("the id `{id}` means something already"), "choose another one");
        }
        let full = self.owner.policy(id);
        if self.ids.contains(&full) {
            return wrong(format!("the id `{id}` stands twice"), "choose another one");
        }
        let text =
            |key: &str| policy.annotation(key).filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let Some(reason) = text("reason") else {
            return wrong(
                format!("the policy `{id}` does not say why"),
                "write @reason(\"…\") above it: whoever is refused reads it",
            );
        };
        let (advice, public_reason) = (text("advice"), text("public_reason"));
        let long = [Some(&reason), advice.as_ref(), public_reason.as_ref()].into_iter().flatten();
        for text in long {
            if text.len() > REASON_BYTES_MAX || text.chars().any(char::is_control) {
                return wrong(
                    format!(
                        "a reason of `{id}` is longer than {REASON_BYTES_MAX} bytes or has control characters"
                    ),
                    "shorten it",
                );
            }
        }
        let known = ["id", "reason", "advice", "public_reason"];
        if let Some((other, _)) = policy.annotations().find(|(key, _)| !known.contains(key)) {
            let mend = format!("the known ones are @{}", known.join(", @"));
            return wrong(format!("@{other} means nothing here"), &mend);
        }
        let forbids = policy.effect() == Effect::Forbid;
        if self.owner == Owner::Baseline && !forbids {
            return wrong(
                format!("the baseline may only forbid, and `{id}` permits"),
                "leave it to the agencies",
            );
        }
        Ok(Told { id: full, reason, advice, public_reason, forbids, text: statement.text.trim().to_owned() })
    }

    /// The words, and Cedar's strict validator; its warnings too.
    fn validate(&mut self, statements: &[Statement<'_>]) {
        self.problems.extend(statements.iter().flat_map(spelling::words));
        let result = Validator::new(schema().clone()).validate(&self.cedar, ValidationMode::Strict);
        let place = |id: &PolicyId| statements.get(Statement::number(id)?);
        let errors = result.validation_errors();
        let errors = errors.filter_map(|error| spelling::invalid(place(error.policy_id())?, error));
        let warnings = result.validation_warnings();
        let warnings = warnings.filter_map(|warning| spelling::warned(place(warning.policy_id())?, warning));
        self.problems.extend(errors.chain(warnings));
        // What is misspelt is told once, and an invalid policy is never taken.
        if self.problems.is_empty() && !result.validation_passed_without_warnings() {
            let what = "these policies are not valid, for a reason that has no place".to_owned();
            self.problems.push(Problem { what, ..Problem::default() });
        }
    }
}

fn is_id(id: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.chars().all(letter)
}
