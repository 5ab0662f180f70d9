//! `lintas policy test`: the policy's own cases, and the policies that no case reaches.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use lintas_config::policy::{
    Problem,
    cases::{Outcome, unreached},
};
use lintas_proto::schema::Roster;
use serde::Serialize;

use super::{
    Basis, Officer, agency,
    check::{self, Sound},
    files::{Draft, Mistake, plain_words},
    wrong,
};
use crate::{
    cli::{absolute, render::count},
    core::text::one_line,
    shell::{
        clock,
        failure::{Code, Failure},
    },
};

/// Options of `test`.
#[derive(Args)]
pub(super) struct Test {
    /// Policy folder.
    #[arg(default_value = "policy")]
    path: PathBuf,
    #[command(flatten)]
    basis: Basis,
    /// It is the baseline of a region: policies that only forbid.
    #[arg(long, conflicts_with = "owner")]
    baseline: bool,
}

/// One case.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tried {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) ok: bool,
    expect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// What was decided, by whom, why.
    decided: String,
}

/// All cases.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tests {
    pub(super) cases: Vec<Tried>,
    pub(super) failed: usize,
    /// Policies that no case shows at work.
    pub(super) unreached: Vec<Mistake>,
}

/// Tries, and says.
pub(super) fn run(officer: &Officer, test: &Test) -> Result<(), Failure> {
    let owner = if test.baseline {
        lintas_config::policy::Owner::Baseline
    } else {
        agency(&officer.owner(&test.basis)?)
    };
    let draft = Draft::read(&absolute(&test.path)?)?;
    let roster = officer.roster(&test.basis)?;
    let sound = check::look(&draft, &owner, &roster).map_err(|mistakes| officer.refused(&mistakes))?;
    let tests = try_cases(&draft, &sound, &roster, clock::now_ms())?;
    officer.print(&tests, plain)?;
    if tests.failed > 0 {
        let message = format!(
            "{} of {} came out otherwise than they say; change the policy, or the case if it is wrong",
            tests.failed,
            count(tests.cases.len(), "case")
        );
        return Err(wrong(message));
    }
    Ok(())
}

/// Tries every case.
pub(super) fn try_cases(
    draft: &Draft,
    sound: &Sound,
    roster: &Arc<Roster>,
    now_ms: u64,
) -> Result<Tests, Failure> {
    let baseline = |problem: Problem| {
        Failure::new(Code::NotSetUp, format_args!("the baseline of the region cannot be read: {problem}"))
    };
    let outcomes = sound.cases.run(&sound.policies, roster, now_ms).map_err(baseline)?;
    let unreached = draft.in_policies(unreached(&sound.policies, &outcomes));
    let cases: Vec<Tried> = outcomes.iter().map(tried).collect();
    Ok(Tests { failed: cases.iter().filter(|case| !case.ok).count(), cases, unreached })
}

fn tried(outcome: &Outcome) -> Tried {
    Tried {
        name: outcome.name.clone(),
        line: outcome.line,
        ok: outcome.ok,
        expect: outcome.expected.word().to_owned(),
        by: outcome.by.clone(),
        decided: outcome.sentence.clone(),
    }
}

/// As an officer reads it.
pub(super) fn plain(tests: &Tests) -> String {
    let mut out = String::new();
    for case in &tests.cases {
        let (name, line) = (one_line(&case.name), case.line);
        if case.ok {
            out.push_str(&format!("ok      {name}\n"));
            continue;
        }
        let by = case.by.as_ref().map(|by| format!(" by {}", one_line(by))).unwrap_or_default();
        out.push_str(&format!(
            "FAILED  {name} (line {line})\n        it expects {}{by}, but: {}\n",
            case.expect,
            one_line(&case.decided)
        ));
    }
    for one in &tests.unreached {
        out.push_str(&format!("warning: {}", plain_words(one)));
    }
    let good = tests.cases.len() - tests.failed;
    out.push_str(&format!("{good} of {} came out as they say\n", count(tests.cases.len(), "case")));
    out
}
