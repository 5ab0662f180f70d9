//! `lintas policy new`: a policy to begin with, for this region.

use std::path::PathBuf;

use clap::Args;
use lintas_config::policy::template::template;
use serde::Serialize;

use super::{
    Basis, Officer,
    explain::unknown,
    files::{CASES, POLICY},
    shown,
};
use crate::{
    cli::absolute,
    shell::{
        clock,
        failure::{Code, Failure},
        files::write_new,
    },
};

/// Options of `new`.
#[derive(Args)]
pub(super) struct New {
    #[command(flatten)]
    basis: Basis,
    /// Folder to write policy.cedar and cases.toml into; it is made if need be, and nothing in it is overwritten.
    #[arg(long, value_name = "DIR", default_value = "policy")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Made {
    owner: String,
    policy: PathBuf,
    cases: PathBuf,
}

/// Writes both, or neither.
pub(super) fn run(officer: &Officer, new: &New) -> Result<(), Failure> {
    let (roster, owner) = (officer.roster(&new.basis)?, officer.owner(&new.basis)?);
    let made = template(&roster, &owner, clock::now_ms()).map_err(|error| unknown(&error))?;
    let (policies, cases) = (made.policies, made.cases);
    let out = absolute(&new.out)?;
    let made = Made { owner, policy: out.join(POLICY), cases: out.join(CASES) };
    for path in [&made.policy, &made.cases] {
        if path.exists() {
            let message =
                format!("`{}` is there already, and nothing is overwritten; give another --out", shown(path));
            return Err(Failure::new(Code::Usage, message));
        }
    }
    std::fs::create_dir_all(&out).map_err(|error| Failure::file("make", &out, &error))?;
    for (path, text) in [(&made.policy, policies), (&made.cases, cases)] {
        write_new(path, text.as_bytes()).map_err(|error| Failure::file("write", path, &error))?;
    }
    officer.print(&made, |made| {
        let folder = shown(&new.out);
        format!(
            "A policy for {} to begin with: {} and {}\nRead it, change it, then: lintas policy check {folder}; lintas policy \
             test {folder}; lintas policy publish {folder}\n",
            made.owner,
            shown(&made.policy),
            shown(&made.cases)
        )
    })
}
