//! `lintas region sign`: this office's signature.

use std::{
    io::{IsTerminal as _, Write as _, stdin},
    path::{Path, PathBuf},
};

use clap::Args;
use lintas_config::{
    Directory,
    authority::{self, Office, Proposal, Review},
};
use serde::Serialize;

use super::{Ceremony, words};
use crate::shell::{
    clock,
    failure::{Code, Failure},
    region::{
        files::{self, DIRECTORY},
        office::OfficeFolder,
    },
};

/// Options of `region sign`.
#[derive(Args)]
pub(super) struct Sign {
    /// The proposal, signed by others or not.
    proposal: PathBuf,
    /// The directory in force, which it shall follow (not for the first roster); `directory.bin` in the office's folder
    /// if left out.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Folder of all directories that were published, if this office has missed some; `history` beside --against if
    /// left out.
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    /// Who may sign, for an office that has seen no directory yet; compare its words by another way.
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Public keys of other offices, which give names to keys.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    office: Vec<PathBuf>,
    /// Sign without asking: the proposal was reviewed before.
    #[arg(long)]
    yes: bool,
    /// File to write the signed copy to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Signed {
    signed: PathBuf,
    #[serde(flatten)]
    review: Review,
}

/// Shows, asks, signs.
pub(super) fn run(ceremony: &Ceremony, args: &Sign) -> Result<(), Failure> {
    let folder = ceremony.folder()?;
    let office = OfficeFolder::open(&folder)?;
    let mut proposal = files::proposal(&args.proposal)?;
    let own = folder.path(DIRECTORY);
    let against = args.against.clone().or_else(|| own.exists().then_some(own));
    let before = before(&office, &proposal, against.as_deref(), args)?;
    named(&office, &proposal, before.as_ref())?;
    office.may_sign(&proposal)?;
    let mut offices = files::offices(&args.office)?;
    if !offices.iter().any(|known| known.key == office.office.key) {
        offices.push(office.office.clone());
    }
    let review = reviewed(&proposal, before.as_ref(), &offices, args)?;
    if args.out.exists() {
        let message = format!("`{}` is there already; name a new file", args.out.display());
        return Err(Failure::new(Code::Usage, message));
    }
    if !args.yes {
        confirm(ceremony, &review)?;
    }
    office.sign(&mut proposal, ceremony.key_file())?;
    files::write_new(&args.out, &proposal.to_bytes())?;
    let review = reviewed(&proposal, before.as_ref(), &offices, args)?;
    ceremony.print(&Signed { signed: args.out.clone(), review }, plain_words)
}

/// The directory that the proposal follows, as this office knows it; none for a first roster.
fn before(
    office: &OfficeFolder,
    proposal: &Proposal,
    against: Option<&Path>,
    args: &Sign,
) -> Result<Option<Directory>, Failure> {
    let forbidden = |message: &str| Err(Failure::new(Code::Forbidden, message));
    if proposal.roster().version == 1 {
        if office.has_seen() {
            return forbidden(
                "this office has seen a directory of its region; a first roster cannot follow it",
            );
        }
        return Ok(None);
    }
    let Some(against) = against else {
        let message =
            "which directory does the proposal follow? give the newest directory.bin with --against";
        return Err(Failure::new(Code::Usage, message));
    };
    let before = office.predecessor(against, args.history.as_deref(), args.bootstrap.as_deref())?;
    before.proposed(&proposal.to_bytes()).map_err(|error| {
        let message =
            format!("the proposal does not follow the directory that this office saw last: {error}");
        Failure::new(Code::Forbidden, message)
    })?;
    before.lets_see(proposal.roster(), clock::now_ms()).map_err(|error| {
        let message =
            format!("the proposal was drafted too long ago, or is dated back; have it drafted anew: {error}");
        Failure::new(Code::Forbidden, message)
    })?;
    Ok(Some(before))
}

/// Whether this office's signature counts for anything.
fn named(office: &OfficeFolder, proposal: &Proposal, before: Option<&Directory>) -> Result<(), Failure> {
    let key = office.office.key.as_bytes().as_slice();
    let is_in =
        |roster: &lintas_proto::schema::Roster| roster.authority_keys.iter().any(|known| known == key);
    if is_in(proposal.roster()) || before.is_some_and(|before| is_in(before.roster())) {
        return Ok(());
    }
    let message = "this office's key is none of the region's authorities, neither before nor after this proposal; its \
                   signature would count for nothing";
    Err(Failure::new(Code::Forbidden, message))
}

fn reviewed(
    proposal: &Proposal,
    before: Option<&Directory>,
    offices: &[Office],
    args: &Sign,
) -> Result<Review, Failure> {
    authority::review(proposal, before, offices).map_err(|error| files::unusable(&args.proposal, &error))
}

/// An officer's word, on a terminal.
fn confirm(ceremony: &Ceremony, review: &Review) -> Result<(), Failure> {
    if ceremony.json || !stdin().is_terminal() {
        let message = "there is nobody to ask whether to sign: read `lintas region review` of the proposal first, then \
                       give --yes";
        return Err(Failure::new(Code::Usage, message));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{}\nSign this? Type yes, then Enter: ", words::review(review));
    let _ = err.flush();
    let mut line = String::new();
    let read = stdin().read_line(&mut line);
    if read.is_ok() && line.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Failure::new(Code::Usage, "nothing was signed"))
}

fn plain_words(signed: &Signed) -> String {
    let next = if signed.review.complete {
        "All signatures that it needs are there: lintas region publish"
    } else {
        "Carry it on; `lintas region publish` joins the signed copies"
    };
    format!("{}\nSigned: {}\n{next}\n", words::review(&signed.review), signed.signed.display())
}
