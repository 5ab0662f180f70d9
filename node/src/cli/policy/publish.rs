//! `lintas policy publish`: check, test, compare, decide the past again, ask, sign; the session brings it to the broker.

use std::{path::PathBuf, thread::sleep, time::Duration};

use clap::Args;
use lintas_config::policy::diff::Diff;
use serde::Serialize;

use super::{
    Basis, Officer, agency,
    check::look,
    diff::compare,
    explain::present,
    files::Draft,
    history,
    label::moment,
    replay::{self, Replayed},
    test::{self, Tests, try_cases},
    words, wrong,
};
use crate::{
    cli::{absolute, unexpected},
    core::{text::one_line, view::PolicyView},
    shell::{
        audit::folder::Place,
        clock::{self, show as time},
        control,
        desk::{Reply, Request, policy::NewPolicy},
        failure::{Code, Failure},
        folder::Folder,
    },
};

/// How often a running node is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Options of `publish`.
#[derive(Args)]
pub(super) struct Publish {
    /// Policy folder: policy.cedar and cases.toml.
    #[arg(default_value = "policy")]
    path: PathBuf,
    /// In force not earlier than that day or moment (UTC); without it at once.
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// What changes and why, for the history; at most 256 bytes.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Decide only this part of the past again: from that day or moment on.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Wait at most so many seconds until the broker has it.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
}

/// What an officer reads before it is signed.
#[derive(Serialize)]
struct Looked {
    tests: Tests,
    diff: Diff,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replayed>,
    /// Why the past was not decided again.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_replay: Option<String>,
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    looked: Looked,
    version: u64,
    policy: PolicyView,
}

/// Shows everything, asks, publishes.
pub(super) fn run(officer: &Officer, publish: &Publish) -> Result<(), Failure> {
    let context = officer.node()?;
    context.folder.check()?;
    let basis = Basis { directory: None, owner: None };
    let (roster, owner) = (officer.roster(&basis)?, officer.owner(&basis)?);
    let not_before_ms = publish.not_before.as_deref().map(|text| moment(text, "--not-before")).transpose()?;
    let since_ms = publish.since.as_deref().map_or(Ok(0), |text| moment(text, "--since"))?;
    let draft = Draft::read(&absolute(&publish.path)?)?;
    let sound = look(&draft, &agency(&owner), &roster).map_err(|mistakes| officer.refused(&mistakes))?;
    let tests = try_cases(&draft, &sound, &roster, clock::now_ms())?;
    if tests.failed > 0 {
        officer.aside(&test::plain(&tests));
        let failed = tests.cases.iter().filter(|case| !case.ok).map(|case| one_line(&case.name));
        return Err(wrong(format_args!(
            "cases came out otherwise than they say; nothing was signed: {}",
            failed.collect::<Vec<_>>().join("; ")
        )));
    }
    let before = history::look(officer)?;
    let diff = compare(present(officer, &owner)?.as_ref(), &sound.policies, &roster)?;
    let (replay, no_replay) = match Place::find(None, officer.data.as_ref(), (None, None), None)
        .and_then(|place| replay::decide_again(officer, &place, &owner, Some(&sound.policies), since_ms))
    {
        Ok(replay) => (Some(replay), None),
        Err(failure) => (None, Some(failure.message)),
    };
    let looked = Looked { tests, diff, replay, no_replay };
    officer.aside(&shown(&looked, &before));
    context.confirm(publish.yes, &question(&before, not_before_ms))?;
    let new = NewPolicy {
        policies: draft.policies,
        cases: draft.cases,
        note: publish.note.clone(),
        not_before_ms,
        after: before.newest,
    };
    let Reply::Policy(policy) = context.ask(Request::PublishPolicy(new))? else { return Err(unexpected()) };
    let version = policy.newest;
    let policy = publish.wait.and_then(|seconds| wait(&context.folder, version, seconds)).unwrap_or(*policy);
    let done = Done { looked, version, policy };
    officer.print(&done, plain)?;
    outcome(&done, publish.wait)
}

/// What an officer reads before the question.
fn shown(looked: &Looked, before: &PolicyView) -> String {
    let mut out = test::plain(&looked.tests);
    out.push_str(match before.in_force {
        Some(_) => "\nWhat changes against the policy in force:\n",
        None => "\nNo policy is in force yet. What this one lets go and takes:\n",
    });
    out.push_str(&words::safe(&looked.diff.to_string()));
    match (&looked.replay, &looked.no_replay) {
        (Some(replay), _) => {
            out.push_str("\nThe past under this policy, by the audit log:\n");
            out.push_str(&replay::plain(replay));
        }
        (None, why) => out.push_str(&format!(
            "\nThe past was not decided again: {}\n",
            words::safe(why.as_deref().unwrap_or_default()).trim_end()
        )),
    }
    out
}

fn question(before: &PolicyView, not_before_ms: Option<u64>) -> String {
    let when = not_before_ms.map_or_else(|| "at once".to_owned(), |ms| format!("from {}", time(ms)));
    let unknown = if before.newest == 0 && before.broker.is_none() {
        " This node has no policy of the agency and has not asked the broker whether there is one: if this machine has taken \
         another one's place, start `lintas run` first."
    } else {
        ""
    };
    let refused = before.versions.iter().find(|one| one.at_broker.as_deref() == Some("refused"));
    let (next, instead) = match refused {
        Some(refused) => (refused.version, " in the place of the one that the broker has refused,"),
        None => (before.newest.saturating_add(1), ""),
    };
    format!(
        "This publishes version {next} of the release policy of {},{instead} in force here {when} and at the broker when it has \
         it.{unknown}",
        before.agency
    )
}

/// Looks until the broker has that version or refuses it, or the time is over. Only a running node brings it.
fn wait(folder: &Folder, version: u64, seconds: u32) -> Option<PolicyView> {
    let looks = u64::from(seconds).saturating_mul(1_000).div_ceil(LOOK_EVERY.as_millis().try_into().ok()?);
    let mut last = None;
    for _ in 0..looks.max(1) {
        if let Some(Ok(Reply::Policy(view))) = control::ask(folder, &Request::Policy) {
            let view = *view;
            let over = has(&view, version) || standing(&view, version) == Some("refused") || view.forked;
            last = Some(view);
            if over {
                break;
            }
        }
        sleep(LOOK_EVERY);
    }
    last
}

fn has(view: &PolicyView, version: u64) -> bool {
    !view.forked && view.broker.is_some_and(|broker| broker >= version)
}

fn standing(view: &PolicyView, version: u64) -> Option<&str> {
    view.versions.iter().find(|one| one.version == version)?.at_broker.as_deref()
}

fn plain(done: &Done) -> String {
    format!("\nPublished: version {}.\n{}", done.version, words::history(&done.policy))
}

fn outcome(done: &Done, waited: Option<u32>) -> Result<(), Failure> {
    let (view, version) = (&done.policy, done.version);
    let why = view.trouble.clone().unwrap_or_default();
    if view.forked || standing(view, version) == Some("refused") {
        let message = format!("version {version} is in force here and not at the broker: {why}");
        return Err(Failure::new(Code::Refused, message));
    }
    match waited {
        Some(seconds) if !has(view, version) => {
            let why = if why.is_empty() { why } else { format!(" ({why})") };
            let message = format!(
                "version {version} is published here; the broker has not taken it within {seconds} s{why}. A running node \
                 goes on trying: look with `lintas policy history`"
            );
            Err(Failure::new(Code::NoAnswer, message))
        }
        Some(_) | None => Ok(()),
    }
}
