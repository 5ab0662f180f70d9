//! `lintas region draft`: the first roster of a region.

use std::path::{Path, PathBuf};

use clap::Args;
use lintas_config::{
    authority::{self, Office, Proposal},
    source::RegionSource,
};
use lintas_proto::sign::VerifyingKey;
use serde::Serialize;

use super::{Ceremony, words};
use crate::{
    core::text::one_line,
    shell::{
        clock,
        failure::{Code, Failure},
        region::files,
    },
};

/// Options of `region draft`.
#[derive(Args)]
pub(super) struct Draft {
    /// Folder with region.toml and one file for each member, as in config/mekong.
    #[arg(long, value_name = "DIR")]
    sources: PathBuf,
    /// Public keys of all offices: their authority.pub.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
    /// Public keys of all brokers: their broker.roster.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    broker: Vec<PathBuf>,
    /// Requests of all members: their join-request.bin.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    request: Vec<PathBuf>,
    /// File to write the proposal to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A proposal that was written.
#[derive(Serialize)]
pub(super) struct Drafted {
    /// Where it is.
    pub(super) proposal: PathBuf,
    /// What it says.
    #[serde(flatten)]
    pub(super) review: authority::Review,
}

/// Drafts.
pub(super) fn run(ceremony: &Ceremony, draft: &Draft) -> Result<(), Failure> {
    let source = files::sources(&draft.sources)?;
    let offices = files::offices(&draft.office)?;
    let keys = in_order(&source, &offices)?;
    let requests = files::requests(&draft.request)?;
    let brokers = files::brokers(&draft.broker)?;
    let (roster, keysets) = authority::found(&source, &requests, &brokers, &keys, clock::now_ms())
        .map_err(|error| Failure::new(Code::Forbidden, error))?;
    let proposal = Proposal::new(&roster, keysets).map_err(|error| Failure::new(Code::Forbidden, error))?;
    files::write_new(&draft.out, &proposal.to_bytes())?;
    let review = authority::review(&proposal, None, &offices).map_err(Failure::internal)?;
    ceremony.print(&Drafted { proposal: draft.out.clone(), review }, plain_words)
}

/// What comes after a draft.
pub(super) fn plain_words(drafted: &Drafted) -> String {
    format!(
        "{}\nThe proposal is in {}. Nobody has signed it yet.\n\
         Carry it to the offices; each signs a copy: lintas region sign {} --out signed.bin\n",
        words::review(&drafted.review),
        drafted.proposal.display(),
        name(&drafted.proposal),
    )
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The offices' keys in the order in which region.toml names the offices.
fn in_order(source: &RegionSource, offices: &[Office]) -> Result<Vec<VerifyingKey>, Failure> {
    if let Some(stranger) = offices.iter().find(|office| !source.authorities.contains(&office.name)) {
        let message = format!(
            "office \"{}\" is none of those that region.toml names under `authorities`; correct region.toml, or ask \
             who made that key",
            one_line(&stranger.name)
        );
        return Err(Failure::new(Code::Forbidden, message));
    }
    let key = |name: &String| {
        let office = offices.iter().find(|office| office.name == *name).ok_or_else(|| {
            let message = format!(
                "the public key of office \"{}\" is missing: give its authority.pub with --office",
                one_line(name)
            );
            Failure::new(Code::Forbidden, message)
        })?;
        Ok(office.key.clone())
    };
    source.authorities.iter().map(key).collect()
}
